"""The noise of a score: items, seeds, and the scatter from model to model.

The only place that knows how far a mean may be off: classes, tests, onsets and the bands of figures take their
error from here. Whether a difference matters is left to posterior.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.detection.curves import Curve

# Grid of the scatter's standard deviation (score units) and its prior: half of the mass at .015 or less,
# a tail up to .16, so that neither a clean simulation nor a rough real grid is off it.
SCATTER = np.array([0.0, 0.006, 0.012, 0.018, 0.025, 0.035, 0.05, 0.075, 0.11, 0.16])
SCATTER_PRIOR = np.array([0.22, 0.13, 0.13, 0.12, 0.11, 0.1, 0.08, 0.06, 0.03, 0.02])


@dataclass(frozen=True)
class Means:
    """Scores averaged over seeds, of tasks at the same sizes or of one task.

    The variance of `score` is f (1 - f) / `items` where `items` is finite, `variance` elsewhere, plus `extra`
    (scatter of the seeds beyond the binomial, over their number).
    """

    score: Float[Array, "*T J"]
    items: Float[Array, "*T J"]
    variance: Float[Array, "*T J"]
    extra: Float[Array, "*T J"]

    def of(self, task: int) -> "Means":
        """Return the means of one of several tasks."""
        return Means(self.score[task], self.items[task], self.variance[task], self.extra[task])


def average_seeds(
    score: Float[Array, "S *T J"], items: Float[Array, "S *T J"], stderr: Float[Array, "S *T J"]
) -> Means:
    """Average over the first axis; NaN where a seed was not run."""
    there = np.isfinite(score)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, score, 0).sum(0) / count
    inverse = np.where(there & np.isfinite(items), 1 / np.where(np.isfinite(items), items, 1), 0).sum(0)
    with np.errstate(divide="ignore"):
        pooled_items = np.where(inverse > 0, count**2 / inverse, np.nan)
    variance = np.where(there & np.isfinite(stderr), np.nan_to_num(stderr) ** 2, 0).sum(0) / count**2
    own = np.where(np.isfinite(pooled_items), mean * (1 - mean) / (pooled_items / count), variance * count)
    spread = np.where(there, (score - mean) ** 2, 0).sum(0)
    freedom = (count - 1).astype(float)
    # The variance between seeds beyond the binomial, each size's own drawn towards the task's mean with
    # the weight of three seeds: seeds part near a threshold and agree elsewhere, two seeds say little, and
    # one seed beside sizes of several is as uncertain as theirs.
    beyond = spread - freedom * own
    task = np.maximum(beyond.sum(-1, keepdims=True) / np.maximum(freedom.sum(-1, keepdims=True), 1), 0)
    each = np.maximum((beyond + 3 * task) / (freedom + 3), 0)
    return Means(mean, pooled_items, variance, each / count)


def noise_variance(means: Means, at: Float[Array, "*B J"]) -> Float[Array, "*B J"]:
    """Variance of the means under a curve `at`, without the scatter from model to model."""
    bounded = np.clip(at, 0, 1)
    # Half an item of either kind is added: no proportion is known without error.
    with np.errstate(invalid="ignore"):
        shrunk = (bounded * means.items + 0.5) / (means.items + 1)
        binomial = shrunk * (1 - shrunk) / means.items
    return np.where(np.isfinite(means.items), binomial, means.variance) + means.extra


def smoothed(score: Float[Array, "*T J"]) -> Float[Array, "*T J"]:
    """Average with the neighbours (1/4, 1/2, 1/4): a stand-in for the curve in its variance."""
    inner = np.concatenate([score[..., :1], score, score[..., -1:]], axis=-1)
    return np.asarray(inner[..., :-2] / 4 + score / 2 + inner[..., 2:] / 4)


def level_and_error(curve: Curve, scatter: float) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    """Mean score over seeds and its standard error: of items, seeds and a `scatter` from model to model.

    Onsets are judged by it, and figures draw their bands from it: what is seen is what was judged.
    """
    means = average_seeds(curve.score, curve.items, curve.stderr)
    return means.score, np.sqrt(noise_variance(means, means.score) + scatter**2)
