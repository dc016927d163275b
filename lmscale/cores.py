"""A core for each training process of this machine, by locks on files in the temporary folder."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

_core: IO[str] | None = None  # the lock on this process's core, held until it ends


def take_core() -> None:
    """Pin this process to a core of its own and to one thread, before jax starts its pools.

    Two single-threaded processes train 1.26 to 2 times as fast as one process of two threads. Where every core
    is taken already, or no lock can be had (`trouble` says why), the process shares all of them.
    """
    global _core
    os.environ["JAX_PLATFORMS"] = "cpu"
    flag = "--xla_cpu_multi_thread_eigen=false"
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    if _core is not None or not hasattr(os, "sched_setaffinity"):
        return
    with contextlib.suppress(OSError):  # the leading process says so, once
        _core = _free_core()


def _free_core() -> IO[str] | None:
    for core in sorted(os.sched_getaffinity(0)):
        lock = _lock_path(core).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        os.sched_setaffinity(0, {core})
        return lock
    return None


def _lock_path(core: int) -> Path:
    return Path(tempfile.gettempdir()) / f"lmscale-{os.getuid()}-core-{core}.lock"


def trouble() -> str | None:
    """Give a sentence where the locks cannot be had: then the processes share the cores, and training is slower."""
    try:
        for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else ():
            _lock_path(core).open("a").close()
    except OSError as error:
        return f"no core is kept for each process ({error}): training goes on, some slower"
    return None
