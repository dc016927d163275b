"""The measures of emergence in use, as published: BIG-bench's linearity and breakthroughness.

Srivastava et al. 2022 (arXiv 2206.04615), appendix B. They look at scores in the order of size and at nothing
else: neither how many items are behind a score, nor how the sizes are spaced, nor noise (docs/emergence.md).
"""

from dataclasses import dataclass

import numpy as np

from analysis.detection.shapes import Floats


@dataclass(frozen=True)
class Published:
    """linearity: the signed range over the root mean squared step. breakthroughness: over the root median
    squared step; None where half of the steps or more are zero (a division by zero)."""

    linearity: float | None
    breakthroughness: float | None


def published(score: Floats) -> Published:
    """Both measures of scores [K] in the order of size."""
    steps = np.diff(score) ** 2
    signed = np.sign(int(score.argmax()) - int(score.argmin())) * (score.max() - score.min())
    mean, median = float(np.sqrt(steps.mean())), float(np.sqrt(np.median(steps)))
    return Published(
        float(signed / mean) if mean > 0 else None, float(signed / median) if median > 0 else None
    )
