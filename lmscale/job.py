"""One job of a launcher: find the pack, take a core, claim it, train it.

Kept from `launch` so that workers, which unpickle the application, import what they need here; and from
`train` so that a process is pinned before jax looks at its cores.
"""

import fcntl
import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from lmscale.config import PackConfig, build
from lmscale.data import World, open_world
from lmscale.data.config import DataConfig, TasksConfig
from lmscale.ledger import Ledger
from lmscale.plan import Pack, RunSpec
from lmscale.records import canonical, read_json, write_json

_core: IO[str] | None = None  # the lock on this process's core, held until it ends


def write_pack(folder: Path, pack: Pack, context: Mapping[str, Any]) -> str:
    """Write what a job needs to know of a pack; returns the job's name. context: data, tasks, pack, corpora."""
    path = folder / "packs" / pack.pack_id / "pack.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"wave": pack.wave, "execution": pack.execution, "pins": pack.pins, **context})
    return f"pack_{pack.pack_id}"  # never a bare id: Hydra would read 12e4 as a number


def read_pack(folder: Path, pack_id: str) -> tuple[Pack, dict[str, Any]]:
    """The pack that `write_pack` wrote, and its context."""
    found = read_json(folder / "packs" / pack_id / "pack.json")
    lanes = found["execution"]["lanes"]
    runs = tuple(build(RunSpec, read_json(folder / lane / "spec.json")) for lane in lanes)
    return Pack(found["wave"], found["execution"], runs, tuple(found["pins"])), found


def train_job(values: Mapping[str, Any]) -> None:
    """Train the pack that `values` (a composed configuration) names; return at once if another has it."""
    folder = Path(values["runs"]) / values["name"]
    pack, context = read_pack(folder, str(values["job"]).removeprefix("pack_"))
    config = build(PackConfig, context["pack"])
    claim = Ledger(folder, max_tries=config.tries).claim(pack.pack_id, pack.execution)
    if claim is None:
        return
    try:
        if pack.execution["device"] == "cpu":
            take_core()
        from lmscale import train

        train.configure_jax(Path(values["runs"]) / ".xla")
        world = _world(
            canonical({"data": context["data"], "tasks": context["tasks"]}), Path(context["corpora"])
        )
    except BaseException:
        claim.release()
        raise
    train.train_pack(train.Job(pack, config, folder, claim), world)


@functools.lru_cache(maxsize=2)
def _world(configs: str, corpora: Path) -> World:
    """A worker opens a corpus once for all the packs that it trains on it."""
    found = json.loads(configs)
    return open_world(build(DataConfig, found["data"]), build(TasksConfig, found["tasks"]), corpora)


def take_core() -> None:
    """Pin this process to a core of its own and to one thread, before jax starts its pools.

    Two single-threaded processes train 1.26 to 2 times as fast as one process of two threads. Where every core
    is taken already, the process shares all of them.
    """
    global _core
    os.environ["JAX_PLATFORMS"] = "cpu"
    flag = "--xla_cpu_multi_thread_eigen=false"
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    if _core is not None or not hasattr(os, "sched_setaffinity"):
        return
    for core in sorted(os.sched_getaffinity(0)):
        lock = (Path(tempfile.gettempdir()) / f"lmscale-{os.getuid()}-core-{core}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _core = lock
        os.sched_setaffinity(0, {core})
        return
