"""Jobs in SLURM's queue: which pack each trains, how it is, what it needs. Only squeue, scontrol and scancel are
asked.

What was submitted stands in <folder>/queue, a file an array, written before sbatch is called: its token is in the
jobs' names. So the jobs of a leader that was killed at any moment are found again. Who trains what is the
ledger's business.
"""

import contextlib
import dataclasses
import getpass
import math
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lmscale.durable import make_folder
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json, write_json
from lmscale.memory import memory_in
from lmscale.plan import Pack
from lmscale.speeds import speed_key

MARGIN = 2.0  # times what the plan says, of memory and of time
BASE_GB = 2.0  # Python, jax, compilation
START_MINUTES = 10.0  # to start and to compile
LEAST_MINUTES = 30  # requests are this, or twice, four times, ... as long, so that alike packs are one array
UNKNOWN_MINUTES = 120  # where no speed is known
# SLURM's reasons, where a site lets jobs wait that it could refuse (EnforcePartLimits=NO, the default)
_HOPELESS = re.compile(r"Partition(Time|Node)Limit|BadConstraints|(Assoc|QOS)\w+PerJob(Limit)?")
_FORGET = 600.0  # seconds after which a submission that has no job never got one


@dataclass(frozen=True)
class Submission:
    """An array of jobs. packs: those that its tasks train, in their order. job_id: None until sbatch has said
    it."""

    token: str
    packs: tuple[str, ...]
    at: str
    host: str
    job_id: str | None = None


@dataclass(frozen=True)
class QueuedJob:
    """A job that SLURM has not ended. since: when it began to run, or else when it was submitted, by SLURM's
    clock."""

    job_id: str
    state: str
    nodes: str
    since: str
    reason: str

    @property
    def is_hopeless(self) -> bool:
        """Say if it asks for more than any job may have there: waiting does not help."""
        return self.state == "PENDING" and bool(_HOPELESS.fullmatch(self.reason))

    def __str__(self) -> str:
        where = f" on {self.nodes}" if self.nodes else f" ({self.reason})"
        return f"job {self.job_id} {self.state.lower()}{where} since {self.since.replace('T', ' ')}"


def note(folder: Path, packs: Sequence[str]) -> Submission:
    """Write down that jobs for these packs are about to be submitted, under a token of their own."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    submission = Submission(secrets.token_hex(4), tuple(packs), at, socket.gethostname())
    make_folder(folder / "queue")
    keep(folder, submission)
    return submission


def keep(folder: Path, submission: Submission) -> None:
    """Write a submission's file."""
    write_json(_path(folder, submission.token), dataclasses.asdict(submission))


def forget(folder: Path, token: str) -> None:
    """Remove a submission's file: it has no jobs any more, or got none."""
    _path(folder, token).unlink(missing_ok=True)


def _path(folder: Path, token: str) -> Path:
    return folder / "queue" / f"{token}.json"


def submissions(folder: Path) -> list[Submission]:
    """Read what was submitted and may not have ended."""
    found = []
    for path in sorted((folder / "queue").glob("*.json")):
        with contextlib.suppress(
            UserError, TypeError
        ):  # another leader may have removed it, or it is damaged
            content = read_json(path)
            found.append(Submission(**{**content, "packs": tuple(content["packs"])}))
    return found


def active(folder: Path) -> dict[str, QueuedJob]:
    """Find the jobs of this folder's packs that are queued or run, by pack id; forget submissions that ended.

    Raises UserError where squeue does not answer.
    """
    submitted = {submission.token: submission for submission in submissions(folder)}
    if not submitted:
        return {}
    lines = _ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%N|%S|%V|%j|%r").splitlines()
    found: dict[str, QueuedJob] = {}
    alive = set()
    for line in lines:
        job_id, state, nodes, started, queued, name, reason = (line.split("|", 6) + [""] * 7)[:7]
        token = name.rpartition(".")[2]
        if token not in submitted:
            continue
        alive.add(token)
        index = int(job_id.partition("_")[2] or 0)
        if index < len(submitted[token].packs):
            since = started if state == "RUNNING" else queued
            found[submitted[token].packs[index]] = QueuedJob(job_id, state, nodes, since, reason)
    for token in submitted.keys() - alive:
        with contextlib.suppress(OSError):
            if submitted[token].job_id or time.time() - _path(folder, token).stat().st_mtime > _FORGET:
                forget(folder, token)
    return found


def ended_as(job_id: str) -> str:
    """Say how a job ended, in SLURM's word (COMPLETED, CANCELLED, TIMEOUT, OUT_OF_MEMORY, ...); '' where SLURM does
    not know any more."""
    with contextlib.suppress(UserError):
        for word in _ask("scontrol", "show", "job", "-o", job_id).split():
            if word.startswith("JobState="):
                return word.removeprefix("JobState=")
    with contextlib.suppress(UserError):  # older ones only where there is accounting
        return (_ask("sacct", "-nXPo", "State", "-j", job_id).split() or [""])[0]
    return ""


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs: one that trains saves its state first."""
    _ask("scancel", *job_ids)


def array_size() -> int:
    """Return how many tasks an array may have here."""
    with contextlib.suppress(UserError, ValueError):
        for line in _ask("scontrol", "show", "config").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "MaxArraySize":
                return max(1, int(value))
    return 1001


def together(job_ids: Iterable[str]) -> str:
    """Write job ids short: 12_0, 12_1, 13 -> 12_[0,1] 13."""
    tasks: dict[str, list[str]] = {}
    for job_id in job_ids:
        number, _, task = job_id.partition("_")
        tasks.setdefault(number, []).extend([task] if task else [])
    return " ".join(f"{job}_[{','.join(its)}]" if its else job for job, its in tasks.items())


def needs(pack: Pack, speeds: Mapping[str, float]) -> tuple[int, int]:
    """Return what to ask for a pack: whole GB of memory and minutes, each `MARGIN` times the plan's estimate and
    what a start takes. A job that needs longer is saved at its limit and queued again."""
    memory = BASE_GB + MARGIN * memory_in(pack) / 1e9
    speed = speeds.get(speed_key(pack))
    if not speed:
        return math.ceil(memory), UNKNOWN_MINUTES
    spans = zip(pack.runs, pack.start_steps, pack.end_steps, strict=True)
    tokens = sum((end - start) * run.batch_tokens for run, start, end in spans)
    minutes = START_MINUTES + MARGIN * tokens / speed / 60
    return math.ceil(memory), LEAST_MINUTES * 2 ** max(0, math.ceil(math.log2(minutes / LEAST_MINUTES)))


def refusal(script: str) -> str | None:
    """Give SLURM's own sentence where it would not take this batch script; None where it would. Nothing is
    queued."""
    try:
        _ask("sbatch", "--test-only", given=script)
    except UserError as error:
        return str(error)
    return None


def _ask(*command: str, given: str | None = None) -> str:
    """Run a command of SLURM's. Raises UserError with what it said where it failed."""
    try:
        asked = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} gives no answer within 60 s") from None
    except OSError as error:
        raise UserError(f"{command[0]}: {error.strerror}: is this a machine of the cluster?") from error
    if asked.returncode:
        lines = [line.removeprefix(f"{command[0]}: ").strip() for line in asked.stderr.splitlines()]
        said = " ".join(line.removeprefix("error: ") for line in lines)
        raise UserError(f"{command[0]}: {said[:300] or f'status {asked.returncode}'}")
    return asked.stdout
