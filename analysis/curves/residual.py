"""What a law of curves leaves, as correlated noise: of a rung, of a run, along a run, of a fall, of one evaluation.

Points of one curve share their run's luck, so that what the trunk has shown of it belongs in a branch's forecast
(kriging: the best linear prediction of a random field from its neighbours, Cressie 1993). Log losses throughout.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from analysis.arrays import Array

# Standard deviations that the likelihood begins at: of a rung along its curve, of a run, of a run along its curve,
# of a rung's gain (a share of it), of one evaluation.
START = (0.004, 0.008, 0.005, 0.1, 0.003)
NAMES = ("rung", "run", "along", "gain", "evaluation")
LEAST, MOST = 1e-5, 1.0


@dataclass(frozen=True)
class Places:
    """Where n points lie: their rung, their run, the log of their area, the gain of their fall in log loss."""

    size: Int[np.ndarray, " n"]
    run: Int[np.ndarray, " n"]
    log_area: Float[Array, " n"]
    gain: Float[Array, " n"]


@dataclass(frozen=True)
class CurveNoise:
    """The standard deviation of each component of `NAMES`, in log loss (gain: a share of the gain)."""

    deviations: Float[Array, "5"]

    def covariance(self, a: Places, b: Places) -> Float[Array, "n m"]:
        """Compute the covariance of what the law leaves at `a` and at `b`, without one evaluation's own noise.

        Along a curve a rung deviates smoothly and a run as a random walk that is pulled back (both over a factor e
        of area).
        """
        rung, run, along, gain, _ = self.deviations**2
        apart = a.log_area[:, None] - b.log_area
        one_size, one_run = a.size[:, None] == b.size, a.run[:, None] == b.run
        of_rung = rung * np.exp(-0.5 * apart**2) + gain * a.gain[:, None] * b.gain
        return one_size * of_rung + one_run * (run + along * np.exp(-np.abs(apart)))

    def krige(
        self, residual: Float[Array, "R n"], at: Places, wanted: Places
    ) -> tuple[Float[Array, "R m"], Float[Array, "m m"]]:
        """Predict what the law leaves at `wanted` from what it leaves at `at`: the means of each row of residuals,
        and the covariance of what is still unknown."""
        own = self.covariance(at, at) + self.deviations[4] ** 2 * np.eye(len(at.run))
        across = self.covariance(wanted, at)
        factor = cho_factor(own, lower=True)
        known = across @ cho_solve(factor, across.T)
        return (across @ cho_solve(factor, residual.T)).T, self.covariance(wanted, wanted) - known


def _take(places: Places, rows: Int[np.ndarray, " m"]) -> Places:
    return Places(places.size[rows], places.run[rows], places.log_area[rows], places.gain[rows])


def curve_noise(residual: Float[Array, " n"], places: Places) -> CurveNoise:
    """Estimate the components by maximum likelihood under normal noise; rungs are independent, so one at a time."""
    rungs = [np.flatnonzero(places.size == size) for size in np.unique(places.size)]
    parts = [(residual[rows], _take(places, rows)) for rows in rungs]

    def misfit(logs: Float[Array, "5"]) -> float:
        noise = CurveNoise(np.exp(np.clip(logs, np.log(LEAST), np.log(MOST))))
        total = 0.0
        for r, at in parts:
            own = noise.covariance(at, at) + noise.deviations[4] ** 2 * np.eye(len(r))
            factor = cho_factor(own, lower=True)
            total += 0.5 * float(r @ cho_solve(factor, r)) + float(np.log(np.diag(factor[0])).sum())
        return total

    found = minimize(
        misfit, np.log(START), method="Nelder-Mead", options={"maxiter": 400, "xatol": 0.03, "fatol": 0.05}
    )
    return CurveNoise(np.exp(np.clip(found.x, np.log(LEAST), np.log(MOST))))
