"""What file servers and object stores do that a local disk does not: said in one line, or of no effect."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from lmscale.claim import LostClaim
from lmscale.durable import DiskError, check_links, create, replace
from lmscale.ledger import Ledger

EXECUTION = {"lanes": ["run-a"]}
link, rename = os.link, Path.replace


def done_and_denied(error: int):
    """A server that did what it was asked for, whose answer was lost, and that was asked again."""

    def twice(source: Path, target: Path) -> None:
        (link if error == errno.EEXIST else rename)(source, target)
        raise OSError(error, os.strerror(error))

    return twice


def test_a_claim_whose_link_was_answered_twice_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", done_and_denied(errno.EEXIST))
    claim = Ledger(tmp_path).claim("p1", EXECUTION)
    assert claim is not None and claim.number == 1
    claim.freeze()
    assert [entry["pack_id"] for entry in Ledger(tmp_path).frozen()] == ["p1"]
    claim.finish()


def test_another_s_claim_is_not_ours(tmp_path: Path) -> None:
    create(tmp_path / "name", [b"the same"])
    with pytest.raises(FileExistsError):
        create(tmp_path / "name", [b"the same"])


def test_a_rename_that_was_answered_twice_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Ledger(tmp_path).claim("p1", EXECUTION)
    monkeypatch.setattr(Path, "replace", done_and_denied(errno.ENOENT))
    replace(tmp_path / "file", [b"content"], claim)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_rename_without_a_source_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Ledger(tmp_path).claim("p1", EXECUTION)
    (tmp_path / "file").write_bytes(b"old")

    def gone(source: Path, target: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(Path, "replace", gone)
    with pytest.raises(DiskError, match="gone"):
        replace(tmp_path / "file", [b"content"], claim)


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ESTALE])
def test_a_staging_folder_that_a_server_forgot_is_a_lost_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """After a takeover by another machine its handle is stale (NFS), or the path is gone."""
    claim = Ledger(tmp_path).claim("p1", EXECUTION)
    shutil.rmtree(claim.staging)

    def refused(*arguments, **options) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(LostClaim):
        replace(tmp_path / "file", [b"content"], claim)


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """FAT says EPERM, SMB and gcsfuse ENOTSUP, some FUSE file systems ENOSYS."""

    def refused(source: Path, target: Path) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refused)
    for attempt in (lambda: check_links(tmp_path / "runs"), lambda: Ledger(tmp_path).claim("p1", EXECUTION)):
        with pytest.raises(DiskError, match="file system with hard links") as raised:
            attempt()
        assert raised.value.is_everywhere and "\n" not in str(raised.value)
    assert not list((tmp_path / "runs").iterdir())


def test_a_hard_link_that_is_a_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would then get one claim."""
    monkeypatch.setattr(os, "link", shutil.copyfile)
    with pytest.raises(DiskError, match="has replaced a file"):
        check_links(tmp_path)
    monkeypatch.undo()
    check_links(tmp_path)
    assert not list(tmp_path.iterdir())
