"""Loss against the learning rate: one curve for all rungs of a sweep, and each rung's optimum on it.

Near their minima the rungs have one curve: log loss = m + c v^2 + s v^3, v = log(rate / optimum), m and the optimum
of each rung, c and s of all. So three rates of a rung are enough, and loss may rise faster above the optimum than
below.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from analysis.arrays import Array

# Rates within this factor of the best are near the minimum; farther the curve has another shape.
NEAR = 4.0
FEWEST_RATES = 3
# Noise of log loss where neither seeds nor more rates tell it.
ASSUMED_NOISE = 0.003
# The skew of a curve over its curvature: its standard deviation beforehand, and half of what it may be.
SKEW = 1 / 6
# Steps of the fit, and residuals in standard deviations from which a run weighs less.
STEPS, WILD = 30, 2.5


@dataclass(frozen=True)
class Curves:
    """What the rungs share: `curvature`, `skew`, the `noise` of log loss with its degrees of freedom (0: assumed);
    and of each of g rungs the log optimum, its standard error and the log loss there."""

    curvature: float
    skew: float
    noise: float
    freedom: float
    optimum: Float[Array, " g"]
    error: Float[Array, " g"]
    value: Float[Array, " g"]

    def above(self, v: Float[Array, "..."]) -> Float[Array, "..."]:
        """Compute log loss above the optimum's, at log(rate / optimum)."""
        return self.curvature * v**2 + self.skew * v**3


def _near(rows: pd.DataFrame) -> pd.DataFrame:
    """Take the runs of rates within NEAR of the best one, and of the nearest three at least."""
    level = np.log(rows["loss"]).groupby(rows["learning_rate"]).mean()
    away = np.abs(np.log(level.index.to_numpy() / level.idxmin()))
    inside = away <= max(np.log(NEAR), np.sort(away)[FEWEST_RATES - 1]) * (1 + 1e-9)
    return rows[rows["learning_rate"].isin(level.index[inside])]


def _seeds(rows: pd.DataFrame) -> list[str]:
    """Name the seed of each run where every seed has enough rates for a curve; one name for all otherwise."""
    if "seed" not in rows or (rows.groupby("seed")["learning_rate"].nunique() < FEWEST_RATES).any():
        return [""] * len(rows)
    return [str(seed) for seed in rows["seed"]]


def fit_curves(groups: Sequence[pd.DataFrame]) -> Curves:
    """Fit the shared curve and every rung's optimum: Gauss-Newton, with Huber's weights against wild runs.

    Groups of runs (learning_rate, loss) of at least three rates each. NaN where loss has no minimum.
    """
    near = [_near(rows) for rows in groups]
    count = len(near)
    which = np.repeat(np.arange(count), [len(rows) for rows in near])
    # One level a rung, or a seed of it: what a seed is better by at every rate is no noise of the optimum.
    block = pd.factorize(pd.MultiIndex.from_arrays([which, np.concatenate([_seeds(rows) for rows in near])]))[
        0
    ]
    levels = (block[:, None] == np.arange(block.max() + 1)).astype(np.float64)
    blocks = levels.shape[1]
    u = np.log(np.concatenate([rows["learning_rate"].to_numpy(np.float64) for rows in near]))
    y = np.log(np.concatenate([rows["loss"].to_numpy(np.float64) for rows in near]))
    own = (which[:, None] == np.arange(count)).astype(np.float64)
    middle = own @ ((own.T @ u) / own.sum(axis=0))
    low, high = (np.asarray([f(u[which == g]) for g in range(count)]) for f in (np.min, np.max))
    # With one curvature for all and no skew the fit is linear.
    start = np.column_stack([levels, own * (u - middle)[:, None], (u - middle) ** 2])
    found = np.linalg.lstsq(start, y, rcond=None)[0]
    c, s = float(found[-1]), 0.0
    freedom = float(len(y) - blocks - count - 1)
    nothing = np.full(count, np.nan)
    if c <= 0:
        return Curves(c, 0.0, ASSUMED_NOISE, freedom, nothing, nothing, nothing)
    m = found[:blocks]
    best = own.T @ middle / own.sum(axis=0) - found[blocks:-1] / (2 * c)
    weight, noise = np.ones(len(y)), ASSUMED_NOISE
    for _ in range(STEPS):
        best = np.clip(best, low - np.log(NEAR), high + np.log(NEAR))
        v = u - own @ best
        residual = y - levels @ m - c * v**2 - s * v**3
        if freedom > 0:
            spread = 1.4826 * float(np.median(np.abs(residual))) * np.sqrt(len(y) / freedom)
            weight = np.minimum(1.0, WILD * spread / np.maximum(np.abs(residual), 1e-12))
            noise = max(float(np.sqrt(np.sum(weight * residual**2) / freedom)), 1e-7)
        jacobian = np.column_stack([levels, -own * (2 * c * v + 3 * s * v**2)[:, None], v**2, v**3])
        # The last row is what is believed of the skew: none, within SKEW of the curvature.
        root = np.append(np.sqrt(weight), 1.0)
        prior = np.append(np.zeros(blocks + count + 1), noise / (SKEW * c))
        weighted = np.vstack([jacobian, prior]) * root[:, None]
        step = np.linalg.lstsq(weighted, np.append(residual, -s * prior[-1]) * root, rcond=1e-10)[0]
        m, best, c = m + step[:blocks], best + step[blocks:-2], max(c + float(step[-2]), 0.2 * c)
        # Beyond this the curve would turn down again within the rates near the optimum.
        s = float(np.clip(s + step[-1], -2 * SKEW * c, 2 * SKEW * c))
    covariance = noise**2 * np.linalg.pinv(weighted.T @ weighted)
    error = np.sqrt(np.diag(covariance)[blocks:-2])
    value = (own.T @ (levels @ m)) / own.sum(axis=0)
    return Curves(c, s, noise, max(freedom, 0.0), best, error, value)


def student_reach(level: float, freedom: float) -> float:
    """The half-width of an interval in standard errors; of an assumed noise, the normal's."""
    return float(student.ppf(0.5 + 0.5 * level, freedom if freedom > 0 else np.inf))
