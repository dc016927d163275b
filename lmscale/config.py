"""The one place where YAML becomes types: frozen dataclasses, and `build`, which refuses what it does not know.

Only plain dictionaries come in and nothing below ever sees a config object of Hydra's.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lmscale.data.config import DataConfig, TasksConfig
from lmscale.errors import UserError
from lmscale.family import FamilyConfig
from lmscale.transfer import TransferConfig

T = TypeVar("T")
ACTIONS = ("sweep", "data", "plan", "status", "peek")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW. Rate and weight decay come from the transfer rules; gradients are clipped by their global norm."""

    name: str = "adamw"
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _between("optim.b1", self.b1, 0, 1)
        _between("optim.b2", self.b2, 0, 1)
        _positive("optim.eps", self.eps)
        _positive("optim.clip_norm", self.clip_norm)


@dataclass(frozen=True)
class ScheduleConfig:
    """`wsd`: warm up, stay, fall in a line over the last `decay_share` of a horizon: one trunk serves all
    horizons of a rung and seed. `cosine`: every horizon is a run of its own. floor: last rate / peak rate.
    """

    name: str = "wsd"
    warmup_steps: int = 100
    decay_share: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ("wsd", "cosine"):
            raise UserError(f"schedule.name={self.name}: no such schedule; there are wsd, cosine")
        _at_least("schedule.warmup_steps", self.warmup_steps, 0)
        _between("schedule.decay_share", self.decay_share, 0, 1)
        if not 0 <= self.floor < 1:
            raise UserError(f"schedule.floor={self.floor}: must be at least 0 and below 1")


@dataclass(frozen=True)
class HorizonConfig:
    """Tokens of a run: tokens x (N / N of the rung `dial`)^exponent x each of `multiples`.

    N is params without embeddings. A multiple of 1 is the rung's longest horizon.
    """

    tokens: float = 4.6e6
    dial: int = 96
    exponent: float = 0.3
    multiples: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        _positive("horizon.tokens", self.tokens)
        if not self.multiples:
            raise UserError("horizon.multiples=[]: give at least one, such as [1.0]")
        for multiple in self.multiples:
            _positive("horizon.multiples", multiple)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluations at first_tokens x 2^(k / per_doubling), the same tokens for every run, and at the end."""

    first_tokens: float = 1e5
    per_doubling: float = 0.5

    def __post_init__(self) -> None:
        _positive("evaluation.first_tokens", self.first_tokens)
        _positive("evaluation.per_doubling", self.per_doubling)


@dataclass(frozen=True)
class PackConfig:
    """How runs are computed, never what they compute.

    lanes: runs of one shape trained in one program; `auto` is 1 on a CPU, where a process a core is faster,
    and as many as there are up to max_lanes on an accelerator. steps: the most steps in a dispatch.
    """

    name: str = "auto"
    lanes: int | str = "auto"
    max_lanes: int = 64
    steps: int = 16
    device: str = "auto"
    checkpoint_seconds: float = 30.0
    checkpoints: int = 2
    tries: int = 3

    def __post_init__(self) -> None:
        if self.lanes != "auto" and (isinstance(self.lanes, str) or self.lanes < 1):
            raise UserError(f"pack.lanes={self.lanes}: must be auto or a number of at least 1")
        if self.device not in ("auto", "cpu", "gpu", "tpu"):
            raise UserError(f"pack.device={self.device}: must be one of auto, cpu, gpu, tpu")
        for name in ("max_lanes", "steps", "checkpoints", "tries"):
            _at_least(f"pack.{name}", getattr(self, name), 1)
        _positive("pack.checkpoint_seconds", self.checkpoint_seconds)


@dataclass(frozen=True)
class SweepConfig:
    """One composed configuration: a ladder of dials x seeds x horizons, and how to train it.

    dial: the widths of the rungs. seed: every rung is trained with each, except the rungs in `one_seed`, which
    are trained with the first only. job: set by the sweeper, the one pack that a job trains.
    """

    name: str
    action: str = "sweep"
    runs: str = "runs"
    corpora: str = "corpora"
    job: str | None = None
    dial: tuple[int, ...] = (16, 32)
    seed: tuple[int, ...] = (0,)
    one_seed: tuple[int, ...] = ()
    family: FamilyConfig = field(default_factory=FamilyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    horizon: HorizonConfig = field(default_factory=HorizonConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    retry: bool = False

    def __post_init__(self) -> None:
        # The name becomes a folder: it must not be able to leave the runs folder.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise UserError(
                f"name={self.name}: must be letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        if self.action not in ACTIONS:
            raise UserError(f"action={self.action}: no such action; there are {', '.join(ACTIONS)}")
        for name in ("dial", "seed"):
            values = getattr(self, name)
            if not values:
                raise UserError(f"{name}=[]: give at least one")
            if len(set(values)) < len(values):
                raise UserError(f"{name}={list(values)}: a value stands twice")
        for seed in self.seed:
            if not 0 <= seed < 2**31:
                raise UserError(f"seed={seed}: must be from 0 to {2**31 - 1}")
        strangers = sorted(set(self.one_seed) - set(self.dial))
        if strangers:
            raise UserError(f"one_seed={strangers}: not among dial={list(self.dial)}")


def build(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """`kind` from a plain mapping; an unknown key, a missing one or a wrong type is a UserError naming it."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"{path}{key}={values[key]}: unknown key; {_known(kind, path, str(key))}")
    for key, f in fields.items():
        if key not in values and f.default is f.default_factory is dataclasses.MISSING:
            raise UserError(f"{path}{key}: missing; give a {_name(hints[key])}")
    return kind(**{key: _cast(hints[key], value, f"{path}{key}") for key, value in values.items()})


def unknown_key(name: str) -> str | None:
    """What to say of the dotted `name`, no field of SweepConfig; None inside a mapping, whose keys are free."""
    kind: Any = SweepConfig
    path = ""
    for key in name.split("."):
        hints = typing.get_type_hints(kind)
        if key not in hints:
            return f"{name}: unknown key; {_known(kind, path, key)}"
        if not dataclasses.is_dataclass(hints[key]):
            break
        kind, path = hints[key], f"{path}{key}."
    return None


def _known(kind: type, path: str, key: str) -> str:
    fields = [f.name for f in dataclasses.fields(kind)]
    near = difflib.get_close_matches(key, fields, n=1)
    return (
        f"did you mean {path}{near[0]}?"
        if near
        else f"known are {', '.join(path + f for f in sorted(fields))}"
    )


def _cast(hint: Any, value: Any, path: str) -> Any:
    """`value` as `hint`: numbers widen (1 -> 1.0, 1e6 -> 1000000), nothing else is guessed."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UserError(f"{path}={value}: must be a group of keys, such as {path}.name")
        return build(hint, value, f"{path}.")  # type: ignore[arg-type]
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(hint):
            try:
                return _cast(option, value, path)
            except UserError:
                continue
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(
                _cast(typing.get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(value)
            )
    elif origin is dict:
        if isinstance(value, Mapping):
            inner = typing.get_args(hint)[1]
            return {str(key): _cast(inner, item, f"{path}.{key}") for key, item in value.items()}
    elif hint is type(None):
        if value is None:
            return None
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif hint is int:
        if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
            return int(value)
    elif isinstance(value, hint):
        return value
    raise UserError(f"{path}={value}: must be a {_name(hint)}, not {type(value).__name__}")


def _name(hint: Any) -> str:
    """A type in words for an error message."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(option) for option in typing.get_args(hint))
    if origin is tuple:
        return f"list of {_name(typing.get_args(hint)[0])}s"
    if origin is dict:
        return "mapping"
    words = {float: "finite number", int: "whole number", str: "text", bool: "yes or no", type(None): "null"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise UserError(f"{name}={value}: must be above 0")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise UserError(f"{name}={value}: must be at least {least}")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise UserError(f"{name}={value}: must lie between {low} and {high}")
