"""A sweep from composed configurations to an exit status: data, plan, ledger, waves, what is left.

Hydra stays outside: `launch` is a function that trains a list of named jobs and returns when they have ended.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmscale import checkpoint, stopping
from lmscale.config import SweepConfig
from lmscale.data import Manifest, scan
from lmscale.errors import UserError
from lmscale.jsonfiles import write_json
from lmscale.ledger import Ledger, PackStatus
from lmscale.outcomes import end_branches, has_trunks, is_done, needs_work, outcome_of, reopen
from lmscale.packs import log_of, log_tail, write_pack
from lmscale.plan import Pack, Plan, make_plan, versions
from lmscale.progress import Display
from lmscale.spec import write_specs
from lmscale.speeds import speeds_of
from lmscale.tables import plan_table, status_table
from lmscale.typed import build

Launch = Callable[[list[str]], list[Exception]]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a command works on: the compositions, their corpora's manifests, and the experiment's folder."""

    configs: tuple[SweepConfig, ...]
    manifests: tuple[Manifest, ...]
    folder: Path

    def plan(self) -> Plan:
        return make_plan(
            self.configs, self.manifests, device_of(self.configs[0]), Ledger(self.folder).frozen()
        )


def run(values: Sequence[Mapping[str, Any]], launch: Launch) -> int:
    """Do what `action` says with every composition; the exit status. Nothing is written before all is valid."""
    configs = tuple(build(SweepConfig, value) for value in values)
    first = configs[0]
    for field in ("name", "action", "runs", "corpora"):
        if len({getattr(config, field) for config in configs}) > 1:
            raise UserError(f"{field}: cannot be an axis of a sweep; give it one value")
    for config in configs:
        check(config)
    manifests = tuple(scan(config.data, config.tasks, Path(config.corpora)) for config in configs)
    sweep = Sweep(configs, manifests, Path(first.runs) / first.name)
    if first.action == "sweep":
        return train(sweep, launch)
    return {"data": show_data, "plan": show_plan, "status": show_status, "peek": show_peek}[first.action](
        sweep
    )


def check(config: SweepConfig) -> None:
    """Plan against an imaginary corpus: what is wrong with shapes and horizons shows before any scanning."""
    from lmscale.data.scan import draft_manifest

    make_plan([config], [draft_manifest(config.data, config.tasks)], device_of(config))


def device_of(config: SweepConfig) -> str:
    """cpu, gpu or tpu, without importing jax: a plan must print at once."""
    if config.pack.device != "auto":
        return config.pack.device
    platforms = os.environ.get("JAX_PLATFORMS", "").lower()
    if platforms.startswith("cpu"):
        return "cpu"
    if Path("/dev/nvidia0").exists():
        return "gpu"
    return "tpu" if Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists() else "cpu"


def show_data(sweep: Sweep) -> int:
    """make data: what the corpora hold."""
    for manifest in sweep.manifests:
        print(
            f"{manifest.name}: {manifest.unique_tokens:,} training tokens, {manifest.heldout_tokens:,} held out, "
            f"content {manifest.content_hash}, in {sweep.configs[0].corpora}/"
        )
        for part in manifest.components:
            print(f"  {part.name:<16} weight {part.weight:.4f}  rows {part.rows}  counted {part.counted}")
    return 0


def show_plan(sweep: Sweep) -> int:
    """make plan: the table of runs and packs; nothing is written."""
    print(plan_table(sweep.plan(), sweep.folder, speeds_of(sweep.folder.parent)))
    return 0


def show_status(sweep: Sweep) -> int:
    """make status: what of the plan is done, running, failed."""
    print(status_table(sweep.plan(), sweep.folder))
    return 0


def show_peek(sweep: Sweep) -> int:
    """make peek: samples of every component as text."""
    from lmscale.data import open_world
    from lmscale.peek import peek

    for config in sweep.configs:
        print(peek(open_world(config.data, config.tasks, Path(config.corpora))))
    return 0


def train(sweep: Sweep, launch: Launch) -> int:
    """Train what is missing, wave after wave; 0, or 1 when a run failed."""
    plan = sweep.plan()
    if sweep.configs[0].retry:
        _try_again(sweep.folder, plan)
        plan = sweep.plan()
    write_specs(sweep.folder, plan.runs)
    contexts = {
        manifest.content_hash: {
            "data": dataclasses.asdict(config.data),
            "tasks": dataclasses.asdict(config.tasks),
            "pack": dataclasses.asdict(config.pack),
            "corpora": config.corpora,
        }
        for config, manifest in zip(sweep.configs, sweep.manifests, strict=True)
    }
    ledger = Ledger(sweep.folder, max_tries=sweep.configs[0].pack.tries)
    with Display(plan, sweep.folder) as display:
        for wave in plan.waves:
            _train_wave(sweep, wave, contexts, ledger, launch, display)
    return _say_failed(sweep.folder, plan, ledger)


def _try_again(folder: Path, plan: Plan) -> None:
    """Forget the failures of parked packs and what they said of their runs, and the executions that can no more
    be had (other versions were installed since) of packs that have not ended."""
    ledger = Ledger(folder)
    for run_id in plan.runs:
        if outcome_of(folder, run_id) == "failed":
            (folder / run_id / "outcome.json").unlink()
    for pack in plan.packs:
        ledger.retry(pack.pack_id)
        if pack.execution["versions"] != versions() and needs_work(folder, pack):
            ledger.thaw(pack.pack_id)


def _say_failed(folder: Path, plan: Plan, ledger: Ledger) -> int:
    """A line on stderr for each pack with a run that failed or could not be trained; 1 if there is one."""
    rows = {row.pack_id: row for row in ledger.status()}
    status = 0
    for pack in plan.packs:
        failed = [run.run_id for run in pack.runs if outcome_of(folder, run.run_id) in (None, "failed")]
        if not failed and not needs_work(folder, pack):
            continue
        row = rows.get(pack.pack_id)
        why = f"{row.state}: {row.reason or row.holder}" if row and row.state != "frozen" else "never began"
        print(
            f"lmscale: failed: pack {pack.pack_id} (dial {pack.runs[0].dial}, {pack.runs[0].kind} "
            f"{', '.join(failed)}); {why}; its log: {log_of(folder / 'packs' / pack.pack_id)}; retry=true tries "
            "parked ones again",
            file=sys.stderr,
        )
        status = 1
    return status


def _train_wave(
    sweep: Sweep,
    wave: Sequence[Pack],
    contexts: Mapping[str, Mapping[str, Any]],
    ledger: Ledger,
    launch: Launch,
    display: Display,
) -> None:
    """Launch until every pack of the wave is trained, parked, or impossible for want of its trunk."""
    for pack in wave:
        reopen(sweep.folder, pack)
        write_pack(sweep.folder, pack, contexts[pack.runs[0].data["content_hash"]])
        if is_done(sweep.folder, pack):  # its process may have ended before it had removed them
            checkpoint.remove(sweep.folder / "packs" / pack.pack_id)
    tried: list[Any] = []  # the ledger as it was when a launch began: one that changes nothing is the last
    while True:
        for pack in wave:
            end_branches(sweep.folder, pack)
        missing = [p for p in wave if needs_work(sweep.folder, p) and has_trunks(sweep.folder, p)]
        rows = {row.pack_id: row for row in ledger.status()}
        for pack in missing:
            if pack.pack_id in rows and rows[pack.pack_id].state == "parked":
                _give_up(sweep.folder, pack, rows[pack.pack_id])
        held = [p for p in missing if p.pack_id in rows and rows[p.pack_id].state == "running"]
        ready = [p for p in missing if p not in held and needs_work(sweep.folder, p)]
        seen = [(p.pack_id, rows[p.pack_id].claims if p.pack_id in rows else 0) for p in ready]
        if ready and seen not in tried:
            tried.append(seen)
            _launch(launch, [f"pack_{pack.pack_id}" for pack in ready], display)
        elif held:
            display.say_once(f"waiting for {len(held)} packs that another process holds")
            time.sleep(1)
        else:
            return


def _launch(launch: Launch, jobs: list[str], display: Display) -> None:
    """One call of the launcher. What became of each pack is in the ledger; only what concerns all is raised."""
    with stopping.patiently():
        try:
            errors = launch(jobs)
        except Exception as broken:  # a launcher gives up when one worker is killed: the others go on
            if not stopping.requested():
                display.say(f"the launcher stopped ({type(broken).__name__}); going on with the rest")
            errors = []
    for error in errors:
        if isinstance(error, UserError):
            raise error


def _give_up(folder: Path, pack: Pack, row: PackStatus) -> None:
    """The outcome of the runs of a parked pack."""
    tail = row.log_tail or log_tail(folder / "packs" / pack.pack_id)
    reason = row.reason or f"its process ended without a word {row.claims} times, from the same checkpoint"
    for run in pack.runs:
        if outcome_of(folder, run.run_id) is None:
            outcome = {"outcome": "failed", "reason": reason, "step": None, "tokens": None, "log_tail": tail}
            write_json(folder / run.run_id / "outcome.json", outcome)
