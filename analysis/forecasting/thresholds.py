"""Sizes at which tasks jump under two recipes, and by what factor one of them needs less."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.detection.emergence import Emergence, Verdict


@dataclass(frozen=True)
class Moved:
    """A task that jumps under one recipe or both: the thresholds with their intervals (low, middle, high; None: no
    jump seen), and size of A over size of B (above 1: B jumps at a smaller size)."""

    task: str
    variant: str
    metric: str
    a: tuple[float, float, float] | None
    b: tuple[float, float, float] | None
    ratio: tuple[float, float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Make one entry of `tasks`."""
        value, lower, upper = self.ratio or (None, None, None)
        said = {"task": self.task, "variant": self.variant or None, "metric": self.metric or None}
        return {**said, "a": self.a, "b": self.b, "ratio": value, "lower": lower, "upper": upper}

    def sentence(self) -> str:
        """Say it in a line."""
        name = " ".join(part for part in (self.task, self.variant) if part)
        if self.ratio is None:
            return (
                f"{name}: a jump is seen under {'the first' if self.b is None else 'the second'} recipe alone"
            )
        value, lower, upper = self.ratio
        return f"{name}: the second recipe jumps at 1/{value:.3g} of the size [{lower:.3g}, {upper:.3g}]"


def moved_thresholds(first: Emergence, second: Emergence) -> tuple[Moved, ...]:
    """Compare the thresholds of the tasks that jump under either of two recipes.

    The interval of the ratio is of independent thresholds: the distances of the logs from their middles add as
    squares.
    """
    found = []
    theirs = {_key(verdict): verdict for verdict in second.tasks}
    for verdict in first.tasks:
        other = theirs.get(_key(verdict))
        if other is None or (verdict.jump is None and other.jump is None):
            continue
        a, b = _ends(verdict), _ends(other)
        ratio = None
        if a and b:
            low_a, at_a, high_a = np.log(a)
            low_b, at_b, high_b = np.log(b)
            middle = at_a - at_b
            down, up = np.hypot(at_a - low_a, high_b - at_b), np.hypot(high_a - at_a, at_b - low_b)
            ratio = (float(np.exp(middle)), float(np.exp(middle - down)), float(np.exp(middle + up)))
        found.append(Moved(*_key(verdict), a, b, ratio))
    return tuple(found)


def _key(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.curve.task, verdict.curve.variant, verdict.curve.metric


def _ends(verdict: Verdict) -> tuple[float, float, float] | None:
    jump = verdict.jump
    return (jump.low, jump.middle, jump.high) if jump else None
