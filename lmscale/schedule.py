"""The learning rate over a run, decided here and nowhere else: the kinds, which runs they need, where each begins
to fall, and the rate of a step.

A new kind is an entry of `SCHEDULES`; `schedule.kind` selects it. A plan imports this, so jax is imported where a
rate is traced and not before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from lmscale.errors import UserError
from lmscale.typed import among, at_least, between

if TYPE_CHECKING:
    import jax

    from lmscale.lanes import Lane

TRUNK, BRANCH, RUN = "trunk", "branch", "run"
NEVER = (
    2**30 - 1
)  # the step at which a trunk's rate would begin to fall: no run may be so long (int32 on devices)
OF_THE_FALL = ("decay_share", "floor")  # a trunk, which does not fall, does not know them


@dataclass(frozen=True)
class ScheduleConfig:
    """kind: an entry of `SCHEDULES`. warmup_steps: the rate rises in a line, whatever the kind. decay_share: of a
    horizon, at its end (wsd). floor: the last rate as a share of the peak.
    """

    kind: str = "wsd"
    warmup_steps: int = 40
    decay_share: float = 0.2
    floor: float = 0.0

    renamed: ClassVar = {"name": "kind"}

    def __post_init__(self) -> None:
        among("schedule.kind", self.kind, SCHEDULES)
        at_least("schedule.warmup_steps", self.warmup_steps, 0)
        between("schedule.decay_share", self.decay_share, 0, 1)
        if not 0 <= self.floor < 1:
            raise UserError(f"schedule.floor={self.floor}: must be at least 0 and below 1")


@dataclass(frozen=True)
class Schedule:
    """One kind: warm up, stay at the peak, fall.

    falls_from: (config, steps of the run) -> the step at which the rate begins to fall. fall: the share of the
    fall that is done, 0 to 1 (traced) -> what is left of the peak above the floor, 1 to 0. has_trunk: all
    horizons share one run up to their fall, the trunk, which is trained once. unused: the fields of
    ScheduleConfig that this kind does not read, which are no part of its runs.
    """

    falls_from: Callable[[ScheduleConfig, int], int]
    fall: Callable[[jax.Array], jax.Array]
    has_trunk: bool = False
    unused: tuple[str, ...] = ()


def last_share(config: ScheduleConfig, steps: int) -> int:
    """Fall over the last `decay_share` of the run."""
    return round(steps * (1 - config.decay_share))


def after_warmup(config: ScheduleConfig, steps: int) -> int:
    """Fall from the end of the warm-up to the end of the run."""
    return config.warmup_steps


def line(done: jax.Array) -> jax.Array:
    """Fall in a line."""
    return 1 - done


def half_cosine(done: jax.Array) -> jax.Array:
    """Fall as half a cosine (Loshchilov & Hutter 2017, eq. 5)."""
    import jax.numpy as jnp

    return 0.5 * (1 + jnp.cos(jnp.pi * done))


# wsd: warm-up, stable, decay (Hu et al. 2024, MiniCPM; Hägele et al. 2024, with a linear fall). The order is that
# of `Lane.fall`: new kinds go to the end.
SCHEDULES: dict[str, Schedule] = {
    "wsd": Schedule(last_share, line, has_trunk=True),
    "cosine": Schedule(after_warmup, half_cosine, unused=("decay_share",)),
}


class RunPart(NamedTuple):
    """One run of a rung and seed. kind: `run` (a whole schedule), `trunk` (a constant rate, no horizon) or `branch`
    (a trunk's fall to a horizon). schedule: the fields of ScheduleConfig that decide it."""

    kind: str
    schedule: dict[str, Any]
    horizon_steps: int | None = None
    decay_start: int | None = None


def parts(config: ScheduleConfig, horizons: Sequence[int]) -> list[RunPart]:
    """List the runs that these horizons, in steps, need: a trunk first, where they share one."""
    entry = SCHEDULES[config.kind]
    whole = _without(config, entry.unused)
    kind = BRANCH if entry.has_trunk else RUN
    ends = [RunPart(kind, whole, steps, entry.falls_from(config, steps)) for steps in horizons]
    trunk = [RunPart(TRUNK, _without(config, (*entry.unused, *OF_THE_FALL)))] if entry.has_trunk else []
    return trunk + ends


def _without(config: ScheduleConfig, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in names}


def has_room(config: ScheduleConfig, steps: int) -> bool:
    """Tell whether a run of so many steps goes on after its warm-up, and a branch has steps of its own."""
    entry = SCHEDULES[config.kind]
    if not entry.has_trunk:
        return config.warmup_steps < steps
    return config.warmup_steps < entry.falls_from(config, steps) < steps


def least_steps(config: ScheduleConfig) -> int:
    """Find the shortest run that has room, by doubling, then by halving the difference."""
    high = 1
    while not has_room(config, high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_room(config, middle) else (middle, high)
    return high


def traced(
    schedule: Mapping[str, Any], horizon_steps: int | None, decay_start: int | None
) -> dict[str, int | float]:
    """Collect what `learning_rate` reads of a run besides its peak, by the names of `Lane`. schedule: a spec's."""
    config = ScheduleConfig(**schedule)
    start, end = (
        (NEVER, NEVER + 1) if horizon_steps is None or decay_start is None else (decay_start, horizon_steps)
    )
    return {
        "warmup_steps": config.warmup_steps,
        "decay_start": start,
        "decay_end": end,
        "fall": list(SCHEDULES).index(config.kind),
        "floor": float(config.floor),
    }


def learning_rate(lane: Lane, step: jax.Array) -> jax.Array:
    """Compute the rate of `step` (from 0): linear warm-up, then constant, then the fall of the lane's kind."""
    import jax.numpy as jnp

    warm = jnp.minimum(1.0, (step + 1) / jnp.maximum(lane.warmup_steps, 1))
    done = jnp.clip((step - lane.decay_start) / jnp.maximum(lane.decay_end - lane.decay_start, 1), 0.0, 1.0)
    # One program serves lanes of every kind, so all falls are computed: a few scalar operations a step.
    left, *others = [entry.fall(done) for entry in SCHEDULES.values()]
    for index, fall in enumerate(others, 1):
        left = jnp.where(lane.fall == index, fall, left)
    return lane.peak_rate * warm * (lane.floor + (1 - lane.floor) * left)
