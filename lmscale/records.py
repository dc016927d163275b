"""A run's records: one JSON line an evaluation, appended whole, read with suspicion. The schema is the
contract with whoever reads run folders; what the numbers mean is the evaluation's business.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmscale import faults
from lmscale.durable import Fence, disk_error, explained, replace, sync_folder
from lmscale.jsonfiles import canonical

TOTAL_TOLERANCE = 1e-6  # relative, between the total and the weighted sum of its components


class RecordError(ValueError):
    """A record that breaks the schema: a bug of whoever made it, not a person's mistake."""


def append(path: Path, record: Mapping[str, Any], fence: Fence | None = None) -> None:
    """Add one line, by one write, and sync it. A half-written last line (a kill, a full disk) is removed
    first.

    The file is opened before the fence is asked: a takeover always puts a new file in place
    (`truncate_after`), so a write that comes too late goes to a file which nobody can open any more.
    Raises DiskError with the file as it was.
    """
    data = (canonical(record) + "\n").encode()
    with explained(path):
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if fence:
            fence.check()
            faults.point("record.checked")
        size = _whole_lines(fd)
        os.ftruncate(fd, size)
        try:
            faults.torn("record.half", fd, data)
            written = os.write(fd, data)
            if written < len(data):  # the rest would not fit: let the system say why
                os.write(fd, data[written:])
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        os.close(fd)
    faults.point("record.appended")


def _whole_lines(fd: int) -> int:
    """The length of an open file up to its last line break."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 65536)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_records(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of a file in order, and a sentence for each line that cannot be believed: not whole,
    not JSON, not an object with a step, or not after the one before. A bad line costs that line. Raises
    DiskError where the file cannot be read at all.
    """
    records: list[dict[str, Any]] = []
    problems: list[str] = []
    with explained(path, "read"):
        content = path.read_bytes()
    for number, record, problem in lines_of(content):
        if record is not None and records and record["step"] <= records[-1]["step"]:
            problem = f"step {record['step']} after step {records[-1]['step']}"
        if record is None or problem:
            problems.append(f"{path} line {number}: {problem}; the line is left out")
        else:
            records.append(record)
    return records, problems


def lines_of(content: bytes) -> list[tuple[int, dict[str, Any] | None, str | None]]:
    """Parse lines: (number, record, problem) of each; record is None where there is a problem."""
    lines = content.split(b"\n")
    tail = lines.pop()
    parsed = [(number, *_parse(line)) for number, line in enumerate(lines, 1)]
    if tail:
        parsed.append((len(lines) + 1, None, "half-written (no line break)"))
    return parsed


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    try:
        value = json.loads(line.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({error})"
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        return None, "not an object with a whole number `step`"
    return value, None


def truncate_after(path: Path, step: int | None, fence: Fence | None = None) -> list[str]:
    """Keep the lines up to `step`, the step of the checkpoint that a run goes on from; None keeps nothing.

    Lines after it are written again, byte for byte, by the run. Bad lines between good ones stay (and are
    reported by `read` for ever); bad lines at the end go. Puts a new file in place even where nothing
    changes: see `append`. Returns a sentence for each bad line.
    """
    with explained(path, "read"):
        content = path.read_bytes() if step is not None and path.exists() else b""
    lines = lines_of(content)
    keep = max(
        (n for n, record, _ in lines if record is not None and record["step"] <= (step or 0)), default=0
    )
    kept = b"".join(line + b"\n" for line in content.split(b"\n")[:keep])
    replace(path, [kept], fence, kind="truncate")
    return [f"{path} line {number}: {problem}" for number, _, problem in lines[:keep] if problem]


def check_record(record: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Raise RecordError unless a record has the schema of the run folder and its total, which is computed
    independently, is the weighted sum of its components to 1e-6 relative (weights:
    spec["data"]["components"]). Losses are None, all that depend on one together, where they are not
    finite.
    """
    for field in ("step", "tokens", "flops", "skipped_steps"):
        value = record.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise RecordError(f"{field}={value!r}: must be a number from 0 up")
    fields = {"step", "tokens", "flops", "skipped_steps", "loss", "tasks", "ngrams"}
    if unknown := set(record) - fields - {"average", "experts", "sources", "blocks"}:
        raise RecordError(f"fields that the schema does not have: {sorted(unknown)}")
    for layer, load in enumerate((record.get("experts") or {"load": []})["load"]):
        if not abs(math.fsum(load) - 1) <= TOTAL_TOLERANCE * len(load):
            raise RecordError(f"experts.load[{layer}]={load}: must be shares of 1")
    for evaluated in (record, *([record["average"]] if "average" in record else [])):
        _check_loss(evaluated.get("loss"), spec)
        for task, variants in (evaluated.get("tasks") or {}).items():
            for variant, score in variants.items():
                _check_score(f"tasks.{task}.{variant}", score)


def _check_loss(loss: Any, spec: Mapping[str, Any]) -> None:
    if not isinstance(loss, Mapping) or "total" not in loss:
        raise RecordError(f"loss={loss!r}: must hold `total` and each component")
    weights = {part["name"]: part["weight"] for part in spec["data"]["components"]}
    missing = set(weights) - set(loss)
    if missing:
        raise RecordError(f"loss lacks the components {sorted(missing)}")
    classes: dict[str, list[Any]] = {}
    for name, value in loss.items():
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise RecordError(f"loss.{name}={value!r}: must be finite, or null")
        owner, dot, _ = name.partition(".")
        if dot and owner in weights:
            classes.setdefault(owner, []).append(value)
        elif name != "total" and name not in weights:
            raise RecordError(f"loss.{name}: no such component")
    _check_sum("total", loss["total"], [(w, loss[name]) for name, w in weights.items() if w])
    for owner, values in classes.items():
        _check_sum(owner, loss[owner], [(1.0, value) for value in values])


def _check_sum(name: str, whole: float | None, parts: list[tuple[float, float | None]]) -> None:
    if whole is None or any(value is None for _, value in parts):
        if whole is None and any(value is None for _, value in parts):
            return
        raise RecordError(f"loss.{name}={whole!r} and its parts: one is null and the other is not")
    weighted = math.fsum(weight * value for weight, value in parts if value is not None)
    if not abs(whole - weighted) <= TOTAL_TOLERANCE * max(abs(whole), abs(weighted)):
        raise RecordError(f"loss.{name}={whole!r} is not the sum of its parts, {weighted!r}")


def _check_score(where: str, score: Mapping[str, Any]) -> None:
    n, correct = score.get("n"), score.get("correct")
    if not isinstance(n, int) or n < 1:
        raise RecordError(f"{where}.n={n!r}: must be a whole number from 1 up")
    if not isinstance(correct, int | float) or not 0 <= correct <= n:
        raise RecordError(f"{where}.correct={correct!r}: must be from 0 to n={n}")
    for metric in ("nll", "brier", "byte_accuracy"):
        value = score.get(metric)
        if value is not None and not (isinstance(value, int | float) and value >= 0):
            raise RecordError(f"{where}.{metric}={value!r}: must be a number from 0 up, or null")
