"""One job of a launcher: find the pack, take a core, settle what it runs on, claim it, train it.

Kept from `launch` so that workers, which unpickle the application, import what they need here; and from
`train` so that a process is pinned before jax looks at its cores.
"""

import contextlib
import dataclasses
import faulthandler
import functools
import json
import logging
import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmscale import collector, cores, processes, provenance, stopping
from lmscale.claim import Claim, LostClaim
from lmscale.config import DataConfig, PackConfig, TasksConfig
from lmscale.cores import take_core
from lmscale.data import Manifest, World, open_world
from lmscale.device import MORE_MEMORY, found, lacks_memory, unused_card
from lmscale.durable import DiskError, explained, sha256_of
from lmscale.errors import UserError
from lmscale.jsonfiles import canonical
from lmscale.ledger import Ledger
from lmscale.packs import Job, log_of, log_tail, read_pack, refused
from lmscale.plan import SETTLED, Pack, settle
from lmscale.typed import build

_log = logging.getLogger(__name__)


def train_job(values: Mapping[str, Any]) -> None:
    """Train the pack that `values` (a composed configuration) names; return at once if another has it.

    What comes before the claim does not depend on the pack: trouble there is everybody's, so it is raised as a
    UserError, which ends the sweep, and no pack is charged with it. So is a lack of memory before the first step.
    """
    runs = Path(values["runs"])
    folder = runs / values["name"]
    pack, context = read_pack(folder, str(values["job"]).removeprefix("pack_"))
    config = build(PackConfig, context["pack"])
    stopping.follow()
    try:
        if stopping.requested():
            raise stopping.Interrupted
        with _logged(folder / "packs" / pack.pack_id), collector.resting(), _saying_where():
            _claim_and_train(pack, context, config, folder)
    except stopping.Interrupted:
        stopping.hand_on()
        raise


def _claim_and_train(pack: Pack, context: Mapping[str, Any], config: PackConfig, folder: Path) -> None:
    ledger = Ledger(folder, max_tries=config.tries)
    with _everybodys("training cannot start here"):
        if pack.is_open:
            pack = _settled(pack, ledger, config.device, folder.parent)
        world = _start(pack, context, folder)
    if not processes.leads():
        return _train_along(pack, config, folder, world)
    while (claim := _claim(pack, context, ledger)) is not None:
        processes.agree(claim.number)
        own = dataclasses.replace(pack, execution=claim.execution, named=pack.pack_id)
        with stopping.at_work(claim):
            if _train(Job(own, config, folder, claim), world, ledger):
                break
    processes.agree(None)  # no more of this pack


def _claim(pack: Pack, context: Mapping[str, Any], ledger: Ledger) -> Claim | None:
    claim = ledger.claim(
        pack.pack_id, pack.execution, about=provenance.of_process(context.get("overrides", []))
    )
    if claim is None:
        return None
    _log.info("claim %d by process %d", claim.number, os.getpid())
    if any(claim.execution.get(name) != pack.execution.get(name) for name in SETTLED):
        _give_back(claim, "begun on another machine since this one looked")
        return None
    return claim


def _train_along(pack: Pack, config: PackConfig, folder: Path, world: World) -> None:
    """Train, in a process that does not lead, under the claims of the one that does, as long as that has one."""
    from lmscale import train

    while (number := processes.agree(None)) is not None:
        place = folder / "packs" / pack.pack_id
        claim = Claim(pack.pack_id, number, pack.execution, place, 0, 0, 0.0, lambda _: True)
        train.train(Job(pack, config, folder, claim), world)


def follow(values: Mapping[str, Any]) -> None:
    """Train along, in a process that was started by hand beside the one that leads, until that ends."""
    try:
        while (job := processes.next_job()) is not None:
            train_job({**values, "job": job})
    except stopping.Interrupted as error:
        raise KeyboardInterrupt from error


def _settled(pack: Pack, ledger: Ledger, requested: str, runs: Path) -> Pack:
    """Give an open pack its execution: the one it was begun with, or else what this machine has."""
    begun = {entry["pack_id"]: entry["execution"] for entry in ledger.frozen()}
    execution = begun.get(pack.pack_id)
    if execution is None:
        device = found(requested, runs)
        if said := unused_card(requested, device):
            _log.warning("%s", said)
        execution = settle(pack.execution, pack.runs[0].shape, device.platform, cores.given())
    return dataclasses.replace(pack, execution=execution, named=pack.pack_id)


@contextlib.contextmanager
def _saying_where() -> Iterator[None]:
    """Name the machine in what goes wrong in a scheduler's job: whoever reads it sits at another."""
    try:
        yield
    except UserError as error:
        if not os.environ.get("SLURM_JOB_ID"):
            raise
        raise UserError(f"on {socket.gethostname()}: {error}") from error


def _start(pack: Pack, context: Mapping[str, Any], folder: Path) -> World:
    """Make this process ready to train: its cores, jax with the device of the pack, the corpus."""
    if pack.execution["device"] == "cpu":
        take_core(pack.execution.get("cores", 1))
    from lmscale import train

    train.configure_jax(folder.parent / ".xla")
    if pack.mesh.size > 1:
        processes.join()
        processes.announce(f"pack_{pack.pack_id}")
    with refused(folder, pack.pack_id):
        train.check_execution(pack)
    configs = canonical({"data": context["data"], "tasks": context["tasks"]})
    world = _world(configs, Path(context["corpora"]))
    _check_world(world, pack)
    return world


def _train(job: Job, world: World, ledger: Ledger) -> bool:
    """Train a claimed pack, and end its claim as the training ended. False: there is less room than it has lanes,
    so that it is to be claimed again, with fewer."""
    from lmscale import train, widths

    claim = job.claim
    try:
        job = train.with_width(job, world)
        train.train(job, world)
        claim.finish()
    except LostClaim as lost:
        _log.warning("%s", lost)
        if processes.joined():  # the others are still at it
            raise UserError(str(lost)) from lost
    except (stopping.Interrupted, KeyboardInterrupt) as error:
        _give_back(claim, str(error) or "interrupted")
        raise
    except Exception as error:
        _log.info("%s", traceback.format_exc())
        if processes.joined():
            reason = (
                f"{_brief(error)}: of {processes.count()} processes that train one run none goes on alone"
            )
            _give_back(claim, reason)
            raise UserError(
                f"{reason}; start them all again, and the last checkpoint is gone on from"
            ) from error
        if job.pack.has_width and job.pack.width > 1 and lacks_memory(_brief(error)):
            with contextlib.suppress(LostClaim, DiskError):
                widths.narrow(job, ledger, _brief(error))
            return False
        own = isinstance(error, DiskError) and not error.is_everywhere
        if isinstance(error, UserError) and not own:
            _give_back(claim, str(error))
            raise
        if not claim.begun and lacks_memory(_brief(error)):
            reason = f"pack {claim.pack_id} did not come to its first step ({_brief(error)}); {MORE_MEMORY}"
            _give_back(claim, reason)
            raise UserError(reason) from error
        _fail(claim, f"{type(error).__name__}: {error}")
    return True


@contextlib.contextmanager
def _everybodys(what: str) -> Iterator[None]:
    """Raise what goes wrong in the body as a UserError."""
    try:
        yield
    except (UserError, stopping.Interrupted):
        raise
    except Exception as error:
        _log.info("%s", traceback.format_exc())
        remedy = f"; {MORE_MEMORY}" if lacks_memory(_brief(error)) else ""
        raise UserError(f"{what}: {_brief(error)}{remedy}") from error


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


@contextlib.contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Warnings go to the terminal, and with the tracebacks to the pack's log; even that of a crash of Python."""
    logger = logging.getLogger("lmscale")
    with explained(log_of(folder), "open"):
        opened = log_of(folder).open("a")
    with opened as file:
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
        if sha256_of(path) != manifest.sources[split]["sha256"]:
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
