"""Who trains what: claims on packs, held by processes on any machine that shares the runs folder.

    <folder>/frozen/000001.json         a log: entry n is the nth execution frozen by a first claim
    <folder>/packs/<id>/claims/000001.json   claim 1; its mtime is its holder's heartbeat
                               000001.end.json   how it ended, where its holder could say so
    <folder>/packs/<id>/staging-000001/  where the files of claim 1 are written before they are renamed

Both logs grow by a hard link to the next free number, which one of all who try gets. The highest claim
holds the pack: a number is a fencing token (Kleppmann, "How to do distributed locking", 2016), and
`files.Fence` says how the writes carry it. Times are compared on the file system's clock only. What a
pack is, is the plan's business.
"""

import json
import os
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmscale import faults
from lmscale.checkpoint import newest_step
from lmscale.errors import UserError
from lmscale.files import create, explained, make_folder
from lmscale.records import canonical

LEASE = 60.0  # seconds without a heartbeat after which a claim may be taken over
MAX_TRIES = 3  # failures in a row, without a newer checkpoint between them, before a pack is parked
MAX_DEATHS = 10  # the same for ends without a word (kill, power, out of memory), mostly not the pack's fault
_PACK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_CLAIM = re.compile(r"(\d{6})\.json")


class LostClaim(Exception):
    """Another process has taken this pack over, or its folder is gone: stop, write nothing more."""


@dataclass(frozen=True)
class PackStatus:
    """A row of the ledger. `state`: frozen (never claimed), running, stale (its holder went silent),
    released, failed (to be tried again), parked (it failed too often) or finished."""

    pack_id: str
    state: str
    lanes: tuple[str, ...]
    claims: int = 0
    tries: int = 0
    holder: str | None = None
    age: float | None = None  # seconds since the last heartbeat
    reason: str | None = None
    log_tail: str | None = None


@dataclass(frozen=True)
class _Past:
    """A claim as its files tell it."""

    number: int
    holder: dict[str, Any]
    from_step: int
    end: dict[str, Any] | None
    beat: float  # the mtime: its last heartbeat


@dataclass
class Claim:
    """The right to train one pack: a `files.Fence`. A thread keeps its heartbeat until it ends."""

    pack_id: str
    number: int
    execution: dict[str, Any]  # as frozen, whatever was asked for
    folder: Path  # packs/<id>, for the checkpoints
    tries: int  # failures in a row before this claim
    max_tries: int
    lease: float
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def staging(self) -> Path:
        return _staging(self.folder, self.number)

    def check(self) -> None:
        """Raise LostClaim if a later claim has taken over, or the files of this one are gone."""
        if _claim_path(self.folder, self.number + 1).exists():
            raise LostClaim(f"pack {self.pack_id}: another process took it over (claim {self.number + 1})")
        if not (_claim_path(self.folder, self.number).exists() and self.staging.exists()):
            raise LostClaim(f"pack {self.pack_id}: the folder of its claim is gone: {self.folder}")

    def heartbeat(self) -> None:
        """Say that this process lives. The thread does so as well; raises LostClaim as `check` does."""
        self.check()
        with explained(self.folder):
            os.utime(_claim_path(self.folder, self.number))

    def release(self, reason: str = "interrupted") -> None:
        """Give the pack back, to be gone on with by whoever comes next. Not a try."""
        self._end({"end": "released", "reason": reason})

    def finish(self) -> None:
        """The pack needs no more work."""
        self._end({"end": "finished"})

    def fail(self, reason: str, log_tail: str = "") -> bool:
        """The pack crashed. Returns whether it is parked now: then no claim is given for it any more."""
        self._end({"end": "failed", "reason": reason, "log_tail": log_tail})
        return _in_vain(_past(self.folder), newest_step(self.folder), "failed") >= self.max_tries

    def _end(self, end: dict[str, Any]) -> None:
        self._ended.set()
        self.check()
        create(_end_path(self.folder, self.number), [canonical(end).encode()], self, kind="claim")
        shutil.rmtree(self.staging, ignore_errors=True)

    def _keep_alive(self) -> None:
        while not self._ended.wait(self.lease / 6):
            try:
                self.heartbeat()
            except LostClaim:  # the loop hears of it at its next check
                return
            except UserError:  # a disk may come back before the lease ends
                continue


class Ledger:
    """The packs of one experiment's folder."""

    def __init__(self, folder: Path, lease: float = LEASE, max_tries: int = MAX_TRIES) -> None:
        self.folder, self.lease, self.max_tries = folder, lease, max_tries
        self._log: list[dict[str, Any]] = []

    def frozen(self) -> list[dict[str, Any]]:
        """[{"pack_id", "execution"}], in the order in which first claims froze them. A plan keeps to
        these."""
        entries: dict[str, dict[str, Any]] = {}
        for entry in self._read_log():
            if "thawed" in entry:
                entries.pop(entry["thawed"], None)
            else:
                entries[entry["pack_id"]] = entry
        return list(entries.values())

    def claim(self, pack_id: str, execution: Mapping[str, Any], reopen: bool = False) -> Claim | None:
        """Claim a pack, and freeze its execution if this is the first claim. execution["lanes"] are its
        run ids.

        None where it is held by a live process, parked, finished (all its runs having an outcome.json), or
        where one of its runs is frozen in another pack. `reopen`: a finished pack too: the caller knows of
        work it lacks, such as a new horizon of a trunk. Raises DiskError.
        """
        if not _PACK_ID.fullmatch(pack_id):
            raise ValueError(f"pack id {pack_id!r}: letters, digits, _ . - only")
        frozen = self._freeze(pack_id, json.loads(canonical(execution)))
        if frozen is None:
            return None
        folder = self._pack(pack_id)
        make_folder(folder / "claims")
        past = _past(folder)
        state = self._state(past, frozen["lanes"], folder)
        if state in ("running", "parked") or (state == "finished" and not reopen):
            return None
        number = past[-1].number + 1 if past else 1
        content: dict[str, Any] = {"holder": _identity(), "from_step": newest_step(folder)}
        try:
            create(_claim_path(folder, number), [canonical(content).encode()], kind="claim")
        except FileExistsError:
            return None
        faults.point("claim.taken")
        with explained(folder):
            _fence_off(folder, number)
            _staging(folder, number).mkdir()
        tries = _in_vain(past, content["from_step"], "failed")
        claim = Claim(pack_id, number, frozen, folder, tries, self.max_tries, self.lease)
        threading.Thread(target=claim._keep_alive, name=f"heartbeat {pack_id}", daemon=True).start()
        return claim

    def retry(self, pack_id: str) -> None:
        """Let a pack be tried again: its failures so far no longer count."""
        folder = self._pack(pack_id)
        past = _past(folder)
        if past and self._state(past, [], folder) not in ("running", "finished"):
            number = past[-1].number + 1
            content = {"holder": _identity(), "from_step": newest_step(folder)}
            create(_claim_path(folder, number), [canonical(content).encode()], kind="claim")
            create(_end_path(folder, number), [canonical({"end": "retry"}).encode()], kind="claim")

    def thaw(self, pack_id: str) -> None:
        """Forget a pack's execution, which can no more be had: its runs are free to be packed anew."""
        while any(entry["pack_id"] == pack_id for entry in self.frozen()):
            self._append({"thawed": pack_id})

    def status(self) -> list[PackStatus]:
        """A row a frozen pack, in the order of their freezing."""
        return [self._row(entry["pack_id"], tuple(entry["execution"]["lanes"])) for entry in self.frozen()]

    def _row(self, pack_id: str, lanes: tuple[str, ...]) -> PackStatus:
        folder = self._pack(pack_id)
        past = _past(folder)
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
            tries=_in_vain(past, newest_step(folder), "failed"),
            holder=f"{last.holder.get('host')}:{last.holder.get('pid')}",
            age=self._now(folder) - last.beat,
            reason=end.get("reason"),
            log_tail=end.get("log_tail"),
        )

    def _pack(self, pack_id: str) -> Path:
        return self.folder / "packs" / pack_id

    def _state(self, past: list[_Past], lanes: list[str], folder: Path) -> str:
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
        if end is None and not _is_dead(last.holder) and self._now(folder) - last.beat < self.lease:
            return "running"
        if _in_vain(past, step, "failed") >= self.max_tries or _in_vain(past, step, None) >= MAX_DEATHS:
            return "parked"
        if lanes and all((self.folder / lane / "outcome.json").exists() for lane in lanes):
            return "finished"  # it was killed before it could say so
        return "failed" if end else "stale"

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
        while (path := self._log_path(len(self._log) + 1)).exists():
            self._log.append(_read(path))
        return self._log

    def _log_path(self, number: int) -> Path:
        return self.folder / "frozen" / f"{number:06d}.json"

    def _freeze(self, pack_id: str, execution: dict[str, Any]) -> dict[str, Any] | None:
        """The execution of a pack, frozen now if it was not; None where another pack has one of its runs.

        Every entry of the log is appended with all before it seen, so two plans cannot both have a run.
        """
        make_folder(self.folder / "frozen")
        while True:
            for entry in self.frozen():
                if entry["pack_id"] == pack_id:
                    return entry["execution"]
                if not set(entry["execution"]["lanes"]).isdisjoint(execution["lanes"]):
                    return None
            if self._append({"pack_id": pack_id, "execution": execution}):
                return execution

    def _append(self, entry: dict[str, Any]) -> bool:
        """Add an entry to the log; False where another process has added one that was not seen."""
        try:
            create(self._log_path(len(self._log) + 1), [canonical(entry).encode()], kind="freeze")
        except FileExistsError:
            return False
        return True


def _claim_path(folder: Path, number: int) -> Path:
    return folder / "claims" / f"{number:06d}.json"


def _end_path(folder: Path, number: int) -> Path:
    return folder / "claims" / f"{number:06d}.end.json"


def _staging(folder: Path, number: int) -> Path:
    return folder / f"staging-{number:06d}"


def _fence_off(folder: Path, number: int) -> None:
    """Take the staging folders of earlier claims away: a rename, so that no write can be half in time."""
    for old in sorted(folder.glob("staging-*")):
        if old.name < _staging(folder, number).name:
            away = folder / f".away-{secrets.token_hex(6)}"
            old.rename(away)
    for away in folder.glob(".away-*"):
        shutil.rmtree(away, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    with explained(path, "read"):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: not JSON; move it away, and what it was for is planned again")
    return value


def _past(folder: Path) -> list[_Past]:
    """The claims on a pack, oldest first."""
    claims = folder / "claims"
    found = []
    for path in sorted(claims.iterdir()) if claims.is_dir() else ():
        match = _CLAIM.fullmatch(path.name)
        if match:
            number = int(match[1])
            content, end = _read(path), _end_path(folder, number)
            ended = _read(end) if end.exists() else None
            found.append(_Past(number, content["holder"], content["from_step"], ended, path.stat().st_mtime))
    return found


def _in_vain(past: list[_Past], step: int, end: str | None) -> int:
    """How many of the last claims, all from the checkpoint of `step`, ended like this (None: without a
    word)."""
    count = 0
    for claim in reversed(past):
        how = claim.end["end"] if claim.end else None
        if how == "retry" or claim.from_step != step:
            break
        count += how == end
    return count


def _identity() -> dict[str, Any]:
    """Who holds a claim. Processes can be told dead only from the same boot and process namespace."""
    place = None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        pass  # not Linux: the lease alone decides
    return {"host": socket.gethostname(), "pid": os.getpid(), "place": place, "began": _began(os.getpid())}


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: a pid alone may have been given again. None if it is
    not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder is known to be dead (a living or an unknown one has its lease)."""
    here = _identity()
    if holder.get("place") is None or holder["place"] != here["place"]:
        return False
    return _began(holder["pid"]) != holder["began"]
