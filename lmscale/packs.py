"""A pack in its folder: what a worker must know of it, its log, the files of its runs."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmscale.claim import Claim
from lmscale.config import PackConfig
from lmscale.durable import make_folder
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json, write_json
from lmscale.mesh import MeshConfig
from lmscale.plan import Pack
from lmscale.spec import RunSpec, spec_of
from lmscale.typed import build

LOG_TAIL = 4000  # bytes


@dataclass(frozen=True)
class Job:
    """A claimed pack and where it lives. folder: runs/<experiment>."""

    pack: Pack
    config: PackConfig
    folder: Path
    claim: Claim


def write_pack(folder: Path, pack: Pack, context: Mapping[str, Any]) -> str:
    """Write what a job needs to know of a pack; returns the job's name. context: data, tasks, pack, corpora, and
    its folder of the text."""
    path = folder / "packs" / pack.pack_id / "pack.json"
    make_folder(path.parent)
    own = {"wave": pack.wave, "execution": pack.execution, "mesh": dataclasses.asdict(pack.mesh)}
    write_json(path, {**own, "pins": pack.pins, **context})
    return f"pack_{pack.pack_id}"  # never a bare id: Hydra would read 12e4 as a number


def read_pack(folder: Path, pack_id: str) -> tuple[Pack, dict[str, Any]]:
    """Read the pack that `write_pack` wrote, and its context."""
    found = read_json(folder / "packs" / pack_id / "pack.json")
    lanes = found["execution"]["lanes"]
    runs = tuple(spec_of(read_json(folder / lane / "spec.json")) for lane in lanes)
    mesh = build(MeshConfig, found.get("mesh", {}))  # absent before there were meshes
    return Pack(found["wave"], found["execution"], runs, tuple(found["pins"]), mesh, pack_id), found


@contextlib.contextmanager
def refused(folder: Path, pack_id: str) -> Iterator[None]:
    """Note that the body raised a UserError: a machine could not have the execution of this pack. Whoever plans
    with retry=true on another machine, and has no jax to compare with, starts such a pack over."""
    note = refusal(folder, pack_id)
    try:
        yield
    except UserError as error:
        with contextlib.suppress(OSError):
            note.write_text(f"{error}\n")
        raise
    with contextlib.suppress(OSError):
        note.unlink(missing_ok=True)


def refusal(folder: Path, pack_id: str) -> Path:
    """Return the path of that note."""
    return folder / "packs" / pack_id / "refused.txt"


def log_of(folder: Path) -> Path:
    """Return the path of the log of the pack that has this folder."""
    return folder / "log.txt"


def log_tail(folder: Path) -> str:
    """Read the end of a pack's log: what its outcome says of a crash."""
    try:
        with log_of(folder).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def outcome_path(job: Job, run: RunSpec) -> Path:
    """Return the path of a run's outcome; no file stands there until it has ended."""
    return job.folder / run.run_id / "outcome.json"
