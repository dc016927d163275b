"""Tasks judged from some of their seeds: from each alone, and from all but one.

A mean hides that every seed jumps, each at its own size, and that only one of them does. What follows from it
for the class is left to emergence_verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from analysis.detection.bootstrap import BREAK_LEVEL, common_break_p_value
from analysis.detection.curves import Curve
from analysis.detection.noise import Means, average_seeds
from analysis.detection.posterior import (
    HYPOTHESES,
    LEAST_PROBABILITY,
    Evidence,
    Posterior,
    Prior,
    evidence,
    posterior,
)
from analysis.detection.shapes import Floats, Library, library, scaled_log
from analysis.detection.threshold import threshold_interval

# Each seed alone is to be a jump rather than anything else, and where they differ to differ by this share of
# the gain: a slope with scatter has seeds in between.
EACH_SEED, APART = 0.5, 0.5
# A plateau of three sizes and a departure.
LEAST_SIZES = 4
_EMERGENT = HYPOTHESES.index("emergent")


@dataclass(frozen=True)
class Fit:
    """A task's curve through some of its seeds, over the sizes [K] that they have; the task stands at `at`."""

    sizes: NDArray[np.bool_]
    means: Means
    shapes: Library
    evidence: Evidence
    post: Posterior
    at: int

    @property
    def probability(self) -> Floats:
        """Of the hypotheses [H]."""
        return np.asarray(self.post.probability[self.at])


@dataclass(frozen=True)
class LeftOut:
    """A task without one seed: `probability` [H] of the hypotheses, over the sizes that other seeds have;
    `lone`, the sizes that no other seed has. Where fewer than two sizes are left nothing is gained over them."""

    seed: str
    probability: Floats
    lone: tuple[float, ...]


@dataclass(frozen=True)
class SeedClass:
    """The likeliest hypothesis of one seed alone, how probable, and where it would jump (sizes)."""

    seed: str
    label: str
    probability: float
    jump_probability: float
    threshold: tuple[float, float, float] | None

    def to_json(self) -> dict[str, Any]:
        """`class` may be "hill" (rises, then falls) besides the six."""
        where = self.threshold
        body = {"seed": self.seed, "class": self.label, "probability": self.probability}
        at = None if where is None else where[1]
        return body | {"threshold": at, "threshold_interval": None if where is None else [where[0], where[2]]}


@dataclass(frozen=True)
class EachSeed:
    """Every seed alone (of LEAST_SIZES or more). `probability` of a jump in all of them, each at its own size;
    `p_break` against a smooth curve for each (1 where it was not asked); `apart`: the widest gap between two
    neighbouring seeds at one size, as a share of the gain."""

    seeds: tuple[SeedClass, ...]
    probability: float
    p_break: float
    apart: float

    @property
    def all_jump(self) -> bool:
        """Whether each seed is a jump by itself, at a size of its own."""
        return self.p_break <= BREAK_LEVEL

    @property
    def jumping(self) -> tuple[SeedClass, ...]:
        """The seeds that are surely jumps by themselves."""
        return tuple(seed for seed in self.seeds if seed.jump_probability >= LEAST_PROBABILITY)

    @property
    def threshold(self) -> tuple[float, float, float] | None:
        """From where the first seed may jump to where the last one may, and the median of the seeds."""
        known = [seed.threshold for seed in self.seeds if seed.threshold is not None]
        if not known:
            return None
        low, middle, high = np.array(known).T
        return float(low.min()), float(np.exp(np.median(np.log(middle)))), float(high.max())


def without_each_seed(
    scores: Sequence[Floats], curves: Sequence[Curve], min_effect: float, prior: Prior
) -> list[list[LeftOut]]:
    """For each task, what is left of it without each of its seeds. `scores`: score, items and standard errors
    [S, T, K]; empty where there is one seed."""
    out: list[list[LeftOut]] = [[] for _ in curves]
    for left_out in range(len(scores[0])):
        keep = np.arange(len(scores[0])) != left_out
        fits = _fits(scores, keep, curves[0].size, min_effect, prior, 2)
        for t, (curve, fit) in enumerate(zip(curves, fits, strict=True)):
            if len(curve.seeds) < 2 or left_out >= len(curve.seeds):
                continue
            others = np.isfinite(scores[0][keep, t]).any(0)
            nothing = np.eye(len(HYPOTHESES))[HYPOTHESES.index("flat")]
            probability = nothing if fit is None else fit.probability
            lone = tuple(map(float, curve.size[~others]))
            out[t].append(LeftOut(curve.seeds[left_out], probability, lone))
    return out


def fits_of_each_seed(
    scores: Sequence[Floats], size: Floats, min_effect: float, prior: Prior
) -> list[list[tuple[int, Fit]]]:
    """For each task the seeds (by place) that have LEAST_SIZES or more, and each one's fit."""
    out: list[list[tuple[int, Fit]]] = [[] for _ in range(scores[0].shape[1])]
    for seed in range(len(scores[0])):
        keep = np.arange(len(scores[0])) == seed
        for t, fit in enumerate(_fits(scores, keep, size, min_effect, prior, LEAST_SIZES)):
            if fit is not None:
                out[t].append((seed, fit))
    return out


def _fits(
    scores: Sequence[Floats],
    keep: NDArray[np.bool_],
    size: Floats,
    min_effect: float,
    prior: Prior,
    least: int,
) -> list[Fit | None]:
    """Every task from the seeds `keep` alone; tasks that these leave with the same sizes are judged at once."""
    there = np.asarray(np.isfinite(scores[0][keep]).any(0))
    out: list[Fit | None] = [None] * len(there)
    for pattern in np.unique(there, axis=0):
        if pattern.sum() < least:
            continue
        tasks = np.flatnonzero((there == pattern).all(-1))
        means = average_seeds(*(a[keep][:, tasks][:, :, pattern] for a in scores))
        shapes = library(scaled_log(size[pattern]))
        found = evidence(means, shapes, min_effect)
        post = posterior(found, prior)
        for at, t in enumerate(tasks):
            out[t] = Fit(pattern, means, shapes, found, post, at)
    return out


def each_seed(
    curve: Curve,
    fits: Sequence[tuple[int, Fit]],
    gain: float,
    prior: Prior,
    level: float,
    rng: np.random.Generator,
    draws: int,
) -> EachSeed | None:
    """The seeds of a task one by one, and all of them under one class with a curve for each.

    gain: of the task's mean, in its score's unit. level: of the threshold's interval. None with fewer than two
    seeds that have sizes enough.
    """
    if len(fits) < 2:
        return None
    # One class and one scatter for all of them; level, gain and shape are each seed's own.
    together = np.sum([fit.evidence.hypothesis[fit.at] for _, fit in fits], axis=0)
    joint = together + np.log(prior.scatter)[:, None] + np.log(prior.hypothesis)
    joint -= logsumexp(joint)
    probability = float(np.exp(logsumexp(joint[:, _EMERGENT])))
    scatter = np.exp(logsumexp(joint, axis=1))
    seeds = tuple(_seed_class(curve, seed, fit, level) for seed, fit in fits)
    apart = _widest_gap(curve.score) / gain if gain > 0 else 0.0
    found = EachSeed(seeds, probability, 1.0, apart)
    if not _may_jump(found):
        return found
    parts = [(fit.means, fit.shapes, fit.post, fit.at) for _, fit in fits]
    return EachSeed(
        seeds, probability, common_break_p_value(parts, scatter / scatter.sum(), rng, draws), apart
    )


def _may_jump(found: EachSeed) -> bool:
    alone = min(seed.jump_probability for seed in found.seeds)
    return found.probability >= LEAST_PROBABILITY and alone >= EACH_SEED and found.apart >= APART


def _seed_class(curve: Curve, seed: int, fit: Fit, level: float) -> SeedClass:
    probability = fit.probability
    likeliest = int(probability.argmax())
    where = None
    if likeliest == _EMERGENT:
        where = threshold_interval(fit.post, fit.shapes, fit.at, curve.size[fit.sizes], level)
    label, jumps = HYPOTHESES[likeliest], float(probability[_EMERGENT])
    return SeedClass(curve.seeds[seed], label, float(probability[likeliest]), jumps, where)


def _widest_gap(score: Floats) -> float:
    """The widest gap between neighbouring seeds at one size, of scores [S, K] with NaN where not run."""
    gaps = np.diff(np.sort(score, axis=0), axis=0)
    return float(np.nanmax(gaps)) if np.isfinite(gaps).any() else 0.0
