"""Signals that the parent ignored, workers whose parent dies, terminals that go away."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import ROOT, TINY

from lmscale.ledger import Ledger

pytestmark = pytest.mark.alone

ASK = """
import os, signal, sys, time
from lmscale import stopping
stopping.{role}()
print("ready", flush=True)
for name in sys.argv[1:]:
    os.kill(os.getpid(), getattr(signal, name))
time.sleep(0.1)
print(stopping.requested(), flush=True)
"""


def ask(role: str, *names: str, ignored: str = "") -> subprocess.CompletedProcess[str]:
    """A process that leads or follows and sends itself signals, some of which its parent had ignored."""

    trap = f"trap '' {ignored}; " if ignored else ""
    command = ["bash", "-c", f'{trap}exec "$@"', "bash", sys.executable, "-c", ASK.format(role=role), *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("role", ["lead", "follow"])
def test_signals_that_the_parent_ignored_stay_ignored(role: str) -> None:
    """SIGHUP by nohup; SIGINT by a script that leaves a job in the background."""
    ended = ask(role, "SIGHUP", "SIGINT", ignored="SIGHUP SIGINT")
    assert (ended.returncode, ended.stdout) == (0, "ready\nFalse\n"), ended.stderr


def test_signals_that_nobody_ignored_are_heard() -> None:
    assert ask("follow", "SIGHUP", ignored="SIGINT").stdout == "ready\nTrue\n"
    assert "KeyboardInterrupt" in ask("lead", "SIGHUP", ignored="SIGINT").stderr


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), child.pid, flush=True)
time.sleep(60)
"""
CHILD = """
import sys, time
from pathlib import Path
from lmscale import stopping
from lmscale.ledger import Ledger
stopping.follow()
claim = Ledger(Path(sys.argv[1])).claim("p1", {"lanes": ["run-a"]})
claim.begun = sys.argv[2] == "begun"
with stopping.at_work(claim):
    print("ready", flush=True)
    while not (claim.begun and stopping.requested()):
        time.sleep(0.05)
    time.sleep(0.5)  # it saves its state
    claim.release("saved")
time.sleep(60)
"""


def ended_within(pid: int, seconds: float) -> bool:
    """Wait for another process's child; a zombie has ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("at", "reason"), [("begun", "saved"), ("compiling", "the process that started this one has died")]
)
def test_a_worker_ends_soon_after_its_parent_and_gives_its_claim_back(
    tmp_path: Path, at: str, reason: str
) -> None:
    """One that has a state saves it first; one that has none does not wait for its first step."""
    command = [sys.executable, "-c", PARENT, CHILD, str(tmp_path), at]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        word, pid = parent.stdout.readline().split()
        assert word == "ready"
    finally:
        parent.kill()
        parent.communicate()
    assert ended_within(int(pid), 10)
    (row,) = Ledger(tmp_path).status()
    assert (row.state, row.reason) == ("released", reason)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("moment", ["claims", "frozen"])
def test_a_killed_leader_leaves_no_process_behind(tmp_path: Path, corpora: Path, moment: str) -> None:
    """`kill -9` of the leader alone, amid the workers' compilation and amid their training: busy ones, idle ones,
    and one that never had a pack."""
    command = [sys.executable, "-m", "lmscale.launch", *TINY, f"runs={tmp_path}/runs", f"corpora={corpora}"]
    command += ["horizon.tokens=3e6", "hydra.launcher.n_jobs=3"]
    leader = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    try:
        while not list(tmp_path.glob(f"runs/smoke/**/{moment}/*.json")):
            assert leader.poll() is None
            time.sleep(0.05)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(leader.pid)], capture_output=True, text=True
        )
        pids = [int(pid) for pid in children.stdout.split()]
    finally:
        leader.kill()
        leader.communicate()
    assert len(pids) >= 3
    assert all(ended_within(pid, 25) for pid in pids)
    assert {row.state for row in Ledger(tmp_path / "runs" / "smoke").status()} == {"released"}


@pytest.mark.slow
def test_nohup_with_a_closed_terminal_goes_on(tmp_path: Path, corpora: Path) -> None:
    """A session leader with a terminal of its own starts it under nohup and in the background, and is hung up."""
    launch = [sys.executable, "-m", "lmscale.launch", *TINY, f"runs={tmp_path}/runs", f"corpora={corpora}"]
    script = 'nohup "$@" >/dev/null & echo started; sleep 60'
    terminal, ours = os.openpty()
    shell = subprocess.Popen(
        ["bash", "-c", script, "bash", *launch],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdin=ours,
        stdout=ours,
        stderr=ours,
        start_new_session=True,
    )
    os.close(ours)
    while b"started" not in os.read(terminal, 1000):
        pass
    while not list(tmp_path.glob("runs/smoke/packs/*/claims/*.json")):
        time.sleep(0.1)
    group = os.getpgid(shell.pid)
    os.killpg(group, signal.SIGHUP)  # as the kernel does when the terminal is closed
    os.close(terminal)
    shell.wait()
    limit = time.monotonic() + 200
    while (done := len(list(tmp_path.glob("runs/smoke/*/outcome.json")))) < 2 and time.monotonic() < limit:
        time.sleep(0.5)
    assert done == 2
    outcomes = [
        json.loads(path.read_text())["outcome"] for path in tmp_path.glob("runs/smoke/*/outcome.json")
    ]
    assert outcomes == ["done", "done"]
