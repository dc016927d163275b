"""A sweep on two SLURM nodes of this machine, with faults: does it end with the science of one process?

    python -m benchmarks.cluster [FAULTS]      20 unless said; then two leaders on one folder, and the time of a wave

A fault strikes `smoke` at a random moment of a random pack; the leader is started again where it ended before all was
trained. The science: the spec, records, items and outcome of every run, and the pinned states, byte for byte, as one
process trains them (hydra/launcher=basic). JSON: benchmarks/results/cluster.json.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.slurm_nodes import ACCOUNT, NODES, PARTITION, Cluster, nodes, wait
from lmscale.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ("experiment=smoke", "pack.checkpoint_seconds=0.5", "pack.steps=4")
ON_SLURM = (
    "hydra/launcher=submitit_slurm",
    f"hydra.launcher.partition={PARTITION}",
    f"hydra.launcher.account={ACCOUNT}",
    "hydra.launcher.timeout_min=10",
    "hydra.launcher.mem_gb=1",
    "hydra.launcher.cpus_per_task=1",
)
PATIENCE = 600.0


@dataclass(frozen=True)
class Sweep:
    """A folder for runs, and the processes that lead a sweep there."""

    folder: Path
    corpora: Path
    cluster: Cluster | None = None  # without one, in the leader's process

    @property
    def experiment(self) -> Path:
        return self.folder / "smoke"

    def start(self, *overrides: str, python: Sequence[str] = ("-m", "lmscale.launch"), **environment: str) -> Any:
        """Start a leader."""
        where = ON_SLURM if self.cluster else ("hydra/launcher=basic",)
        command = [sys.executable, *python, *SMOKE, *where, f"runs={self.folder}", f"corpora={self.corpora}"]
        variables = dict(self.cluster.environment) if self.cluster else dict(os.environ)
        variables |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*command, *overrides], cwd=ROOT, env=variables, **pipes)

    def progress(self) -> list[tuple[str, int]]:
        """Return what training has left behind so far."""
        found = []
        for path in (*self.experiment.glob("*/records.jsonl"), *self.experiment.glob("packs/*/*.ckpt")):
            with contextlib.suppress(OSError):
                found.append((str(path), path.stat().st_size))
        return sorted(found)

    def science(self) -> dict[str, bytes]:
        """Return what two sweeps of the same science share, file by file."""
        kinds = ("*/spec.json", "*/records.jsonl", "*/items.npz", "*/outcome.json", "packs/*/*.pinned.ckpt")
        paths = [path for kind in kinds for path in self.experiment.glob(kind)]
        return {str(path.relative_to(self.experiment)): path.read_bytes() for path in sorted(paths)}

    def whole(self) -> bool:
        """Say if every run that was planned has ended well."""
        runs = list(self.experiment.glob("*/spec.json"))
        ends = [json.loads(path.read_text())["outcome"] for path in self.experiment.glob("*/outcome.json")]
        return ends == ["done"] * len(runs) != []


Fault = Callable[[Cluster, subprocess.Popen, str, str], None]


def fill_tmp(cluster: Cluster, node: str) -> None:
    """Put a full file system where TMPDIR is on a node, without room for a byte or a file."""
    place = cluster.tmp(node)
    command = ("mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "tmpfs", str(place))
    cluster.run(*command)
    with contextlib.suppress(OSError), (place / "all").open("wb") as file:
        file.write(bytes(1 << 20))


FAULTS: dict[str, Fault] = {
    "requeue": lambda cluster, leader, job, node: cluster.run("scontrol", "requeue", job),
    "scancel": lambda cluster, leader, job, node: cluster.run("scancel", job),
    "daemon killed": lambda cluster, leader, job, node: cluster.kill_daemon(node),
    "node off": lambda cluster, leader, job, node: cluster.switch_off(node),
    "leader killed": lambda cluster, leader, job, node: leader.kill(),
    "full tmp": lambda cluster, leader, job, node: fill_tmp(cluster, node),
}


def running(cluster: Cluster) -> list[tuple[str, str]]:
    """Return (job, node) of what runs."""
    return [(job, node) for job, (state, node) in cluster.jobs().items() if state == "RUNNING"]


def strike(sweep: Sweep, leader: subprocess.Popen, fault: Fault, rng: random.Random) -> bool:
    """Let a fault strike a job at a random moment; False where the sweep was faster."""
    cluster = sweep.cluster
    assert cluster
    wait(lambda: running(cluster) or leader.poll() is not None, PATIENCE, "a job runs")
    for _ in range(rng.randrange(8)):
        before = sweep.progress()
        while sweep.progress() == before and leader.poll() is None:
            time.sleep(0.02)
    time.sleep(rng.uniform(0, 1))
    jobs = running(cluster)
    if not jobs:
        return False
    fault(cluster, leader, *rng.choice(jobs))
    return True


def end(sweep: Sweep, leader: subprocess.Popen) -> tuple[int, str]:
    """Wait for the leader, and start another while not all is trained; how many there were, and what they said."""
    said = leader.communicate(timeout=PATIENCE)[0]
    for starts in itertools.count(1):
        if sweep.whole() or starts == 4:
            return starts, said
        said += f"--- start {starts + 1}\n" + sweep.start().communicate(timeout=PATIENCE)[0]
    raise AssertionError


def mend(cluster: Cluster) -> None:
    """Undo what a fault did to the nodes."""
    cluster.run("scancel", "--me")
    for node in NODES:
        subprocess.run(["umount", "--quiet", str(cluster.tmp(node))])
        cluster.switch_off(node)
        cluster.start(node)
    wait(lambda: not cluster.jobs(), 60, "an empty queue")
    cluster.wait_for_nodes()
