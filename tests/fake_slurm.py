"""A scheduler of one machine that answers as SLURM does: sbatch, squeue, scontrol, scancel and srun, as one script.

State is a folder, $FAKE_SLURM: a file a job, which a process of its own runs. `install` puts the commands on a
path. Jobs run side by side, without limits of memory or time. Real nodes are tested elsewhere (docs/cluster.md).
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun")


def install(folder: Path, **settings: object) -> dict[str, str]:
    """Make the commands in `folder`; returns the variables with which processes find them.

    settings: max_array, partitions (those that are there), slots (jobs that run at a time).
    """
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    for name in COMMANDS:
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {name} "$@"\n')
        path.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def jobs(folder: Path) -> list[dict]:
    """Read all jobs, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))]


def main(command: str, arguments: list[str]) -> int:
    folder = Path(os.environ["FAKE_SLURM"])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = json.loads((folder / "settings.json").read_text())
        _advance(folder, settings)
        if command == "sbatch":
            status = _sbatch(folder, settings, arguments)
        elif command == "squeue":
            for job in jobs(folder):
                if job["state"] in ("PENDING", "RUNNING"):
                    node = os.uname().nodename if job["state"] == "RUNNING" else ""
                    times = f"{job['at']}|{job['at']}"
                    print(f"{job['id']}|{job['state']}|{node}|{times}|{job['name']}|Resources")
            status = 0
        elif command == "scancel":
            for job in jobs(folder):
                if job["state"] in ("PENDING", "RUNNING") and {job["id"], job["id"].split("_")[0]} & set(
                    arguments
                ):
                    _end(folder, job, "CANCELLED", signal.SIGTERM)
            status = 0
        elif arguments[:2] == ["show", "config"]:
            print(f"Configuration data\nMaxArraySize            = {settings.get('max_array', 1001)}\nEnd = 1")
            status = 0
        elif arguments[:2] == ["show", "job"]:
            found = [job for job in jobs(folder) if job["id"] == arguments[-1]]
            print(*(f"JobId={job['id']} JobState={job['state']} Reason=None" for job in found))
            status = 0 if found else 1
        elif arguments[0] == "requeue":
            for job in jobs(folder):
                if job["id"] == arguments[1]:
                    _end(folder, job, "PENDING", signal.SIGTERM)
            status = 0
        else:
            raise SystemExit(f"fake {command}: {arguments}")
        _advance(folder, settings)
    return status


def _sbatch(folder: Path, settings: dict, arguments: list[str]) -> int:
    test_only = "--test-only" in arguments
    script = sys.stdin.read() if test_only else Path(arguments[0]).read_text()
    flags = dict(re.findall(r"#SBATCH --([a-z-]+)=(\S+)", script))
    partition = flags.get("partition", "debug")
    if partition not in settings.get("partitions", ["debug"]):
        print(f"sbatch: error: invalid partition specified: {partition}", file=sys.stderr)
        print("sbatch: error: Batch job submission failed: Invalid partition name specified", file=sys.stderr)
        return 1
    size = int(flags["array"].partition("-")[2].partition("%")[0]) + 1 if "array" in flags else None
    if size and size > settings.get("max_array", 1001):
        print("sbatch: error: Batch job submission failed: Invalid job array specification", file=sys.stderr)
        return 1
    if test_only:
        print("sbatch: Job 1 to start at now", file=sys.stderr)
        return 0
    number = 1 + max((int(job["id"].split("_")[0]) for job in jobs(folder)), default=0)
    for index in range(size or 1):
        job = {
            "id": f"{number}_{index}" if size else str(number),
            "state": "PENDING",
            "name": flags["job-name"],
        }
        job |= {"script": script, "flags": flags, "at": time.strftime("%Y-%m-%dT%H:%M:%S"), "runs": 0}
        _write(folder, job)
    print(f"Submitted batch job {number}")
    return 0


def _write(folder: Path, job: dict) -> None:
    number, _, task = job["id"].partition("_")
    path = folder / "jobs" / f"{int(number):06d}_{int(task or 0):06d}.json"
    path.with_suffix(".new").write_text(json.dumps(job))
    path.with_suffix(".new").rename(path)  # tests read without the lock


def _advance(folder: Path, settings: dict) -> None:
    """End what has ended, begin what waits."""
    running = 0
    for job in jobs(folder):
        if job["state"] == "RUNNING":
            status = folder / "jobs" / f"{job['id']}.{job['runs']}.status"
            if status.exists():
                _write(
                    folder, job | {"state": "FAILED" if status.read_text().strip() != "0" else "COMPLETED"}
                )
            else:
                running += 1
    for job in jobs(folder):
        if job["state"] == "PENDING" and running < settings.get("slots", 100):
            running += 1
            _begin(folder, job)


def _begin(folder: Path, job: dict) -> None:
    number, _, task = job["id"].partition("_")
    runs = job["runs"] + 1
    variables = {"SLURM_JOB_ID": number + task, "SLURM_PROCID": "0", "SLURM_JOB_NUM_NODES": "1"}
    if task:
        variables |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task}
    variables |= {"TMPDIR": str(folder / "jobs" / f"tmp-{job['id']}")}
    Path(variables["TMPDIR"]).mkdir(exist_ok=True)
    if "cpus-per-task" in job["flags"]:
        variables["SLURM_CPUS_PER_TASK"] = job["flags"]["cpus-per-task"]
    script = folder / "jobs" / f"{job['id']}.sh"
    script.write_text(job["script"])
    status = folder / "jobs" / f"{job['id']}.{runs}.status"
    with (folder / "jobs" / f"{job['id']}.log").open("a") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"bash {script}; echo $? > {status}"],
            env={**os.environ, **variables},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    _write(folder, job | {"state": "RUNNING", "pid": process.pid, "runs": runs})


def _end(folder: Path, job: dict, state: str, number: int) -> None:
    _write(folder, job | {"state": state})
    if job["state"] == "RUNNING":
        # the step's processes, as slurmstepd does; what called us may be one of them and is left to end by itself
        for pid in _members(job["pid"]):
            if pid not in _ancestors(os.getpid()):
                os.kill(pid, number)


def signal_job(job: dict, number: int) -> None:
    """Send a signal to the processes of a running job, but for its shell."""
    for pid in _members(job["pid"]):
        if b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes() and pid != job["pid"]:
            os.kill(pid, number)


def _members(group: int) -> list[int]:
    """The Python processes of a job."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == group and b"submitit.core._submit" in (path / "cmdline").read_bytes():
                words = (path / "cmdline").read_bytes().split(b"\0")
                found += [] if b"bash" in words[0] or words[0].endswith(b"sh") else [int(path.name)]
        except (OSError, IndexError, ValueError):
            continue
    return found


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def srun(arguments: list[str]) -> int:
    """Run a step: the words after the options, its output where they say."""
    output = error = None
    while arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option in ("--output", "--error"):
            value = arguments.pop(0)
            job = os.environ.get("SLURM_ARRAY_JOB_ID")
            task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
            value = value.replace("%A", str(job)).replace("%a", task).replace("%t", "0")
            value = value.replace("%j", os.environ["SLURM_JOB_ID"])
            output, error = (value, error) if option == "--output" else (output, value)
    for name, number in ((output, 1), (error, 2)):
        if name:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    if sys.argv[1] == "srun":
        raise SystemExit(srun(sys.argv[2:]))
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
