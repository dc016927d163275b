"""A hidden folder to build a corpus in, which is put in place whole; those that dead processes left are removed."""

import contextlib
import fcntl
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

LOCK = "lock"  # held by the process that builds, for as long as it lives
UNLOCKED = 3600.0  # seconds without a write after which a folder without a lock counts as left behind


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder` for the body to fill and to rename; what is left of it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        building = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")  # others may scan as well
        building.mkdir()
        with (building / LOCK).open("w") as lock:
            if _locked(lock) is False or not (building / LOCK).exists():
                continue  # another process took it for left behind before it was locked, and removes it
            try:
                yield building
            finally:
                shutil.rmtree(building, ignore_errors=True)
            return


def put_in_place(building: Path, folder: Path) -> None:
    """Rename what was built to `folder`."""
    (building / LOCK).unlink()
    building.rename(folder)


def remove_abandoned(corpora: Path) -> None:
    """Remove the staging folders, and files, of processes that were killed. What a living one builds stays."""
    with contextlib.suppress(OSError):  # a folder of somebody else's, or just gone
        for building in corpora.glob(".text-*"):
            if building.is_dir() and _is_abandoned(building):
                shutil.rmtree(building, ignore_errors=True)
        for pattern in (".*.tmp", "text-*/.*.tmp"):
            for file in corpora.glob(pattern):
                if time.time() - file.stat().st_mtime > UNLOCKED:
                    file.unlink()


def _locked(stream: TextIO) -> bool | None:
    """Take the lock: False where a living process has it, None on a file system that has no locks."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if isinstance(error, BlockingIOError) else None
    return True


def _is_abandoned(building: Path) -> bool:
    lock = building / LOCK
    if lock.exists():
        with lock.open("r+") as stream:
            free = _locked(stream)
        if free is not None:
            return free
    newest = max(path.stat().st_mtime for path in (building, *building.iterdir()))
    return time.time() - newest > UNLOCKED
