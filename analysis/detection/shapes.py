"""The shapes a score may take over size, each with the class that the definitions give it.

A shape is a function of x, the log of size scaled to 0..1, itself scaled to gain 1 over the sizes at
hand. The class is computed from the curve as those sizes show it, never from the formula's name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped

from analysis.arrays import Array, Indices, Words

# A plateau holds at most this share of the whole gain, judged on the curve and not on its noise.
PLATEAU_SHARE = 0.08
# Candidate thresholds lie this share of a spacing apart: finer ones differ by less than the noise.
STEP = 0.25
# ... and not closer than this share of the range: beyond some 17 sizes a finer search says nothing more.
CLOSEST = 1 / 64
# Where a gradual departure begins is a matter of words: a logistic's threshold is taken to lie between its
# middle and LEAD scales before (1 / (1 + e^1.4): a fifth of the gain is had), a ramp's between its foot and
# HINGE_LEAD of its width after.
LEAD, HINGE_LEAD = 1.4, 0.12
# A plateau holds over half of the log-size range; a threshold lies somewhere in its gap, so that the middle of
# the gap may lie a little before.
PLATEAU_RANGE = 0.45
# A curve that shows less of its own range than this over the sizes at hand is no shape of its own there.
LEAST_SPAN = 0.2
# Saturated: at least this share of the gain is had in the first third of the log-size range.
EARLY_SHARE = 0.85
Stretch = tuple[float, float]
Candidate = tuple[Array, str, Stretch, str]  # values, kind, threshold, family
NOWHERE = (float("nan"), float("nan"))
FINE = np.linspace(0, 1, 401)
RISING = ("smooth", "saturated", "emergent")


@dataclass(frozen=True)
class Library:
    """Shapes at the sizes at hand: `kind` is the class of a positive gain, `weight` sums to 1 in each kind,
    `threshold` is the stretch in x in which it lies (NaN unless emergent)."""

    x: Float[Array, " J"]
    values: Float[Array, "L J"]
    kind: Shaped[Words, " L"]
    weight: Float[Array, " L"]
    threshold: Float[Array, "L 2"]

    def of(self, kind: str) -> Indices:
        """Return the places of a kind's shapes."""
        return np.flatnonzero(self.kind == kind)

    @property
    def rising(self) -> Indices:
        """The places [R] of the shapes that rise, to which a posterior's axis R belongs."""
        return np.flatnonzero(np.isin(self.kind, RISING))

    def rising_of(self, kind: str) -> Indices:
        """Return the places of a rising kind's shapes along the axis R."""
        return np.flatnonzero(self.kind[self.rising] == kind)


def scaled_log(size: Float[Array, " J"]) -> Float[Array, " J"]:
    """Return log size, scaled so that the smallest is 0 and the largest 1."""
    log = np.log(size)
    return np.asarray((log - log[0]) / (log[-1] - log[0]))


def library(x: Float[Array, " J"]) -> Library:
    """Return the library at the positions x (0 = x[0] < ... < x[-1] = 1)."""
    return _library(tuple(np.round(x, 9)))


@lru_cache(maxsize=64)
def _library(positions: tuple[float, ...]) -> Library:
    x = np.array(positions)
    found: dict[tuple[str, bytes], list[tuple[Array, float, Stretch]]] = {}
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


def _candidate_spacing(x: Array) -> float:
    return max(STEP / (len(x) - 1), CLOSEST)


def _logistic(x: Array, middle: float, scale: float) -> Array:
    return np.asarray(0.5 * (1 + np.tanh((x - middle) / (2 * scale))))


def _rising(x: Array) -> Iterator[Candidate]:
    """Draw up curves that never fall, scaled to run from 0 to 1.

    x is a log of size, so that each formula has a meaning in the size N itself. With R = log(Nmax / Nmin):
    exp(r x) is the power law N^(r / R), as losses follow; a logistic of scale s is Hill's
    1 / (1 + (N0 / N)^(1 / (s R))), a success that needs some capacity; 1 - exp(-x / r) is the approach
    N^(-1 / (r R)) to a ceiling. A step at a place of its own in every gap is the break that Wei et al. 2022
    (arXiv 2206.07682) mean by emergence. Families overlap on purpose: a class is a set of curves and no formula
    (`rising_kind`), and curves that the sizes cannot tell apart are one shape (`_library`).
    """
    spacing = 1 / (len(x) - 1)
    z = np.concatenate([x, FINE])

    def classed(curve: Array, name: str, threshold: Stretch = NOWHERE) -> Candidate:
        values, fine = curve[: len(x)], curve[len(x) :]
        span = values[-1] - values[0]
        if span < LEAST_SPAN:
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
    # exp(r (x - 1)) has e^-2.5 = 8% of its gain at 1 - 2.5 / r, where its plateau ends, and e^-1 at 1 - 1 / r.
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


def rising_kind(x: Array, values: Array, fine: Array) -> str:
    """Return the class of a curve that rises from 0 to 1, `values` at the positions x and `fine` at FINE.

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


def _valleys(x: Array) -> Iterator[Candidate]:
    """Draw up curves that fall and rise again, the lesser of the two legs scaled to 1."""
    for bottom in np.arange(0.2, 0.85, 0.1):
        for other in (0.0, 0.5, 1.0, 2.0, 4.0):
            for name in ("vee", "parabola", "basin"):
                yield _valley(x, bottom, other, name)


def _valley(x: Array, bottom: float, rise_over_fall: float, name: str) -> Candidate:
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
