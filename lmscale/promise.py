"""The forecasts of a sweep, registered before their targets train: when each is made, and of which run.

What a forecast is, is the business of `python -m analysis forecast`, which makes it in a process of its own.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmscale.config import DataConfig, SweepConfig
from lmscale.data.manifest import Manifest
from lmscale.errors import UserError
from lmscale.family import parameter_conventions, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.jsonfiles import read_json
from lmscale.ladder import SAME_HORIZON, run_specs, target_run
from lmscale.ledger import Ledger
from lmscale.spec import RunSpec, spec_of
from lmscale.target import TargetConfig

# The size of a rung that stands for a budget's optimum, where loss is flat (the same in `analysis verify`).
NEAR_SIZE = 0.15
MOST_DIALS = 65536
# What is known of the irreducible loss of a text in bytes and windows of the default context, by its kind: mean and
# standard deviation in nats, and where they come from. The law of 155 runs of the standard library, d 8 to 128,
# has E between 1.03 and 1.11 with its form and its convention of N.
FLOORS = {"stdlib": (1.05, 0.1, "the ladder of 25 November 2026 (docs/ladder.md)")}
Aims = Mapping[str, tuple[RunSpec, TargetConfig]]


def aims_of(configs: Sequence[SweepConfig], manifests: Sequence[Manifest]) -> Aims:
    """Find the run that each composition with a target is to forecast, by run id."""
    found = {}
    for config, manifest in zip(configs, manifests, strict=True):
        run = target_run(config, run_specs(config, manifest))
        if run is not None:
            found[run.run_id] = (run, _with_floor(config))
    return found


def _with_floor(config: SweepConfig) -> TargetConfig:
    """The target, its forecast with what is known of the floor of this text: in these units and windows, for this
    question."""
    data, target = config.data, config.target
    fields = ("tokenizer", "context", "markov_order", "objective", "clean")
    same = all(getattr(data, name) == getattr(DataConfig, name) for name in fields)
    if data.kind not in FLOORS or not same or "--floor" in target.options:
        return target
    value, error, source = FLOORS[data.kind]
    floor = ("--floor", "prior", "--floor_value", repr(value), "--floor_error", repr(error))
    return dataclasses.replace(target, options=(*target.options, *floor, "--floor_source", source))


def register(folder: Path, aims: Aims, say: Callable[[str], None]) -> int:
    """Register the forecasts that are missing; 0, or 2 where one could not be made. What is wrong with one is said
    and stops nothing: the runs are worth having without it."""
    there = {(target.get("run_id"), data.get("cut")) for target, data in _registered(folder)}
    status = 0
    for run_id, (run, target) in aims.items():
        missing = [cut for cut in target.cuts or (None,) if (run_id, cut) not in there]
        named = f"dial {run.dial} at {run.horizon_tokens:,} tokens"
        if missing and has_begun(folder, run):
            if not any(run_id == other for other, _ in there):
                say(f"{named} has begun to train without a registered forecast; one made now would be late")
                status = 2
            continue
        for cut in missing:
            options = () if cut is None else ("--cut", repr(cut))
            done = _analysis("forecast", folder, "--run", run_id, *options, *target.options)
            if done.returncode:
                say(f"no forecast of {named}: {done.stderr.strip().removeprefix('analysis: ')}")
                status = 2
            else:
                say(f"forecast of {named}: {done.stdout.strip()}")
    return status


def verify(folder: Path) -> int:
    """Score the forecasts of a folder against its runs, and print what was found; the exit status."""
    done = _analysis("verify", folder)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def has_begun(folder: Path, run: RunSpec) -> bool:
    """Say if a run, or the trunk that it starts from, has ever taken a step."""
    lanes = {lane for entry in Ledger(folder).frozen() for lane in entry["execution"]["lanes"]}
    return not lanes.isdisjoint({run.run_id, run.trunk})


def targets_to_train(
    folder: Path, configs: Sequence[SweepConfig], manifests: Sequence[Manifest]
) -> list[RunSpec]:
    """List the runs, and their trunks, that the forecasts of a folder are of. UserError where one can be no run of
    these configurations. One that says neither a run nor a ladder (of a table, or edited) is passed over."""
    runs: dict[str, RunSpec] = {}
    for target, _ in _registered(folder):
        try:
            found = list(_runs_of(folder, target, configs, manifests))
        except (KeyError, TypeError, ValueError):
            continue
        for run in found:
            if run.data["content_hash"] not in {manifest.content_hash for manifest in manifests}:
                raise UserError(
                    f"data: the target {run.run_id} of a forecast was planned on another corpus (content "
                    f"{run.data['content_hash']}); give the data=... and tasks=... that it was planned with"
                )
            runs[run.run_id] = run
    if not runs:
        raise UserError(f"{folder}: no forecast is registered there; make one: make forecast TARGET=dial=...")
    return list(runs.values())


def _runs_of(
    folder: Path, target: Mapping[str, Any], configs: Sequence[SweepConfig], manifests: Sequence[Manifest]
) -> Iterator[RunSpec]:
    """The run that a forecast was made of, as it was planned, or the run of its ladder that has its size."""
    if "run_id" in target:
        run = spec_of(read_json(folder / target["run_id"] / "spec.json"))
        if run.trunk is not None:
            yield spec_of(read_json(folder / run.trunk / "spec.json"))
        yield run
        return
    like = read_json(folder / target["like"] / "spec.json")["data"]["content_hash"]
    ladders = [n for n, manifest in enumerate(manifests) if manifest.content_hash == like]
    if not ladders:
        raise UserError(
            f"data: a forecast is of a ladder on another corpus (content {like}); give the data=... and tasks=... "
            "of that ladder"
        )
    config, manifest = configs[ladders[0]], manifests[ladders[0]]
    near = NEAR_SIZE if target["from_budget"] else SAME_HORIZON
    dial, params, flops_per_token = _nearest(config, manifest, target["params"])
    if abs(params / target["params"] - 1) > near:
        raise UserError(
            f"a forecast is of {target['params']:,.0f} params, and no rung of this family has them: the nearest, "
            f"dial {dial}, has {params:,}; measure it elsewhere and score it with python -m analysis verify"
        )
    tokens = target["flops"] / flops_per_token if target["from_budget"] else target["tokens"]
    aimed = dataclasses.replace(config, target=TargetConfig(dial, tokens))
    specs = run_specs(aimed, manifest)
    found = target_run(aimed, specs)
    assert found is not None  # its dial is the target's
    yield from (spec for spec in specs if spec.run_id in (found.trunk, found.run_id))


def _nearest(config: SweepConfig, manifest: Manifest, wanted: float) -> tuple[int, int, int]:
    """The dial whose params are nearest to `wanted`, its params and its FLOPs a token."""
    best: tuple[int, int, int] | None = None
    dial = 0
    while best is None or best[1] < 2 * wanted:
        dial += 1
        try:
            shape = shape_of(config.family, dial, context=manifest.context, vocab_size=manifest.vocab_size)
        except UserError:  # no width of this family
            if dial > MOST_DIALS:
                break
            continue
        params = parameter_conventions(shape)["params"]
        if best is None or abs(params - wanted) < abs(best[1] - wanted):
            best = (dial, params, training_flops_per_token(shape))
        elif params > wanted:
            break
    if best is None:
        raise UserError(f"family: no rung of up to dial {MOST_DIALS} is possible")
    return best


def _registered(folder: Path) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The targets of the registered forecasts, and what each was made of. One that cannot be read is left to
    `analysis verify`, which says so."""
    found: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for path in sorted((folder / "forecasts").glob("*.json")):
        try:
            content = read_json(path)
            found += [(dict(target), dict(content["data"])) for target in content["targets"]]
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _analysis(verb: str, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    # -m analysis would run an analysis.py of the working folder: ours is installed, or stands beside this package
    beside = str(Path(__file__).resolve().parents[1])
    code = f"import sys; sys.path.append({beside!r}); from analysis.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-P", "-c", code, verb, str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)
