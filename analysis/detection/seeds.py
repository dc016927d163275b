"""Tasks judged from some of their seeds: from each alone, from all but one, and by the groups they fall into.

A mean hides that every seed jumps, each at its own size, and that only one of them does. What follows from it
for the class is left to verdict.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from analysis.arrays import Array
from analysis.detection.bootstrap import BREAK_LEVEL, common_break_p_value
from analysis.detection.curves import Curve
from analysis.detection.posterior import (
    EMERGENT,
    FLAT,
    HYPOTHESES,
    LEAST_PROBABILITY,
    TaskFit,
    Threshold,
    best_curve,
    find_threshold,
    fit_tasks,
)

# Each seed alone is to be a jump rather than anything else, and where they differ to differ by this share of
# the gain: a slope with scatter has seeds in between.
EACH_SEED, APART = 0.5, 0.5
# A plateau of three sizes and a departure.
LEAST_SIZES = 4


@dataclass(frozen=True)
class WithoutSeed:
    """A task without one seed: `probability` of the hypotheses, over the sizes that other seeds have; `lone`, the
    sizes that no other seed has. Where fewer than two sizes are left nothing is gained over them."""

    seed: str
    probability: Float[Array, " H"]
    lone: tuple[float, ...]


@dataclass(frozen=True)
class SeedClass:
    """The likeliest hypothesis of one seed alone, how probable, and where it would jump."""

    seed: str
    label: str
    probability: float
    jump_probability: float
    threshold: Threshold | None

    def to_json(self) -> dict[str, Any]:
        """Return the seed's entry; `class` may be "hill" (rises, then falls) besides the six."""
        where = self.threshold
        body = {"seed": self.seed, "class": self.label, "probability": self.probability}
        at, ends = (None, None) if where is None else (where.middle, [where.low, where.high])
        return body | {"threshold": at, "threshold_interval": ends}


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
        """Tell whether each seed is a jump by itself, at a size of its own."""
        return self.p_break <= BREAK_LEVEL

    @property
    def jumping(self) -> tuple[SeedClass, ...]:
        """The seeds that are surely jumps by themselves."""
        return tuple(seed for seed in self.seeds if seed.jump_probability >= LEAST_PROBABILITY)

    @property
    def threshold(self) -> Threshold | None:
        """From where the first seed may jump to where the last one may, and the median of the seeds."""
        known = [seed.threshold for seed in self.seeds if seed.threshold is not None]
        if not known:
            return None
        middle = float(np.exp(np.median(np.log([one.middle for one in known]))))
        return Threshold(min(one.low for one in known), middle, max(one.high for one in known))


def without_each_seed(fit: TaskFit, min_effect: float) -> tuple[WithoutSeed, ...]:
    """Judge what is left of a task without each of its seeds; nothing where there is one seed."""
    curve, prior, places = fit.curve, fit.posterior.prior, range(len(fit.curve.seeds))
    left = [curve.of_seeds([other for other in places if other != place]) for place in places]
    whole = [rest for rest in left if len(rest.size) >= 2]
    fits = iter(fit_tasks(whole, min_effect, prior))
    nothing = np.eye(len(HYPOTHESES))[FLAT]
    out = []
    for place, rest in enumerate(left):
        probability = next(fits).posterior.probability if len(rest.size) >= 2 else nothing
        lone = tuple(float(size) for size in curve.size if size not in rest.size)
        out.append(WithoutSeed(curve.seeds[place], probability, lone))
    return tuple(out) if len(places) > 1 else ()


def each_seed(
    fit: TaskFit, min_effect: float, level: float, rng: np.random.Generator, draws: int
) -> EachSeed | None:
    """Judge the seeds of a task one by one, and all of them under one class with a curve for each.

    level: of the threshold's interval. None with fewer than two seeds that have LEAST_SIZES or more.
    """
    curve, prior = fit.curve, fit.posterior.prior
    alone = [curve.of_seeds([place]) for place in range(len(curve.seeds))]
    alone = [one for one in alone if len(one.size) >= LEAST_SIZES]
    if len(alone) < 2:
        return None
    fits = fit_tasks(alone, min_effect, prior)
    # One class and one scatter for all of them; level, gain and shape are each seed's own.
    together = np.sum([one.posterior.evidence.hypothesis for one in fits], axis=0)
    joint = together + np.log(prior.scatter)[:, None] + np.log(prior.hypothesis)
    joint -= logsumexp(joint)
    probability = float(np.exp(logsumexp(joint[:, EMERGENT])))
    scatter = np.exp(logsumexp(joint, axis=1))
    rise = best_curve(fit, "emergent")
    gain = float(rise[-1] - rise[0])
    apart = _widest_gap(curve.score) / gain if gain > 0 else 0.0
    found = EachSeed(tuple(_seed_class(one, level) for one in fits), probability, 1.0, apart)
    if not _may_jump(found):
        return found
    return replace(found, p_break=common_break_p_value(fits, scatter / scatter.sum(), rng, draws))


def _may_jump(found: EachSeed) -> bool:
    alone = min(seed.jump_probability for seed in found.seeds)
    return found.probability >= LEAST_PROBABILITY and alone >= EACH_SEED and found.apart >= APART


def _seed_class(fit: TaskFit, level: float) -> SeedClass:
    probability = fit.posterior.probability
    likeliest = int(probability.argmax())
    where = find_threshold(fit, level) if likeliest == EMERGENT else None
    label, jumps = HYPOTHESES[likeliest], float(probability[EMERGENT])
    return SeedClass(fit.curve.seeds[0], label, float(probability[likeliest]), jumps, where)


def _widest_gap(score: Float[Array, "S J"]) -> float:
    """Return the widest gap between neighbouring seeds at one size, of scores with NaN where not run."""
    gaps = np.diff(np.sort(score, axis=0), axis=0)
    return float(np.nanmax(gaps)) if np.isfinite(gaps).any() else 0.0


@dataclass(frozen=True)
class SeedGroups:
    """`bimodal`: at some size two groups of seeds fit better than one; None with fewer than three seeds.
    `success_rate`: by size, the share of seeds past the middle of the gain; None where nothing is gained."""

    bimodal: bool | None
    success_rate: list[dict[str, float]] | None


def seed_groups(fit: TaskFit, fitted: Float[Array, " J"], min_effect: float) -> SeedGroups:
    """Return success rates by size, and whether two groups of seeds fit better than one at any size."""
    curve, extra, seeds = fit.curve, fit.means.extra, len(fit.curve.seeds)
    if seeds < 2:
        return SeedGroups(None, None)
    gain = float(fitted[-1] - fitted[0])
    rates = None
    if gain >= min_effect:
        bar = float(fitted[0]) + gain / 2
        rates = []
        for k, size in enumerate(curve.size):
            scores = curve.score[:, k][np.isfinite(curve.score[:, k])]
            rates.append({"size": float(size), "rate": float((scores > bar).mean()), "seeds": len(scores)})
    # Scatter of seeds where they agree: the lower half of the sizes' own.
    usual = float(np.sqrt(np.median(np.sort(extra)[: max(len(extra) // 2, 1)]) * seeds))
    gains = [_two_groups(curve, k, max(usual, 0.02), 2 * min_effect) for k in range(len(curve.size))]
    known = [gain for gain in gains if gain is not None]
    return SeedGroups(bool(max(known) > 0) if known else None, rates)


def _two_groups(curve: Curve, k: int, scatter: float, least_gap: float) -> float | None:
    """Return the BIC of one group less that of two at size k: positive where two groups of seeds fit better."""
    there = np.isfinite(curve.score[:, k])
    scores, items, stderr = (a[there, k] for a in (curve.score, curve.items, curve.stderr))
    count = len(scores)
    if count < 3:
        return None
    order = np.argsort(scores)
    scores, items, stderr = scores[order], items[order], stderr[order]

    def variance(level: float) -> Array:
        bounded = min(max(level, 0.0), 1.0)
        own = np.where(np.isfinite(items), (bounded * (1 - bounded) + 0.5 / items) / items, stderr**2)
        return np.nan_to_num(own) + scatter**2

    def minus_log(part: Array, level: float, more: float, rows: slice) -> float:
        total = variance(level)[rows] + more
        return float(0.5 * (np.log(total) + (part - level) ** 2 / total).sum())

    mean = float(scores.mean())
    own_spread = max(float(scores.var()) - float(variance(mean).mean()), 0.0)
    # Free: mean and spread for one group; two means and where they part for two.
    one = 2 * minus_log(scores, mean, own_spread, slice(None)) + 2 * np.log(count)
    best = np.inf
    for split in range(1, count):
        low, high = scores[:split], scores[split:]
        if high[0] - low[-1] < least_gap:
            continue
        two = minus_log(low, float(low.mean()), 0.0, slice(None, split))
        two += minus_log(high, float(high.mean()), 0.0, slice(split, None))
        best = min(best, 2 * two + 3 * np.log(count) + 2 * np.log(count - 1))
    return float(one - best)
