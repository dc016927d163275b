"""From which size a curve is above something: another curve, chance, or the score of a shortcut.

A shortcut is the best guess without the ability (position, n-gram, letter frequency, majority): until it is
beaten, a score says nothing of the ability.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from analysis.arrays import Array
from analysis.detection.curves import Curve
from analysis.detection.noise import level_and_error
from analysis.errors import Code, Warn

# One-sided, over all sizes together (Sidak): what is above nothing is seldom said to be so at any of them.
FALSE_ONSET = 0.05
# A score that counts and that owes this much of its gain to the shortcut is said to.
MOST_OF_THE_GAIN = 0.5


def onset(
    size: Float[Array, " J"], gain: Float[Array, " J"], error: Float[Array, " J"], min_effect: float
) -> float | None:
    """Return the first size with a gain that matters and is beyond noise, and is kept on average after it."""
    z = ndtri((1 - FALSE_ONSET) ** (1 / len(size)))
    for k in range(len(size)):
        after = gain[k:]
        if gain[k] >= min_effect and gain[k] >= z * error[k] and after.mean() >= min_effect:
            return float(size[k])
    return None


def beats_shortcut_from(curve: Curve, scatter: float, min_effect: float) -> float | None:
    """Return the size from which the score is above the shortcut (or above chance, if that is more).

    None where it never is, or no shortcut is known.

    The shortcut was scored on the same items; its error is added as if on others, which is the safer side.
    """
    if not np.isfinite(curve.shortcut):
        return None
    level, error = level_and_error(curve, scatter)
    items = np.nanmax(curve.items) if np.isfinite(curve.items).any() else np.inf
    own = curve.shortcut * (1 - curve.shortcut) / items
    bar = float(np.fmax(curve.shortcut, curve.chance))
    return onset(curve.size, level - bar, np.sqrt(error**2 + own), min_effect)


def about_shortcut(
    curve: Curve, label: str, fitted: Float[Array, " J"], beaten_from: float | None
) -> list[Warn]:
    """Warn of a score that stays under its shortcut, or owes it most of the gain."""
    if not np.isfinite(curve.shortcut) or label not in ("emergent", "smooth", "saturated"):
        return []
    if beaten_from is None:
        said = f"at no size is the score above what a shortcut has ({curve.shortcut:.2f}): it does not count"
        return [Warn(Code.SHORTCUT, said)]
    gain = float(fitted[-1] - fitted[0])
    share = (curve.shortcut - float(fitted[0])) / gain if label != "saturated" and gain > 0 else 0.0
    if share < MOST_OF_THE_GAIN:
        return []
    said = f"{share:.0%} of the gain lies below what a shortcut has ({curve.shortcut:.2f})"
    return [Warn(Code.SHORTCUT, f"{said}; the score counts from {beaten_from:.3g} on")]
