"""Runs -> packs in waves: how the runs of a sweep are computed, before anything is. No jax.

What a run *is* (`RunSpec`) is its science; how it is computed (`Pack.execution`) is kept apart, and the ledger
freezes it at the first claim.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lmscale.config import SweepConfig
from lmscale.data.manifest import Manifest
from lmscale.ladder import run_specs, target_run
from lmscale.schedule import BRANCH, TRUNK
from lmscale.spec import RunSpec, short_hash

HELD = 2  # the first wave that waits for the forecasts to be registered
DETERMINISTIC = "xla_gpu_deterministic_ops"  # a flag of XLA's; without it a GPU's bits are not the same twice


@dataclass(frozen=True)
class Pack:
    """Runs of one shape trained in one program. pins: the steps at which a trunk's state is kept for good."""

    wave: int
    execution: dict[str, Any]
    runs: tuple[RunSpec, ...]
    pins: tuple[int, ...] = ()

    @functools.cached_property
    def pack_id(self) -> str:
        return short_hash(self.execution)

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
) -> Plan:
    """Make one plan of all compositions. A run in a frozen pack stays there; the others are packed anew.

    device: cpu, gpu or tpu. frozen: the ledger's [{"pack_id", "execution"}]; packs whose runs are not all
    among these configurations are left out. besides: runs that no composition has. Where compositions name
    targets, what no forecast may use waits until the forecasts are registered: the targets' rungs, and whatever
    else can fill the cores while these train.
    """
    runs: dict[str, RunSpec] = {}
    pack_of: dict[str, Any] = {}
    part_of: dict[str, str] = {}
    evidence: set[str] = set()
    for config, manifest in zip(configs, manifests, strict=True):
        specs = run_specs(config, manifest)
        for spec in specs:
            runs.setdefault(spec.run_id, spec)
            pack_of.setdefault(spec.run_id, config.pack)
            if config.part:
                part_of.setdefault(spec.run_id, config.part)
        evidence |= _evidence(config, specs)
    for spec in besides:
        runs.setdefault(spec.run_id, spec)
        pack_of.setdefault(spec.run_id, configs[0].pack)
    held = runs.keys() - evidence if evidence else set()
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
            program = [_program(spec, pack_of[run_id]), run_id in held]
            alike.setdefault(short_hash(program), []).append(run_id)
    for ids in alike.values():
        config = pack_of[ids[0]]
        width = _lanes(config, device)
        for at in range(0, len(ids), width):
            lanes = ids[at : at + width]
            groups.append(
                (lanes, _execution(lanes, device, config.steps) | _attention(runs[lanes[0]], config, device))
            )
    packs = [
        _pack([runs[lane] for lane in lanes], execution, pins, not held.isdisjoint(lanes))
        for lanes, execution in groups
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
        "pack": dataclasses.asdict(pack),
    }


def _lanes(config: Any, device: str) -> int:
    if config.lanes == "auto":
        return 1 if device == "cpu" else int(config.max_lanes)
    return min(int(config.lanes), int(config.max_lanes))


def _execution(lanes: list[str], device: str, steps: int) -> dict[str, Any]:
    precision = "float32" if device == "cpu" else "bfloat16"
    return {"lanes": lanes, "device": device, "precision": precision, "steps": steps, "versions": versions()}


def _attention(spec: RunSpec, config: Any, device: str) -> dict[str, str]:
    """Name the kernel of attention, where it is not XLA's: so a pack of before has the execution that it had."""
    shape = spec.shape
    fits = shape.d_head % 8 == 0 and shape.d_head <= 128 and shape.positions != "alibi"
    return {"attention": config.attention} if config.attention != "xla" and device == "gpu" and fits else {}


@functools.cache
def versions() -> dict[str, str]:
    """Look up the versions of the packages that decide a result's bits; and the flag by which a GPU adds up in one
    order, where it is set."""
    found = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    if f"--{DETERMINISTIC}=true" in os.environ.get("XLA_FLAGS", ""):
        found[DETERMINISTIC] = "true"
    return found


def _pack(runs: list[RunSpec], execution: dict[str, Any], pins: dict[str, set[int]], held: bool) -> Pack:
    """Trunks first (wave 0), then the branches that start from them (wave 1); held ones after both, likewise."""
    after = HELD if held else 0
    if runs[0].kind == TRUNK:
        kept = sorted(set().union(*(pins.get(run.run_id, set()) for run in runs)))
        return Pack(after, execution, tuple(runs), tuple(kept))
    return Pack(after + int(runs[0].kind == BRANCH), execution, tuple(runs))
