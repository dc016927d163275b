"""The offline folders of Weights & Biases: `wandb/offline-run-*/run-ID.wandb`, each a log of a run's messages.

The file is LevelDB's log format: blocks of 32 KiB, in which records, whole or in pieces, have a checksum each.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import UserError
from analysis.sources.json_files import flat
from analysis.sources.logged import run_of
from analysis.sources.run import Source, TrackedRun

_HEADER = b":W&B"
_BLOCK = 32768
_PIECE = struct.Struct("<IHB")  # checksum, length, kind
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def is_offline(path: Path) -> bool:
    """Say whether a file is a run's log, or a folder holds some: a run's, a wandb folder, or the one it lies in."""
    try:
        if path.is_dir():
            return any(is_offline(file) for file in _logs(path))
        with path.open("rb") as file:
            return file.read(4) == _HEADER
    except OSError:
        return False


def _logs(folder: Path) -> list[Path]:
    found = [file for depth in ("", "*run-*/", "wandb/*run-*/") for file in folder.glob(f"{depth}*.wandb")]
    return sorted({file.resolve(): file for file in found if "latest-run" not in file.parts}.values())


def read_offline(path: Path) -> list[TrackedRun]:
    """Read a run's log, or those of a folder: the logs of one id, which restarts leave, are one run."""
    runs: dict[str, list[_Log]] = {}
    for file in _logs(path) if path.is_dir() else [path]:
        log = _read(file)
        runs.setdefault(log.id, []).append(log)
    read = [_joined(logs) for logs in runs.values()]
    if all(run.history.empty for run in read):
        raise UserError(f"{path}: no history in these logs; {'; '.join(read[0].notes) or 'none was logged'}")
    return read


class _Log:
    """What the messages of one file say."""

    def __init__(self, file: Path) -> None:
        self.id, self.name, self.group = file.stem.removeprefix("run-"), "", ""
        self.config: dict[str, object] = {}
        self.rows: list[dict[str, float]] = []
        self.clock = "_step"
        self.finished = False
        self.note = ""


def _read(file: Path) -> _Log:
    try:
        from google.protobuf.message import DecodeError
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise UserError(f"{file}: reading offline runs needs wandb: pip install 'lmscale[wandb]'") from error
    data = file.read_bytes()
    records, whole = _records(data)
    log = _Log(file)
    for number, content in enumerate(records):
        try:
            _take(log, wandb_internal_pb2.Record.FromString(content))
        except DecodeError:
            records, whole = records[:number], False
            break
    if not whole:
        log.note = f"{file}: cut off or damaged after record {len(records)}; what is whole is read"
    return log


def _records(data: bytes) -> tuple[list[bytes], bool]:
    """The records up to the first that is not whole, and whether that is the end."""
    at, pieces = len(_HEADER) + 3, b""
    records: list[bytes] = []
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < _PIECE.size:  # the rest of a block is empty
            at += left
            continue
        if at + _PIECE.size > len(data):
            return records, False
        checksum, length, kind = _PIECE.unpack_from(data, at)
        content = data[at + _PIECE.size : at + _PIECE.size + length]
        if len(content) < length or zlib.crc32(content, zlib.crc32(bytes([kind]))) != checksum:
            return records, False
        pieces = content if kind in (_WHOLE, _FIRST) else pieces + content
        if kind in (_WHOLE, _LAST):
            records.append(pieces)
        at += _PIECE.size + length
    return records, True


def _take(log: _Log, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "history":
        values = {_key(item): _value(item) for item in record.history.item}
        log.rows.append({name: value for name, value in values.items() if value is not None})
    elif kind == "run":
        log.id, log.name, log.group = record.run.run_id, record.run.display_name, record.run.run_group
        _settings(log, record.run.config)
    elif kind == "config":
        _settings(log, record.config)
    elif kind == "metric" and record.metric.step_metric:
        log.clock = record.metric.step_metric
    elif kind == "exit":
        log.finished = record.exit.exit_code == 0


def _settings(log: _Log, config: Any) -> None:
    said = {_key(item): json.loads(item.value_json) for item in config.update}
    log.config |= flat({name: value for name, value in said.items() if not name.startswith("_wandb")})


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _value(item: Any) -> float | None:
    """The number that a value is, None for others."""
    if item.value_json:
        try:
            return float(item.value_json)
        except ValueError:
            return None
    found = getattr(item, item.WhichOneof("value") or "key")
    return float(found) if isinstance(found, int | float) else None


def _joined(logs: list[_Log]) -> TrackedRun:
    last = logs[-1]
    rows = []
    for log in logs:
        for row in log.rows:
            own = {
                name: value for name, value in row.items() if not name.startswith("_") and name != log.clock
            }
            rows.append({"step": row.get(log.clock, row.get("_step")), **own})
    config = {name: value for log in logs for name, value in log.config.items()}
    note = "; ".join(log.note for log in logs if log.note)
    history = pd.DataFrame(rows, columns=None if rows else ["step"])
    named = {"group": last.group, **config} if last.group else config
    return run_of(last.name or last.id, {"run_id": last.id} | named, history, last.finished, note)


SOURCE = Source(
    "wandb", "offline folders of Weights & Biases (wandb/offline-run-*)", is_offline, read_offline
)
