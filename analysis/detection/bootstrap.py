"""Could the departure be chance, and could a smooth curve have made it: sequential parametric bootstraps.

A break is not identified under its null (Davies 1987), so no table has its distribution: curves are drawn
from the null that the data leave likely and meet the same search over breaks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array, Indices
from analysis.detection.noise import SCATTER, Means, noise_variance, smoothed
from analysis.detection.posterior import TaskFit
from analysis.detection.shapes import Library

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
    """Log-likelihood maxima over the flat curve, the smooth ones and the emergent ones."""

    flat: Float[Array, " B"]
    smooth: Float[Array, " B"]
    emergent: Float[Array, " B"]

    @property
    def departure(self) -> Float[Array, " B"]:
        """The statistic of a departure from a plateau."""
        return self.emergent - self.flat

    @property
    def break_(self) -> Float[Array, " B"]:
        """The statistic of a break against a smooth curve."""
        return self.emergent - np.maximum(self.smooth, self.flat)


def search_shapes(means: Means, shapes: Library) -> Search:
    """Search all shapes (every break is among them), scatters and levels for the means [J] or [B, J]."""
    means = Means(*map(np.atleast_2d, (means.score, means.items, means.variance, means.extra)))
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


def departure_p_value(fit: TaskFit, rng: np.random.Generator, draws: int) -> float:
    """Return p of a departure from a plateau, against a flat curve at the task's own level."""
    means = fit.means

    def drawn(count: int) -> Array:
        scatter = rng.choice(SCATTER, count, p=fit.posterior.scatter)
        weight = 1 / (noise_variance(means, smoothed(means.score)) + scatter[:, None] ** 2)
        level = (weight * means.score).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
        flat = np.broadcast_to(level, weight.shape)
        return search_shapes(_draw(means, flat, scatter, rng), fit.shapes).departure

    return _sequential(search_shapes(means, fit.shapes).departure[0], drawn, draws)


def break_p_value(fit: TaskFit, rng: np.random.Generator, draws: int) -> float:
    """Return p of a break, against the smooth curves that the data leave likely (a flat one among them)."""
    return common_break_p_value([fit], fit.posterior.scatter, rng, draws)


def common_break_p_value(
    fits: Sequence[TaskFit], scatter: Float[Array, " W"], rng: np.random.Generator, draws: int
) -> float:
    """Return p of a break in every one of several curves, each a seed's own, against a smooth curve for each.

    scatter: probabilities of the scatters, common to the curves. The statistic is the sum of theirs.
    """

    def drawn(count: int) -> Array:
        at = rng.choice(len(SCATTER), count, p=scatter)
        total = np.zeros(count)
        for fit in fits:
            curve = _smooth_curves(fit, at, rng)
            total += search_shapes(_draw(fit.means, curve, SCATTER[at], rng), fit.shapes).break_
        return total

    observed = sum(search_shapes(fit.means, fit.shapes).break_[0] for fit in fits)
    return _sequential(float(observed), drawn, draws)


def _smooth_curves(fit: TaskFit, at: Int[Indices, " B"], rng: np.random.Generator) -> Float[Array, "B J"]:
    """Draw smooth curves as likely as the data leave them, at the scatters SCATTER[at]."""
    means, smooth = fit.means, fit.shapes.rising_of("smooth")
    values = fit.shapes.values[fit.shapes.of("smooth")]
    log_joint = fit.posterior.log_joint[:, smooth]
    conditional = np.exp(log_joint - log_joint.max(-1, keepdims=True))
    cumulative = (conditional / conditional.sum(-1, keepdims=True)).cumsum(-1)
    gains = np.maximum(fit.posterior.evidence.gain[:, smooth], 0)
    shape = (rng.random((len(at), 1)) > cumulative[at]).sum(-1).clip(max=len(values) - 1)
    rise = gains[at, shape][:, None] * values[shape]
    weight = 1 / (noise_variance(means, smoothed(means.score)) + SCATTER[at][:, None] ** 2)
    level = (weight * (means.score - rise)).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
    return np.asarray(level + rise)


def _sequential(observed: float, drawn: Callable[[int], Array], draws: int) -> float:
    """Return p of the observed statistic among those `drawn` under the null, stopped early where it is large."""
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


def _draw(
    means: Means, curve: Float[Array, "B J"], scatter: Float[Array, " B"], rng: np.random.Generator
) -> Means:
    """Draw new means around `curve`: scatter of models first, then items."""
    spread = np.sqrt(scatter[:, None] ** 2 + means.extra)
    level = curve + spread * rng.standard_normal(curve.shape)
    counted = np.isfinite(means.items)
    score = level + np.sqrt(np.where(counted, 0, means.variance)) * rng.standard_normal(curve.shape)
    if counted.any():
        items = np.maximum(np.round(means.items[counted]), 1).astype(int)
        score[:, counted] = rng.binomial(items, np.clip(level[:, counted], 0, 1)) / items
    same = (np.broadcast_to(a, curve.shape) for a in (means.items, means.variance, means.extra))
    return Means(score, *same)


def benjamini_hochberg(p: Float[Array, " T"]) -> Float[Array, " T"]:
    """Return q values: the least false-discovery level at which each p is among the discoveries (BH 1995)."""
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(ranked)
    q[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1)
    return q
