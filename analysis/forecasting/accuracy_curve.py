"""Accuracy as a sigmoid of something that grows with scale, between chance and a ceiling: draws of its parameters.

A few small models leave a sigmoid's ceiling and middle open. Draws from the posterior keep them open; a single best
fit does not. What the sigmoid is a function of (compute, or the task's own loss) is left to `steps`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, ndtr

from analysis.arrays import Array

# Draws; the share of them that stays effective from one power of the likelihood to the next; moves at each
# power, and at the last.
DRAWS, EFFECTIVE, MOVES, LAST_MOVES = 600, 0.5, 4, 12
PARAMETERS = 6
# Of a random walk in so many dimensions (Roberts, Gelman and Gilks 1997).
STRIDE = 2.38 / np.sqrt(PARAMETERS)
# The prior, where the rows lie between 0 and 1: the middle and its standard deviation, the slope and its factor
# e^sd, the weight of tokens per parameter, the most that a ceiling may lie under the highest possible one (as a
# share of what lies above chance), the error of the chance level, and the scatter of runs and its factor. Set
# before any table was looked at.
MIDDLE, MIDDLE_SD = 0.8, 1.0
SLOPE, SLOPE_SD = 3.0, 0.8
RATIO_SD = 0.3
LOWER_CEILING = 0.7
CHANCE_SD = 0.015
SCATTER, SCATTER_SD = 0.01, 1.0


@dataclass(frozen=True)
class Scored:
    """n runs' scores of one task: `score`, the `items` behind it (NaN where only its `stderr` is known), where it
    lies in `chance` (NaN where unknown) to `ceiling`."""

    score: Float[Array, " n"]
    items: Float[Array, " n"]
    stderr: Float[Array, " n"]
    chance: float
    ceiling: float

    def of(self, rows: Bool[np.ndarray, " n"]) -> "Scored":
        """Return some of the rows."""
        return Scored(self.score[rows], self.items[rows], self.stderr[rows], self.chance, self.ceiling)

    def variance(self, mean: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Variance of the scores about their `mean` that their items give (half an item of either kind added)."""
        with np.errstate(invalid="ignore"):
            shrunk = (mean * self.items + 0.5) / (self.items + 1)
            return np.where(np.isfinite(self.items), shrunk * (1 - shrunk) / self.items, self.stderr**2)

    def new(self, mean: Float[Array, "... m"]) -> Float[Array, "... m"]:
        """Variance of new runs' scores about their `mean`, with as many items as the rows have in the middle."""
        if np.isfinite(self.items).any():
            return np.asarray(mean * (1 - mean) / np.nanmedian(self.items))
        return np.full_like(mean, np.nanmedian(self.stderr) ** 2)


@dataclass(frozen=True)
class Curves:
    """K draws of a sigmoid: low + (high - low) / (1 + exp(-slope (x - middle + ratio r))), and of the standard
    deviation `scatter` of runs about it."""

    low: Float[Array, " K"]
    high: Float[Array, " K"]
    slope: Float[Array, " K"]
    middle: Float[Array, " K"]
    ratio: Float[Array, " K"]
    scatter: Float[Array, " K"]

    def at(self, x: Float[Array, "... m"], r: Float[Array, " m"]) -> Float[Array, "K m"]:
        """Compute every draw's curve at x (one row a draw, or the same for all) and r."""
        inner = self.slope[:, None] * (x - self.middle[:, None] + self.ratio[:, None] * r)
        return np.asarray(self.low[:, None] + (self.high - self.low)[:, None] * expit(inner))


def fit_curves(
    scored: Scored, x: Float[Array, " n"], r: Float[Array, " n"], rng: np.random.Generator
) -> Curves:
    """Draw sigmoids of x, scaled so that the rows lie in 0..1, and of r, log tokens per parameter in the same unit.

    Sequential Monte Carlo (Del Moral, Doucet and Jasra 2006, JRSS B 68, 411): draws from the prior are led to the
    posterior by powers of the likelihood; at each they are resampled by weight, and moved by a random walk of their
    own covariance (Metropolis).
    """

    def log_likelihood(theta: Array) -> Array:
        curves = _curves(theta, scored)
        mean = curves.at(x, r)
        variance = scored.variance(mean) + curves.scatter[:, None] ** 2
        return np.asarray(-0.5 * ((scored.score - mean) ** 2 / variance + np.log(variance)).sum(-1))

    theta = rng.standard_normal((DRAWS, PARAMETERS))
    found, power = log_likelihood(theta), 0.0
    while power < 1:
        step = _next_power(found, 1.0 - power)
        power += step
        kept = rng.choice(DRAWS, DRAWS, p=_weights(step * found))
        theta, found = theta[kept], found[kept]
        walk = np.linalg.cholesky(np.cov(theta.T) + 1e-9 * np.eye(PARAMETERS)) * STRIDE
        for _ in range(MOVES if power < 1 else LAST_MOVES):
            moved = theta + rng.standard_normal(theta.shape) @ walk.T
            there = log_likelihood(moved)
            gain = power * (there - found) - 0.5 * ((moved**2).sum(-1) - (theta**2).sum(-1))
            taken = np.log(rng.random(DRAWS)) < gain
            theta[taken], found[taken] = moved[taken], there[taken]
    return _curves(theta, scored)


def _curves(theta: Float[Array, "K 6"], scored: Scored) -> Curves:
    """Map draws of a standard normal to those of the prior."""
    middle, slope, high, low, scatter, ratio = theta.T
    if np.isnan(scored.chance):
        bottom = ndtr(low) * max(float(scored.score.max()), 1e-3)
    else:
        bottom = np.clip(scored.chance + CHANCE_SD * low, 0.0, None)
    top = scored.ceiling - (scored.ceiling - bottom) * LOWER_CEILING * ndtr(high) ** 2
    return Curves(
        bottom,
        top,
        SLOPE * np.exp(SLOPE_SD * slope),
        MIDDLE + MIDDLE_SD * middle,
        RATIO_SD * ratio,
        SCATTER * np.exp(SCATTER_SD * scatter),
    )


def _next_power(log_likelihood: Array, most: float) -> float:
    """Return the largest step of the power, up to `most`, that leaves enough effective draws."""
    low, high = 0.0, most
    for step in (most, *np.full(20, np.nan)):
        step = 0.5 * (low + high) if np.isnan(step) else step
        if 1.0 / (_weights(step * log_likelihood) ** 2).sum() >= EFFECTIVE * DRAWS:
            low = step
            if step == most:
                break
        else:
            high = step
    return low


def _weights(log: Array) -> Array:
    weight = np.exp(log - log.max())
    return np.asarray(weight / weight.sum())
