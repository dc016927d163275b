"""Cores and cards for the training processes of this machine: each holds its own until it ends.

What is held is a name among the kernel's sockets (Linux's abstract ones): it goes with its process, and jobs with
temporary folders of their own see one another, which files in these folders would not.
"""

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

_held: list[socket.socket] = []  # until this process ends


def given() -> int:
    """Count the cores that a scheduler gave this job; 1 where there is none: a process a core trains faster."""
    count = os.environ.get("SLURM_CPUS_PER_TASK", "")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, min(int(count), there)) if count.isdigit() else 1


def take_core(count: int = 1) -> None:
    """Pin this process to `count` cores of its own, with a thread for each, before jax starts its pools.

    Two single-threaded processes train 1.26 to 2 times as fast as one process of two threads. Where fewer cores are
    free, the process shares all that it may use.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    flag = "--xla_cpu_multi_thread_eigen=false"
    if count == 1 and flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    if _held or not hasattr(os, "sched_setaffinity"):
        return
    cores = _take([f"core-{core}" for core in sorted(os.sched_getaffinity(0))], count)
    if len(cores) == count:
        os.sched_setaffinity(0, {int(core.removeprefix("core-")) for core in cores})


def cards() -> list[str]:
    """List the NVIDIA cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    found = Path("/dev").glob("nvidia[0-9]*")
    return sorted((path.name.removeprefix("nvidia") for path in found), key=int)


def take_card(names: Sequence[str]) -> None:
    """See one of these cards alone, which no other process of ours has; all of them where none is free."""
    taken = _take([f"card-{name}" for name in names], 1)
    if taken:
        os.environ["CUDA_VISIBLE_DEVICES"] = taken[0].removeprefix("card-")


def _take(names: Sequence[str], count: int) -> list[str]:
    """Hold `count` of these names, or else none."""
    taken: dict[str, socket.socket] = {}
    for name in names:
        if len(taken) == count:
            break
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(f"\0lmscale-{os.getuid()}-{name}")
        except OSError:
            held.close()
        else:
            taken[name] = held
    if len(taken) < count:
        for held in taken.values():
            with contextlib.suppress(OSError):
                held.close()
        return []
    _held.extend(taken.values())
    return list(taken)
