"""Files that are there whole or not at all: write, fsync, rename, fsync the folder. What the disk refuses
becomes one sentence. Fences (below) keep a process that lost its claim from writing; `ledger` makes them.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from lmscale import faults
from lmscale.errors import UserError


class Fence(Protocol):
    """The right to write, which another process may take over at any moment.

    A rename takes its source from `staging`, a folder that a takeover renames away before it reads anything:
    so the rename of a process that was only paused fails, however long it slept after its last `check`.
    """

    @property
    def staging(self) -> Path: ...

    def check(self) -> None:
        """Raise LostClaim where the right is gone."""


class DiskError(UserError):
    """The disk refused: what, where, and what to do. Nothing that was whole before is touched."""

    def __init__(self, message: str, number: int | None = None) -> None:  # a default, for workers pickle it
        super().__init__(message)
        self.errno = number

    @property
    def is_everywhere(self) -> bool:
        """Say if the next write would meet it too: then going on with other runs is of no use."""
        return self.errno in _EVERYWHERE


_EVERYWHERE = (
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EMFILE,
    errno.ENFILE,
)
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, then start again; it goes on where it was",
    errno.EDQUOT: "the quota is used up: free some space, then start again; it goes on where it was",
    errno.EFBIG: "the file may not grow further: raise the limit (ulimit -f), then start again",
    errno.EROFS: "the file system is read-only: choose another folder, or mount it for writing",
    errno.EACCES: "no permission: choose another folder, or make this one writable",
    errno.EPERM: "not permitted: choose another folder (one on a file system with hard links)",
    errno.ENOTSUP: "choose a folder on a file system with hard links (not an object store, not FAT)",
    errno.ENOSYS: "choose a folder on a file system with hard links (not an object store, not FAT)",
    errno.ESTALE: "a file server has forgotten it (was it served anew?): start again; it goes on where it was",
    errno.ENOENT: "its folder is gone (deleted meanwhile?): start again and it is made anew",
    errno.ENOTDIR: "a file stands where a folder should be: move it away",
    errno.EISDIR: "a folder stands where a file should be: move it away",
    errno.EMFILE: "too few open files are allowed: raise the limit (ulimit -n 1024), then start again",
    errno.ENFILE: "the machine has too many files open: end some of its processes, then start again",
    errno.ENAMETOOLONG: "a name is too long for this file system: choose a shorter one",
    errno.ENOMEM: "no memory: free some, or raise the limit (ulimit -v), then start again",
    errno.EAGAIN: "too many processes or threads: end some, or raise the limit (ulimit -u), then start again",
    errno.EIO: "the disk fails (input/output error): look at the machine before going on",
}


def disk_error(error: OSError, path: Path, doing: str = "write") -> DiskError:
    """Make the sentence for an OSError met at `path`."""
    what = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "see the system's message")
    return DiskError(f"cannot {doing} {path}: {what}; {remedy}", error.errno)


@contextlib.contextmanager
def explained(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError of the body into a DiskError about `path`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path, doing) from error


def sha256_of(path: Path) -> str:
    """Hash a file, 64 hex digits; DiskError where it cannot be read."""
    with explained(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """Make a folder and its parents."""
    with explained(path, "make the folder"):
        path.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk: without it a rename may be forgotten when power fails."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however many writes that takes."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _written(
    path: Path, chunks: Iterable[bytes | memoryview], fence: Fence | None, kind: str
) -> Iterator[Path]:
    """A synced temporary file with the content; gone afterwards if the body has not renamed it."""
    folder = fence.staging if fence else path.parent
    # random, for the same pid may be at work on another machine
    temporary = folder / f".{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
                faults.point(f"{kind}.writing")
            faults.point(f"{kind}.written")
            os.fsync(fd)
        finally:
            os.close(fd)
        faults.point(f"{kind}.synced")
        if fence:
            fence.check()
            faults.point(f"{kind}.checked")
        yield temporary
        faults.point(f"{kind}.renamed")
        sync_folder(path.parent)
        faults.point(f"{kind}.kept")
    except OSError as error:
        if fence and error.errno in (errno.ENOENT, errno.ESTALE):
            fence.check()  # the staging folder went because the claim did
        if isinstance(error, FileExistsError):
            raise
        raise disk_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def _answered_twice(path: Path, temporary: Path, fence: Fence | None) -> Iterator[None]:
    """Pass over an error about what has been done. A server whose answer was lost is asked again, and says that
    the name is taken or the source gone: our file stands there then (open(2) has this of NFS, under O_EXCL)."""
    mine = temporary.stat()
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        if fence:
            fence.check()
        if not path.exists() or not os.path.samestat(mine, path.stat()):
            raise


def replace(
    path: Path, chunks: Iterable[bytes | memoryview], fence: Fence | None = None, kind: str = "file"
) -> None:
    """Put a file with this content at `path`, in place of what is there, whole or not at all.

    Faults may be asked for at `kind`.writing, .written, .synced, .checked, .renamed and .kept.
    Raises DiskError, and LostClaim where the fence says so.
    """
    with _written(path, chunks, fence, kind) as temporary, _answered_twice(path, temporary, fence):
        temporary.replace(path)


def create(
    path: Path, chunks: Iterable[bytes | memoryview], fence: Fence | None = None, kind: str = "create"
) -> None:
    """Put a file with this content at `path` where none is. Of all who try, on any machine that shares the
    folder, one succeeds; the others get FileExistsError (a hard link, so the content is whole at once).
    """
    with _written(path, chunks, fence, kind) as temporary, _answered_twice(path, temporary, fence):
        os.link(temporary, path)


def check_links(folder: Path) -> None:
    """Raise DiskError where this folder cannot hold a ledger: where there are no hard links from one folder to
    another, or where one to a name that is taken does not fail."""
    make_folder(folder)
    with (
        explained(folder, "link files in"),
        tempfile.TemporaryDirectory(prefix=".links-", dir=folder) as name,
    ):
        source, target = Path(name) / "file", Path(name) / "other" / "file"
        target.parent.mkdir()
        source.touch()
        os.link(source, target)
        with contextlib.suppress(FileExistsError):
            os.link(source, target)
            raise OSError(errno.ENOTSUP, "a hard link has replaced a file")
