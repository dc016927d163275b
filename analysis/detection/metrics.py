"""Is a jump in the model or in the metric? Two scores of the same outputs, compared below the threshold.

A length-L exact match of a smooth byte accuracy p is p^L, and jumps where p does not (Schaeffer et al. 2023,
arXiv 2304.15004). A jump of the model shows in every score of its outputs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.detection.curves import Curve, lower_is_better
from analysis.detection.noise import Means, noise_variance
from analysis.detection.shapes import Floats, scaled_log

# The other score has moved before the threshold: this share of its own gain, this many standard errors.
EARLY_SHARE, EARLY_Z = 0.2, 3.0
# ... and makes no jump of its own: at most this probability of being emergent. A power of a jump departs
# later than the jump, so that having moved early is not enough.
JUMP_PROBABILITY = 0.3


@dataclass(frozen=True)
class Other:
    """What another score of the same outputs says of a jump.

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
        """Whether the other score goes through the jump as a slope."""
        return self.early >= EARLY_SHARE and self.z >= EARLY_Z and self.jumps <= JUMP_PROBABILITY


def compare(
    jump: Curve,
    threshold: float,
    other: Curve,
    means: Means,
    scatter: float,
    jumps: float,
    length: float | None,
) -> Other | None:
    """`other` (its `means` [1, K], scatter and probability of a jump) below the threshold of `jump`.

    None where they share fewer than four sizes, fewer than three of them below, or where the other does not
    gain.
    """
    shared = np.intersect1d(jump.size, other.size)
    below = int((shared < threshold).sum())
    if len(shared) < 4 or below < 3:
        return None
    own, theirs = np.isin(jump.size, shared), np.isin(other.size, shared)
    score, reference = means.score[0][theirs], _mean(jump)[own]
    # A score that never varies has no correlation, which is no reason to turn it round.
    varies = bool(np.ptp(score) > 0 and np.ptp(reference) > 0)
    if not lower_is_better(other.metric) and varies and np.corrcoef(score, reference)[0, 1] < -0.5:
        score = -score
    variance = noise_variance(means, means.score)[0][theirs] + scatter**2
    x = scaled_log(shared)
    total = score[-2:].mean() - score[:2].mean()
    gain, error = _trend(x[:below], score[:below], variance[:below])
    if total <= np.sqrt(variance[:2].sum() + variance[-2:].sum()):
        return None
    fitted, misfit = _power(jump, other, reference, score, length)
    return Other(other.metric, float(gain / total), float(gain / error), jumps, fitted, misfit)


def _mean(curve: Curve) -> Floats:
    there = np.isfinite(curve.score)
    return np.asarray(np.where(there, curve.score, 0).sum(0) / np.maximum(there.sum(0), 1))


def _trend(x: Floats, y: Floats, variance: Floats) -> tuple[float, float]:
    """Gain over the sizes of a weighted straight line, and its standard error."""
    weight = 1 / variance
    centred = x - (weight * x).sum() / weight.sum()
    rest = (weight * centred**2).sum()
    span = x[-1] - x[0]
    return float((weight * centred * y).sum() / rest * span), float(span / np.sqrt(rest))


def _power(
    jump: Curve, other: Curve, exact: Floats, byte: Floats, length: float | None
) -> tuple[float, float]:
    """L and the largest |p^L - exact|; fitted over 1..64 where the length is not known."""
    if jump.scale != 1 or other.scale != 1 or np.any(byte < 0):
        return float("nan"), float("nan")
    lengths = np.array([length]) if length else np.geomspace(1.25, 64, 60)
    apart = np.clip(byte, 0, 1) ** lengths[:, None] - exact
    best = int((apart**2).sum(1).argmin())
    return float(lengths[best]), float(np.abs(apart[best]).max())
