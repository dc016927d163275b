"""Structure in a law's residuals: evidence inside the table that the law is not exact.

Residuals of runs that lie near each other in params and tokens are independent where the law holds, and alike where
it does not. How wrong it is beyond the data is `forecasting.discrepancy`'s business.

The model: the residuals of log loss are noise, and under the rival a smooth function besides: a Gaussian process of
the logs of the law's columns, as the discrepancy of Kennedy and O'Hagan 2001 (JRSS B 63, 425) is. The law's own
freedom is projected out first (restricted likelihood, Patterson and Thompson 1971, Biometrika 58, 545).
"""

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.fitting.diagnostics import jacobian
from analysis.fitting.problem import Problem

# Residuals are alike over this much of params or tokens, as a log factor. Twice as much says the same of the public
# tables (docs/log.md).
LENGTH = 1.0
# Standard deviations of the smooth function that are tried, over that of the noise.
SMOOTH = (0.25, 0.5, 1.0, 2.0, 4.0)
# Standard deviations tried of what the rows of a group share (branches of one trunk, checkpoints of one run).
SHARED = (0.0, 0.5, 1.0, 2.0)
# Wild rows count as this many robust standard deviations.
WILD = 3.0
# Rows looked at: a random subset of a larger table's.
MOST_ROWS = 500
# Rows beyond the parameters below which nothing is said; residuals below this are rounding.
FEWEST_SPARE, ROUNDING = 4, 1e-7


def structure(problem: Problem, theta: Float[Array, " p"]) -> float:
    """Compute the log Bayes factor of structure in the residuals of a law at internal parameters against none.

    Zero where none can be told. The noise's size is profiled out; each hypothesis is the mean over its grid.
    """
    rows, model = problem.small.observations, problem.small.model
    theta = theta[None]
    residual = np.log(rows.loss / model.predict(theta)[0])
    free = jacobian(model, theta, np.ones(len(rows))).T
    free = np.delete(free, [slot for slot, _ in problem.held], axis=1)
    keep = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_ROWS])
    residual, free, group = residual[keep], free[keep], rows.group[keep]
    norms = np.linalg.norm(free, axis=0)
    free = free[:, norms > 0] / norms[norms > 0]
    robust = 1.4826 * max(float(np.median(np.abs(residual))), ROUNDING)
    if len(keep) - free.shape[1] < FEWEST_SPARE or np.abs(residual).max() < ROUNDING:
        return 0.0
    place = np.log([rows.x[name][keep] for name in problem.form.columns])
    apart = np.sum((place[:, :, None] - place[:, None, :]) ** 2, axis=0)
    # An orthonormal basis of what the law's parameters cannot take up.
    basis = np.linalg.qr(free, mode="complete")[0][:, free.shape[1] :]
    error = basis.T @ np.clip(residual, -WILD * robust, WILD * robust)
    smooth = basis.T @ np.exp(-0.5 * apart / LENGTH**2) @ basis
    alike = group[:, None] == group
    shared = SHARED if alike.sum() > len(keep) else SHARED[:1]
    noises = [basis.T @ (np.eye(len(keep)) + s * s * alike) @ basis for s in shared]
    found = np.asarray([_log_likelihoods(error, noise, smooth) for noise in noises])
    peak = found.max()
    none, some = (np.mean(np.exp(part - peak)) for part in (found[:, 0], found[:, 1:]))
    return float(np.log(some) - np.log(max(none, 1e-300)))


def _log_likelihoods(
    error: Float[Array, " k"], noise: Float[Array, "k k"], smooth: Float[Array, "k k"]
) -> list[float]:
    """Compute the log likelihood of no smooth part and of each of SMOOTH, noise and smooth part in units of the
    noise's variance, which is profiled out."""
    root = np.linalg.cholesky(noise)
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ smooth @ inverse.T)
    squares = (vectors.T @ (inverse @ error)) ** 2
    scale = float(np.sum(np.log(np.diag(root))))
    found = []
    for size in (0.0, *SMOOTH):
        variance = 1.0 + size * size * np.maximum(values, 0.0)
        found.append(
            -scale - 0.5 * float(np.sum(np.log(variance)) + len(error) * np.log(np.mean(squares / variance)))
        )
    return found
