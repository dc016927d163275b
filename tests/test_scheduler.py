"""SLURM's queue as a sweep sees it, by commands that answer as SLURM's do: what is found, refused, cancelled.

The tests with submitit train real packs in jobs of their own; without it they are skipped.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_slurm
import pytest
from launching import ROOT, TINY

from hydra_plugins.lmscale_sweeper import slurm_launcher
from lmscale import scheduler, stopping
from lmscale.config import HorizonConfig, SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.ledger import Ledger
from lmscale.memory import memory_bytes
from lmscale.plan import make_plan
from lmscale.speeds import speed_key
from lmscale.tables import status_table

pytestmark = pytest.mark.alone

needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="needs the extra slurm: pip install -e '.[slurm]'"
)
LONG = ("horizon.tokens=6e5", "pack.checkpoint_seconds=0.1")
CONFIG = SweepConfig(name="x", dial=(16, 32), seed=(0,), horizon=HorizonConfig(tokens=1e6, dial=16))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a scheduler whose commands this process and its children find."""
    folder = tmp_path / "slurm"
    for name, value in fake_slurm.install(folder, max_array=3).items():
        monkeypatch.setenv(name, value)
    return folder


def submit(name: str, size: int | None = None, command: str = "sleep 60", **flags: Any) -> str:
    """Submit a job, or an array of them, as submitit does; returns its number."""
    flags = {"job-name": name, **({"array": f"0-{size - 1}%9"} if size else {}), **flags}
    script = Path(os.environ["FAKE_SLURM"]) / "script.sh"
    lines = [f"#SBATCH --{key}={value}" for key, value in flags.items()]
    script.write_text("\n".join(["#!/bin/bash", *lines, f"exec {command}", ""]))
    said = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, check=True).stdout
    return said.split()[-1]


def test_jobs_are_found_by_their_token_even_where_no_number_was_kept(tmp_path: Path, slurm: Path) -> None:
    """As a leader leaves it that is killed within sbatch."""
    submission = scheduler.note(tmp_path, ["p1", "p2"])
    assert scheduler.active(tmp_path) == {} and scheduler.submissions(tmp_path) == [submission]
    number = submit(f"lmscale.{submission.token}", 2)
    other = submit("somebody.else", 2)
    found = scheduler.active(tmp_path)
    assert {pack: job.job_id for pack, job in found.items()} == {"p1": f"{number}_0", "p2": f"{number}_1"}
    assert str(found["p1"]).startswith(f"job {number}_0 running on {os.uname().nodename} since 20")
    scheduler.cancel([f"{number}_1"])
    assert scheduler.active(tmp_path).keys() == {"p1"}
    assert scheduler.ended_as(f"{number}_1") == "CANCELLED" and scheduler.ended_as("77") == ""
    scheduler.cancel([number, other])
    assert scheduler.active(tmp_path) == {}
    assert scheduler.submissions(tmp_path) == [submission]  # its number is not known: it may yet come
    os.utime(tmp_path / "queue" / f"{submission.token}.json", (0, 0))
    assert scheduler.active(tmp_path) == {} == dict.fromkeys(scheduler.submissions(tmp_path))


def test_the_queue_is_not_asked_where_nothing_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scheduler.active(tmp_path) == {}
    scheduler.note(tmp_path, ["p1"])
    with pytest.raises(
        UserError, match="squeue: No such file or directory: is this a machine of the cluster"
    ):
        scheduler.active(tmp_path)
    assert scheduler.array_size() == 1001  # what SLURM takes where it was not told otherwise


def test_the_schedulers_own_sentence_is_given(slurm: Path) -> None:
    assert scheduler.refusal("#SBATCH --partition=debug\n#SBATCH --job-name=x\n") is None
    said = scheduler.refusal("#SBATCH --partition=gpus\n#SBATCH --job-name=x\n")
    assert said == (
        "sbatch: invalid partition specified: gpus Batch job submission failed: Invalid partition name specified"
    )
    assert scheduler.array_size() == 3 and fake_slurm.jobs(slurm) == []


def test_memory_and_time_are_the_plans_with_a_margin() -> None:
    plan = make_plan([CONFIG], [draft_manifest(CONFIG.data, CONFIG.tasks)], "cpu", elsewhere=True)
    pack = max(plan.packs, key=lambda pack: pack.flops)
    memory, minutes = scheduler.needs(pack, {})
    assert minutes == scheduler.UNKNOWN_MINUTES
    estimate = sum(memory_bytes(run) for run in pack.runs)
    assert memory - 1 < scheduler.BASE_GB + scheduler.MARGIN * estimate / 1e9 <= memory
    tokens = sum(
        (pack.end_steps[i] - pack.start_steps[i]) * run.batch_tokens for i, run in enumerate(pack.runs)
    )
    for hours, asked in (
        (0.1, 30),
        (0.4, 60),
        (1.0, 240),
        (3.0, 480),
    ):  # 10 minutes and twice that, rounded up
        assert scheduler.needs(pack, {speed_key(pack): tokens / 3600 / hours})[1] == asked
    many = make_plan(
        [SweepConfig(name="x", dial=(512,), seed=tuple(range(64)))],
        [draft_manifest(CONFIG.data, CONFIG.tasks)],
        "gpu",
    )
    assert scheduler.needs(many.packs[0], {})[0] > 10


@pytest.mark.parametrize(
    ("stop", "answer", "ends"), [("leave", "y", False), ("ask", "n", False), ("ask", "y", True)]
)
def test_a_person_is_asked_once_what_becomes_of_the_jobs(
    tmp_path: Path,
    slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    stop: str,
    answer: str,
    ends: bool,
) -> None:
    slurm_launcher.farewell(tmp_path, stop)
    assert capsys.readouterr().err == ""  # nothing is in the queue
    submission = scheduler.note(tmp_path, ["p1", "p2"])
    number = submit(f"lmscale.{submission.token}", 2)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    slurm_launcher.farewell(tmp_path, "leave")
    said = capsys.readouterr().err
    assert f"these jobs stay in the queue: {number}_[0,1]; " in said and said.endswith(f"scancel {number}\n")
    monkeypatch.setattr(stopping, "asked_by_hand", lambda: True)
    slurm_launcher.farewell(tmp_path, stop)
    assert ("scancel sent" in capsys.readouterr().err) == ends
    assert bool(scheduler.active(tmp_path)) != ends
    monkeypatch.setattr(stopping, "asked_by_hand", lambda: False)
    slurm_launcher.farewell(tmp_path, "cancel")
    assert scheduler.active(tmp_path) == {}


def test_job_numbers_are_written_short() -> None:
    assert scheduler.together(["12_0", "12_3", "13"]) == "12_[0,3] 13"


def test_status_says_what_runs_where_and_what_waits(tmp_path: Path) -> None:
    plan = make_plan([CONFIG], [draft_manifest(CONFIG.data, CONFIG.tasks)], "cpu")
    running = plan.packs[0]
    claim = Ledger(tmp_path).claim(running.pack_id, running.execution)
    assert claim is not None
    timing = tmp_path / running.runs[0].run_id / "timing.jsonl"
    timing.parent.mkdir()
    timing.write_text(json.dumps({"step": 12, "end_step": 90}) + "\n")
    job = scheduler.QueuedJob("12_0", "RUNNING", "n1", "2026-11-28T04:00:00", "None")
    said = status_table(plan, tmp_path, {running.pack_id: str(job)})
    claim.release()
    (line,) = [line for line in said.splitlines() if running.pack_id in line]
    run = running.runs[0]
    holder = f"{os.uname().nodename}:{os.getpid()}"
    assert line.startswith(
        f"pack {running.pack_id} (dial {run.dial}, {run.kind}, seed 0): running on {holder} "
    )
    assert " since 20" in line and line.endswith(
        "s), step 12 of 90; job 12_0 running on n1 since 2026-11-28 04:00:00"
    )


class Cluster:
    """A login node: a python without jax, and a scheduler whose jobs have it."""

    def __init__(self, folder: Path, corpora: Path, **settings: Any) -> None:
        self.folder, self.corpora, self.slurm = folder, corpora, folder / "slurm"
        self.environment = {
            **os.environ,
            **fake_slurm.install(self.slurm, **settings),
            "JAX_PLATFORMS": "cpu",
        }
        for name in ("jax", "jaxlib", "flax", "optax"):
            (folder / "login" / name).mkdir(parents=True)
            (folder / "login" / name / "__init__.py").write_text(
                f"raise ImportError('no {name} on a login node')\n"
            )
        self.environment["PYTHONPATH"] = f"{folder / 'login'}:{ROOT}"
        self.experiment = folder / "runs" / "smoke"

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lmscale.launch", *TINY, "hydra/launcher=slurm"]
        command += [f"runs={self.folder}/runs", f"corpora={self.corpora}", *overrides]
        if not any("setup" in override for override in overrides):  # the nodes have jax
            command += [f"hydra.launcher.setup=['export PYTHONPATH={ROOT}']"]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, start_new_session=True, **pipes)

    def run(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*overrides)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def call(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def jobs(self) -> list[dict]:
        return fake_slurm.jobs(self.slurm)

    def outcomes(self) -> list[str]:
        paths = sorted(self.experiment.glob("*/outcome.json"))
        return [json.loads(path.read_text())["outcome"] for path in paths]


@pytest.fixture
def cluster(tmp_path: Path, corpora: Path) -> Cluster:
    return Cluster(tmp_path, corpora, max_array=1)


def until(true: Callable[[], Any], seconds: float = 200) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


@needs_submitit
def test_a_partition_that_is_not_there_is_one_line_and_nothing_is_queued(cluster: Cluster) -> None:
    ended = cluster.run("hydra.launcher.partition=gpus")
    assert ended.returncode == 2
    assert ended.stderr == (
        "lmscale: SLURM refuses the jobs: sbatch: invalid partition specified: gpus Batch job submission failed: "
        "Invalid partition name specified\n"
    )
    assert cluster.jobs() == [] and scheduler.submissions(cluster.experiment) == []


def test_what_could_submit_no_job_is_one_line_before_anything(cluster: Cluster) -> None:
    """Without the extra; on a machine that has no SLURM; with a word that is none of the three."""
    cluster.environment["PATH"] = "/usr/bin/nowhere"
    installed = importlib.util.find_spec("submitit") is not None
    ended = cluster.run("hydra.launcher.stop=sometimes" if installed else "seed=[0]")
    said = (
        "stop=sometimes: it must be one of ask"
        if installed
        else "submitit is not installed; pip install 'lmscale[slurm]'"
    )
    assert ended.returncode == 2 and said in ended.stderr and ended.stderr.count("\n") == 1
    if installed:
        ended = cluster.run()
        assert ended.returncode == 2 and "no sbatch here" in ended.stderr and ended.stderr.count("\n") == 1
    assert not (cluster.folder / "runs").exists()


@needs_submitit
@pytest.mark.slow
def test_a_login_node_without_jax_trains_a_ladder_in_arrays(cluster: Cluster) -> None:
    """Two trunks where an array takes one. Each job settles its device; a flag is read where the pack runs."""
    flag = "+hydra.job.env_set.XLA_FLAGS=--xla_gpu_deterministic_ops=true"
    ended = cluster.run("seed=[0,1]", flag, "hydra.launcher.cpus_per_task=2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert cluster.outcomes() == ["done"] * 4
    assert [job["id"] for job in cluster.jobs()] == ["1", "2", "3", "4"]
    assert "submitted 2 jobs: 1 2\n" in ended.stdout
    executions = [json.loads(path.read_text()) for path in cluster.experiment.glob("*/execution.json")]
    assert {(e["device"], e["precision"]) for e in executions} == {("cpu", "float32")}
    assert {e.get("cores", 1) for e in executions} == {min(2, len(os.sched_getaffinity(0)))}
    assert {e["versions"]["xla_gpu_deterministic_ops"] for e in executions} == {"true"}
    claims = [json.loads(path.read_text()) for path in cluster.experiment.glob("packs/*/claims/000001.json")]
    about = claims[0]["about"]
    assert about["job"] in {job["id"] for job in cluster.jobs()}
    assert "dial=[8]" in about["overrides"] and "hydra/launcher=slurm" in about["overrides"]
    assert about["device_kind"] == "cpu" and claims[0]["holder"]["host"] == os.uname().nodename
    planned = cluster.run("seed=[0,1]", "action=plan")
    assert planned.returncode == 0 and "device: cpu is expected" in planned.stdout
    assert cluster.run("seed=[0,1]").stdout.startswith("4 runs in 4 packs; 4 done before\n")
    assert len(cluster.jobs()) == 4


def saving(cluster: Cluster) -> subprocess.Popen[str]:
    """Start a sweep that takes a while, and return once a job has saved a state."""
    leader = cluster.start(*LONG)
    until(lambda: list(cluster.experiment.glob("packs/*/*.ckpt")))
    return leader


@needs_submitit
@pytest.mark.slow
def test_a_stopped_leader_leaves_its_jobs_and_the_next_attaches_to_them(cluster: Cluster) -> None:
    leader = saving(cluster)
    leader.send_signal(signal.SIGTERM)
    _, said = leader.communicate(timeout=60)
    assert leader.returncode == 128 + signal.SIGTERM
    assert "these jobs stay in the queue: 1; " in said and "this ends them: scancel 1\n" in said
    status = cluster.run(*LONG, "action=status").stdout
    assert "trunk, seed 0): running on " in status and "; job 1 running on " in status
    # the time limit comes near: the state is saved, the job queued again, nothing is a failure
    (job,) = cluster.jobs()
    steps = [path.name for path in cluster.experiment.glob("packs/*/*.ckpt")]
    assert steps
    fake_slurm.signal_job(job, signal.SIGUSR2)
    until(lambda: cluster.jobs()[0]["runs"] == 2)
    ended = cluster.run(*LONG)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert cluster.outcomes() == ["done", "done"]
    ends = [
        json.loads(path.read_text()) for path in sorted(cluster.experiment.glob("packs/*/claims/*.end.json"))
    ]
    assert {end["end"] for end in ends} == {"released", "finished"}
    assert any(str(end.get("reason")).startswith("interrupted at step") for end in ends)
    assert [job["runs"] for job in cluster.jobs()] == [
        2,
        1,
    ]  # the trunk was queued once, and again by its limit


@needs_submitit
@pytest.mark.slow
def test_cancelled_jobs_end_the_sweep(cluster: Cluster) -> None:
    leader = saving(cluster)
    cluster.call("scancel", "1")
    out, said = leader.communicate(timeout=120)
    assert leader.returncode == 2, out + said
    assert said.startswith("lmscale: jobs 1 were cancelled (scancel), no other is left: the sweep ends")
    assert [row.state for row in Ledger(cluster.experiment).status()] == ["released"]


@needs_submitit
@pytest.mark.slow
def test_jobs_that_no_node_can_begin_are_one_line_with_the_node(cluster: Cluster) -> None:
    """Where the corpus should be, the nodes have something else."""
    cluster.corpora = cluster.folder / "texts"
    away = [f"mv {cluster.corpora} {cluster.folder}/away", f"touch {cluster.corpora}"]
    setup = ",".join(f"'{line}'" for line in (f"export PYTHONPATH={ROOT}", *away))
    ended = cluster.run(f"hydra.launcher.setup=[{setup}]")
    assert ended.returncode == 2 and ended.stderr.startswith(f"lmscale: on {os.uname().nodename}: "), (
        ended.stderr
    )
    assert ended.stderr.count("\n") == 1
