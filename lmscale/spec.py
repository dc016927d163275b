"""A run: all that its result depends on (`RunSpec`, which is spec.json), and the hash of it that names its folder.

An id must outlive new ideas. A field at its default is no part of it, and may be absent from a spec.json that was
written before the field was: it then means its default. So a default of a field that was added since version 1 can
never change without a new SCIENCE_VERSION (tests/test_identity.py holds ids that must stay).
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmscale.config import EvaluationConfig
from lmscale.data.manifest import Component
from lmscale.flops import training_flops_per_token
from lmscale.optim import OptimConfig
from lmscale.schedule import TRUNK, ScheduleConfig
from lmscale.shape import Shape
from lmscale.typed import build

SCIENCE_VERSION = 1  # a change of the training code that changes results changes every run id

FOLLOWS = (
    "tokenizer",
    "bytes_per_token",
    "floor",
    "floor_heldout",
    "heldout_hash",
)  # of the data, from its content

# What version 1 hashed whatever its value was. It stays so: these ids exist.
VERSION_1 = {
    Shape: ("n_layer", "d_model", "n_head", "d_head", "d_mlp", "context", "vocab_size"),
    OptimConfig: ("kind", "b1", "b2", "eps", "clip_norm"),
    ScheduleConfig: ("kind", "warmup_steps", "decay_share", "floor"),
    EvaluationConfig: ("first_tokens", "per_doubling"),
    Component: ("name", "weight", "rows", "counted"),
}


@dataclass(frozen=True)
class RunSpec:
    """Everything a result depends on in principle, and nothing else.

    kind: `run` (a whole schedule), `trunk` (a constant rate, no horizon) or `branch` (a trunk's decay to a
    horizon). Steps count from the first of the trunk. schedule: the fields of ScheduleConfig that decide this run.
    params: by group; params_active: those that a token meets, None where it meets all. data, tasks: as the manifest
    states them; tasks is what a report needs to judge and draw, and not part of the run's id.
    """

    science_version: int
    kind: str
    trunk: str | None
    dial: int
    shape: Shape
    seed: int
    horizon_tokens: int | None
    horizon_steps: int | None
    decay_start: int | None
    batch_multiple: int
    batch_tokens: int
    learning_rate: float
    weight_decay: float
    schedule: dict[str, Any]
    optim: OptimConfig
    evaluation: dict[str, Any]
    params: dict[str, int]
    data: dict[str, Any]
    tasks: dict[str, Any]
    params_active: int | None = None

    @functools.cached_property
    def run_id(self) -> str:
        return short_hash(_identity(self))

    @property
    def data_seed(self) -> int:
        """The seed of the run's batches."""
        return int(self.data.get("order_seed", self.seed))

    @property
    def flops_per_token(self) -> int:
        return training_flops_per_token(self.shape)

    @property
    def flops(self) -> int:
        """Exact training FLOPs to the horizon, a branch's trunk included; 0 for a trunk, which has none."""
        return self.flops_per_token * (self.horizon_tokens or 0)


def short_hash(value: Any) -> str:
    """Hash a value's JSON: twelve hex digits of its SHA-256."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def written(spec: RunSpec) -> dict[str, Any]:
    """Lay out a spec for its spec.json: what its id is made of, and what describes its tasks."""
    own = _telling(RunSpec, {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})
    return {
        **own,
        "shape": _telling(type(spec.shape), dataclasses.asdict(spec.shape)),
        "schedule": _telling(ScheduleConfig, spec.schedule),
        "optim": _telling(type(spec.optim), dataclasses.asdict(spec.optim)),
        "evaluation": _telling(EvaluationConfig, spec.evaluation),
        "data": {**spec.data, "components": [_telling(Component, part) for part in spec.data["components"]]},
    }


def _identity(spec: RunSpec) -> dict[str, Any]:
    """Lay out a spec for its hash, as version 1 did: its fields of the shape beside the others, and a kind under
    `name`. A description of tasks that is worded again is no other science: data.content_hash names
    their content."""
    own = {name: value for name, value in written(spec).items() if name != "tasks"}
    # what a loss is per, and how low it can be, follow from the content as well
    own["data"] = {name: own["data"][name] for name in own["data"] if name not in FOLLOWS}
    shape = own.pop("shape")
    first = {name: shape.pop(name) for name in VERSION_1[Shape]}
    for group in ("optim", "schedule"):
        own[group] = {"name" if name == "kind" else name: value for name, value in own[group].items()}
    own["params"] = {group: count for group, count in own["params"].items() if count}
    return {**own, **first, **({"shape": shape} if shape else {})}


def _telling(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values of a dataclass that an id hashes: not those at a default that version 1 did not know."""
    known = next((names for base, names in VERSION_1.items() if issubclass(kind, base)), ())
    defaults = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return {
        name: value
        for name, value in values.items()
        if name in known or name not in defaults or value != defaults[name]
    }


def spec_of(values: Mapping[str, Any]) -> RunSpec:
    """Build the run of a spec.json, also of one from before the shape was nested and a kind was called so.

    UserError where a value is of the wrong type, a field unknown, or a kind one that is not there any more.
    """
    values = dict(values)
    if "shape" not in values:
        values["shape"] = {name: values.pop(name) for name in VERSION_1[Shape] if name in values}
        for group in ("optim", "schedule"):
            values[group] = {
                "kind" if name == "name" else name: value for name, value in values[group].items()
            }
    return build(RunSpec, values)


def evaluation_steps(spec: RunSpec, start: int, end: int) -> list[int]:
    """List the steps after which a run is evaluated: the grid of tokens, the same for every run, and its horizon.

    A trunk has no horizon: where it stops today is where its longest branch begins, and may move.
    """
    first, per_doubling = spec.evaluation["first_tokens"], spec.evaluation["per_doubling"]
    steps, k = set() if spec.kind == TRUNK else {end}, 0
    while (step := math.ceil(first * 2 ** (k / per_doubling) / spec.batch_tokens)) <= end:
        if step > start:
            steps.add(step)
        k += 1
    return sorted(steps)


def write_specs(folder: Path, runs: Mapping[str, RunSpec]) -> None:
    """Write the spec.json of every run, by run id, where it is not yet."""
    from lmscale.durable import make_folder
    from lmscale.jsonfiles import write_json

    for run_id, spec in runs.items():
        path = folder / run_id / "spec.json"
        if not path.exists():
            make_folder(path.parent)
            write_json(path, written(spec))
