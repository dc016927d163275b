"""The shapes a score may take over size, each with the class that the definitions give it.

A shape is a function of x, the log of size scaled to 0..1, itself scaled to gain 1 over the sizes at
hand. The class is computed from the curve as those sizes show it, never from the formula's name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A plateau holds at most this share of the whole gain, judged on the curve and not on its noise.
PLATEAU_SHARE = 0.08
# Candidate thresholds lie this share of a spacing apart: finer ones differ by less than the noise.
STEP = 0.25
# ... and not closer than this share of the range: beyond some 17 sizes a finer search says nothing more.
CLOSEST = 1 / 64
# Where a gradual departure begins is a matter of words: a logistic's threshold is taken to lie between its
# middle and LEAD scales before, a ramp's between its foot and HINGE_LEAD of its width after.
LEAD, HINGE_LEAD = 1.4, 0.12
# ... over half of the log-size range; a threshold lies somewhere in its gap, so that the middle of the gap
# may lie a little before.
PLATEAU_RANGE = 0.45
# Saturated: at least this share of the gain is had in the first third of the log-size range.
EARLY_SHARE = 0.85
Stretch = tuple[float, float]
Candidate = tuple[Floats, str, Stretch, str]  # values, kind, threshold, family
NOWHERE = (float("nan"), float("nan"))
FINE = np.linspace(0, 1, 401)
RISING = ("smooth", "saturated", "emergent")


@dataclass(frozen=True)
class Library:
    """J shapes at K sizes: `values` [J, K], `kind` [J] (class of a positive gain), `weight` [J] (sums to 1
    in each kind), `threshold` [J, 2] in x: the stretch in which it lies (NaN unless emergent)."""

    x: Floats
    values: Floats
    kind: NDArray[np.str_]
    weight: Floats
    threshold: Floats

    def of(self, kind: str) -> NDArray[np.intp]:
        return np.flatnonzero(self.kind == kind)


def scaled_log(size: Floats) -> Floats:
    """log size, scaled so that the smallest is 0 and the largest 1."""
    log = np.log(size)
    return np.asarray((log - log[0]) / (log[-1] - log[0]))


def library(x: Floats) -> Library:
    """The library at the positions x (0 = x[0] < ... < x[-1] = 1)."""
    return _library(tuple(np.round(x, 9)))


@lru_cache(maxsize=64)
def _library(positions: tuple[float, ...]) -> Library:
    x = np.array(positions)
    found: dict[tuple[str, bytes], list[tuple[Floats, float, Stretch]]] = {}
    for family in (_rising(x), _valleys(x)):
        members = [member for member in family if member[1]]
        for values, kind, threshold, name in members:
            alike = sum(1.0 for _, k, _, n in members if k == kind and n == name)
            found.setdefault((kind, np.round(values, 3).tobytes()), []).append((values, 1 / alike, threshold))
    # Curves that differ only between the sizes are one shape; its threshold is all of theirs.
    margin = 0.5 * _candidate_spacing(x)
    kinds = np.array([key[0] for key in found])
    weight = np.array([sum(w for _, w, _ in group) for group in found.values()])
    for one in set(kinds):
        weight[kinds == one] /= weight[kinds == one].sum()
    ends = [[t for _, _, t in group] for group in found.values()]
    stretches = np.array(
        [(min(low for low, _ in t) - margin, max(high for _, high in t) + margin) for t in ends]
    )
    return Library(x, np.array([group[0][0] for group in found.values()]), kinds, weight, stretches)


def _candidate_spacing(x: Floats) -> float:
    return max(STEP / (len(x) - 1), CLOSEST)


def _logistic(x: Floats, middle: float, scale: float) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh((x - middle) / (2 * scale))))


def _rising(x: Floats) -> Iterator[Candidate]:
    """(values, kind, threshold, family) of curves that never fall, scaled to run from 0 to 1."""
    spacing = 1 / (len(x) - 1)
    z = np.concatenate([x, FINE])

    def classed(curve: Floats, name: str, threshold: Stretch = NOWHERE) -> Candidate:
        values, fine = curve[: len(x)], curve[len(x) :]
        span = values[-1] - values[0]
        if span < 0.2:
            return values, "", NOWHERE, name
        values, fine = (values - values[0]) / span, (fine - values[0]) / span
        kind = rising_kind(x, values, fine)
        if kind == "emergent" and threshold is NOWHERE:
            # Sizes so far apart that a slope between two of them looks like a step: it lies in that gap.
            left = int(np.argmax(values > PLATEAU_SHARE))
            threshold = (float(x[left - 1]), float(x[left]))
        return values, kind, threshold if kind == "emergent" else NOWHERE, name

    for power in (0.5, 0.7, 1.0, 1.4, 2.0):
        yield classed(z**power, "power")
    # A power law in size is an exponential in its log.
    for rate in (2.0, 3.0, 6.0):
        yield classed(np.exp(rate * (z - 1)), "power", (1 - 2.5 / rate, 1 - 1 / rate))
    for scale in (0.1, 0.14, 0.2, 0.3):
        for middle in np.arange(0.2, 0.85, 0.1):
            stretch = (middle - scale * LEAD, middle)
            yield classed(_logistic(z, middle, scale), "gradual", stretch)
    step = _candidate_spacing(x)
    for middle in np.arange(step / 2, 1, step):
        # A step shows no more than the gap it lies in. Some call the first size past it the threshold:
        # the stretch is shifted by a seventh of the gap.
        late = middle + 0.15 * spacing
        yield classed((z > middle).astype(float), "step", (late, late))
        for scale in (0.025, 0.05, 0.07):
            stretch = (middle - scale * LEAD, middle)
            yield classed(_logistic(z, middle, scale), "sharp", stretch)
    for onset in np.arange(step / 2, 1 - spacing / 4, step):
        stretch = (onset, onset + (1 - onset) * HINGE_LEAD)
        for power in (0.5, 1.0):
            yield classed((np.maximum(z - onset, 0) / (1 - onset)) ** power, "hinge", stretch)
        for width in (0.15, 0.3):
            stretch = (onset, onset + width * HINGE_LEAD)
            yield classed(np.clip((z - onset) / width, 0, 1), "ramp after", stretch)
    for rate in (0.04, 0.07, 0.1, 0.14, 0.25, 0.4):
        yield classed(1 - np.exp(-z / rate), "exponential")
    for end in (0.15, 0.25, 0.33, 0.5, 0.7):
        yield classed(np.minimum(z / end, 1), "ramp")
    for half in (0.02, 0.05, 0.15):
        yield classed(z / (z + half), "hyperbola")


def rising_kind(x: Floats, values: Floats, fine: Floats) -> str:
    """The class of a curve that rises from 0 to 1, `values` at the positions x and `fine` at FINE.

    emergent: level (within PLATEAU_SHARE of the gain) over three sizes or more and half of the range;
    saturated: EARLY_SHARE had by a third of the range; smooth: the rest. docs/emergence.md has the reasons.
    A curve that the sizes catch on its way up shows where in a gap between them it left; one that is up at
    the next size does not, and is counted to the middle of the gap.
    """
    left = int(np.argmax(values > PLATEAU_SHARE))
    caught = values[left] < 1 - PLATEAU_SHARE
    level_to = FINE[np.argmax(fine > PLATEAU_SHARE)] if caught else (x[left - 1] + x[left]) / 2
    if left >= 3 and level_to >= PLATEAU_RANGE:
        return "emergent"
    if float(np.interp(1 / 3, x, values)) >= EARLY_SHARE:
        return "saturated"
    return "smooth"


def _valleys(x: Floats) -> Iterator[Candidate]:
    """Curves that fall and rise again, the lesser of the two legs scaled to 1."""
    for bottom in np.arange(0.2, 0.85, 0.1):
        for other in (0.0, 0.5, 1.0, 2.0, 4.0):
            for name in ("vee", "parabola", "basin"):
                yield _valley(x, bottom, other, name)


def _valley(x: Floats, bottom: float, rise_over_fall: float, name: str) -> Candidate:
    left, right = np.clip((bottom - x) / bottom, 0, 1), np.clip((x - bottom) / (1 - bottom), 0, 1)
    if name == "parabola":
        left, right = left**2, right**2
    elif name == "basin":
        left, right = _logistic(left, 0.6, 0.1), _logistic(right, 0.6, 0.1)
    values = left + (rise_over_fall or 0.25) * right
    low = int(np.argmin(values))
    fall, rise = values[0] - values[low], values[-1] - values[low]
    lesser = min(fall, rise)
    if low in (0, len(x) - 1) or lesser < 0.15 * max(fall, rise):
        return values, "", NOWHERE, name
    return (values - values[0]) / lesser, "u_shaped", NOWHERE, name
