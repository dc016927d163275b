"""Is a jump in the model or in the metric? Two scores of the same outputs, compared below the threshold.

Besides, the measures of emergence in use, as published, for comparison.

A length-L exact match of a smooth byte accuracy p is p^L, and jumps where p does not (Schaeffer et al. 2023,
arXiv 2304.15004). A jump of the model shows in every score of its outputs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.detection.curves import Curve
from analysis.detection.noise import noise_variance
from analysis.detection.posterior import TaskFit
from analysis.detection.shapes import scaled_log

# The other score has moved before the threshold: this share of its own gain, this many standard errors.
EARLY_SHARE, EARLY_Z = 0.2, 3.0
# ... and makes no jump of its own: at most this probability of being emergent. A power of a jump departs
# later than the jump, so that having moved early is not enough.
JUMP_PROBABILITY = 0.3


@dataclass(frozen=True)
class Other:
    """Another score of the same outputs, beside a jump.

    `early`: share of the other score's gain that is had below the threshold, `z` its standard errors;
    `jumps`: the probability that it is emergent itself. `length`: L of p^L, from the items where they are kept,
    fitted otherwise; `misfit`: largest difference between p^L and the score, NaN where it does not apply.
    """

    metric: str
    early: float
    z: float
    jumps: float
    length: float
    misfit: float

    @property
    def smooth(self) -> bool:
        """Tell whether the other score goes through the jump as a slope."""
        return self.early >= EARLY_SHARE and self.z >= EARLY_Z and self.jumps <= JUMP_PROBABILITY


def at_a_jump(
    jump: Curve, threshold: float, other: TaskFit, jumps: float, length: float | None
) -> Other | None:
    """Compare `other`, whose probability of a jump is `jumps`, with `jump` below the latter's threshold.

    length: of p^L, where it is known. None where they share fewer than four sizes, fewer than three of them
    below, or where the other does not gain.
    """
    curve, means = other.curve, other.means
    shared = np.intersect1d(jump.size, curve.size)
    below = int((shared < threshold).sum())
    if len(shared) < 4 or below < 3:
        return None
    own, theirs = np.isin(jump.size, shared), np.isin(curve.size, shared)
    score, reference = means.score[theirs], _mean(jump)[own]
    # A score that never varies has no correlation, which is no reason to turn it round.
    varies = bool(np.ptp(score) > 0 and np.ptp(reference) > 0)
    if curve.scale > 0 and varies and np.corrcoef(score, reference)[0, 1] < -0.5:
        score = -score
    variance = noise_variance(means, means.score)[theirs] + other.scatter_variance
    x = scaled_log(shared)
    total = score[-2:].mean() - score[:2].mean()
    gain, error = _trend(x[:below], score[:below], variance[:below])
    if total <= np.sqrt(variance[:2].sum() + variance[-2:].sum()):
        return None
    fitted, misfit = _power(jump, curve, reference, score, length)
    return Other(curve.metric, float(gain / total), float(gain / error), jumps, fitted, misfit)


def _mean(curve: Curve) -> Array:
    there = np.isfinite(curve.score)
    return np.asarray(np.where(there, curve.score, 0).sum(0) / np.maximum(there.sum(0), 1))


def _trend(x: Float[Array, " J"], y: Float[Array, " J"], variance: Float[Array, " J"]) -> tuple[float, float]:
    """Return the gain over the sizes of a weighted straight line, and its standard error."""
    weight = 1 / variance
    centred = x - (weight * x).sum() / weight.sum()
    rest = (weight * centred**2).sum()
    span = x[-1] - x[0]
    return float((weight * centred * y).sum() / rest * span), float(span / np.sqrt(rest))


def _power(
    jump: Curve, other: Curve, exact: Float[Array, " J"], byte: Float[Array, " J"], length: float | None
) -> tuple[float, float]:
    """Return L and the largest |p^L - exact|; fitted over 1..64 where the length is not known."""
    if jump.scale != 1 or other.scale != 1 or np.any(byte < 0):
        return float("nan"), float("nan")
    lengths = np.array([length]) if length else np.geomspace(1.25, 64, 60)
    apart = np.clip(byte, 0, 1) ** lengths[:, None] - exact
    best = int((apart**2).sum(1).argmin())
    return float(lengths[best]), float(np.abs(apart[best]).max())


@dataclass(frozen=True)
class Published:
    """BIG-bench's measures (Srivastava et al. 2022, arXiv 2206.04615, appendix B).

    linearity: the signed range over the root mean squared step. breakthroughness: over the root median squared
    step; None where half of the steps or more are zero (a division by zero). They look at scores in the order of
    size and at nothing else: neither how many items are behind a score, nor how the sizes are spaced, nor noise.
    """

    linearity: float | None
    breakthroughness: float | None


def published(score: Float[Array, " J"]) -> Published:
    """Return both measures of scores in the order of size."""
    steps = np.diff(score) ** 2
    signed = np.sign(int(score.argmax()) - int(score.argmin())) * (score.max() - score.min())
    mean, median = float(np.sqrt(steps.mean())), float(np.sqrt(np.median(steps)))
    return Published(
        float(signed / mean) if mean > 0 else None, float(signed / median) if median > 0 else None
    )
