"""Batched second-order minimisation in a box: damped Newton steps for many independent problems at once.

`success` is not believed: a caller starts from many points and compares the objectives reached.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.fitting.bound_law import Expandable


@dataclass(frozen=True)
class Minimum:
    """The end of each of S descents: its parameters, its objective, and whether its gradient vanished."""

    theta: Float[Array, "S p"]
    value: Float[Array, " S"]
    converged: Bool[np.ndarray, " S"]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def minimise(
    model: Expandable,
    theta: Float[Array, "S p"],
    weight: Float[Array, "S w"],
    target: Float[Array, " n"],
    *,
    scale: str,
    width: float,
    steps: int = 60,
    tolerance: float = 1e-13,
) -> Minimum:
    """Minimise the objective from each row of `theta` with its row of `weight`.

    Levenberg's damping makes an indefinite Hessian safe; a parameter at a bound whose gradient points
    outwards is held there (projected Newton, Bertsekas 1982, SIAM J. Control and Optimization 20, 221). Ends when
    the predicted decrease is below `tolerance` x objective.
    """
    S, p = theta.shape
    theta = np.clip(theta, model.lower, model.upper)
    best = theta.copy()
    value = np.full(S, np.inf)
    converged = np.zeros(S, dtype=bool)
    active = np.arange(S)
    damping = np.full(S, 1e-3)
    now = model.expand(theta, weight, target, scale, width)
    f, gradient, hessian = now.value, now.gradient, now.hessian
    diagonal = np.arange(p)
    for count in range(1, steps + 1):
        held = ((theta <= model.lower) & (gradient > 0)) | ((theta >= model.upper) & (gradient < 0))
        g = np.where(held, 0.0, gradient)
        # Marquardt's scaling: the damping is a share of each parameter's own curvature, whatever its units.
        matrix = hessian.copy()
        size = (
            np.abs(hessian[:, diagonal, diagonal])
            + 1e-12 * np.abs(hessian).max((1, 2), keepdims=False)[:, None]
        )
        size += 1e-300
        matrix[:, diagonal, diagonal] += damping[:, None] * size
        # A held parameter's row and column become those of the identity: its step is zero.
        free = ~held
        matrix *= free[:, :, None] & free[:, None, :]
        matrix[:, diagonal, diagonal] += held
        step = -_solve(matrix, g)
        trial = np.clip(theta + step, model.lower, model.upper)
        step = trial - theta
        predicted = -np.einsum("sp,sp->s", g, step) - 0.5 * np.einsum("sp,spq,sq->s", step, hessian, step)
        new = model.expand(trial, weight, target, scale, width)
        # The damping falls where the quadratic model foretold at least a quarter of the gain.
        gain = f - new.value
        accepted = (gain >= 0) & np.isfinite(new.value)
        good = gain > 0.25 * predicted
        theta = np.where(accepted[:, None], trial, theta)
        f = np.where(accepted, new.value, f)
        gradient = np.where(accepted[:, None], new.gradient, gradient)
        hessian = np.where(accepted[:, None, None], new.hessian, hessian)
        damping = np.where(
            accepted & good, damping * 0.2, np.where(accepted, damping * 2.0, np.maximum(damping, 1e-8) * 6.0)
        )
        small = np.abs(predicted) <= tolerance * (np.abs(f) + 1e-300)
        done = (accepted & small) | (damping > 1e12)
        ended = done if count < steps else np.ones_like(done)
        if ended.any():
            best[active[ended]] = theta[ended]
            value[active[ended]] = f[ended]
            converged[active[ended]] = done[ended]
            keep = ~ended
            active, theta, f, gradient, hessian = (
                active[keep],
                theta[keep],
                f[keep],
                gradient[keep],
                hessian[keep],
            )
            damping, weight = damping[keep], weight[keep]
            if not len(active):
                break
    return Minimum(best, value, converged)


def _solve(matrix: Float[Array, "S p p"], right: Float[Array, "S p"]) -> Float[Array, "S p"]:
    """Solve S systems at once; a singular one gets its solution of least length."""
    try:
        return np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0], dtype=np.float64)
    except np.linalg.LinAlgError:
        each = [np.linalg.lstsq(m, r, rcond=1e-12)[0] for m, r in zip(matrix, right, strict=True)]
        return np.stack(each)
