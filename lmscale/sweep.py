"""A sweep from composed configurations to an exit status: device, data, plan, and what an action does with them.

Hydra stays outside: `launch` is a function that trains a list of named jobs and returns when they have ended.
"""

import contextlib
import dataclasses
import itertools
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmscale import checkpoint, processes, promise, scheduler
from lmscale.bill import ahead, bill, packs_ahead
from lmscale.candidates import candidates
from lmscale.config import SweepConfig
from lmscale.data import Manifest, scan
from lmscale.device import Device, expected, forget, found, unused_card
from lmscale.durable import check_links, make_folder
from lmscale.errors import UserError
from lmscale.jsonfiles import write_json
from lmscale.ladder import chosen, same_runs
from lmscale.ledger import Ledger
from lmscale.outcomes import needs_work, others, outcome_of
from lmscale.packs import refusal
from lmscale.parts import write_parts
from lmscale.plan import HELD, Pack, Plan, make_plan, versions
from lmscale.progress import Display
from lmscale.spec import RunSpec, write_specs
from lmscale.speeds import speeds_of
from lmscale.tables import plan_table, status_table
from lmscale.trackers.config import check_tracker
from lmscale.trackers.process import tracked
from lmscale.typed import build
from lmscale.waves import Launch, Session, say_failed
from lmscale.worker import follow


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The things that a command works on: compositions, their corpora's manifests, the experiment's folder."""

    configs: tuple[SweepConfig, ...]
    manifests: tuple[Manifest, ...]
    folder: Path
    device: Device
    besides: tuple[RunSpec, ...] = ()  # runs that no composition has
    typed: tuple[str, ...] = ()  # the overrides

    def plan(self) -> Plan:
        ledger, device = Ledger(self.folder), self.device
        frozen, thawed = ledger.frozen(), ledger.thawed()
        return make_plan(
            self.configs, self.manifests, device.platform, frozen, self.besides, device.elsewhere, thawed
        )


def run(
    values: Sequence[Mapping[str, Any]], launch: Launch, elsewhere: str = "", typed: Sequence[str] = ()
) -> int:
    """Do what `action` says with every composition; the exit status. Nothing is written before all is valid.

    elsewhere: the jobs of `launch` run on other machines, which have this device as far as is known; '': they run
    here, so that what this machine has is what they will have. typed: the overrides, to be kept with the runs.
    """
    configs = tuple(build(SweepConfig, value) for value in values)
    first = configs[0]
    for field in ("name", "action", "runs", "corpora", "cost", "tracker"):
        if len({getattr(config, field) for config in configs}) > 1:
            raise UserError(f"{field}: cannot be an axis of a sweep; give it one value")
    check_tracker(first.tracker)
    if processes.index() and any(config.mesh.size > 1 for config in configs):
        follow(values[0])
        return 0
    runs = Path(first.runs)
    asked = first.pack.device
    if elsewhere:
        device = Device(elsewhere if asked == "auto" else asked, said=False, elsewhere=True)
    else:
        device = expected(asked, runs)
    for config in configs:
        check(config, device)
    if first.action in ("sweep", "verify") and not elsewhere:
        _check_machine()
        device = found(first.pack.device, runs)
    manifests = tuple(scan(config.data, config.tasks, Path(config.corpora)) for config in configs)
    for sentence in same_runs(configs, manifests):
        print(f"lmscale: {sentence}", file=sys.stderr)
    plans = [chosen(config, manifest) for config, manifest in zip(configs, manifests, strict=True)]
    left_out = [line for manifest in manifests for line in manifest.tasks_left_out]
    for reason in dict.fromkeys([*left_out, *(line for plan in plans for line in plan.left_out)]):
        print(f"lmscale: left out: {reason}", file=sys.stderr)
    sweep = Sweep(configs, manifests, runs / first.name, device, typed=tuple(typed))
    if first.action in ("sweep", "verify"):
        try:
            return (train_missing if first.action == "sweep" else train_targets)(sweep, launch)
        finally:
            if any(config.mesh.size > 1 for config in configs):
                processes.end()
    shown = {
        "data": show_data,
        "plan": show_plan,
        "candidates": write_candidates,
        "status": show_status,
        "peek": show_peek,
        "forecast": forecast,
    }
    return shown[first.action](sweep)


def check(config: SweepConfig, device: Device) -> None:
    """Plan against an imaginary corpus: what is wrong with shapes and horizons shows before any scanning."""
    from lmscale.data.scan import draft_manifest

    manifest = draft_manifest(config.data, config.tasks)
    make_plan([config], [manifest], device.platform, elsewhere=device.elsewhere)


def _check_machine() -> None:
    """Raise UserError where no process could train here, whatever it is to train; ask for all the open files that
    we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise UserError(f"no temporary folder ({error}): name one that can be written, TMPDIR=...") from error


def show_data(sweep: Sweep) -> int:
    """Print what the corpora hold (make data)."""
    for config, manifest in zip(sweep.configs, sweep.manifests, strict=True):
        if config.part:
            print(f"part {config.part}:")
        first, *others = manifest.summary()
        print(f"{first}, in {sweep.configs[0].corpora}/", *others, sep="\n")
        for part in manifest.components:
            print(f"  {part.name:<16} weight {part.weight:.4f}  rows {part.rows}  counted {part.counted}")
    return 0


def show_plan(sweep: Sweep) -> int:
    """Print the table of runs and packs, and what the plan chose; nothing is written (make plan)."""
    plan, cost = sweep.plan(), sweep.configs[0].cost
    packs = packs_ahead(plan, cost)
    print(plan_table(plan, sweep.folder, speeds_of(sweep.folder.parent), sweep.configs[0].pack.keep))
    for config, manifest in zip(sweep.configs, sweep.manifests, strict=True):
        for line in chosen(config, manifest).said:
            print(line)
    if any(config.transfer.horizon_exponent for config in sweep.configs):
        print(own_trunks(sweep, plan))
    for run, target in promise.aims_of(sweep.configs, sweep.manifests).values():
        cuts = ", ".join(f"1/{cut:g}" for cut in target.cuts) or "all"
        print(
            f"target: dial {run.dial} at {run.horizon_tokens:,} tokens, {run.flops:.3g} FLOPs; wave {HELD} waits "
            f"for its forecast from runs of at most this share of its compute: {cuts}"
        )
    if sweep.device.elsewhere:
        print(f"device: {sweep.device.platform} is expected; jax is asked where each pack runs")
    elif not sweep.device.said:
        print(f"device: {sweep.device.platform}, a guess; jax is asked before anything is trained")
    for line in itertools.chain(bill(plan, cost), ahead(packs)):
        print(line, flush=True)
    return 0


def own_trunks(sweep: Sweep, plan: Plan) -> str:
    """Say what it costs that the rate depends on the horizon, so that no two horizons share a trunk."""
    shared = [
        dataclasses.replace(config, transfer=dataclasses.replace(config.transfer, horizon_exponent=0.0))
        for config in sweep.configs
    ]
    flops = sum(pack.flops for pack in plan.packs)
    device = sweep.device
    plan_of_less = make_plan(shared, sweep.manifests, device.platform, elsewhere=device.elsewhere)
    less = sum(pack.flops for pack in plan_of_less.packs)
    return (
        f"transfer.horizon_exponent: each horizon has a rate, and so a trunk of its own: {flops:.3g} FLOPs, "
        f"{flops / less:.2f} times the {less:.3g} of shared trunks"
    )


def write_candidates(sweep: Sweep) -> int:
    """Write the points of the plan for `analysis design`, and say where (make candidates)."""
    found = candidates(sweep.plan(), speeds_of(sweep.folder.parent))
    path = sweep.folder / "candidates.json"
    make_folder(path.parent)
    write_json(path, found)
    print(f"wrote {path}: {len(found['candidates'])} candidates")
    return 0


def show_status(sweep: Sweep) -> int:
    """Print what of the plan is done, running, failed (make status)."""
    jobs: dict[str, str] = {}
    try:
        jobs = {pack: str(job) for pack, job in scheduler.active(sweep.folder).items()}
    except UserError as error:
        print(f"{error}; what is queued there is not shown")
    print(status_table(sweep.plan(), sweep.folder, jobs))
    return 0


def show_peek(sweep: Sweep) -> int:
    """Print samples of every component as text (make peek)."""
    from lmscale.data import open_world
    from lmscale.peek import in_ascii, peek

    for config in sweep.configs:
        if config.part:
            print(f"part {config.part}:\n")
        text = peek(open_world(config.data, config.tasks, Path(config.corpora)))
        try:
            text.encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            text = in_ascii(text)
        print(text)
    return 0


def forecast(sweep: Sweep) -> int:
    """Plan the targets and register their forecasts that are missing (make forecast)."""
    aims = promise.aims_of(sweep.configs, sweep.manifests)
    if not aims:
        raise UserError("target.dial=null: name the rung to forecast, such as target.dial=128")
    if not (sweep.folder / "frozen").is_dir():
        raise UserError(f"{sweep.folder}: nothing has been trained there to forecast from; make sweep first")
    write_specs(sweep.folder, sweep.plan().runs)
    problems: list[str] = []
    status = promise.register(sweep.folder, aims, problems.append)
    if status:
        raise UserError(problems[-1])
    print(*problems or ["every forecast of these targets is registered already"], sep="\n")
    return 0


def train_targets(sweep: Sweep, launch: Launch) -> int:
    """Train the targets of all forecasts, with what else is missing, and score the forecasts (make verify)."""
    runs = promise.targets_to_train(sweep.folder, sweep.configs, sweep.manifests)
    status = train_missing(dataclasses.replace(sweep, besides=tuple(runs)), launch)
    return promise.verify(sweep.folder) or status


def train_missing(sweep: Sweep, launch: Launch) -> int:
    """Train what is missing, wave after wave; 0, or 1 when a run failed."""
    first, plan = sweep.configs[0], sweep.plan()
    if any(needs_work(sweep.folder, pack) for pack in plan.packs):
        check_links(sweep.folder)
    if _free(sweep, plan):
        plan = sweep.plan()
    write_specs(sweep.folder, plan.runs)
    write_parts(sweep.folder, plan)
    contexts = {
        manifest.content_hash: {
            "data": dataclasses.asdict(config.data),
            "tasks": dataclasses.asdict(config.tasks),
            "pack": dataclasses.asdict(config.pack),
            "corpora": config.corpora,
            "text": manifest.text_key,
            "overrides": list(sweep.typed),
        }
        for config, manifest in zip(sweep.configs, sweep.manifests, strict=True)
    }
    ledger = Ledger(sweep.folder, max_tries=first.pack.tries)
    aims = promise.aims_of(sweep.configs, sweep.manifests)

    def register() -> None:
        promise.register(sweep.folder, aims, display.say)

    with Display(plan, sweep.folder) as display, tracked(first.tracker, sweep.folder, display.say):
        here = not sweep.device.elsewhere
        for line in (
            unused_card(first.pack.device, sweep.device) if here else None,
            others(sweep.folder, plan),
        ):
            if line:
                display.say(line)
        try:
            Session(sweep.folder, plan, ledger, contexts, launch, display, register, not here).train()
        except UserError:
            forget(sweep.folder.parent)
            raise
    return say_failed(sweep.folder, plan, ledger)


def _free(sweep: Sweep, plan: Plan) -> bool:
    """Thaw executions that cannot be had here (another device, other versions) of packs that have not ended: with
    `retry` all, else those that no checkpoint depends on. With it, forget also the failures of parked packs, and
    what they said of their runs. Returns False where nothing has changed."""
    folder, retry, ledger = sweep.folder, sweep.configs[0].retry, Ledger(sweep.folder)
    for run_id in plan.runs if retry else ():
        if outcome_of(folder, run_id) == "failed":
            (folder / run_id / "outcome.json").unlink()
    changed = retry
    states = {row.pack_id: row.state for row in ledger.status()}
    for pack in plan.packs:
        if retry:
            ledger.retry(pack.pack_id)
        if pack.is_open or not _is_beyond(sweep, pack):
            continue
        depends = (
            states.get(pack.pack_id) == "running"
            or checkpoint.newest_step(folder / "packs" / pack.pack_id) >= 0
        )
        if needs_work(folder, pack) and (retry or not depends):
            ledger.thaw(pack.pack_id)
            changed = True
    return changed


def _is_beyond(sweep: Sweep, pack: Pack) -> bool:
    """Say if the pack's execution cannot be had: by this machine, or by the one that was last to try."""
    if sweep.device.elsewhere:
        return refusal(sweep.folder, pack.pack_id).exists()
    other_device = sweep.device.said and pack.execution["device"] != sweep.device.platform
    return other_device or pack.execution["versions"] != versions()
