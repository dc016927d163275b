"""Intervals for new runs: parameters, seed noise, and how wrong the law itself is beyond the data.

A resampled law says how well its parameters are known if it is true. Real laws bend: `forecasting.discrepancy`
learns by how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.fitting.result import Fit, Member, percentiles
from analysis.forecasting.discrepancy import Discrepancy

# Draws behind an interval: resampled parameters are used as often as that takes.
DRAWS = 4000
# Residuals that grow faster with loss than this are a law's misfit at high loss, not seeds.
MOST_NOISE_GROWTH = 1.0
# Growths of noise with loss that are tried.
GROWTHS = np.linspace(-3.0, 4.0, 281)


@dataclass(frozen=True)
class Noise:
    """Residuals of log loss, standardised: at a loss L they are `standard` x (L / `centre`)^`growth`."""

    standard: Float[Array, " n"]
    growth: float
    centre: float
    least: float

    def scale(self, loss: Float[Array, " m"]) -> Float[Array, " m"]:
        """Compute the factor at predicted losses; below half the least loss seen, it stays what it is there."""
        return (np.maximum(loss, 0.5 * self.least) / self.centre) ** self.growth


def noise_of(fitted: Fit) -> Noise:
    """Estimate seed noise from the residuals of a fit (a subset of a large table's), inflated for its parameters.

    Its growth with loss is the likeliest for residuals of a Laplace distribution (a few wild rows hardly move
    it), shrunk towards none by its own standard error: t^2 / (t^2 + 1).
    """
    rows = fitted.observations.small
    predicted = fitted.predict(rows.x)
    residual = np.log(rows.loss / predicted)
    u = np.log(predicted) - np.mean(np.log(predicted))
    # The likelihood with its scale solved for, where u has mean zero: convex in the growth.
    spread = np.mean(np.abs(residual) * np.exp(-GROWTHS[:, None] * u), axis=1)
    slope = float(GROWTHS[np.argmin(spread)])
    # Of normal residuals the estimate has the variance (pi / 2 - 1) / sum of u^2.
    t2 = slope * slope * float(np.sum(u * u)) / (np.pi / 2 - 1)
    growth = float(np.clip(slope * t2 / (t2 + 1.0), 0.0, MOST_NOISE_GROWTH))
    centre = float(np.exp(np.mean(np.log(predicted))))
    standard = residual / (predicted / centre) ** growth * np.sqrt(len(rows) / fitted.df_resid)
    return Noise(standard, growth, centre, float(predicted.min()))


@dataclass(frozen=True)
class Interval:
    """Log loss of new runs: centre, lower and upper bounds at the level asked for, and the draws behind them."""

    centre: Float[Array, " m"]
    lower: Float[Array, " m"]
    upper: Float[Array, " m"]
    draws: Float[Array, "K m"]


def interval(
    members: Sequence[Member],
    wanted: pd.DataFrame,
    distance: Float[Array, " m"],
    discrepancy: Discrepancy,
    *,
    level: float,
    seed: int,
) -> Interval:
    """Bound one new run at each row of `wanted`, its seed noise included.

    Draws are of a form by weight, its parameters by resampling, a residual, and a discrepancy.
    """
    rng = np.random.default_rng(seed)
    centre = np.sum([member.weight * np.log(member.fit.predict(wanted)) for member in members], axis=0)
    noise = noise_of(members[0].fit)
    resamples = sum(len(member.fit.draws) for member in members)
    repeats = -(-DRAWS // max(resamples, 1))
    shape = (repeats * resamples, len(wanted))
    residual = rng.choice(noise.standard, size=shape) * noise.scale(np.exp(centre))
    wrong = discrepancy.draw(distance, len(residual), rng)
    # An outer power may take a resample's loss to zero far beyond the rows: a draw of minus infinity.
    with np.errstate(divide="ignore"):
        draws = np.concatenate([np.log(member.fit.predict_draws(wanted)) for member in members])
    draws = np.repeat(draws, repeats, axis=0)
    tail = 50.0 * (1.0 - level)
    # Skewed resamples may lie on one side of the prediction, which its bounds never exclude.
    draws = draws + residual + wrong
    low, high = percentiles(draws, [tail, 100.0 - tail])
    return Interval(centre, np.minimum(low, centre), np.maximum(high, centre), draws)
