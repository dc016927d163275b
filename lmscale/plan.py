"""SweepConfig -> RunSpecs -> packs in waves: what there is to train, before anything is trained.

No jax and no tokens: what is needed of the data stands in its manifest. What a run *is* (`RunSpec`) is its
science; how it is computed (`Pack.execution`) is kept apart, and the ledger freezes it at the first claim.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmscale.config import OptimConfig, SweepConfig
from lmscale.data.manifest import Manifest
from lmscale.errors import UserError
from lmscale.family import Shape, parameter_conventions, parameter_groups, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.transfer import batch_multiple, decay_of, peak_rate

SCIENCE_VERSION = 1  # a change of the training code that changes results changes every run id
DETERMINISTIC = "xla_gpu_deterministic_ops"  # a flag of XLA's; without it a GPU's bits are not the same twice
TRUNK, BRANCH, RUN = "trunk", "branch", "run"


@dataclass(frozen=True)
class RunSpec:
    """Everything a result depends on in principle, and nothing else: this is spec.json.

    kind: `run` (a whole schedule), `trunk` (a constant rate, no horizon) or `branch` (a trunk's decay to a
    horizon). Steps count from the first of the trunk. data, tasks: as the manifest states them; tasks is what a
    report needs to judge and draw, and not part of the run's id.
    """

    science_version: int
    kind: str
    trunk: str | None
    dial: int
    n_layer: int
    d_model: int
    n_head: int
    d_head: int
    d_mlp: int
    context: int
    vocab_size: int
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

    @functools.cached_property
    def run_id(self) -> str:
        # data.content_hash names the tasks' content; a reworded description is no other science
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "tasks"}
        return _digest({**fields, "optim": dataclasses.asdict(self.optim)})

    @property
    def shape(self) -> Shape:
        return Shape(
            self.n_layer, self.d_model, self.n_head, self.d_head, self.d_mlp, self.context, self.vocab_size
        )

    @property
    def flops_per_token(self) -> int:
        return training_flops_per_token(self.shape)


@dataclass(frozen=True)
class Pack:
    """Runs of one shape trained in one program. pins: the steps at which a trunk's state is kept for good."""

    wave: int
    execution: dict[str, Any]
    runs: tuple[RunSpec, ...]
    pins: tuple[int, ...] = ()

    @functools.cached_property
    def pack_id(self) -> str:
        return _digest(self.execution)

    @property
    def end_steps(self) -> tuple[int, ...]:
        """The first step that each lane does not take."""
        return tuple(max(self.pins) if run.kind == TRUNK else run.horizon_steps or 0 for run in self.runs)

    @property
    def start_steps(self) -> tuple[int, ...]:
        return tuple(run.decay_start or 0 if run.kind == BRANCH else 0 for run in self.runs)

    @property
    def flops(self) -> int:
        """Exact training FLOPs of the whole pack."""
        spans = zip(self.runs, self.start_steps, self.end_steps, strict=True)
        return sum(run.flops_per_token * run.batch_tokens * (end - start) for run, start, end in spans)


@dataclass(frozen=True)
class Plan:
    """All runs of a sweep, by run id, and the packs that train them, the longest of a wave first."""

    runs: dict[str, RunSpec]
    packs: tuple[Pack, ...]

    @property
    def waves(self) -> list[list[Pack]]:
        return [wave for n in (0, 1) if (wave := [pack for pack in self.packs if pack.wave == n])]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_specs(config: SweepConfig, manifest: Manifest) -> list[RunSpec]:
    """The runs of one composed configuration: for every rung and seed its horizons, and their trunk."""
    specs: list[RunSpec] = []
    for dial in config.dial:
        shape = shape_of(config.family, dial, context=manifest.context, vocab_size=manifest.vocab_size)
        seeds = config.seed[:1] if dial in config.one_seed else config.seed
        for seed in seeds:
            specs += _rung(config, manifest, dial, shape, seed)
    return specs


def _rung(config: SweepConfig, manifest: Manifest, dial: int, shape: Shape, seed: int) -> list[RunSpec]:
    n = parameter_conventions(shape)["params_nonembedding"]
    multiple = batch_multiple(config.transfer, n)
    batch_tokens = sum(c.rows for c in manifest.components) * multiple * manifest.context
    rate = peak_rate(config.transfer, shape.d_model)
    base = RunSpec(
        science_version=SCIENCE_VERSION,
        kind=RUN,
        trunk=None,
        dial=dial,
        **dataclasses.asdict(shape),
        seed=seed,
        horizon_tokens=None,
        horizon_steps=None,
        decay_start=None,
        batch_multiple=multiple,
        batch_tokens=batch_tokens,
        learning_rate=rate,
        weight_decay=decay_of(config.transfer, rate),
        schedule={"name": config.schedule.name, "warmup_steps": config.schedule.warmup_steps},
        optim=config.optim,
        evaluation={
            **dataclasses.asdict(config.evaluation),
            "items": config.tasks.items,
            "heldout_rows": config.data.heldout_rows,
        },
        params=parameter_groups(shape),
        data={
            "name": manifest.name,
            "content_hash": manifest.content_hash,
            "primary": manifest.primary,
            "unique_tokens": manifest.unique_tokens,
            "components": [dataclasses.asdict(c) for c in manifest.components],
            **manifest.unit,
        },
        tasks=manifest.tasks,
    )
    horizons = _horizon_steps(config, dial, n, batch_tokens, manifest)
    floor = {"floor": config.schedule.floor}
    if config.schedule.name == "cosine":
        start = config.schedule.warmup_steps
        ended = {"decay_start": start, "schedule": {**base.schedule, **floor}}
        return [_with_horizon(base, steps, **ended) for steps in horizons]
    trunk = dataclasses.replace(base, kind=TRUNK)
    fall = {**base.schedule, "decay_share": config.schedule.decay_share, **floor}
    branches = [
        _with_horizon(
            base,
            steps,
            kind=BRANCH,
            trunk=trunk.run_id,
            decay_start=_decay_start(config, steps),
            schedule=fall,
        )
        for steps in horizons
    ]
    return [trunk, *branches]


def _with_horizon(base: RunSpec, steps: int, **changes: Any) -> RunSpec:
    return dataclasses.replace(base, horizon_steps=steps, horizon_tokens=steps * base.batch_tokens, **changes)


def _decay_start(config: SweepConfig, steps: int) -> int:
    return round(steps * (1 - config.schedule.decay_share))


def _horizon_steps(
    config: SweepConfig, dial: int, params: int, batch_tokens: int, manifest: Manifest
) -> list[int]:
    """The horizons of a rung in steps, shortest first; every one must leave room after the warm-up."""
    horizon, warmup = config.horizon, config.schedule.warmup_steps
    reference = shape_of(
        config.family, horizon.dial, context=manifest.context, vocab_size=manifest.vocab_size
    )
    n_reference = parameter_conventions(reference)["params_nonembedding"]
    longest = horizon.tokens * (params / n_reference) ** horizon.exponent
    steps = []
    for multiple in sorted(horizon.multiples):
        count = round(longest * multiple / batch_tokens)
        decays = config.schedule.name == "wsd"
        if (_decay_start(config, count) if decays else count) <= warmup:
            share = 1 - config.schedule.decay_share if decays else 1.0
            least = math.ceil((warmup + 1) / share) * batch_tokens
            raise UserError(
                f"horizon.multiples={multiple}: the rung of dial {dial} trains {count} steps "
                f"({count * batch_tokens:,} tokens), which is shorter than warm-up (schedule.warmup_steps="
                f"{warmup}) and decay need; it needs {least:,} tokens or more, from horizon.tokens of "
                f"{least * horizon.tokens / (longest * multiple):.2g} or a larger multiple, or a shorter warm-up"
            )
        steps.append(count)
    return steps


def make_plan(
    configs: Sequence[SweepConfig],
    manifests: Sequence[Manifest],
    device: str,
    frozen: Iterable[Mapping[str, Any]] = (),
) -> Plan:
    """One plan of all compositions. A run in a frozen pack stays there; the others are packed anew.

    device: cpu, gpu or tpu. frozen: the ledger's [{"pack_id", "execution"}]; packs whose runs are not all
    among these configurations are left out.
    """
    runs: dict[str, RunSpec] = {}
    pack_of: dict[str, Any] = {}
    for config, manifest in zip(configs, manifests, strict=True):
        for spec in run_specs(config, manifest):
            runs.setdefault(spec.run_id, spec)
            pack_of.setdefault(spec.run_id, config.pack)
    pins: dict[str, set[int]] = {}
    for spec in runs.values():
        if spec.trunk is not None:
            pins.setdefault(spec.trunk, set()).add(spec.decay_start or 0)
    groups: list[tuple[list[str], dict[str, Any]]] = []
    for entry in frozen:
        lanes = [lane for lane in entry["execution"]["lanes"] if lane in runs]
        if lanes and len(lanes) == len(entry["execution"]["lanes"]):
            groups.append((lanes, dict(entry["execution"])))
    placed = {lane for lanes, _ in groups for lane in lanes}
    alike: dict[str, list[str]] = {}
    for run_id, spec in runs.items():
        if run_id not in placed:
            alike.setdefault(_digest(_program(spec, pack_of[run_id])), []).append(run_id)
    for ids in alike.values():
        config = pack_of[ids[0]]
        width = _lanes(config, device)
        for at in range(0, len(ids), width):
            lanes = ids[at : at + width]
            groups.append((lanes, _execution(lanes, device, config.steps)))
    packs = [_pack([runs[lane] for lane in lanes], execution, pins) for lanes, execution in groups]
    return Plan(runs, tuple(sorted(packs, key=lambda pack: (pack.wave, -pack.flops))))


def _program(spec: RunSpec, pack: Any) -> dict[str, Any]:
    """What runs must share to be lanes of one program; whatever else differs is traced."""
    shape = dataclasses.asdict(spec.shape)
    optim = dataclasses.asdict(spec.optim)
    shared = {"data": spec.data, "evaluation": spec.evaluation}
    return {
        **shape,
        **optim,
        **shared,
        "wave": spec.kind == BRANCH,
        "batch": spec.batch_multiple,
        "pack": dataclasses.asdict(pack),
    }


def _lanes(config: Any, device: str) -> int:
    if config.lanes == "auto":
        return 1 if device == "cpu" else int(config.max_lanes)
    return min(int(config.lanes), int(config.max_lanes))


def _execution(lanes: list[str], device: str, steps: int) -> dict[str, Any]:
    precision = "float32" if device == "cpu" else "bfloat16"
    return {"lanes": lanes, "device": device, "precision": precision, "steps": steps, "versions": versions()}


@functools.cache
def versions() -> dict[str, str]:
    """Of the packages that decide a result's bits; and whether a GPU was told to add up in one order."""
    found = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    if f"--{DETERMINISTIC}=true" in os.environ.get("XLA_FLAGS", ""):
        found[DETERMINISTIC] = "true"
    return found


def _pack(runs: list[RunSpec], execution: dict[str, Any], pins: dict[str, set[int]]) -> Pack:
    """Trunks first (wave 0), then the branches that start from them (wave 1)."""
    if runs[0].kind == TRUNK:
        kept = sorted(set().union(*(pins.get(run.run_id, set()) for run in runs)))
        return Pack(0, execution, tuple(runs), tuple(kept))
    return Pack(int(runs[0].kind == BRANCH), execution, tuple(runs))


def evaluation_steps(spec: RunSpec, start: int, end: int) -> list[int]:
    """The steps after which a run is evaluated: the grid of tokens, the same for every run, and its horizon.

    A trunk has no horizon: where it stops today is where its longest branch begins, and may move.
    """
    first, per_doubling = spec.evaluation["first_tokens"], spec.evaluation["per_doubling"]
    steps, k = set() if spec.kind == TRUNK else {end}, 0
    while (step := math.ceil(first * 2 ** (k / per_doubling) / spec.batch_tokens)) <= end:
        if step > start:
            steps.add(step)
        k += 1
    return sorted(steps)


def write_specs(folder: Path, plan: Plan) -> None:
    """spec.json of every planned run, where it is not yet."""
    from lmscale.durable import make_folder
    from lmscale.jsonfiles import write_json

    for run_id, spec in plan.runs.items():
        path = folder / run_id / "spec.json"
        if not path.exists():
            make_folder(path.parent)
            write_json(path, dataclasses.asdict(spec))
