"""Claims on packs: the right to train them, held by processes on any machine that shares the runs folder.

    <folder>/frozen/000001.json         a log: entry n is the nth execution frozen, after a pack's first step
    <folder>/packs/<id>/claims/000001.json   claim 1; its mtime is its holder's heartbeat
                               000001.end.json   how it ended, where its holder could say so
    <folder>/packs/<id>/staging-000001/  where the files of claim 1 are written before they are renamed

Both logs grow by a hard link to the next free number, which one of all who try gets. The highest claim
holds the pack: a number is a fencing token (Kleppmann, "How to do distributed locking", 2016), and
`durable.Fence` says how the writes carry it. Times are compared on the file system's clock only. What a
pack is, is the plan's business.
"""

import contextlib
import functools
import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmscale import faults
from lmscale.checkpoint import newest_step
from lmscale.claim import (
    Claim,
    PastClaim,
    claim_path,
    end_path,
    fence_off,
    in_vain,
    is_dead,
    past_claims,
    read_claim,
    staging_of,
    this_process,
)
from lmscale.durable import create, explained, make_folder
from lmscale.jsonfiles import canonical

LEASE = 60.0  # seconds without a heartbeat after which a claim may be taken over
MAX_TRIES = 3  # failures in a row, without a newer checkpoint between them, before a pack is parked
MAX_DEATHS = 10  # the same for ends without a word (kill, power, out of memory), mostly not the pack's fault
_PACK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class PackStatus:
    """A row of the ledger. `state`: frozen (its claims are gone), running, stale (its holder went silent),
    released, failed (to be tried again), parked (it failed too often) or finished."""

    pack_id: str
    state: str
    lanes: tuple[str, ...]
    claims: int = 0
    tries: int = 0
    holder: str | None = None
    age: float | None = None  # seconds since the last heartbeat
    since: str | None = None  # when the last claim was made, by its holder's clock
    reason: str | None = None
    log_tail: str | None = None


class Ledger:
    """The packs of one experiment's folder."""

    def __init__(self, folder: Path, lease: float = LEASE, max_tries: int = MAX_TRIES) -> None:
        self.folder, self.lease, self.max_tries = folder, lease, max_tries
        self._log: list[dict[str, Any]] = []
        self._seen: dict[
            Path, tuple[float, float]
        ] = {}  # a late claim's last heartbeat, and when we saw it first

    def frozen(self) -> list[dict[str, Any]]:
        """Return [{"pack_id", "execution"}] in the order in which first steps froze them. A plan keeps to these."""
        entries: dict[str, dict[str, Any]] = {}
        for entry in self._read_log():
            if "thawed" in entry:
                entries.pop(entry["thawed"], None)
            else:
                entries[entry["pack_id"]] = {name: entry[name] for name in ("pack_id", "execution")}
        return list(entries.values())

    def thawed(self) -> set[str]:
        """Return the ids of the packs whose executions were given up."""
        return {entry["thawed"] for entry in self._read_log() if "thawed" in entry}

    def claim(
        self,
        pack_id: str,
        execution: Mapping[str, Any],
        reopen: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> Claim | None:
        """Claim a pack. execution["lanes"] are its run ids; it is frozen when the claim says so, not yet. about:
        what the claim's file is to tell of its holder besides.

        None where it is held by a live process, parked, finished (all its runs having an outcome.json), or
        where one of its runs is frozen in another pack. `reopen`: a finished pack too: the caller knows of
        work it lacks, such as a new horizon of a trunk. Raises DiskError.
        """
        if not _PACK_ID.fullmatch(pack_id):
            raise ValueError(f"pack id {pack_id!r}: letters, digits, _ . - only")
        frozen = self._execution(pack_id, json.loads(canonical(execution)))
        if frozen is None:
            return None
        folder = self._pack(pack_id)
        make_folder(folder / "claims")
        past = past_claims(folder)
        if past and self._is_late(folder, past[-1]):
            time.sleep(self.lease / 3)
            past = past_claims(folder)
        state = self._state(past, frozen["lanes"], folder)
        if state in ("running", "parked") or (state == "finished" and not reopen):
            return None
        number = past[-1].number + 1 if past else 1
        content = {**self._content(folder, frozen["lanes"]), "about": about}
        try:
            create(claim_path(folder, number), [canonical(content).encode()], kind="claim")
        except FileExistsError:
            return None
        faults.point("claim.taken")
        with explained(folder):
            fence_off(folder, number)
            staging_of(folder, number).mkdir()
        tries = in_vain(past, content["from_step"], "failed")
        freeze = functools.partial(self._freeze, pack_id)
        is_frozen = any(entry["pack_id"] == pack_id for entry in self.frozen())
        claim = Claim(pack_id, number, frozen, folder, tries, self.max_tries, self.lease, freeze, is_frozen)
        threading.Thread(target=claim._keep_alive, name=f"heartbeat {pack_id}", daemon=True).start()
        return claim

    def retry(self, pack_id: str) -> None:
        """Let a pack be tried again: its failures so far no longer count."""
        folder = self._pack(pack_id)
        past = past_claims(folder)
        if past and self._state(past, [], folder) not in ("running", "finished"):
            number = past[-1].number + 1
            content = self._content(folder, past[-1].lanes)
            create(claim_path(folder, number), [canonical(content).encode()], kind="claim")
            create(end_path(folder, number), [canonical({"end": "retry"}).encode()], kind="claim")

    def excuse(self, pack_id: str, reason: str) -> None:
        """Say of claims whose holders died without a word that it was not the pack's fault."""
        folder = self._pack(pack_id)
        for claim in past_claims(folder):
            if claim.end is None and is_dead(claim.holder):
                end = {"end": "released", "reason": reason}
                with contextlib.suppress(FileExistsError):
                    create(end_path(folder, claim.number), [canonical(end).encode()], kind="claim")

    def thaw(self, pack_id: str) -> None:
        """Forget a pack's execution, which cannot be had any more: its runs are free to be packed anew."""
        while any(entry["pack_id"] == pack_id for entry in self.frozen()):
            self._append({"thawed": pack_id})

    def status(self) -> list[PackStatus]:
        """Return a row for each pack that was ever claimed or frozen: the frozen ones first, in that order."""
        lanes: dict[str, tuple[str, ...] | None] = {
            entry["pack_id"]: tuple(entry["execution"]["lanes"]) for entry in self.frozen()
        }
        for claims in sorted(self.folder.glob("packs/*/claims")):
            lanes.setdefault(claims.parent.name, None)
        return [self._row(pack_id, its) for pack_id, its in lanes.items()]

    def _row(self, pack_id: str, lanes: tuple[str, ...] | None) -> PackStatus:
        """lanes: as frozen; None where it is not, and its claims say them."""
        folder = self._pack(pack_id)
        past = past_claims(folder)
        lanes = lanes if lanes is not None else past[-1].lanes if past else ()
        state = self._state(past, list(lanes), folder)
        if not past:
            return PackStatus(pack_id, state, lanes)
        last = past[-1]
        end = last.end or {}
        return PackStatus(
            pack_id,
            state,
            lanes,
            claims=last.number,
            tries=in_vain(past, newest_step(folder), "failed"),
            holder=f"{last.holder.get('host')}:{last.holder.get('pid')}",
            age=self._age(folder, last),
            since=last.at,
            reason=end.get("reason"),
            log_tail=end.get("log_tail"),
        )

    def _content(self, folder: Path, lanes: Sequence[str]) -> dict[str, Any]:
        """The content of a claim's file."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        step = newest_step(folder)
        return {"holder": this_process(), "lanes": list(lanes), "from_step": step, "at": at}

    def _pack(self, pack_id: str) -> Path:
        return self.folder / "packs" / pack_id

    def _state(self, past: list[PastClaim], lanes: list[str], folder: Path) -> str:
        if not past:
            return "frozen"
        last, step = past[-1], newest_step(folder)
        end = last.end["end"] if last.end else None
        if end == "finished":
            # a run folder that somebody deleted is made again
            whole = all((self.folder / lane / "outcome.json").exists() for lane in lanes)
            return "finished" if whole else "released"
        if end in ("released", "retry"):
            return "released"
        if end is None and not is_dead(last.holder) and not self._is_silent(folder, last):
            return "running"
        if in_vain(past, step, "failed") >= self.max_tries or in_vain(past, step, None) >= MAX_DEATHS:
            return "parked"
        if lanes and all((self.folder / lane / "outcome.json").exists() for lane in lanes):
            return "finished"  # it was killed before it could say so
        return "failed" if end else "stale"

    def _is_silent(self, folder: Path, claim: PastClaim) -> bool:
        """Say if a holder has given no sign of life for a lease.

        Where machines write times by their own clocks (Lustre), one that is behind looks silent. So a late
        heartbeat is also watched, by our clock alone, for as long as two take. No clock explains ten leases.
        """
        age = self._age(folder, claim)
        if not self.lease <= age < 10 * self.lease:
            return age >= self.lease
        path, now = claim_path(folder, claim.number), time.monotonic()
        beat, since = self._seen.get(path, (None, now))
        if beat != claim.beat:
            self._seen[path] = (claim.beat, now)
            return False
        return now - since >= self.lease / 3

    def _is_late(self, folder: Path, claim: PastClaim) -> bool:
        """Say if a claim would be taken over but for the watch that `_is_silent` keeps."""
        late = claim.end is None and not is_dead(claim.holder) and self._age(folder, claim) >= self.lease
        return late and not self._is_silent(folder, claim)

    def _age(self, folder: Path, claim: PastClaim) -> float:
        """Seconds since a claim's last heartbeat.

        One from the future says that a clock was wrong. It is dated now: if its holder lives, the next heartbeat
        dates it again, and if not, its lease begins here and ends.
        """
        now = self._now(folder)
        if claim.beat > now + 1:
            with contextlib.suppress(OSError):
                os.utime(claim_path(folder, claim.number), (now, now))
            return 0.0
        return now - claim.beat

    def _now(self, folder: Path) -> float:
        """The file system's clock: local clocks differ from machine to machine, and jump."""
        probe = folder / "claims" / ".now"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # somebody may look at a folder that cannot be written, and so not claimed
            return time.time()

    def _read_log(self) -> list[dict[str, Any]]:
        """The log of frozen executions; entries never change, so only new ones are read."""
        with explained(
            self.folder / "frozen", "read"
        ):  # a folder that may not be looked into is no empty one
            while (path := self._log_path(len(self._log) + 1)).exists():
                self._log.append(read_claim(path))
        return self._log

    def _log_path(self, number: int) -> Path:
        return self.folder / "frozen" / f"{number:06d}.json"

    def _execution(self, pack_id: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """The execution of a pack: as frozen, else as asked; None where another pack has one of its runs."""
        for entry in self.frozen():
            if entry["pack_id"] == pack_id:
                return entry["execution"]
            if not set(entry["execution"]["lanes"]).isdisjoint(asked["lanes"]):
                return None
        return asked

    def _freeze(self, pack_id: str, execution: dict[str, Any]) -> bool:
        """Freeze a pack's execution if it is not; False where another pack has one of its runs, or where the pack
        was frozen with another execution meanwhile.

        Every entry of the log is appended with all before it seen, so two plans cannot both have a run.
        """
        make_folder(self.folder / "frozen")
        while (stands := self._execution(pack_id, execution)) is not None:
            if any(entry["pack_id"] == pack_id for entry in self.frozen()):
                return stands == execution
            at = datetime.now(UTC).isoformat(timespec="milliseconds")  # a forecast of a run must be older
            self._append({"pack_id": pack_id, "execution": execution, "frozen_at": at})
        return False

    def _append(self, entry: dict[str, Any]) -> bool:
        """Add an entry to the log; False where another process has added one that was not seen."""
        try:
            create(self._log_path(len(self._log) + 1), [canonical(entry).encode()], kind="freeze")
        except FileExistsError:
            return False
        return True
