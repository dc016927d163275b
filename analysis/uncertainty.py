"""Intervals for new runs: parameters, seed noise, and how wrong the law itself is beyond the data.

A resampled law says how well its parameters are known if it is true. Real laws bend: what rolling hold-outs
miss beyond parameters and noise is carried on as a discrepancy that grows with distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fit import Fit, bind, resample_weights
from analysis.law import Array
from analysis.observations import Observations
from analysis.percentiles import percentiles
from analysis.search import search

# Compute of the largest run over that of the largest run kept, for what is missed with distance.
CUTS = (1.5, 2.0, 3.0, 5.0, 8.0)
# Resamples of every cut: a spread, not a percentile.
RESAMPLES = 60
# Draws behind an interval: resampled parameters are used as often as that takes.
DRAWS = 4000
# Residuals that grow faster with loss than this are a law's misfit at high loss, not seeds.
MOST_NOISE_GROWTH = 1.0
# Growths of noise with loss that are tried.
GROWTHS = np.linspace(-3.0, 4.0, 281)
# The discrepancy of log loss: a Student t of FREEDOM degrees, its scale slope x distance^GROWTH. Where the
# rolling hold-outs show a bend, the slope has the prior PRIOR (worth PRIOR_CUTS cuts at a distance of e);
# a table without one has only what its cuts missed. Chosen by `benchmarks/coverage.py --settings`, each
# publication left out in turn.
GROWTH = 4.0 / 3.0
FREEDOM = 4.0
PRIOR = 0.0133
PRIOR_CUTS = 1.0
# Times the square expected from parameters and noise that the held-out errors' squares must pass: the rows of a
# cut, and its cuts, err together, so that squares above their expectation are common.
EXPECTED = 1.5
# A cut counts as mean distance^(2 GROWTH), and no more than this.
MOST_INFORMATION = 2.0
# More than FAR x beyond the tested distance, in compute, the slope is at least FAR_PRIOR: the mean over four
# publications (not OLMo's) of the median growth beyond parameters and noise.
FAR = 10.0
FAR_PRIOR = 0.004


@dataclass(frozen=True)
class HeldOut:
    """One cut: `error` log(observed / predicted) [m], the `spread` expected of it from parameters and noise
    (a standard deviation, [m]), and `distance` [m], log compute beyond the largest run kept."""

    error: Array
    spread: Array
    distance: Array


@dataclass(frozen=True)
class Noise:
    """Residuals of log loss, standardised: at a loss L they are `standard` x (L / `centre`)^`growth`."""

    standard: Array
    growth: float
    centre: float
    least: float

    def scale(self, loss: Array) -> Array:
        """The factor at predicted losses; below half the least loss seen, it stays what it is there."""
        return (np.maximum(loss, 0.5 * self.least) / self.centre) ** self.growth


def noise_of(fitted: Fit) -> Noise:
    """Seed noise from the residuals of a fit, inflated for its parameters.

    Its growth with loss is the likeliest for residuals of a Laplace distribution (a few wild rows hardly move
    it), shrunk towards none by its own standard error: t^2 / (t^2 + 1).
    """
    residual = fitted.residuals()
    n, p = len(residual), len(fitted.params)
    predicted = fitted.predict(fitted.observations.x)
    u = np.log(predicted) - np.mean(np.log(predicted))
    # The likelihood with its scale solved for, where u has mean zero: convex in the growth.
    spread = np.mean(np.abs(residual) * np.exp(-GROWTHS[:, None] * u), axis=1)
    slope = float(GROWTHS[np.argmin(spread)])
    # Of normal residuals the estimate has the variance (pi / 2 - 1) / sum of u^2.
    t2 = slope * slope * float(np.sum(u * u)) / (np.pi / 2 - 1)
    growth = float(np.clip(slope * t2 / (t2 + 1.0), 0.0, MOST_NOISE_GROWTH))
    centre = float(np.exp(np.mean(np.log(predicted))))
    standard = residual / (predicted / centre) ** growth * np.sqrt(n / max(n - p, 1))
    return Noise(standard, growth, centre, float(predicted.min()))


def hold_out(members: Sequence[tuple[Fit, float]], seed: int) -> list[HeldOut]:
    """What the forms, weighted, miss at each cut of the rows they were fitted to."""
    observations = members[0][0].observations
    parts: dict[float, list[tuple[float, Array, Array, Array]]] = {}
    held: dict[float, np.ndarray] = {}
    for fitted, weight in members:
        model = bind(fitted.form, observations)
        masks = {factor: mask for factor, mask in cuts(observations) if mask.sum() >= len(fitted.params) + 2}
        if not masks:
            continue
        keep = np.asarray(list(masks.values()), dtype=np.float64) * observations.weight
        base = search(model, observations.loss, keep, fitted.objective, starts=3)
        drawn = resample_weights(observations.group, RESAMPLES, seed)
        weights = (drawn[None] * keep[:, None]).reshape(-1, len(observations))
        found = search(model, observations.loss, weights, fitted.objective, starts=1, near=base.theta)
        spread = _log(model.predict(found.theta)).reshape(len(masks), RESAMPLES, -1).std(axis=1)
        predicted = _log(model.predict(base.theta))
        for j, (factor, mask) in enumerate(masks.items()):
            inside = np.log(observations.loss[mask]) - predicted[j][mask]
            noise = np.sqrt(np.sum(inside**2) / max(mask.sum() - len(fitted.params), 1))
            parts.setdefault(factor, []).append((weight, predicted[j], spread[j], np.full(len(mask), noise)))
            held[factor] = ~mask
    result = []
    size = observations.flops
    for factor, members_there in parts.items():
        out = held[factor]
        weights_there = np.asarray([w for w, *_ in members_there])
        weights_there = weights_there / weights_there.sum()
        predicted = np.einsum("k,kn->n", weights_there, np.asarray([p for _, p, _, _ in members_there]))
        variance = sum(
            w * (s**2 + e**2 + (p - predicted) ** 2)
            for w, (_, p, s, e) in zip(weights_there, members_there, strict=True)
        )
        distance = np.log(size[out] / size[~out].max())
        error = np.log(observations.loss[out]) - predicted[out]
        result.append(HeldOut(error, np.sqrt(variance)[out], distance))
    return result


def _log(loss: Array) -> Array:
    """log of losses of which a resample's may vanish or overflow: then far off, but a number."""
    return np.asarray(np.log(np.clip(loss, 1e-300, 1e300)))


def cuts(observations: Observations) -> list[tuple[float, np.ndarray]]:
    """The rows kept at each of CUTS; cuts that keep the same rows count once."""
    size = observations.flops
    found: list[tuple[float, np.ndarray]] = []
    for factor in CUTS:
        mask = size <= size.max() / factor * (1 + 1e-9)
        if not mask.all() and not (found and np.array_equal(found[-1][1], mask)):
            found.append((factor, mask))
    return found


@dataclass(frozen=True)
class Discrepancy:
    """How wrong the law may be: log loss off by about `slope` x distance^GROWTH.

    `tested` is the log compute up to which hold-outs have tried it; far beyond (`FAR`) the slope is at least
    `FAR_PRIOR`.
    """

    slope: float
    tested: float

    def scale(self, distance: Array) -> Array:
        """Scale of the t distribution at log distances [m]; none inside the data."""
        slope = np.where(self.far(distance), max(self.slope, FAR_PRIOR), self.slope)
        return slope * np.maximum(distance, 0.0) ** GROWTH

    def far(self, distance: Array) -> np.ndarray:
        """Which distances [m] are more than FAR x beyond what was tested."""
        return distance > self.tested + np.log(FAR)


def discrepancy_of(held_out: Sequence[HeldOut], *, bent: bool) -> Discrepancy:
    """Learn the discrepancy from what hold-outs missed beyond their expected spread, and from a bend.

    A cut that missed less than was expected counts against those that missed more: the positive parts alone
    would count noise as discrepancy.
    """
    missed, information, tested = 0.0, PRIOR_CUTS, 0.0
    for cut in held_out:
        growth = float(np.mean(cut.distance ** (2.0 * GROWTH)))
        excess = float(np.mean(cut.error**2) - EXPECTED * np.mean(cut.spread**2))
        counts = min(growth, MOST_INFORMATION)
        missed += counts * excess / growth
        information += counts
        tested = max(tested, float(cut.distance.max()))
    total = PRIOR_CUTS * PRIOR**2 * bent + max(missed, 0.0)
    return Discrepancy(float(np.sqrt(total / information)), tested)


@dataclass(frozen=True)
class Interval:
    """Log loss of new runs: centre [m], and lower and upper bounds [m] at the level asked for."""

    centre: Array
    lower: Array
    upper: Array


def interval(
    members: Sequence[tuple[Fit, float]],
    wanted: pd.DataFrame,
    distance: Array,
    discrepancy: Discrepancy,
    *,
    level: float,
    seed: int,
) -> Interval:
    """Bounds on one new run at each row of `wanted`, its seed noise included.

    Draws are of a form by weight, its parameters by resampling, a residual, and a discrepancy.
    """
    rng = np.random.default_rng(seed)
    # An outer power may take a resample's loss to zero far beyond the rows: a draw of minus infinity.
    with np.errstate(divide="ignore"):
        logs = [np.log(fitted.predict_draws(wanted)) for fitted, _ in members]
    centre = np.sum([weight * np.log(fitted.predict(wanted)) for fitted, weight in members], axis=0)
    draws = np.concatenate(logs)
    repeats = -(-DRAWS // max(len(draws), 1))
    draws = np.repeat(draws, repeats, axis=0)
    noise = noise_of(members[0][0])
    residual = rng.choice(noise.standard, size=draws.shape) * noise.scale(np.exp(centre))
    wrong = rng.standard_t(FREEDOM, size=draws.shape) * discrepancy.scale(distance)
    tail = 50.0 * (1.0 - level)
    # Skewed resamples may lie on one side of the prediction, which its bounds never exclude.
    low, high = percentiles(draws + residual + wrong, [tail, 100.0 - tail])
    return Interval(centre, np.minimum(low, centre), np.maximum(high, centre))
