"""Variants of one task side by side: direct and chain, gold and flipped, frequent and rare, by demonstrations.

At what size does the other variant begin to help, or to hurt; from what size is it above chance?
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.detection.curves import Curve
from analysis.detection.noise import level_and_error
from analysis.detection.shortcut import onset
from analysis.detection.verdict import Verdict
from analysis.tables.run_folder import SHOTS

# The variants that the others are measured against, where a task has them.
REFERENCES = ("direct", "gold", "frequent", "plain", "base")
# What a task's name gets where it is solved another way.
WAYS = ("chain", "cot", "recite", "steps")


@dataclass(frozen=True)
class Twin:
    """`variant` (of the task, or a task solved another way) against `reference`: differences of score by size,
    each with a standard error of items, seeds and scatter. Sizes are None where it does not happen within the
    sizes at hand."""

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


def related(names: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Group (task, variant), the reference first: the variants of one task, and with them those of a task
    of the same name with one of WAYS in it (`parity_12`, `parity_chain_12`).

    A variant of another number of demonstrations (`gold_0_shot` beside `gold`) is left to `by_shots`: of these
    there are so many that frequent would not be seen beside rare.
    """
    apart = {name for group in by_shots(names) for name in group[1:]}
    names = [name for name in names if name not in apart]
    tasks = {task for task, _ in names}
    groups = []
    for task in dict.fromkeys(task for task, _ in names):
        # A task that stands beside its stem is no group of its own.
        if _stem(task) != task and _stem(task) in tasks:
            continue
        mine = sorted((name for name in names if name[0] == task), key=lambda name: name[1] not in REFERENCES)
        mine += [name for name in names if name[0] != task and _stem(name[0]) == task]
        if len(mine) > 1:
            groups.append(mine)
    return groups


def by_shots(names: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Group (task, variant) that differ in their number of demonstrations, the variant itself first."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {name: [name] for name in names}
    for name in names:
        base = (name[0], SHOTS.sub("", name[1]))
        if base != name and base in groups:
            groups[base].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _stem(task: str) -> str:
    for way in WAYS:
        task = task.replace(f"_{way}", "")
    return task


def compare_twins(verdicts: Sequence[Verdict], min_effect: float) -> list[Twin]:
    """Compare each of every related group with its reference; of one metric and, where known, one chance."""
    found = []
    for metric in dict.fromkeys(verdict.curve.metric for verdict in verdicts):
        mine = {(v.curve.task, v.curve.variant): v for v in verdicts if v.curve.metric == metric}
        for reference, *others in (*related(list(mine)), *by_shots(list(mine))):
            pairs = [_twin(mine[reference], mine[other], min_effect) for other in others]
            found += [pair for pair in pairs if pair is not None]
    return found


def worth_saying(found: Sequence[Twin]) -> list[Twin]:
    """Leave out the pairs that differ in their demonstrations alone and make no difference."""
    return [
        twin
        for twin in found
        if not SHOTS.search(twin.variant) or twin.helps_from is not None or twin.hurts_from is not None
    ]


def _twin(reference: Verdict, other: Verdict, min_effect: float) -> Twin | None:
    size = np.intersect1d(reference.curve.size, other.curve.size)
    if len(size) < 2 or reference.curve.scale != other.curve.scale:
        return None
    chances = (reference.curve.chance, other.curve.chance)
    # Guessers of the two must score alike, or the difference is that of the questions.
    if np.isfinite(chances).all() and abs(chances[0] - chances[1]) > min_effect:
        return None
    (base, base_error), (score, error) = (
        [of_all[np.isin(v.curve.size, size)] for of_all in level_and_error(v.curve, v.scatter)]
        for v in (reference, other)
    )
    difference, stderr = score - base, np.hypot(base_error, error)
    from_chance = [
        onset(size, y - verdict.curve.chance, e, min_effect)
        for y, e, verdict in ((score, error, other), (base, base_error, reference))
    ]
    return Twin(
        task=reference.curve.task,
        metric=reference.curve.metric,
        reference=reference.curve.variant,
        variant=other.curve.variant if other.curve.task == reference.curve.task else _named(other.curve),
        size=tuple(map(float, size)),
        difference=tuple(map(float, difference)),
        stderr=tuple(map(float, stderr)),
        helps_from=onset(size, difference, stderr, min_effect),
        hurts_from=onset(size, -difference, stderr, min_effect),
        above_chance_from=from_chance[0],
        reference_above_chance_from=from_chance[1],
    )


def _named(curve: Curve) -> str:
    return f"{curve.task} ({curve.variant})" if curve.variant else curve.task
