"""Do the seeds of a size fall into two groups, and how many have succeeded there?

Success may be bimodal near a threshold; a mean over seeds hides it.
"""

from dataclasses import dataclass

import numpy as np

from analysis.detection.curves import Curve
from analysis.detection.shapes import Floats


@dataclass(frozen=True)
class SeedGroups:
    """`bimodal`: at some size two groups of seeds fit better than one; None with fewer than three seeds.
    `success_rate`: by size, the share of seeds past the middle of the gain; None where nothing is gained."""

    bimodal: bool | None
    success_rate: list[dict[str, float]] | None


def seed_groups(curve: Curve, fitted: Floats, extra: Floats, min_effect: float) -> SeedGroups:
    """Success rates by size, and whether two groups of seeds fit better than one at any size."""
    seeds = len(curve.seeds)
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
    """BIC of one group less that of two at size k: positive where two groups of seeds fit better."""
    there = np.isfinite(curve.score[:, k])
    scores, items, stderr = (a[there, k] for a in (curve.score, curve.items, curve.stderr))
    count = len(scores)
    if count < 3:
        return None
    order = np.argsort(scores)
    scores, items, stderr = scores[order], items[order], stderr[order]

    def variance(level: float) -> Floats:
        bounded = min(max(level, 0.0), 1.0)
        own = np.where(np.isfinite(items), (bounded * (1 - bounded) + 0.5 / items) / items, stderr**2)
        return np.nan_to_num(own) + scatter**2

    def minus_log(part: Floats, level: float, more: float, rows: slice) -> float:
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
