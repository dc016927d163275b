"""Checkpoints: one file each, arrays and what they belong to, that loads whole or not at all and runs no
code.

A state that several processes have between them is a file of each: the others' are `.part`s, and the first writes
its own, which names them, when all of these are on the disk. Nobody ever has the whole.

The file: 8 bytes of magic, the header's length (8 bytes, little-endian), the header (JSON: step, meta,
arrays), zeros up to a multiple of 64, the arrays' bytes (little-endian, each padded to 64), SHA-256 of
all before it. When to save, and what belongs in a state, is the loop's business.
"""

import contextlib
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lmscale import processes
from lmscale.durable import Fence, explained, make_folder, replace
from lmscale.errors import UserError
from lmscale.jsonfiles import canonical

_MAGIC = b"lmsckpt1"
_ALIGN = 64
_DIGEST = 32
_PARTS = "parts"  # of the meta that is written: the names of the other processes' files
_NAME = re.compile(r"step-(\d{12})(\.pinned)?\.ckpt")
_PART = re.compile(r"step-(\d{12})\.\d+\.\d+\.part")
_log = logging.getLogger(__name__)


class CheckpointMismatch(UserError):
    """A checkpoint of another run or another execution: it is refused, with the keys that differ."""


class _Bad(Exception):
    """The reason why a file is no checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A state to go on from: arrays by name, at `step`. `problems` names files that were set aside."""

    step: int
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    problems: tuple[str, ...] = ()


def _path(folder: Path, step: int, pinned: bool) -> Path:
    return folder / f"step-{step:012d}{'.pinned' if pinned else ''}.ckpt"


def saved(folder: Path) -> list[tuple[int, bool, Path]]:
    """Return (step, pinned, path) of the checkpoints in a folder, oldest first, by their names alone."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), bool(match[2]), path))
    return sorted(found)


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint, by its name alone; -1 where there is none."""
    return max((step for step, _, _ in saved(folder)), default=-1)


def save(
    folder: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    pinned: bool = False,
    keep: int = 2,
    fence: Fence | None = None,
    claim: int = 0,
) -> Path:
    """Write the checkpoint of `step`, then remove all but the newest `keep` unpinned ones. Of several processes
    each calls this with its own arrays and the number of their claim, which no other try has.

    `meta` is what a state depends on (spec, execution), as JSON: `load` refuses to give the state to another.
    A pinned checkpoint stays until it is removed by hand: branches start from it.
    Raises DiskError, LostClaim, and TypeError for an array that holds objects.
    """
    make_folder(folder)
    path = _path(folder, step, pinned)
    if processes.joined():
        parts = [folder / f"step-{step:012d}.{claim:06d}.{i}.part" for i in range(1, processes.count())]
        if not processes.leads():
            return _save_part(parts[processes.index() - 1], step, arrays, meta, fence)
        processes.all_wrote(parts)
        meta = {**meta, _PARTS: [part.name for part in parts]}
    replace(path, _encode(step, arrays, meta), fence, kind="checkpoint")
    unpinned = [old for _, is_pinned, old in saved(folder) if not is_pinned]
    for old in unpinned[: max(0, len(unpinned) - keep)]:
        with contextlib.suppress(OSError):  # an old file too many does no harm
            old.unlink()
    _remove_parts(folder, step)
    return path


def _save_part(
    path: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    fence: Fence | None,
) -> Path:
    try:
        replace(path, _encode(step, arrays, meta), fence, kind="part")
    except Exception as error:
        processes.wrote(path, str(error) or type(error).__name__)
        raise
    processes.wrote(path)
    return path


def _remove_parts(folder: Path, before: float = math.inf) -> None:
    """Remove the parts whose checkpoint is gone, or never was, of steps up to `before`."""
    kept = {step for step, _, _ in saved(folder)}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _PART.fullmatch(path.name)
        if match and int(match[1]) not in kept and int(match[1]) <= before:
            with contextlib.suppress(OSError):
                path.unlink()


class Saver:
    """Saves in a thread, one at a time, so that training need not wait for the disk. What goes wrong there is
    raised by the next call; leaving the context waits for the last."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "saver")
        self._last: Future[Path] | None = None

    def save(
        self,
        folder: Path,
        step: int,
        arrays: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        pinned: bool = False,
        keep: int = 2,
        fence: Fence | None = None,
        claim: int = 0,
    ) -> None:
        """As the function `save`, soon. Nobody may write into `arrays` any more."""
        self.wait()
        self._last = self._thread.submit(save, folder, step, arrays, meta, pinned, keep, fence, claim)

    def wait(self) -> None:
        """Return when what was asked for is on the disk."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self.wait()


def _encode(
    step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> Iterator[bytes | memoryview]:
    entries, parts = [], []
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects ({array.dtype})")
        array = np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray makes a scalar [1]
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        entries.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape)})
        parts.append(array)
    header = canonical({"step": step, "meta": meta, "arrays": entries}).encode()
    digest = hashlib.sha256()
    start = _MAGIC + len(header).to_bytes(8, "little") + header
    for chunk in (start + bytes(-len(start) % _ALIGN), *(part for array in parts for part in _padded(array))):
        digest.update(chunk)
        yield chunk
    yield digest.digest()


def _mapped(path: Path, dtype: Any) -> np.ndarray:
    return np.memmap(path, dtype, mode="r")


def _padded(array: np.ndarray) -> Iterator[bytes | memoryview]:
    if array.size:
        yield array.reshape(-1).view(np.uint8).data
    if array.nbytes % _ALIGN:
        yield bytes(-array.nbytes % _ALIGN)


def _dtype(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # bfloat16 and the float8 family; comes with jax

        return np.dtype(getattr(ml_dtypes, name))


def _whole(path: Path) -> tuple[int, dict[str, np.ndarray], dict[str, Any]]:
    """(step, arrays, meta) of a checkpoint with its parts."""
    step, arrays, meta = _decode(path)
    for name in meta.pop(_PARTS, ()):
        try:
            part_step, part, part_meta = _decode(path.parent / name, _mapped)  # read where a device needs it
        except _Bad as bad:
            raise _Bad(f"its part {name}: {bad}") from bad
        if (part_step, part_meta) != (step, meta):
            raise _Bad(f"its part {name} belongs to something else")
        arrays |= part
    return step, arrays, meta


def _decode(path: Path, read: Any = np.fromfile) -> tuple[int, dict[str, np.ndarray], dict[str, Any]]:
    """(step, arrays, meta) of a file. Raises _Bad saying why it is not to be believed."""
    try:
        content = read(path, np.uint8)  # one buffer; the arrays are views of it
    except (OSError, ValueError) as error:
        raise _Bad(f"cannot be read ({error})") from error
    if len(content) < len(_MAGIC) + 8 + _DIGEST:
        raise _Bad("truncated")
    if content[: len(_MAGIC)].tobytes() != _MAGIC:
        raise _Bad("not a checkpoint of lmscale")
    if hashlib.sha256(content[:-_DIGEST].data).digest() != content[-_DIGEST:].tobytes():
        raise _Bad("truncated or damaged: its checksum does not match")
    at = len(_MAGIC) + 8
    length = int.from_bytes(content[len(_MAGIC) : at].tobytes(), "little")
    try:
        header = json.loads(content[at : at + length].tobytes())
        at += length
        arrays = {}
        for entry in header["arrays"]:
            at += -at % _ALIGN
            dtype, shape = _dtype(entry["dtype"]), tuple(entry["shape"])
            nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            arrays[entry["name"]] = content[at : at + nbytes].view(dtype).reshape(shape)
            at += nbytes
        return int(header["step"]), arrays, dict(header["meta"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Bad(f"its checksum matches but its header does not parse ({error!r})") from error


def load(
    folder: Path, meta: Mapping[str, Any], step: int | None = None, at_most: int | None = None
) -> Checkpoint | None:
    """Load the newest good checkpoint of a folder, of those up to `at_most`, or the one of `step`; None where there
    is none.

    A file that is truncated, damaged or foreign is renamed to *.bad, named in a warning and in
    `problems`, and the one before it is taken. Raises CheckpointMismatch where `meta` differs from the
    checkpoint's.
    """
    problems: list[str] = []
    there = [item for item in saved(folder) if step in (None, item[0])]
    there = [item for item in there if at_most is None or item[0] <= at_most]
    for named_step, _, path in reversed(there):
        try:
            found_step, arrays, found_meta = _whole(path)
            if found_step != named_step:
                raise _Bad(f"its name does not match what it holds, step {found_step}")
        except _Bad as error:
            problems.append(f"checkpoint {path} set aside: {error}")
            _log.warning(problems[-1])
            with contextlib.suppress(OSError):  # a folder that cannot be written can still be read
                path.rename(path.with_name(path.name + ".bad"))
            continue
        different = differences(json.loads(canonical(meta)), found_meta)
        if different:
            raise CheckpointMismatch(
                f"checkpoint {path} belongs to something else: {'; '.join(different)}; "
                f"put these back, or move {folder} away to start over"
            )
        return Checkpoint(found_step, arrays, found_meta, tuple(problems))
    return None


def differences(asked: Any, found: Any, where: str = "") -> list[str]:
    """List the keys, dotted, in which two JSON values differ, with both values."""
    if isinstance(asked, dict) and isinstance(found, dict):
        keys = sorted(set(asked) | set(found))
        absent = "(absent)"
        return [
            line
            for key in keys
            for line in differences(
                asked.get(key, absent), found.get(key, absent), f"{where}.{key}" if where else key
            )
        ]
    return [] if asked == found else [f"{where or 'meta'} is {asked!r} now, {found!r} in the checkpoint"]


def remove(folder: Path, pinned: bool = False) -> None:
    """Remove a finished pack's checkpoints, the pinned ones only where asked."""
    for _, is_pinned, path in saved(folder):
        if pinned or not is_pinned:
            with explained(path, "remove"):
                path.unlink(missing_ok=True)
    _remove_parts(folder)
