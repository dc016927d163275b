"""A sweep on two SLURM nodes of this machine, with faults: does it end with the science of one process?

    python -m benchmarks.cluster [FAULTS]      21 unless said; then two leaders on one folder, and a wave's time

Faults of seven kinds strike a small ladder one after another, each at a random moment and a random job. The leader
is started again where it ended before all was trained. The science: the spec, records, items and outcome of every
run, byte for byte, and the arrays of the pinned states, as one process trains them (hydra/launcher=basic).
Results go to benchmarks/results/cluster.json.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.slurm_nodes import ACCOUNT, NODES, PARTITION, Cluster, nodes, wait
from lmscale import checkpoint
from lmscale.claim import past_claims
from lmscale.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
# XLA's attention is the slower one: jobs last long enough to be met with faults
SMOKE = ("experiment=smoke", "pack.checkpoint_seconds=0.5", "pack.steps=4", "pack.attention=xla")
SMALL = (
    *SMOKE,
    "dial=[8]",
    "seed=[0,1]",
    "horizon.dial=8",
    "horizon.multiples=[1.0]",
    "data.heldout_rows=16",
)
ON_SLURM = (
    "hydra/launcher=slurm",
    f"hydra.launcher.partition={PARTITION}",
    f"hydra.launcher.account={ACCOUNT}",
)
PATIENCE = 600.0


@dataclass(frozen=True)
class Sweep:
    """A folder for runs, and the processes that lead a sweep there."""

    runs: Path
    corpora: Path
    cluster: Cluster | None = None  # without one, in the leader's process
    overrides: tuple[str, ...] = SMOKE

    @property
    def experiment(self) -> Path:
        return self.runs / "smoke"

    def start(
        self, *overrides: str, python: Sequence[str] = ("-m", "lmscale.launch")
    ) -> subprocess.Popen[str]:
        """Start a leader."""
        where = ON_SLURM if self.cluster else ("hydra/launcher=basic",)
        command = [
            sys.executable,
            *python,
            *self.overrides,
            *where,
            f"runs={self.runs}",
            f"corpora={self.corpora}",
        ]
        variables = dict(self.cluster.environment) if self.cluster else dict(os.environ)
        variables |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            [*command, *overrides],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def progress(self) -> list[tuple[str, int]]:
        """Return what training has left behind so far."""
        found = []
        for path in (*self.experiment.glob("*/records.jsonl"), *self.experiment.glob("packs/*/*.ckpt")):
            with contextlib.suppress(OSError):
                found.append((str(path), path.stat().st_size))
        return sorted(found)

    def science(self) -> dict[str, bytes]:
        """Return what two sweeps of the same science share."""
        kinds = ("spec.json", "records.jsonl", "items.npz", "outcome.json")
        paths = [path for kind in kinds for path in self.experiment.glob(f"*/{kind}")]
        found = {str(path.relative_to(self.experiment)): path.read_bytes() for path in paths}
        for path in self.experiment.glob("packs/*/*.pinned.ckpt"):
            step, arrays, meta = checkpoint._decode(path)  # the rest of it names the pack's machine
            found |= {f"{meta['lanes']} {step} {name}": array.tobytes() for name, array in arrays.items()}
        return found

    def whole(self) -> bool:
        """Say if every run that was planned has ended well."""
        runs = list(self.experiment.glob("*/spec.json"))
        ends = [json.loads(path.read_text())["outcome"] for path in self.experiment.glob("*/outcome.json")]
        return ends == ["done"] * len(runs) != []

    def limits(self) -> int:
        """Count the claims that were given back, as a job does before its time limit."""
        ends = [claim.end or {} for path in self.experiment.glob("packs/*") for claim in past_claims(path)]
        return sum(end.get("end") == "released" for end in ends)

    def claims(self) -> list[int]:
        """Return how many claims each pack has had."""
        return [row.claims for row in Ledger(self.experiment).status()]


def fill_tmp(cluster: Cluster, node: str) -> None:
    """Put a full file system where TMPDIR is on a node, without room for a byte or a file."""
    place = cluster.tmp(node)
    cluster.run("mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "tmpfs", str(place))
    with contextlib.suppress(OSError), (place / "all").open("wb") as file:
        file.write(bytes(1 << 20))


def lose(cluster: Cluster, node: str, how: Callable[[str], None]) -> None:
    """Lose a node, and wait until SLURM knows and starts its jobs elsewhere."""
    how(node)
    wait(lambda: cluster.states()[node].startswith("down"), 60, f"{node} is down")


def end_soon(cluster: Cluster, job: str) -> None:
    """Lower a running job's time limit so that SLURM, which looks every 30 s, warns it now."""
    ran = cluster.run(
        "squeue", "--noheader", f"--jobs={job}", "--format=%M"
    ).strip()  # [hours:]minutes:seconds
    minutes = sum(60**n * int(word) for n, word in enumerate(reversed(ran.split(":")))) // 60
    cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 2}")


Fault = Callable[[Cluster, subprocess.Popen[str], str, str], object]
FAULTS: dict[str, Fault] = {
    "requeue": lambda cluster, leader, job, node: cluster.run("scontrol", "requeue", job),
    "scancel": lambda cluster, leader, job, node: cluster.run("scancel", job),
    "node's daemon killed": lambda cluster, leader, job, node: lose(cluster, node, cluster.kill_daemon),
    "node off": lambda cluster, leader, job, node: lose(cluster, node, cluster.switch_off),
    "leader killed": lambda cluster, leader, job, node: leader.kill(),
    "time limit": lambda cluster, leader, job, node: end_soon(cluster, job),
    "full /tmp on a node": lambda cluster, leader, job, node: fill_tmp(cluster, node),
}


def running(cluster: Cluster) -> list[tuple[str, str]]:
    """Return (job, node) of what runs."""
    return [(job, node) for job, (state, node) in cluster.jobs().items() if state == "RUNNING"]


def strike(sweep: Sweep, leader: subprocess.Popen[str], name: str, rng: random.Random) -> bool:
    """Let a fault strike a job at a random moment; False where the sweep was faster."""
    cluster = sweep.cluster
    assert cluster
    wait(lambda: running(cluster) or leader.poll() is not None, PATIENCE, "a job runs")
    for _ in range(rng.randrange(5)):
        before = sweep.progress()
        while sweep.progress() == before and leader.poll() is None:
            time.sleep(0.05)
    time.sleep(rng.uniform(0, 3))
    jobs = running(cluster)
    if not jobs or leader.poll() is not None:
        return False
    job, node = rng.choice(jobs)
    limits = sweep.limits()
    FAULTS[name](cluster, leader, job, node)
    if name != "time limit":
        return True
    alive = ("RUNNING", "SIGNALING")
    wait(lambda: cluster.jobs().get(job, ("",))[0] not in alive, PATIENCE, "the job is warned or ends")
    return sweep.limits() > limits


def mend(cluster: Cluster) -> None:
    """Start the nodes that were lost."""
    for node in NODES:
        if not cluster.is_up(node):
            cluster.switch_off(node)
            cluster.start(node)
    cluster.wait_for_nodes()


def empty(cluster: Cluster) -> None:
    """Leave the nodes whole and the queue empty."""
    mend(cluster)
    for node in NODES:
        subprocess.run(["umount", "--quiet", str(cluster.tmp(node))], stderr=subprocess.DEVNULL)
    cluster.run("scancel", "--me")
    wait(lambda: not cluster.jobs(), 60, "an empty queue")


def alone(sweep: Sweep) -> Sweep:
    """Train a ladder in one process."""
    leader = sweep.start()
    said = leader.communicate(timeout=PATIENCE)[0]
    assert sweep.whole(), said
    return sweep


def beset(
    names: Sequence[str], like: Sweep, cluster: Cluster, folder: Path, rng: random.Random
) -> dict[str, Any]:
    """Train the ladder of `like` on the cluster while these faults strike it, as many as do before it has ended."""
    sweep = replace(like, runs=folder, cluster=cluster)
    shutil.copytree(like.runs / ".xla", sweep.runs / ".xla")
    began, left, said, starts = time.perf_counter(), list(names), "", 1
    leader = sweep.start()
    while True:
        if left and strike(sweep, leader, left[0], rng):
            print(f"  {left.pop(0)} after {time.perf_counter() - began:.0f} s", flush=True)
            wait(lambda: len(cluster.jobs()) == 0 or running(cluster), PATIENCE, "jobs go on")
            mend(cluster)
        if left and leader.poll() is None:
            continue
        said += leader.communicate(timeout=PATIENCE)[0]
        if sweep.whole() or starts == 4 + len(names):
            break
        leader, starts, said = sweep.start(), starts + 1, f"{said}--- start {starts + 1}\n"
    seconds = round(time.perf_counter() - began)
    empty(cluster)
    same = sweep.whole() and sweep.science() == like.science()
    if not same:
        print(said, flush=True)
    struck = list(names[: len(names) - len(left)])
    return {"faults": struck, "same": same, "starts": starts, "claims": sweep.claims(), "seconds": seconds}


def two_leaders(like: Sweep, cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Start two leaders at once on one folder."""
    sweep = replace(like, runs=folder, cluster=cluster)
    shutil.copytree(like.runs / ".xla", sweep.runs / ".xla")
    leaders = [sweep.start(), sweep.start()]
    said = [leader.communicate(timeout=PATIENCE)[0] for leader in leaders]
    statuses = [leader.returncode for leader in leaders]
    empty(cluster)
    same, claims = sweep.science() == like.science(), sweep.claims()
    if statuses != [0, 0] or not same:
        print(*said, flush=True)
    return {"same": same, "claims": claims, "statuses": statuses}


TIMED = """
import time
from lmscale import launch, waves
inner = waves._launch
def timed(*arguments):
    began = time.time()
    try:
        return inner(*arguments)
    finally:
        print("WAVE", began, time.time(), flush=True)
waves._launch = timed
raise SystemExit(launch.main())
"""


def waves_of(like: Sweep, cluster: Cluster, folder: Path) -> list[dict[str, float]]:
    """Time each wave of a sweep: in all, and from first submission to last end by SLURM's accounts (1 s)."""
    sweep = replace(like, runs=folder, cluster=cluster)
    shutil.copytree(like.runs / ".xla", sweep.runs / ".xla")
    first = time.time()
    said = sweep.start(python=("-c", TIMED)).communicate(timeout=PATIENCE)[0]
    timed = [
        [float(word) for word in line.split()[1:]] for line in said.splitlines() if line.startswith("WAVE")
    ]
    mend(cluster)
    command = (
        "sacct",
        "-X",
        "--noheader",
        "--parsable2",
        f"--starttime=now-{int(time.time() - first) + 5}seconds",
    )
    environment = {**cluster.environment, "SLURM_TIME_FORMAT": "%s"}
    rows = replace(cluster, environment=environment).run(*command, "--format=Submit,End").splitlines()
    jobs = [[float(word) for word in row.split("|")] for row in rows]
    found = []
    for began, ended in timed:
        its = [job for job in jobs if began - 1 <= job[0] <= ended]
        slurm = max(end for _, end in its) - min(submitted for submitted, _ in its)
        found.append({"jobs": len(its), "wave": round(ended - began, 1), "slurm": slurm})
    return found


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Measure everything; print as it goes."""
    rng = random.Random(0)
    left = [name for _ in range(-(-count // len(FAULTS))) for name in rng.sample(list(FAULTS), len(FAULTS))][
        :count
    ]
    small = alone(Sweep(folder / "small", folder / "corpora", overrides=SMALL))
    result: dict[str, Any] = {"sweeps": []}
    with nodes(folder / "slurm") as cluster:
        while left:
            number = len(result["sweeps"])
            told = beset(left[: len(FAULTS)], small, cluster, folder / f"sweep-{number}", rng)
            left = left[len(told["faults"]) :]
            result["sweeps"].append(told)
            print(json.dumps(told), flush=True)
        good = sum(len(told["faults"]) for told in result["sweeps"] if told["same"])
        print(f"{good} of {count} faults end with the same science")
        result["two leaders"] = two_leaders(small, cluster, folder / "two")
        print("two leaders:", json.dumps(result["two leaders"]), flush=True)
        result["waves"] = [w for n in range(3) for w in waves_of(small, cluster, folder / f"waves-{n}")]
        for wave in result["waves"]:
            print(f"a wave of {wave['jobs']} jobs: {wave['wave']} s, {wave['slurm']} s of them SLURM's own")
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = measure(int(sys.argv[1]) if sys.argv[1:] else 21, Path(name))
    path = ROOT / "benchmarks" / "results" / "cluster.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
