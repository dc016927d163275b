"""How many runs of a pack are trained at a time: measured on the device where it is trained, before its first step;
halved where the memory ends. Kept beside speeds.json, by shape, batch, device and version.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from lmscale import checkpoint, faults, slots
from lmscale.device import lacks_memory
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json, write_json
from lmscale.ledger import Ledger
from lmscale.packs import Job, outcome_path
from lmscale.plan import Pack
from lmscale.speeds import shape_key

KEPT = "lanes.json"
GROWTH = 4  # from one number of lanes that is tried to the next: each costs a compilation
GAIN = 1.05  # of a number over the one before, below which no more are tried
_log = logging.getLogger(__name__)


def decided(job: Job, speed: Callable[[int], float]) -> Job:
    """Decide how many runs of a pack have lanes at a time, where its execution is not frozen yet. speed: measures
    the tokens a second of so many."""
    pack, claim = job.pack, job.claim
    if claim.is_frozen or len(pack.runs) == 1:
        return job
    path, key = job.folder.parent / KEPT, key_of(pack)
    known, width = kept(path, key), pack.width
    if not pack.has_width:
        width = fastest(known["speeds"], len(pack.runs), speed, lambda found: keep(path, key, speeds=found))
    width = min(width, known.get("most", width))
    execution = {name: value for name, value in pack.execution.items() if name != "width"}
    if width < len(pack.runs):
        execution["width"] = width
    claim.execution = execution
    pack = dataclasses.replace(pack, execution=execution, named=pack.pack_id)
    return dataclasses.replace(job, pack=pack)


def known(runs: Path, pack: Pack) -> int | None:
    """Return the number of lanes that `decided` would choose without measuring; None where it would measure."""

    def unknown(width: int) -> float:
        raise LookupError(width)

    found = kept(runs / KEPT, key_of(pack))
    with contextlib.suppress(LookupError):
        return min(fastest(found["speeds"], len(pack.runs), unknown), found.get("most", len(pack.runs)))
    return None


def fastest(
    known: dict[str, float],
    most: int,
    speed: Callable[[int], float],
    keep: Callable[[dict[str, float]], None] = lambda found: None,
) -> int:
    """Find the number of lanes, up to `most`, that trains the most tokens a second: one lane, and so many times
    more as long as it gains. What is known is not measured again. One is among those that are compared, so that
    lanes are never slower than one at a time."""
    found, width, before = dict(known), 1, 0.0
    while True:
        if str(width) not in found:
            found[str(width)] = _measured(speed, width)
            keep(found)
        if width == most or found[str(width)] < GAIN * before:
            return max((w for w in map(int, found) if w <= most), key=lambda w: (found[str(w)], -w))
        before, width = found[str(width)], min(width * GROWTH, most)


def _measured(speed: Callable[[int], float], width: int) -> float:
    """Measure a number of lanes; 0 where they do not fit the memory. One lane must fit."""
    try:
        found = speed(width)
    except Exception as error:
        if width == 1 or not lacks_memory(str(error)):
            raise
        found = 0.0
    _log.info("%d lanes: %.0f tokens a second", width, found)
    return found


def narrow(job: Job, ledger: Ledger, reason: str) -> None:
    """Give a pack back that ran out of memory, to go on with half the lanes: runs that have ended stay, the others
    begin anew, under an execution of their own.

    A kill at any line leaves a pack that runs out of memory once more, or that is narrow already.
    """
    pack, half = job.pack, job.pack.width // 2
    job.claim.check()
    keep(job.folder.parent / KEPT, key_of(pack), most=half)
    faults.point("narrow.kept")
    ended = [outcome_path(job, run).exists() for run in pack.runs]
    done = (
        slots.round_at(pack, ended) * slots.ROUND
    )  # rounds before it may have branches that start from them
    for step, pinned, path in checkpoint.saved(job.claim.folder):
        if not pinned or step >= done:
            path.unlink(missing_ok=True)
    faults.point("narrow.removed")
    ledger.thaw(pack.pack_id)
    faults.point("narrow.thawed")
    job.claim.release(f"out of memory with {pack.width} lanes, {half} from now on: {reason}")


def key_of(pack: Pack) -> str:
    """Name what a number of lanes holds for: shape, batch, model of the device, precision and jax."""
    kind, execution = jax.devices()[0].device_kind, pack.execution
    devices = f"{pack.mesh.size} x " if pack.mesh.size > 1 else ""
    return f"{devices}{kind} {shape_key(pack)} {execution['precision']} jax {execution['versions']['jax']}"


def kept(path: Path, key: str) -> dict[str, Any]:
    """Read what is kept under a key: {"speeds": {lanes: tokens a second}, "most": lanes that memory allows}."""
    return {"speeds": {}, **_read(path).get(key, {})}


def keep(path: Path, key: str, **what: Any) -> None:
    """Keep something under a key. Another process may do so at the same time: then one is measured again."""
    with contextlib.suppress(OSError, UserError):  # it is only spared work
        found = _read(path)
        write_json(path, {**found, key: {**found.get(key, {}), **what}})


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
        return found if isinstance(found, dict) else {}
    except (UserError, ValueError):
        return {}
