"""Runs -> packs in waves: how the runs of a sweep are computed, before anything is. No jax.

What a run *is* (`RunSpec`) is its science; how it is computed (`Pack.execution`) is kept apart, and the ledger
freezes it at the first step. Packs that run elsewhere are planned open: with the device that is expected of those
machines, without precision and versions, which `settle` adds where the pack runs.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lmscale.config import SweepConfig
from lmscale.data.manifest import Manifest
from lmscale.ladder import run_specs, target_run
from lmscale.mesh import MeshConfig, check_divides
from lmscale.schedule import BRANCH, TRUNK
from lmscale.shape import Shape
from lmscale.spec import RunSpec, short_hash

AUTO = "auto"  # a width that is measured, a kernel of attention that is chosen, where the pack is trained
HELD = 2  # the first wave that waits for the forecasts to be registered
SETTLED = ("device", "precision", "versions", "cores", "attention")  # of an execution, where the pack runs
DETERMINISTIC = "xla_gpu_deterministic_ops"  # a flag of XLA's; without it a GPU's bits are not the same twice


@dataclass(frozen=True)
class Pack:
    """Runs of one shape trained in one program. pins: the steps at which a trunk's state is kept for good.
    mesh: the devices that train it now. No part of the execution: a pack may go on with more devices or fewer.
    named: the id that it was planned under, where its execution has been settled since."""

    wave: int
    execution: dict[str, Any]
    runs: tuple[RunSpec, ...]
    pins: tuple[int, ...] = ()
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    named: str = ""

    @functools.cached_property
    def pack_id(self) -> str:
        return self.named or short_hash(self.execution)

    @property
    def has_width(self) -> bool:
        """Say if it is known how many of its runs are trained at a time."""
        return self.execution.get("width") != AUTO

    @property
    def width(self) -> int:
        """Count the runs that are trained at a time, each in a lane; the others wait for a lane that ends. All of
        them where that is not settled."""
        return int(self.execution.get("width", len(self.runs))) if self.has_width else len(self.runs)

    @property
    def is_open(self) -> bool:
        """What it runs on is not known before it runs."""
        return "versions" not in self.execution

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
    """All runs of a sweep, by run id, and the packs that train them, the longest of a wave first. part_of: the part
    of the experiment that a run belongs to, the first of them, where it has parts."""

    runs: dict[str, RunSpec]
    packs: tuple[Pack, ...]
    part_of: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def waves(self) -> list[list[Pack]]:
        return [wave for n in range(HELD + 2) if (wave := [pack for pack in self.packs if pack.wave == n])]


def make_plan(
    configs: Sequence[SweepConfig],
    manifests: Sequence[Manifest],
    device: str,
    frozen: Iterable[Mapping[str, Any]] = (),
    besides: Iterable[RunSpec] = (),
    elsewhere: bool = False,
    thawed: Collection[str] = (),
) -> Plan:
    """Make one plan of all compositions. A run in a frozen pack stays there; the others are packed anew.

    device: cpu, gpu or tpu. frozen: the ledger's [{"pack_id", "execution"}]; packs whose runs are not all
    among these configurations are left out. besides: runs that no composition has. elsewhere: other machines train
    them, of which `device` is expected. thawed: packs that were given up, whose states no new pack may take for its
    own. Where compositions name targets, what no forecast may use waits until the forecasts are registered: the
    targets' rungs, and whatever else can fill the cores while these train.
    """
    runs: dict[str, RunSpec] = {}
    pack_of: dict[str, Any] = {}
    part_of: dict[str, str] = {}
    evidence: set[str] = set()
    for config, manifest in zip(configs, manifests, strict=True):
        specs = run_specs(config, manifest)
        for spec in specs:
            runs.setdefault(spec.run_id, spec)
            pack_of.setdefault(spec.run_id, (config.pack, config.mesh))
            if config.part:
                part_of.setdefault(spec.run_id, config.part)
        evidence |= _evidence(config, specs)
    for spec in besides:
        runs.setdefault(spec.run_id, spec)
        pack_of.setdefault(spec.run_id, (configs[0].pack, configs[0].mesh))
    held = runs.keys() - evidence if evidence else set()
    pins: dict[str, set[int]] = {}
    for spec in runs.values():
        if spec.trunk is not None:
            pins.setdefault(spec.trunk, set()).add(spec.decay_start or 0)
    groups: list[tuple[list[str], dict[str, Any], str]] = []
    for entry in frozen:
        lanes = [lane for lane in entry["execution"]["lanes"] if lane in runs]
        if lanes and len(lanes) == len(entry["execution"]["lanes"]):
            groups.append((lanes, dict(entry["execution"]), entry["pack_id"]))
    placed = {lane for lanes, _, _ in groups for lane in lanes}
    alike: dict[str, list[str]] = {}
    for run_id, spec in runs.items():
        if run_id not in placed:
            program = [_program(spec, pack_of[run_id]), run_id in held]
            alike.setdefault(short_hash(program), []).append(run_id)
    for ids in alike.values():
        config, _ = pack_of[ids[0]]
        width = _width(config, device)
        most = 1 if width == 1 else config.max_lanes
        for at in range(0, len(ids), most):
            lanes = ids[at : at + most]
            waiting = {} if len(lanes) == 1 or (width != AUTO and width >= len(lanes)) else {"width": width}
            execution = {"lanes": lanes, "device": device, "steps": config.steps, **waiting}
            execution |= {} if config.attention == AUTO else {"attention": config.attention}
            if elsewhere:
                groups.append((lanes, _anew(execution, thawed), ""))
            else:
                groups.append((lanes, settle(execution, runs[lanes[0]].shape, device), ""))
    packs = [
        _pack(
            [runs[lane] for lane in lanes],
            execution,
            pins,
            not held.isdisjoint(lanes),
            pack_of[lanes[0]][1],
            named,
        )
        for lanes, execution, named in groups
    ]
    return Plan(runs, tuple(sorted(packs, key=lambda pack: (pack.wave, -pack.flops))), part_of)


def _evidence(config: SweepConfig, specs: Sequence[RunSpec]) -> set[str]:
    """Find the runs that a forecast of the target may use, and their trunks; none without a target."""
    target = target_run(config, specs)
    if target is None:
        return set()
    most = target.flops / min(config.target.cuts) if config.target.cuts else math.inf
    used = [spec for spec in specs if spec.dial != target.dial and spec.kind != TRUNK and spec.flops <= most]
    return {name for spec in used for name in (spec.run_id, spec.trunk) if name is not None}


def _program(spec: RunSpec, pack: Any) -> dict[str, Any]:
    """Collect all that runs must share to be lanes of one program; whatever else differs is traced."""
    return {
        "kind": spec.kind,
        "shape": dataclasses.asdict(spec.shape),
        "optim": dataclasses.asdict(spec.optim),
        "data": {name: value for name, value in spec.data.items() if name != "order_seed"},
        "evaluation": spec.evaluation,
        "batch": spec.batch_multiple,
        "pack": [dataclasses.asdict(config) for config in pack],
    }


def _width(config: Any, device: str) -> Any:
    """How many runs of a shape go at a time; AUTO where that is to be measured. On a CPU more lanes than one have
    been slower at every size (docs/performance.md), so nothing is measured there."""
    if config.lanes == AUTO:
        return 1 if device == "cpu" or config.max_lanes == 1 else AUTO
    return min(int(config.lanes), int(config.max_lanes))


def settle(execution: Mapping[str, Any], shape: Shape, device: str, cores: int = 1) -> dict[str, Any]:
    """Say how a pack is computed on this machine: on `device`, by what is installed here, on so many cores."""
    precision = "float32" if device == "cpu" else "bfloat16"
    several = {"cores": cores} if device == "cpu" and cores > 1 else {}  # they decide the order of sums
    asked = {name: value for name, value in execution.items() if name != "attention"}
    attention = _attention(execution.get("attention", AUTO), shape, device)
    return {**asked, "device": device, "precision": precision, "versions": versions(), **several, **attention}


def _anew(execution: dict[str, Any], thawed: Collection[str]) -> dict[str, Any]:
    """An open execution whose id no pack had that was given up."""
    while short_hash(execution) in thawed:
        execution = {**execution, "restart": execution.get("restart", 0) + 1}
    return execution


def _attention(wanted: str, shape: Shape, device: str) -> dict[str, str]:
    """Name the kernel of attention, where it is not XLA's. A pack that was begun before there were others has none
    in its execution, and goes on with XLA's."""
    if shape.positions == "alibi":
        return {}
    if wanted == AUTO and device == "cpu" and shape.n_kv_head is None:
        return {"attention": "blocks"}
    fits = shape.d_head % 8 == 0 and shape.d_head <= 128
    return {"attention": "cudnn"} if wanted == "cudnn" and device == "gpu" and fits else {}


@functools.cache
def versions() -> dict[str, str]:
    """Look up the versions of the packages that decide a result's bits; and the flag by which a GPU adds up in one
    order, where it is set."""
    found = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    if f"--{DETERMINISTIC}=true" in os.environ.get("XLA_FLAGS", ""):
        found[DETERMINISTIC] = "true"
    return found


def _pack(
    runs: list[RunSpec],
    execution: dict[str, Any],
    pins: dict[str, set[int]],
    held: bool,
    mesh: MeshConfig,
    named: str,
) -> Pack:
    """Trunks first (wave 0), then the branches that start from them (wave 1); held ones after both, likewise."""
    if len(runs) == 1:
        check_divides(mesh, runs[0].shape, runs[0].batch_tokens // runs[0].shape.context)
    after = HELD if held else 0
    if runs[0].kind == TRUNK:
        kept = sorted(set().union(*(pins.get(run.run_id, set()) for run in runs)))
        return Pack(after, execution, tuple(runs), tuple(kept), mesh, named)
    return Pack(after + int(runs[0].kind == BRANCH), execution, tuple(runs), (), mesh, named)
