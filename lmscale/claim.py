"""A claim on a pack: the right to train it, the files that say who has it, and what came of those before.

A claim is a file with a number, whose mtime is its holder's heartbeat; the highest number has the pack, and
every write carries it (`durable.Fence`). Which packs there are, and who may claim one, is the ledger's business.
"""

import json
import os
import re
import secrets
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmscale.checkpoint import newest_step
from lmscale.durable import create, explained
from lmscale.errors import UserError
from lmscale.jsonfiles import canonical

_CLAIM = re.compile(r"(\d{6})\.json")


class LostClaim(Exception):
    """Another process has taken this pack over, or its folder is gone: stop, write nothing more."""


@dataclass(frozen=True)
class PastClaim:
    """A claim as its files tell it."""

    number: int
    holder: dict[str, Any]
    lanes: tuple[str, ...]
    from_step: int
    end: dict[str, Any] | None
    beat: float  # the mtime: its last heartbeat
    at: str | None = None  # when it was made, by its holder's clock; None in older files
    about: dict[str, Any] = field(default_factory=dict)  # what trains it (`provenance`); empty in older files


@dataclass
class Claim:
    """The right to train one pack: a `durable.Fence`. A thread keeps its heartbeat until it ends."""

    pack_id: str
    number: int
    execution: dict[str, Any]  # as frozen, where it is; else as asked for
    folder: Path  # packs/<id>, for the checkpoints
    tries: int  # failures in a row before this claim
    max_tries: int
    lease: float
    _freeze: Callable[[dict[str, Any]], bool]  # False where another pack has one of its runs
    is_frozen: bool = False  # the execution, by an earlier claim
    begun: bool = False  # the first step has run, in this process
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def staging(self) -> Path:
        return staging_of(self.folder, self.number)

    def check(self) -> None:
        """Raise LostClaim if a later claim has taken over, or the files of this one are gone."""
        if claim_path(self.folder, self.number + 1).exists():
            raise LostClaim(f"pack {self.pack_id}: another process took it over (claim {self.number + 1})")
        if not (claim_path(self.folder, self.number).exists() and self.staging.exists()):
            raise LostClaim(f"pack {self.pack_id}: the folder of its claim is gone: {self.folder}")

    def heartbeat(self) -> None:
        """Say that this process lives. The thread does so as well; raises LostClaim as `check` does."""
        self.check()
        with explained(self.folder):
            os.utime(claim_path(self.folder, self.number))

    def freeze(self) -> None:
        """Say that the first step has run: from now on this execution is that of the pack's runs. Before it
        nothing may be written of them. Raises LostClaim where another pack was first."""
        self.check()
        if not self._freeze(self.execution):
            self.release("another pack has one of its runs")
            raise LostClaim(f"pack {self.pack_id}: another pack has begun one of its runs meanwhile")
        self.begun = True

    def release(self, reason: str = "interrupted") -> None:
        """Give the pack back, to be gone on with by whoever comes next. Not a try."""
        self._end({"end": "released", "reason": reason})

    def finish(self) -> None:
        """Say that the pack needs no more work."""
        self._end({"end": "finished"})

    def fail(self, reason: str, log_tail: str = "") -> bool:
        """Say that the pack crashed. Returns True where it is parked now: no claim is given for it any more."""
        self._end({"end": "failed", "reason": reason, "log_tail": log_tail})
        return in_vain(past_claims(self.folder), newest_step(self.folder), "failed") >= self.max_tries

    def _end(self, end: dict[str, Any]) -> None:
        self._ended.set()
        self.check()
        create(end_path(self.folder, self.number), [canonical(end).encode()], self, kind="claim")
        shutil.rmtree(self.staging, ignore_errors=True)

    def _keep_alive(self) -> None:
        while not self._ended.wait(self.lease / 6):
            try:
                self.heartbeat()
            except LostClaim:  # the loop hears of it at its next check
                return
            except UserError:  # a disk may come back before the lease ends
                continue


def claim_path(folder: Path, number: int) -> Path:
    """Return the path of claim `number` on the pack of this folder."""
    return folder / "claims" / f"{number:06d}.json"


def end_path(folder: Path, number: int) -> Path:
    """Return the path of that claim's end, where its holder could say so."""
    return folder / "claims" / f"{number:06d}.end.json"


def staging_of(folder: Path, number: int) -> Path:
    """Return the folder in which its files are written before they are renamed."""
    return folder / f"staging-{number:06d}"


def fence_off(folder: Path, number: int) -> None:
    """Take the staging folders of earlier claims away: a rename, so that no write can be half in time."""
    for old in sorted(folder.glob("staging-*")):
        if old.name < staging_of(folder, number).name:
            away = folder / f".away-{secrets.token_hex(6)}"
            old.rename(away)
    for away in folder.glob(".away-*"):
        shutil.rmtree(away, ignore_errors=True)


def read_claim(path: Path) -> dict[str, Any]:
    """Read a file of the ledger. Raises UserError where it is damaged, DiskError where it cannot be read."""
    with explained(path, "read"):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: not JSON; move it away, and what it was for is planned again")
    return value


def past_claims(folder: Path) -> list[PastClaim]:
    """Read the claims on a pack, oldest first."""
    claims = folder / "claims"
    found = []
    for path in sorted(claims.iterdir()) if claims.is_dir() else ():
        match = _CLAIM.fullmatch(path.name)
        if match:
            number = int(match[1])
            content, end = read_claim(path), end_path(folder, number)
            ended = read_claim(end) if end.exists() else None
            lanes = tuple(content.get("lanes", ()))
            beat = path.stat().st_mtime
            at, about = content.get("at"), content.get("about") or {}
            step = content["from_step"]
            found.append(PastClaim(number, content["holder"], lanes, step, ended, beat, at, about))
    return found


def in_vain(past: list[PastClaim], step: int, end: str | None) -> int:
    """Count the last claims, all from the checkpoint of `step`, that ended like this (None: without a word)."""
    count = 0
    for claim in reversed(past):
        how = claim.end["end"] if claim.end else None
        if how == "retry" or claim.from_step != step:
            break
        count += how == end
    return count


def this_process() -> dict[str, Any]:
    """Describe the holder of a claim. Processes can be told dead only from the same boot and process namespace."""
    place = None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        pass  # not Linux: the lease alone decides
    return {"host": socket.gethostname(), "pid": os.getpid(), "place": place, "began": _began(os.getpid())}


def _began(pid: int) -> str | None:
    """The time at which a process began, in the kernel's ticks: a pid alone may have been given again. None if it
    is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]


def is_dead(holder: dict[str, Any]) -> bool:
    """Say if the holder is known to be dead (a living or an unknown one has its lease)."""
    here = this_process()
    if holder.get("place") is None or holder["place"] != here["place"]:
        return False
    return _began(holder["pid"]) != holder["began"]
