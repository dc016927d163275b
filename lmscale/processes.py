"""Several processes that train one pack together: how many they are, and how they decide as one.

The first leads: it alone claims, writes records and looks at the clock; the others hear from it what to do next.
They are counted by SLURM's variables, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. No jax
is imported before they join.
"""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmscale.errors import UserError

_TOGETHER = 3600  # seconds that processes wait for the first, which may scan a corpus meanwhile
_KEPT = 1000  # messages; no process is as many behind
_said = 0
_jobs = 0


class LeaderGone(UserError):
    """The process that leads goes on no more, and so does this one."""


def count() -> int:
    """Count the processes that were started together, of one step of SLURM or by hand; 1 where nothing says so."""
    return int(os.environ.get("JAX_NUM_PROCESSES") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)


def index() -> int:
    """Return this process's number among them; the first leads."""
    by_hand = "JAX_NUM_PROCESSES" in os.environ
    return int(os.environ.get("JAX_PROCESS_ID" if by_hand else "SLURM_PROCID") or 0) if count() > 1 else 0


def joined() -> bool:
    """Tell whether this process trains together with others."""
    return _client() is not None


def leads() -> bool:
    """Tell whether this process writes and decides: the first, or one that is alone."""
    return not joined() or index() == 0


def join() -> None:
    """Meet the other processes, once, before jax looks at its devices."""
    if joined() or count() == 1:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    by_hand: dict[str, Any] = (
        {"num_processes": count(), "process_id": index()} if "JAX_NUM_PROCESSES" in os.environ else {}
    )
    if by_hand and "JAX_COORDINATOR_ADDRESS" not in os.environ:
        raise UserError(
            f"JAX_NUM_PROCESSES={count()}: give JAX_COORDINATOR_ADDRESS too, a host:port of the first process"
        )
    jax.distributed.initialize(**by_hand, initialization_timeout=_TOGETHER)


def agree(value: Any) -> Any:
    """Return the first process's value in all of them; a process alone has its own. JSON. Raises LeaderGone."""
    global _said
    client = _client()
    if client is None:
        return value
    _said += 1
    if index():
        return _hear(f"agree/{_said}")
    client.key_value_set(f"lmscale/agree/{_said}", json.dumps(value))
    if _said > _KEPT:
        client.key_value_delete(f"lmscale/agree/{_said - _KEPT}")
    return value


def end() -> None:
    """Let the others end, from the first process: no more jobs come, nor what they wait for amid one."""
    if count() > 1 and index() == 0:
        join()
        message = json.dumps({"gone": "the first process has ended; it says why"})
        for key in (f"agree/{_said + 1}", f"job/{_jobs + 1}"):
            _client().key_value_set(f"lmscale/{key}", message, allow_overwrite=True)


def announce(job: str) -> None:
    """Say in the first process which pack is next, to those that were started by hand and have no launcher."""
    global _jobs
    if joined() and index() == 0:
        _jobs += 1
        _client().key_value_set(f"lmscale/job/{_jobs}", json.dumps(job))


def next_job() -> str | None:
    """Hear what the first announces; None where there is no more."""
    global _jobs
    join()
    _jobs += 1
    try:
        return str(_hear(f"job/{_jobs}"))
    except LeaderGone:
        return None


def wrote(part: Path, error: str = "") -> None:
    """Say that this process's part of a checkpoint is on the disk, or what kept it from there."""
    _client().key_value_set(f"lmscale/part/{part}", json.dumps(error))


def all_wrote(parts: Iterable[Path]) -> None:
    """Wait in the first process for the others' parts. Raises UserError where one could not be written."""
    for part in parts:
        if error := _hear(f"part/{part}"):
            raise UserError(f"another process: {error}")


def _hear(key: str) -> Any:
    value = json.loads(_client().blocking_key_value_get(f"lmscale/{key}", _TOGETHER * 1000))
    if isinstance(value, dict) and "gone" in value:
        raise LeaderGone(value["gone"])
    return value


def _client() -> Any:
    """jax's client of the service that its processes have in common; None before `join`."""
    if "jax" not in sys.modules:
        return None
    from jax._src import distributed

    return distributed.global_state.client
