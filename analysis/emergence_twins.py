"""Variants of one task side by side: direct and chain, gold and flipped, frequent and rare.

At what size does the other variant begin to help, or to hurt; from what size is it above chance?
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.emergence_noise import average_seeds
from analysis.emergence_shapes import Floats
from analysis.emergence_verdict import Verdict

# The variants that the others are measured against, where a task has them.
REFERENCES = ("direct", "gold", "frequent", "plain", "base")
# One-sided 1% at one size; the sizes after it must not take it back.
Z = 2.33


@dataclass(frozen=True)
class Twin:
    """`variant` against `reference` of a task: differences of score by size, each with a standard error of
    items, seeds and scatter. Sizes are None where it does not happen within the sizes at hand."""

    task: str
    metric: str
    reference: str
    variant: str
    size: tuple[float, ...]
    difference: tuple[float, ...]
    stderr: tuple[float, ...]
    helps_from: float | None
    hurts_from: float | None
    above_chance_from: float | None
    reference_above_chance_from: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """The pair in one line."""
        said = [
            f"{verb} from {at:.3g}"
            for verb, at in (("helps", self.helps_from), ("hurts", self.hurts_from))
            if at is not None
        ]
        what = " and ".join(said) or "neither helps nor hurts by an amount that matters"
        chance = self.above_chance_from
        above = "is not seen above chance" if chance is None else f"is above chance from {chance:.3g}"
        task = f"{self.task} ({self.metric})" if self.metric else self.task
        return f"{task}: {self.variant} against {self.reference} {what}; {self.variant} {above}"


def twins(verdicts: Sequence[Verdict], min_effect: float) -> list[Twin]:
    """Every task with two variants or more, each variant against the reference one."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.curve.task, verdict.curve.metric), []).append(verdict)
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        named = [v for name in REFERENCES for v in group if v.curve.variant == name]
        reference = named[0] if named else group[0]
        pairs = [_twin(reference, v, min_effect) for v in group if v is not reference]
        found += [pair for pair in pairs if pair is not None]
    return found


def _twin(reference: Verdict, other: Verdict, min_effect: float) -> Twin | None:
    size = np.intersect1d(reference.curve.size, other.curve.size)
    if len(size) < 2 or reference.curve.scale != other.curve.scale:
        return None
    (base, base_error), (score, error) = _at(reference, size), _at(other, size)
    difference, stderr = score - base, np.hypot(base_error, error)
    from_chance = [
        _onset(size, y - verdict.curve.chance, e, min_effect)
        for y, e, verdict in ((score, error, other), (base, base_error, reference))
    ]
    return Twin(
        task=reference.curve.task,
        metric=reference.curve.metric,
        reference=reference.curve.variant,
        variant=other.curve.variant,
        size=tuple(map(float, size)),
        difference=tuple(map(float, difference)),
        stderr=tuple(map(float, stderr)),
        helps_from=_onset(size, difference, stderr, min_effect),
        hurts_from=_onset(size, -difference, stderr, min_effect),
        above_chance_from=from_chance[0],
        reference_above_chance_from=from_chance[1],
    )


def _at(verdict: Verdict, size: Floats) -> tuple[Floats, Floats]:
    curve = verdict.curve
    means = average_seeds(*(a[:, None, :] for a in (curve.score, curve.items, curve.stderr)))
    level = np.clip(means.score[0], 0, 1)
    with np.errstate(invalid="ignore"):
        shrunk = (level * means.items[0] + 0.5) / (means.items[0] + 1)
        own = np.where(np.isfinite(means.items[0]), shrunk * (1 - shrunk) / means.items[0], means.variance[0])
    at = np.isin(curve.size, size)
    return means.score[0][at], np.sqrt(own + means.extra[0] + verdict.scatter**2)[at]


def _onset(size: Floats, gain: Floats, error: Floats, min_effect: float) -> float | None:
    """The first size with a gain that matters and is beyond noise, and is kept on average after it."""
    for k in range(len(size)):
        after = gain[k:]
        if gain[k] >= min_effect and gain[k] >= Z * error[k] and after.mean() >= min_effect:
            return float(size[k])
    return None
