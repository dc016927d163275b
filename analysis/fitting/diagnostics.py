"""The doubts about a fit: basins, bounds, parameters the rows do not identify, a wrong law."""

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.errors import Code, Warn
from analysis.fitting.bound_law import Model
from analysis.fitting.newton import Minimum
from analysis.fitting.problem import Problem
from analysis.fitting.search import Found
from analysis.laws.law import Form

# Another minimum within this of the best objective explains the rows as well.
RIVAL = 0.01
# How much an exponent may differ between two ends of a search that are one basin.
SAME = 0.02
# Condition number of the Jacobian with unit columns: the digits lost in telling parameters apart.
CONDITION = 3e3
# Durbin and Watson's ratio (2 for independent residuals): residuals this alike in a row are a shape.
SERIAL = 0.6
# Residuals of log loss above this (root mean square) are no seed noise.
MISFIT = 0.1


def diagnose(problem: Problem, best: Found, draws: Float[Array, "R p"]) -> tuple[Warn, ...]:
    """List the warnings of one fit: its basins, bounds, identification, floor and shape of residuals."""
    form, model, observations = problem.form, problem.model, problem.observations
    theta = best.theta
    params = dict(zip(form.names, model.public(theta)[0].tolist(), strict=True))
    predicted = model.predict(theta)[0]
    free = np.ones(theta.shape[1], dtype=bool)
    free[[slot for slot, _ in problem.held]] = False
    found = [
        *_basins(form, best.basins, model.public(best.basins.theta), float(best.value[0]), params),
        *_bounds(form, params, ((theta[0] > model.lower) & (theta[0] < model.upper))[free], free[0]),
        *_identified(form, jacobian(model, theta, observations.weight)[free], model.public(draws), params),
        *_shape(np.log(observations.loss / predicted)[np.argsort(predicted)]),
    ]
    floor = params.get("E")
    if floor is not None and floor >= observations.loss.min():
        found.append(
            Warn(
                Code.FLOOR_ABOVE_DATA,
                f"E = {floor:.5g} is above the least loss of the table, {observations.loss.min():.5g}",
            )
        )
    return tuple(found)


def _basins(
    form: Form, ends: Minimum, public: Float[Array, "k p"], least: float, params: dict[str, float]
) -> list[Warn]:
    """Warn of other minima that explain the rows as well, with other exponents."""
    there = public[ends.converged & (ends.value <= least * (1.0 + RIVAL)) & (ends.value > 0)]
    here = np.asarray(list(params.values()))
    plain = [i for i, parameter in enumerate(form.parameters) if not parameter.scale]
    spread = np.abs(there[:, plain] - here[plain]).max(axis=0, initial=0.0)
    worst = int(np.argmax(spread / (np.abs(here[plain]) + 0.01)))
    name = form.names[plain[worst]]
    if spread[worst] <= SAME * (abs(here[plain[worst]]) + 0.01) + 1e-3:
        return []
    ends_at = np.append(there[:, plain[worst]], here[plain[worst]])
    low, high = ends_at.min(), ends_at.max()
    return [
        Warn(
            Code.MULTI_BASIN,
            f"minima within {100 * RIVAL:g}% of the best have {name} from {low:.4g} to {high:.4g}: the rows "
            "do not choose between them",
        )
    ]


def _bounds(
    form: Form, params: dict[str, float], inside: Bool[np.ndarray, " p"], floor: np.bool_
) -> list[Warn]:
    """Warn of a `floor` that was found to be zero, of exponents at their bounds and of terms that have vanished."""
    found = []
    if floor and "E" in params and params["E"] <= 0.0:
        found.append(
            Warn(Code.BOUND_HIT, "E = 0: the rows show no irreducible loss (too narrow a range, or a bend)")
        )
    for parameter in form.parameters:
        value = params[parameter.name]
        if parameter.name == "E" or parameter.scale:
            continue
        for bound in (parameter.lower, parameter.upper):
            if np.isfinite(bound) and np.isclose(value, bound, rtol=1e-6, atol=1e-12):
                found.append(Warn(Code.BOUND_HIT, f"{parameter.name} = {value:.4g} is at its bound"))
    if not found and not inside.all():
        found.append(Warn(Code.BOUND_HIT, "a term of the law has vanished: its size is at its bound"))
    return found


def jacobian(model: Model, theta: Float[Array, "1 p"], weight: Float[Array, " n"]) -> Float[Array, "p n"]:
    """Differentiate log loss in the internal parameters, by central differences."""
    step = 1e-5 * np.maximum(np.abs(theta[0]), 1e-2)
    moved = np.repeat(theta, 2 * theta.shape[1], axis=0)
    for i, h in enumerate(step):
        moved[2 * i, i] += h
        moved[2 * i + 1, i] -= h
    log = np.log(np.maximum(model.predict(moved), 1e-300)) * np.sqrt(weight)
    return np.asarray((log[0::2] - log[1::2]) / (2.0 * step[:, None]))


def _identified(
    form: Form, jacobian: Float[Array, "p n"], public: Float[Array, "R p2"], params: dict[str, float]
) -> list[Warn]:
    """Warn of a Jacobian that is nearly singular, and of exponents whose resamples span their own size."""
    norms = np.linalg.norm(jacobian, axis=1)
    moving = norms > 0
    condition = np.linalg.cond(jacobian[moving] / norms[moving, None]) if moving.any() else np.inf
    if not moving.all() or condition > CONDITION:
        return [
            Warn(
                Code.NOT_IDENTIFIED,
                f"the rows hardly tell the parameters apart (condition number {condition:.2g}): single "
                "parameters mean little, though predictions near the rows may hold",
            )
        ]
    endless = ~np.isfinite(public).all(axis=0)
    if endless.any():
        name = form.names[int(np.argmax(endless))]
        return [Warn(Code.NOT_IDENTIFIED, f"{name} is beyond any number in some resamples")]
    if len(public) < 20:
        return []
    for i, parameter in enumerate(form.parameters):
        if parameter.scale or parameter.name == "E":
            continue
        low, high = np.percentile(public[:, i], [5.0, 95.0])
        if high - low > abs(params[parameter.name]):
            return [
                Warn(
                    Code.NOT_IDENTIFIED,
                    f"{parameter.name} is anywhere from {low:.3g} to {high:.3g} (90% of resamples)",
                )
            ]
    return []


def _shape(residual: Float[Array, " n"]) -> list[Warn]:
    """Warn of residuals that are large, or of one sign in long runs as the prediction rises: the wrong form."""
    n = len(residual)
    size = float(np.sqrt(np.mean(residual**2)))
    if size > MISFIT:
        return [
            Warn(
                Code.POOR_FIT,
                f"the residuals are {100 * size:.2g}% of loss (root mean square), up to "
                f"{100 * np.abs(residual).max():.2g}%: this is not the rows' law",
            )
        ]
    if n < 10:
        return []
    ordered = residual - residual.mean()
    steps, spread = np.sum(np.diff(ordered) ** 2), np.sum(ordered**2)
    # steps / spread of independent residuals is about 2 +- 2/sqrt(n); an exact fit has neither.
    if steps < min(SERIAL, 2.0 - 6.0 / np.sqrt(n)) * spread and size > 0.002:
        return [
            Warn(
                Code.POOR_FIT,
                f"the residuals ({100 * size:.2g}% of loss) follow a curve "
                'that this form does not have: do not extend it; try form="auto" or "broken" (--form), or '
                'regime="auto" (--regime)',
            )
        ]
    return []
