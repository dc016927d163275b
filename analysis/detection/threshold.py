"""Where a jump is: the threshold and its interval, mixed over all shapes that jump."""

import numpy as np

from analysis.detection.posterior import Posterior
from analysis.detection.shapes import RISING, Floats, Library

# Power of the likelihood among emergent shapes for the threshold alone: the true shape is none of them, and
# without it the 90% intervals of simulated thresholds held 62 to 95%.
TEMPER = 0.55


def threshold_interval(
    post: Posterior, shapes: Library, task: int, size: Floats, level: float
) -> tuple[float, float, float] | None:
    """Lower end, median and upper end of the threshold, as sizes; None where the sizes can show no jump."""
    kind = shapes.kind[np.isin(shapes.kind, RISING)]
    emergent = np.flatnonzero(kind == "emergent")
    if not len(emergent):
        return None
    joint = post.log_joint[task][:, emergent]
    mass = np.exp(TEMPER * (joint - joint.max())).sum(0)
    stretch = shapes.threshold[shapes.of("emergent")]
    grid = np.linspace(0, 1.2, 2401)
    inside = (grid[:, None] - stretch[:, 0]) / (stretch[:, 1] - stretch[:, 0])
    cumulative = inside.clip(0, 1) @ (mass / mass.sum())
    low, middle, high = np.interp([(1 - level) / 2, 0.5, (1 + level) / 2], cumulative, grid)
    log = np.log(size)
    low, middle, high = (np.exp(log[0] + (log[-1] - log[0]) * min(x, 1.0)) for x in (low, middle, high))
    return float(low), float(middle), float(high)
