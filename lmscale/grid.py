"""The steps at which something happens to a run of a pack: evaluations, pinned states, the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmscale.plan import Pack
from lmscale.spec import evaluation_steps


@dataclass(frozen=True)
class Grid:
    """At which steps something happens, a run: evaluations, and the pins of the pack."""

    evaluations: tuple[frozenset[int], ...]
    ends: np.ndarray
    pins: frozenset[int]

    def next_stop(self, lanes: Sequence[int], steps: np.ndarray) -> int:
        """Count the steps until something happens to some run that still has a lane to run in."""
        stops = [
            min(stop for stop in (*self.evaluations[run], *self.pins, self.ends[run]) if stop > steps[run])
            - steps[run]
            for run in lanes
            if steps[run] < self.ends[run]
        ]
        return int(min(stops, default=0))

    def due(self, lanes: Sequence[int], before: np.ndarray, steps: np.ndarray) -> list[int]:
        """List the lanes whose runs have come to an evaluation."""
        return [
            lane
            for lane, run in enumerate(lanes)
            if before[run] < steps[run] and steps[run] in self.evaluations[run]
        ]


def grid_of(pack: Pack) -> Grid:
    """Lay out a pack's grid."""
    marks = [
        frozenset(evaluation_steps(run, start, end))
        for run, start, end in zip(pack.runs, pack.start_steps, pack.end_steps, strict=True)
    ]
    return Grid(tuple(marks), np.asarray(pack.end_steps), frozenset(pack.pins))
