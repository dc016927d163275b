"""What a plan chooses from, and what it chooses: rungs, and horizons in whole steps."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lmscale.errors import UserError
from lmscale.family import parameter_conventions
from lmscale.flops import training_flops_per_token
from lmscale.schedule import NEVER, ScheduleConfig, has_room, least_steps
from lmscale.shape import Shape

TOLERANCE = 0.01  # how far whole steps may miss the tokens, and with them the FLOPs, that a plan asks for


@dataclass(frozen=True)
class Rung:
    """A size of the family, and the batch that it is trained with."""

    dial: int
    shape: Shape
    batch_multiple: int
    batch_tokens: int

    @functools.cached_property
    def params(self) -> dict[str, int]:
        """Count N by every convention."""
        return parameter_conventions(self.shape)

    @functools.cached_property
    def flops_per_token(self) -> int:
        """Count the exact C of a training token."""
        return training_flops_per_token(self.shape)

    @property
    def flops_per_step(self) -> int:
        return self.flops_per_token * self.batch_tokens

    def times_batch(self, factor: int) -> "Rung":
        """Return this rung with a batch of so many times the size."""
        return dataclasses.replace(
            self, batch_multiple=self.batch_multiple * factor, batch_tokens=self.batch_tokens * factor
        )


class Point(NamedTuple):
    """Runs of one rung. steps: its horizons. rate: times the rule's. seeds: all that the sweep gives it (None)."""

    rung: Rung
    steps: tuple[int, ...]
    rate: float = 1.0
    seeds: tuple[int, ...] | None = None


class Chosen(NamedTuple):
    """What a plan chose; sentences about it; and a sentence for each run that it had to leave out."""

    points: tuple[Point, ...]
    said: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ladder:
    """What a plan chooses from. dials, seeds: those of the sweep. spacing: of the dials whose heads have the
    family's width or number exactly. scanned: the corpus is, so its vocabulary is known. rung: makes a rung of a
    dial. horizons: those of the sweep's grid, in steps."""

    dials: tuple[int, ...]
    spacing: int
    seeds: tuple[int, ...]
    schedule: ScheduleConfig
    scanned: bool
    rung: Callable[[int], Rung]
    horizons: Callable[[Rung], Sequence[int]]


def steps_for(ladder: Ladder, rung: Rung, tokens: float) -> int:
    """Find the whole steps that take `tokens` to 1%. UserError says why there are none."""
    exact = tokens / rung.batch_tokens
    if not exact < NEVER:
        raise UserError(f"dial {rung.dial} would take {exact:.3g} steps of {rung.batch_tokens:,} tokens")
    steps = round(exact)
    if not has_room(ladder.schedule, steps):
        raise UserError(
            f"dial {rung.dial} would take {steps} steps, which leave no room for warm-up and decay: it needs "
            f"{least_steps(ladder.schedule)}"
        )
    if abs(steps / exact - 1) > TOLERANCE:
        raise UserError(
            f"dial {rung.dial} would take {exact:.4g} steps, and whole ones miss that by "
            f"{abs(steps / exact - 1):.1%}"
        )
    return steps
