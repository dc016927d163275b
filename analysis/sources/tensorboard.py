"""TensorBoard event files: the scalars of each folder of them, and the settings of its HParams plugin.

A file is a chain of records, each with its length and checksums (TFRecord); `tensorboard` has the messages in them.
"""

import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import UserError
from analysis.sources.json_files import flat, object_in
from analysis.sources.logged import history_of, run_of
from analysis.sources.run import Source, TrackedRun

_MARK = b"brain.Event:"  # of the first record
_FRAME = struct.Struct("<QI")  # length, its checksum; then the content and its checksum
# Keras and estimators keep these in folders of their own; a metric of one is named after it.
_SPLITS = ("train", "validation", "valid", "val", "eval", "test")
_OF_HPARAMS = re.compile(r"\d{10}(\.\d+)?")  # a folder that torch's add_hparams makes in the run's
_MOST_CHECKED = 4096  # bytes: longer records are pictures and graphs, which are not read
_MOST_FILES = 20_000
_TEXT_OF_CONFIG = re.compile(r"(^|/)(args|config|model_config|hparams)(/|$)")


def is_events(path: Path) -> bool:
    """Say whether a file begins as an event file, or a folder holds some and no trainer's own state."""
    if path.is_dir():
        names = [name for _, name in zip(range(_MOST_FILES), _names(path), strict=False)]
        return any("tfevents" in name for name in names) and "trainer_state.json" not in names
    try:
        with path.open("rb") as file:
            return _MARK in file.read(64)
    except OSError:
        return False


def _names(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names


def read_events(path: Path) -> list[TrackedRun]:
    """Read a file, or each run of a folder: its files in the order in which they were begun.

    UserError where no file can be read. A file that is cut off or damaged is read as far as it is whole.
    """
    files = sorted(path.rglob("*tfevents*")) if path.is_dir() else [path]
    runs: dict[Path, list[tuple[float, str, Path]]] = {}
    for file in files:
        if is_events(file):
            folder, prefix = _run_of(file.parent, path)
            with file.open("rb") as opened:
                begun = struct.unpack_from("<d", opened.read(24).ljust(24, b"\0"), 13)[0]
            runs.setdefault(folder, []).append((begun, prefix, file))
    if not runs:
        raise UserError(f"{path}: no event file that begins as one ({len(files)} named so)")
    read = [_read(path, folder, sorted(found)) for folder, found in runs.items()]
    if all(run.history.empty for run in read):
        raise UserError(
            f"{path}: event files without a scalar; {'; '.join(read[0].notes) or 'none was logged'}"
        )
    return read


def _run_of(folder: Path, root: Path) -> tuple[Path, str]:
    """The folder that a run is named after, and what goes before its metrics' names."""
    if root.is_dir() and folder != root:
        if _OF_HPARAMS.fullmatch(folder.name):
            return folder.parent, ""
        if folder.name in _SPLITS:
            return folder.parent, f"{folder.name}/"
    return folder, ""


def _read(root: Path, folder: Path, files: list[tuple[float, str, Path]]) -> TrackedRun:
    steps: list[int] = []
    names: list[str] = []
    values: list[float] = []
    config: dict[str, object] = {}
    notes: list[str] = []
    started = ended = False
    for _, prefix, file in files:
        events, note = _events(file)
        notes += [note] if note else []
        for event in events:
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                if kind == "simple_value":
                    number: float | None = value.simple_value
                elif value.metadata.plugin_data.plugin_name == "hparams":
                    start, status = _session(value.metadata.plugin_data.content)
                    config |= start or {}
                    started, ended = started or start is not None, status if start is None else False
                    continue
                elif kind == "tensor":
                    number = _scalar(value, config)
                else:
                    continue
                if number is not None:
                    steps.append(event.step)
                    names.append(prefix + value.tag)
                    values.append(number)
    name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    history = history_of(steps, names, values)
    return run_of(name, config, history, ended if started else None, "; ".join(notes))


def _events(file: Path) -> tuple[list[Any], str]:
    """The events of a file that are whole, and what is wrong with the rest."""
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto import event_pb2
    except ImportError as error:
        raise UserError(
            f"{file}: event files need tensorboard: pip install 'lmscale[tensorboard]'"
        ) from error
    data = file.read_bytes()
    frames, read = _frames(data)
    events = []
    for frame in frames:
        try:
            events.append(event_pb2.Event.FromString(frame))
        except DecodeError:
            break
    if read == len(data) and len(events) == len(frames):
        return events, ""
    return events, f"{file}: cut off or damaged after event {len(events)}; what is whole is read"


def _frames(data: bytes) -> tuple[list[bytes], int]:
    """The contents of the records up to the first that is not whole, and where that begins."""
    at, frames, starts, sums = 0, [], [], []
    while at + _FRAME.size <= len(data):
        length, _ = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length + 4
        if end > len(data):
            break
        frames.append(data[at + _FRAME.size : end - 4])
        sums.append(int.from_bytes(data[end - 4 : end], "little"))
        starts.append(at)
        at = end
    bad = np.flatnonzero(~_good(frames, np.array(sums, np.uint32)))
    return (frames[: bad[0]], starts[bad[0]]) if len(bad) else (frames, at)


def _table() -> np.ndarray:
    """CRC-32C (Castagnoli) of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


def _good(frames: list[bytes], sums: np.ndarray) -> np.ndarray:
    """Whether each record has its masked CRC-32C (TensorFlow's record_writer); all records of a length at once."""
    good, table = np.ones(len(frames), bool), _table()
    lengths = np.array([len(frame) for frame in frames])
    for length in np.unique(lengths[lengths <= _MOST_CHECKED]):
        rows = np.flatnonzero(lengths == length)
        content = np.frombuffer(b"".join(frames[row] for row in rows), np.uint8).reshape(len(rows), length)
        crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
        for column in content.T:
            crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
        crc = ~crc
        masked = ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
        good[rows] = masked == sums[rows]
    return good


def _session(content: bytes) -> tuple[Mapping[str, object] | None, bool]:
    """The settings of the start of a session, and whether it is the end of one that succeeded."""
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    found = plugin_data_pb2.HParamsPluginData.FromString(content)
    if found.HasField("session_start_info"):
        said = found.session_start_info.hparams
        return {name: _number(said[name]) for name in said if said[name].WhichOneof("kind")}, False
    return None, found.session_end_info.status == api_pb2.Status.Value("STATUS_SUCCESS")


def _number(value: Any) -> object:
    found = getattr(value, value.WhichOneof("kind"))
    return int(found) if isinstance(found, float) and found.is_integer() and abs(found) < 2**53 else found


def _scalar(value: Any, config: dict[str, object]) -> float | None:
    """The number that a tensor holds; settings that it holds as JSON text go to `config`."""
    from tensorboard.util import tensor_util

    tensor = value.tensor
    if tensor.string_val or tensor.dtype == 7:  # DT_STRING
        if _TEXT_OF_CONFIG.search(value.tag):
            config |= flat(object_in(b"".join(tensor.string_val)))
        return None
    found = tensor_util.make_ndarray(tensor)
    return float(found) if found.size == 1 else None


SOURCE = Source("tensorboard", "TensorBoard event files, or a folder of them", is_events, read_events)
