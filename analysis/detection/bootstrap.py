"""Could the departure be chance, and could a smooth curve have made it: sequential parametric bootstraps.

A break is not identified under its null (Davies 1987), so no table has its distribution: curves are drawn
from the null that the data leave likely and meet the same search over breaks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detection.noise import SCATTER, Means, noise_variance, one_task, smoothed
from analysis.detection.posterior import Posterior
from analysis.detection.shapes import RISING, Floats, Library

# Scatters over which the statistic is maximised; the draws use the whole grid.
_COARSE = np.array([0.0, 0.012, 0.03, 0.08])
# A break that a smooth curve makes more often than this is none. Frozen on simulated worlds; so lenient because
# near the boundary of the definition a smooth curve can always be found that is nearly a jump.
BREAK_LEVEL = 0.2
_BATCHES = (100, 200, 700, 1000, 2000, 4000)
# Besag and Clifford (1991): stop when this many draws have exceeded the statistic.
_EXCEEDANCES = 20


@dataclass(frozen=True)
class Search:
    """Log-likelihood maxima [B] over the flat curve, the smooth ones and the emergent ones."""

    flat: Floats
    smooth: Floats
    emergent: Floats

    @property
    def departure(self) -> Floats:
        return self.emergent - self.flat

    @property
    def break_(self) -> Floats:
        return self.emergent - np.maximum(self.smooth, self.flat)


def search(means: Means, shapes: Library) -> Search:
    """The exhaustive search over shapes (every break is among them), scatter and level for [B, K] means."""
    score = means.score.astype(np.float32)
    base = noise_variance(means, smoothed(means.score)).astype(np.float32)
    names = ("smooth", "emergent")
    values = {name: shapes.values[shapes.of(name)].astype(np.float32) for name in names}
    best = {name: np.full(len(score), -np.inf) for name in ("flat", *names)}
    for scatter in _COARSE:
        weight = 1 / (base + np.float32(scatter**2))
        total = weight.sum(-1, keepdims=True)
        centred = score - (weight * score).sum(-1, keepdims=True) / total
        weighted = weight * centred
        flat = 0.5 * np.log(weight).sum(-1) - 0.5 * (weighted * centred).sum(-1)
        best["flat"] = np.maximum(best["flat"], flat)
        for name in names:
            shape = values[name]
            if not len(shape):
                continue
            first = weight @ shape.T
            rest = weight @ (shape**2).T - first**2 / total
            # The sum of `weighted` is zero, so its product with the shape is with the centred shape.
            along = np.maximum(weighted @ shape.T, 0)
            best[name] = np.maximum(best[name], flat + 0.5 * (along**2 / np.maximum(rest, 1e-9)).max(-1))
    return Search(best["flat"], best["smooth"], best["emergent"])


def departure_p_value(
    means: Means, shapes: Library, post: Posterior, task: int, rng: np.random.Generator, draws: int
) -> float:
    """p of a departure from a plateau, against a flat curve at the task's own level."""
    one = one_task(means, task)

    def drawn(count: int) -> Floats:
        scatter = rng.choice(SCATTER, count, p=post.scatter[task])
        weight = 1 / (noise_variance(one, smoothed(one.score)) + scatter[:, None] ** 2)
        level = (weight * one.score).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
        flat = np.broadcast_to(level, weight.shape)
        return search(_draw(one, flat, scatter, rng), shapes).departure

    return _sequential(search(one, shapes).departure[0], drawn, draws)


def break_p_value(
    means: Means, shapes: Library, post: Posterior, task: int, rng: np.random.Generator, draws: int
) -> float:
    """p of a break, against the smooth curves that the data leave likely (a flat one among them)."""
    return common_break_p_value([(means, shapes, post, task)], post.scatter[task], rng, draws)


def common_break_p_value(
    parts: Sequence[tuple[Means, Library, Posterior, int]],
    scatter: Floats,
    rng: np.random.Generator,
    draws: int,
) -> float:
    """p of a break in every one of several curves, each a seed's own, against a smooth curve for each.

    `parts`: means, shapes, posterior and the task's place in them; `scatter` [W]: probabilities of the
    scatters, common to the curves. The statistic is the sum of theirs.
    """
    ones = [one_task(means, task) for means, _, _, task in parts]

    def drawn(count: int) -> Floats:
        at = rng.choice(len(SCATTER), count, p=scatter)
        total = np.zeros(count)
        for one, (_, shapes, post, task) in zip(ones, parts, strict=True):
            curve = _smooth_curves(one, shapes, post, task, at, rng)
            total += search(_draw(one, curve, SCATTER[at], rng), shapes).break_
        return total

    observed = sum(search(one, part[1]).break_[0] for one, part in zip(ones, parts, strict=True))
    return _sequential(float(observed), drawn, draws)


def _smooth_curves(
    one: Means, shapes: Library, post: Posterior, task: int, at: NDArray[np.intp], rng: np.random.Generator
) -> Floats:
    """Smooth curves [B, K] as likely as the data leave them, at the scatters SCATTER[at]."""
    smooth = np.flatnonzero(shapes.kind[np.isin(shapes.kind, RISING)] == "smooth")
    values = shapes.values[shapes.of("smooth")]
    log_joint = post.log_joint[task][:, smooth]
    conditional = np.exp(log_joint - log_joint.max(-1, keepdims=True))
    cumulative = (conditional / conditional.sum(-1, keepdims=True)).cumsum(-1)
    gains = np.maximum(post.gain[task][:, smooth], 0)
    shape = (rng.random((len(at), 1)) > cumulative[at]).sum(-1).clip(max=len(values) - 1)
    rise = gains[at, shape][:, None] * values[shape]
    weight = 1 / (noise_variance(one, smoothed(one.score)) + SCATTER[at][:, None] ** 2)
    level = (weight * (one.score - rise)).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
    return np.asarray(level + rise)


def _sequential(observed: float, drawn: Callable[[int], Floats], draws: int) -> float:
    """p of the observed statistic among those `drawn` under the null, stopped early where it is large."""
    exceeded = done = 0
    for batch in _BATCHES:
        count = min(batch, draws - done)
        if count <= 0:
            break
        exceeded += int((drawn(count) >= observed - 1e-6).sum())
        done += count
        if exceeded >= _EXCEEDANCES:
            break
    return (exceeded + 1) / (done + 1)


def _draw(one: Means, curve: Floats, scatter: Floats, rng: np.random.Generator) -> Means:
    """New means around `curve` [B, K]: scatter of models first, then items."""
    spread = np.sqrt(scatter[:, None] ** 2 + one.extra)
    level = curve + spread * rng.standard_normal(curve.shape)
    counted = np.isfinite(one.items[0])
    score = level + np.sqrt(np.where(counted, 0, one.variance)) * rng.standard_normal(curve.shape)
    if counted.any():
        items = np.maximum(np.round(one.items[0, counted]), 1).astype(int)
        score[:, counted] = rng.binomial(items, np.clip(level[:, counted], 0, 1)) / items
    same = (np.broadcast_to(a, curve.shape) for a in (one.items, one.variance, one.extra))
    return Means(score, *same)


def benjamini_hochberg(p: Floats) -> Floats:
    """q values: the least false-discovery level at which each p is among the discoveries (BH 1995)."""
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(ranked)
    q[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1)
    return q
