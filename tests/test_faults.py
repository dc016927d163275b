"""Kills, full disks at each point of each write: started again, a loop ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import without_clock

from lmscale import faults

TOY = Path(__file__).with_name("toy_loop.py")
CHECKPOINT = [f"checkpoint.{at}" for at in ("writing", "written", "synced", "checked", "renamed", "kept")]
RECORD = ["record.checked", "record.half", "record.appended"]
JSON = [f"json.{at}" for at in ("written", "synced", "renamed", "kept")]
TRUNCATE = ["truncate.written", "truncate.synced", "truncate.renamed"]
LEDGER = ["freeze.written", "freeze.synced", "freeze.renamed", "claim.synced", "claim.renamed", "claim.taken"]


def start(folder: Path, fault: str = "", **environment: str) -> subprocess.Popen:
    variables = os.environ | {faults.VARIABLE: fault, "PYTHONPATH": str(TOY.parents[1])} | environment
    command = [sys.executable, str(TOY), str(folder)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder: Path, fault: str = "", **environment: str) -> subprocess.CompletedProcess:
    process = start(folder, fault, **environment)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def content(folder: Path) -> dict[str, bytes]:
    """What must not depend on how often the loop was killed: all but the ledger's own notes, and the
    temporary files of processes killed outside a claim."""
    return {
        str(path.relative_to(folder)): without_clock(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "claims" not in path.parts and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("unkilled")
    assert run(folder).returncode == 0
    expected = content(folder)
    assert {"run-a/records.jsonl", "run-b/outcome.json", "frozen/000001.json"} < set(expected)
    return expected


@pytest.mark.parametrize("point", CHECKPOINT + RECORD + JSON + TRUNCATE + LEDGER)
def test_a_kill_at_each_point_of_each_write_changes_nothing(
    tmp_path: Path, unkilled: dict[str, bytes], point: str
) -> None:
    """SIGKILL at the first and at a later passing of the point, then to the end."""
    later = {"checkpoint": 4, "record": 9, "json": 3, "truncate": 2, "claim": 2}.get(point.partition(".")[0])
    for nth in filter(None, (1, later if point != "claim.taken" else None)):
        run(tmp_path, f"{point}:{nth}=kill")
    first = run(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert content(tmp_path) == unkilled


@pytest.mark.parametrize("point", ["checkpoint.written", "record.half", "json.written", "truncate.written"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_what_the_disk_refuses_is_one_line_and_nothing_is_lost(
    tmp_path: Path, unkilled: dict[str, bytes], point: str, error: str
) -> None:
    refused = run(tmp_path, f"{point}:2={error}")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("cannot write /") and ";" in refused.stderr
    assert run(tmp_path).returncode == 0
    assert content(tmp_path) == unkilled


def test_a_real_file_size_limit(tmp_path: Path, unkilled: dict[str, bytes]) -> None:
    """A write that is cut short by the system itself, in a checkpoint and in a record."""
    for limit in ("20000", "150"):
        refused = run(tmp_path, FILE_LIMIT=limit)
        assert (
            refused.returncode == 2 and "File too large" in refused.stderr and "ulimit -f" in refused.stderr
        )
    assert run(tmp_path).returncode == 0
    assert content(tmp_path) == unkilled


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o555)
    as_user = {"AS_USER": "65534"} if os.geteuid() == 0 else {}  # root may write anywhere
    for parent in (tmp_path, *(p for p in tmp_path.parents if p.name.startswith(("pytest-", "popen-")))):
        parent.chmod(0o755)
    refused = run(folder, **as_user)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "Permission denied" in refused.stderr and str(folder) in refused.stderr
    assert list(folder.iterdir()) == []


def kill_at_random(folder: Path, kills: int, seed: int) -> None:
    """Start the loop and kill it at a random moment, `kills` times."""
    rng = random.Random(seed)
    for _ in range(kills):
        process = start(folder)
        time.sleep(rng.uniform(0.12, 0.45))
        process.kill()
        process.communicate()


PAUSES = [
    "record.checked:5",
    "record.half:7",
    "checkpoint.written:2",
    "checkpoint.checked:3",
    "json.checked:3",
]


@pytest.mark.parametrize("point", PAUSES)
def test_a_process_that_was_only_paused_writes_nothing_more(
    tmp_path: Path, unkilled: dict[str, bytes], point: str
) -> None:
    """SIGSTOP inside a write, a takeover after the lease, SIGCONT: the write that was begun has no effect."""
    late = start(tmp_path, f"{point}=stop", LEASE="0.4")
    try:
        os.waitid(os.P_PID, late.pid, os.WSTOPPED)
        assert run(tmp_path).returncode == 0  # by a lease of a minute it is held
        assert not (tmp_path / "run-b" / "outcome.json").exists()
        time.sleep(0.5)
        second = run(tmp_path, LEASE="0.4")
        assert (second.returncode, second.stderr) == (0, "")
        assert content(tmp_path) == unkilled
        late.send_signal(signal.SIGCONT)
        _, said = late.communicate(timeout=30)
    finally:
        late.kill()
        late.communicate()
    assert late.returncode == 3 and "another process took it over (claim 2)" in said
    assert content(tmp_path) == unkilled


def test_kills_at_random_moments_change_nothing(tmp_path: Path, unkilled: dict[str, bytes]) -> None:
    kill_at_random(tmp_path, 8, seed=1)
    assert run(tmp_path).returncode == 0
    assert content(tmp_path) == unkilled


@pytest.mark.parametrize("text", ["nowhere", "a=b", "a:x=kill", "a=kill,b"])
def test_a_fault_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        faults.parse(text)


def test_faults_are_off_unless_asked_for() -> None:
    assert faults._plan is None
    faults.point("anything")
