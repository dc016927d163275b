"""One job of a launcher: find the pack, take a core, claim it, train it.

Kept from `launch` so that workers, which unpickle the application, import what they need here; and from
`train` so that a process is pinned before jax looks at its cores.
"""

import contextlib
import faulthandler
import fcntl
import functools
import gc
import hashlib
import json
import logging
import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from lmscale import stopping
from lmscale.claim import Claim, LostClaim
from lmscale.config import DataConfig, PackConfig, TasksConfig
from lmscale.data import Manifest, World, open_world
from lmscale.durable import DiskError, explained
from lmscale.errors import UserError
from lmscale.jsonfiles import canonical
from lmscale.ledger import Ledger
from lmscale.packs import Job, log_of, log_tail, read_pack
from lmscale.plan import Pack
from lmscale.typed import build

_log = logging.getLogger(__name__)
_core: IO[str] | None = None  # the lock on this process's core, held until it ends


def train_job(values: Mapping[str, Any]) -> None:
    """Train the pack that `values` (a composed configuration) names; return at once if another has it."""
    folder = Path(values["runs"]) / values["name"]
    pack, context = read_pack(folder, str(values["job"]).removeprefix("pack_"))
    config = build(PackConfig, context["pack"])
    stopping.follow()
    if stopping.requested():
        raise stopping.Interrupted
    claim = Ledger(folder, max_tries=config.tries).claim(pack.pack_id, pack.execution)
    if claim is None:
        return
    with _logged(claim):
        try:
            # Imports and traces make a million objects and little garbage: until the first step is on the device
            # the collector would only walk them, a tenth of the start; and what is there then stays (`train`).
            gc.collect()  # lest that be an earlier pack's garbage
            gc.disable()
            if pack.execution["device"] == "cpu":
                take_core()
            from lmscale import train

            train.configure_jax(Path(values["runs"]) / ".xla")
            world = _world(
                canonical({"data": context["data"], "tasks": context["tasks"]}), Path(context["corpora"])
            )
            _check_world(world, pack)
            train.train(Job(pack, config, folder, claim), world)
            claim.finish()
        except LostClaim as lost:
            _log.warning("%s", lost)
        except (stopping.Interrupted, KeyboardInterrupt) as error:
            _give_back(claim, str(error) or "interrupted")
            raise
        except Exception as error:
            _log.info("%s", traceback.format_exc())
            own = isinstance(error, DiskError) and not error.is_everywhere
            if isinstance(error, UserError) and not own:
                _give_back(claim, str(error))
                raise
            _fail(claim, f"{type(error).__name__}: {error}")
        finally:
            gc.enable()


@contextlib.contextmanager
def _logged(claim: Claim) -> Iterator[None]:
    """Warnings go to the terminal, and with the tracebacks to the pack's log; even that of a crash of Python."""
    logger = logging.getLogger("lmscale")
    with explained(log_of(claim.folder)), log_of(claim.folder).open("a") as file:
        handlers: list[logging.Handler] = [logging.StreamHandler(), logging.StreamHandler(file)]
        for handler, level, form in zip(
            handlers,
            (logging.WARNING, logging.INFO),
            ("lmscale: %(message)s", "%(asctime)s %(levelname)s %(message)s"),
            strict=True,
        ):
            handler.setLevel(level)
            handler.setFormatter(logging.Formatter(form))
            logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        faulthandler.enable(file)
        _log.info("claim %d by process %d", claim.number, os.getpid())
        try:
            yield
        finally:
            faulthandler.disable()
            for handler in handlers:
                logger.removeHandler(handler)


def _give_back(claim: Claim, reason: str) -> None:
    # A full disk may refuse even this; then the claim ends with the process.
    with contextlib.suppress(LostClaim, DiskError):
        claim.release(reason)


def _fail(claim: Claim, reason: str) -> None:
    with contextlib.suppress(LostClaim, DiskError):
        parked = claim.fail(reason, log_tail(claim.folder))
        _log.warning(
            "pack %s failed%s: %s; its log: %s",
            claim.pack_id,
            " too often and is parked" if parked else "",
            reason,
            log_of(claim.folder),
        )


def _check_world(world: World, pack: Pack) -> None:
    planned = pack.runs[0].data["content_hash"]
    if world.content_hash != planned:
        raise UserError(
            f"data: the corpus has changed since the plan (content {world.content_hash}, planned {planned}); "
            "start the sweep again to plan with what is there now"
        )


def _check_tokens(manifest: Manifest, folder: Path) -> None:
    """The token files are those that were scanned: a run's science names their hash."""
    for split in ("train", "heldout"):
        path = folder / f"{split}.bin"
        with explained(path, "read"), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != manifest.sources[split]["sha256"]:
            raise UserError(
                f"data: {path} has changed since it was scanned; put it back, or move {folder} away and start "
                "again: what was trained on the old tokens stays, and other tokens are other runs"
            )


@functools.lru_cache(maxsize=2)
def _world(configs: str, corpora: Path) -> World:
    """A worker opens a corpus, and looks whether it is whole, once for all the packs that it trains on it."""
    found = json.loads(configs)
    world = open_world(build(DataConfig, found["data"]), build(TasksConfig, found["tasks"]), corpora)
    _check_tokens(world.manifest, corpora / world.manifest.text_key)
    return world


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
