"""Training a plan, wave after wave: what is missing is launched until it is trained, parked or impossible.

What became of each pack is in the ledger and in the run folders; a launcher only says that it has ended.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmscale import checkpoint, stopping
from lmscale.device import MORE_MEMORY
from lmscale.durable import disk_error
from lmscale.errors import UserError
from lmscale.jsonfiles import write_json
from lmscale.ledger import MAX_DEATHS, Ledger, PackStatus
from lmscale.outcomes import end_branches, has_trunks, is_done, needs_work, outcome_of, reopen
from lmscale.packs import log_of, log_tail, write_pack
from lmscale.plan import HELD, Pack, Plan
from lmscale.progress import Display

Launch = Callable[[list[str]], list[Exception]]
DEATHS = (
    3  # launches in a row in which workers died, none had taken a step, and nothing else had since the start
)


@dataclass(frozen=True)
class Session:
    """One start of a sweep. contexts: what a worker must know, by the data's content hash. register: makes the
    forecasts that are not registered yet, before the first run that waits for them. elsewhere: the jobs run on
    other machines, and a signal to this process is none to them."""

    folder: Path
    plan: Plan
    ledger: Ledger
    contexts: Mapping[str, Mapping[str, Any]]
    launch: Launch
    display: Display
    register: Callable[[], None]
    elsewhere: bool = False

    def train(self) -> None:
        """Train what is missing. Raises UserError for what is everybody's trouble, with nothing parked by it."""
        before = _progress(self)
        registered = False
        for wave in self.plan.waves:
            if wave[0].wave >= HELD and not registered:
                self.register()
                registered = True
            _train_wave(self, wave, before)


def _train_wave(session: Session, wave: Sequence[Pack], before: Any) -> None:
    folder, ledger = session.folder, session.ledger
    for pack in wave:
        reopen(folder, pack)
        if is_done(folder, pack):  # its process may have ended before it had removed them
            checkpoint.remove(folder / "packs" / pack.pack_id)
        else:
            write_pack(folder, pack, session.contexts[pack.runs[0].data["content_hash"]])
    tried: list[Any] = []  # the ledger as it was when a launch began: one that changes nothing is the last
    deaths = vain = 0
    while True:
        for pack in wave:
            end_branches(folder, pack)
        missing = [p for p in wave if needs_work(folder, p) and has_trunks(folder, p)]
        rows = {row.pack_id: row for row in ledger.status()}
        for pack in missing:
            if pack.pack_id in rows and rows[pack.pack_id].state == "parked":
                _give_up(folder, pack, rows[pack.pack_id])
        held = [p for p in missing if p.pack_id in rows and rows[p.pack_id].state == "running"]
        ready = [p for p in missing if p not in held and needs_work(folder, p)]
        seen = _claims(ready, rows)
        if ready and (seen not in tried or 0 < deaths < DEATHS):
            tried.append(seen)
            at = _progress(session)
            lived = _launch(session, ready, seen)
            moved = _progress(session) != at
            deaths = 0 if lived or moved else deaths + 1
            vain = 0 if moved else vain + 1
            if vain >= max(MAX_DEATHS, ledger.max_tries):
                row = next((row for row in ledger.status() if row.pack_id == ready[0].pack_id), None)
                why = _why(row) if row else "no job has begun"
                raise UserError(f"{vain} launches in a row came to nothing: {ready[0].pack_id}: {why}")
            if deaths >= DEATHS and _progress(session) == before:
                _stop_for_deaths(session, ready)
        elif held:
            session.display.say_once(_waiting(rows[held[0].pack_id], len(held), ledger.lease))
            time.sleep(1)
        else:
            return


def _claims(packs: Sequence[Pack], rows: Mapping[str, PackStatus]) -> list[tuple[str, int]]:
    """The number of each pack's last claim."""
    return [(p.pack_id, rows[p.pack_id].claims if p.pack_id in rows else 0) for p in packs]


def _progress(session: Session) -> Any:
    """A value that changes when any pack takes its first step, saves a state or ends."""
    packs = session.plan.packs
    return (
        len(session.ledger.frozen()),
        [checkpoint.newest_step(session.folder / "packs" / pack.pack_id) for pack in packs],
        [outcome_of(session.folder, run.run_id) for pack in packs for run in pack.runs],
    )


def _launch(session: Session, packs: Sequence[Pack], seen: list[tuple[str, int]]) -> bool:
    """One call of the launcher; False where a worker died in it. Raises UserError for what concerns all packs."""
    errors: list[Exception] = []
    lived = True
    with contextlib.nullcontext() if session.elsewhere else stopping.patiently():
        try:
            errors = session.launch([f"pack_{pack.pack_id}" for pack in packs])
        except UserError:
            raise
        except Exception as broken:  # a launcher gives up when one worker is killed: the others go on
            lived = False
            rows = {row.pack_id: row for row in session.ledger.status()}
            if not isinstance(broken, BrokenExecutor) and _claims(packs, rows) == seen:
                raise _launcher_fails(broken) from broken
            if not stopping.requested():
                name = type(broken).__name__
                session.display.say(f"the launcher stopped ({name}); going on with the rest")
    for error in errors:
        if isinstance(error, UserError):
            raise error
    for error in errors:
        if not isinstance(error, stopping.Interrupted):
            raise UserError(f"a job could not begin: {type(error).__name__}: {error}") from error
    return lived


def _launcher_fails(error: Exception) -> UserError:
    if isinstance(error, OSError):
        return disk_error(error, Path(error.filename or "a file"), "start workers:")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UserError(
        f"the launcher fails ({text}); hydra/launcher=basic does without it, one pack after the other"
    )


def _stop_for_deaths(session: Session, packs: Sequence[Pack]) -> None:
    """Not one pack came to its first step: it is not the packs' fault."""
    why = f"workers were killed or crashed {DEATHS} times in a row before the first step of any pack"
    for pack in packs:
        session.ledger.excuse(pack.pack_id, why)
    log = log_of(session.folder / "packs" / packs[0].pack_id)
    raise UserError(f"{why}; mostly {MORE_MEMORY}; nothing is parked; a log of one: {log}")


def _waiting(row: PackStatus, count: int, lease: float) -> str:
    return (
        f"waiting for {count} pack(s) that another process holds: {row.pack_id} by {row.holder}; it is taken over "
        f"when its holder has given no sign of life for {lease:.0f}s"
    )


def _give_up(folder: Path, pack: Pack, row: PackStatus) -> None:
    """Write the outcome of the runs of a parked pack."""
    tail = row.log_tail or log_tail(folder / "packs" / pack.pack_id)
    for run in pack.runs:
        if outcome_of(folder, run.run_id) is None:
            outcome = {
                "outcome": "failed",
                "reason": _why(row),
                "step": None,
                "tokens": None,
                "log_tail": tail,
            }
            write_json(folder / run.run_id / "outcome.json", outcome)


def _why(row: PackStatus) -> str:
    if row.reason or row.state != "parked":
        return row.reason or f"held by {row.holder}"
    return f"its process ended without a word {row.claims} times from one checkpoint, the last time on {row.holder}"


def say_failed(folder: Path, plan: Plan, ledger: Ledger) -> int:
    """Print a line on stderr for each pack with a run that failed or could not be trained; 1 if there is one."""
    rows = {row.pack_id: row for row in ledger.status()}
    status = 0
    for pack in plan.packs:
        failed = [run.run_id for run in pack.runs if outcome_of(folder, run.run_id) in (None, "failed")]
        if not failed and not needs_work(folder, pack):
            continue
        row = rows.get(pack.pack_id)
        why = f"{row.state}: {_why(row)}" if row and row.state != "frozen" else "never began"
        print(
            f"lmscale: failed: pack {pack.pack_id} (dial {pack.runs[0].dial}, {pack.runs[0].kind} "
            f"{', '.join(failed)}); {why}; its log: {log_of(folder / 'packs' / pack.pack_id)}; retry=true tries "
            "parked ones again",
            file=sys.stderr,
        )
        status = 1
    return status
