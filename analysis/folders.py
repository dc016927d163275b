"""From run folders to tables: read what a sweep wrote, line by line, and keep it as Parquet.

The record schema (DESIGN.md, "The run folder") is the contract with whatever trained the runs. A damaged
line costs that line, a damaged run that run, and each is said; the tables follow the folders.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import UserError

SHAPE = ("dial", "n_layer", "d_model", "n_head", "d_head", "context", "vocab_size", "batch_tokens")
OUTCOMES = ("done", "diverged", "failed")
UNFINISHED = "unfinished"
_SOURCES, _PROBLEMS = b"analysis.sources", b"analysis.problems"
_TABLES = {"runs": "table.parquet", "tasks": "tasks.parquet"}
# Part of the fingerprint: a table written by an older layout of the columns is rebuilt.
_LAYOUT = 3
_TOTAL_TOLERANCE = 1e-6


def is_run(folder: Path) -> bool:
    """Whether `folder` is one run's."""
    return (folder / "spec.json").is_file()


def is_experiment(folder: Path) -> bool:
    """Whether `folder` holds runs, or the tables that were made of them."""
    return any(True for _ in _run_folders(folder)) or any((folder / t).is_file() for t in _TABLES.values())


def load_experiment(folder: Path, kind: str) -> tuple[pd.DataFrame, list[str]]:
    """The `runs` or `tasks` table of `runs/<experiment>` (or of one run), and sentences on what was wrong.

    Reads table.parquet and tasks.parquet where they are newer than every run, otherwise reads the run folders
    and writes both, whole or not at all. A folder that cannot be written still gives its table.
    """
    if is_run(folder):
        runs, tasks, problems = read_runs([folder])
        return (runs if kind == "runs" else tasks), problems
    folders = list(_run_folders(folder))
    kept = {name: _read_kept(folder / file) for name, file in _TABLES.items()}
    wanted = kept[kind]
    if not folders:
        if wanted is None:
            raise UserError(
                f"{folder}: no runs in this folder (none of its folders has a spec.json); "
                "name the folder of an experiment, runs/<experiment>, or a CSV or Parquet file"
            )
        return wanted.to_pandas(), [*_told(wanted), "the run folders are gone: the table is what they left"]
    sources = _fingerprint(folders)
    fresh = all(t is not None and (t.schema.metadata or {}).get(_SOURCES) == sources for t in kept.values())
    if fresh and wanted is not None:
        return wanted.to_pandas(), _told(wanted)
    runs, tasks, problems = read_runs(folders)
    notes = _missing(kept["runs"], folders)
    notes += [
        f"{file} could not be read (half-written?) and was rebuilt from the run folders"
        for name, file in _TABLES.items()
        if kept[name] is None and (folder / file).exists()
    ]
    made = {"runs": _as_arrow(runs, sources, problems), "tasks": _as_arrow(tasks, sources, problems)}
    try:
        for name, table in made.items():
            _write(folder / _TABLES[name], table)
    except OSError as error:
        notes.append(f"the tables could not be kept in {folder} ({error.strerror}); nothing else is affected")
    return made[kind].to_pandas(), problems + notes


def read_runs(folders: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Every evaluation of these runs: the table of runs, the long table of tasks, and what was wrong.

    A run without a single evaluation (it failed before the first) is one row without a loss, so that a
    failure is never silently dropped.
    """
    rows: list[dict[str, Any]] = []
    task_rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for folder in folders:
        spec = _read_json(folder / "spec.json", problems)
        if spec is None:
            continue
        outcome = _read_outcome(folder, problems)
        try:
            run_rows, run_tasks = _run_rows(folder, spec, outcome, problems)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"{folder.name}/spec.json: {what}; the run is left out")
            continue
        rows += run_rows
        task_rows += run_tasks
    tasks = pd.DataFrame(task_rows, columns=None if task_rows else ["run_id", "task", "variant", "final"])
    return pd.DataFrame(rows), tasks, problems


def _run_rows(
    folder: Path, spec: Mapping[str, Any], outcome: Mapping[str, Any], problems: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    groups = {name: int(_number(count, f"params.{name}") or 0) for name, count in spec["params"].items()}
    total = sum(groups.values())
    _number(total, "the sum of params")
    nonembedding = total - groups.get("embedding", 0) - groups.get("unembedding", 0)
    active = nonembedding + groups.get("unembedding", 0)
    data = spec["data"]
    about = {
        "run_id": folder.name,
        "group": _text(spec.get("trunk"), "trunk") or folder.name,
        "kind": _text(spec.get("kind", "run"), "kind"),
        "outcome": outcome["outcome"],
        "reason": _text(outcome.get("reason"), "reason"),
    }
    science = {
        **{name: _number(spec.get(name), name) for name in SHAPE},
        "seed": _number(spec["seed"], "seed"),
        "horizon_tokens": _number(spec.get("horizon_tokens"), "horizon_tokens"),
        "learning_rate": _number(spec.get("learning_rate"), "learning_rate"),
        "unique_tokens": _number(data.get("unique_tokens"), "unique_tokens"),
        "params": total,
        "params_nonembedding": nonembedding,
        "params_active_matmul": active,
        **{f"params_{name}": count for name, count in groups.items()},
        **{f"floor_{name}": floor for name, floor in _floors(spec.get("tasks") or {}).items()},
    }
    weights = {c["name"]: float(c["weight"]) for c in data.get("components", ())}
    records = list(_records(folder, weights, problems))
    if not records:
        ended = {name: _number(outcome.get(name), name) for name in ("step", "tokens")}
        nothing = {**ended, "flops": math.nan}
        return [{**about, "final": False, **science, **nothing, "skipped_steps": 0, "loss": math.nan}], []
    last = len(records) - 1 if outcome["outcome"] == "done" and spec.get("horizon_tokens") else None
    if last is not None and outcome.get("step") not in (None, records[-1]["step"]):
        problems.append(
            f"{folder.name}: done at step {outcome['step']}, but the last evaluation that can be read is of "
            f"step {records[-1]['step']}: the run has no final row"
        )
        last = None
    rows, task_rows = [], []
    for index, record in enumerate(records):
        tokens = record["tokens"]
        spent = {
            "flops": float(record["flops"]),
            "flops_6nd": 6.0 * total * tokens,
            "flops_6nd_nonembedding": 6.0 * nonembedding * tokens,
            "flops_6nd_active_matmul": 6.0 * active * tokens,
        }
        losses = {f"loss_{name}": _float(value) for name, value in record["loss"].items()}
        for order, found in (record.get("ngrams") or {}).items():
            for column, name in (("ngram", "loss"), ("kl", "kl")):
                losses[f"{column}_{order}"] = _float(_number(found.get(name), f"ngrams.{order}.{name}"))
        loss = _float(record["loss"].get(data["primary"]))
        when = {"step": record["step"], "tokens": tokens}
        skipped = {"skipped_steps": record.get("skipped_steps", 0)}
        final = {"final": index == last}
        rows.append({**about, **final, **science, **when, **spent, **skipped, "loss": loss, **losses})
        common = {
            **{name: about[name] for name in ("run_id", "group", "kind", "outcome")},
            **final,
            **{name: science[name] for name in ("dial", "seed", "horizon_tokens")},
            "size": nonembedding,
            "params": total,
            "tokens": tokens,
            "flops": float(record["flops"]),
            "loss": loss,
        }
        task_rows += [
            {**common, **row} for row in _task_rows(record.get("tasks") or {}, spec.get("tasks") or {})
        ]
    return rows, task_rows


def _floors(described: Mapping[str, Any]) -> dict[str, float]:
    """The least possible loss of each task's component, where the spec says it."""
    named = {task: _number(about.get("floor"), f"tasks.{task}.floor") for task, about in described.items()}
    return {task: float(floor) for task, floor in named.items() if floor is not None}


def _task_rows(tasks: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for task, variants in tasks.items():
        of_task = described.get(task) or {}
        for variant, score in variants.items():
            meta = {**of_task, **((of_task.get("variants") or {}).get(variant) or {})}
            scores = {name: _float(score.get(name)) for name in ("correct", "nll", "brier", "byte_accuracy")}
            yield {
                "task": task,
                "variant": variant,
                "total": _float(score.get("n")),
                **scores,
                "chance": _float(_number(meta.get("chance"), f"tasks.{task}.chance")),
                "ceiling": _float(_number(meta.get("ceiling", 1.0), f"tasks.{task}.ceiling")),
                "intended_class": _text(meta.get("intended_class"), f"tasks.{task}.intended_class"),
                "intended_metric": _text(meta.get("metric"), f"tasks.{task}.metric"),
            }


def _is_number(value: Any) -> bool:
    """A number that a table can hold: not a bool, not a count beyond 64 bits."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _number(value: Any, name: str) -> int | float | None:
    if value is not None and not (_is_number(value) and math.isfinite(value)):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a number")
    return value


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not text")
    return value


def _float(value: int | float | None) -> float:
    """A measured value; one that is missing is NaN, so that a column never changes its type."""
    return math.nan if value is None else float(value)


def _records(folder: Path, weights: Mapping[str, float], problems: list[str]) -> Iterator[dict[str, Any]]:
    path = folder / "records.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{folder.name}/records.jsonl: cannot be read ({error.strerror})")
        return
    step = -1
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            wrong = _wrong_record(record, step)
        except (ValueError, RecursionError):
            wrong = "not JSON"
        if wrong:
            problems.append(f"{folder.name}/records.jsonl line {number}: {wrong}; the line is left out")
            continue
        step = record["step"]
        apart = _total_apart(record["loss"], weights)
        if apart > _TOTAL_TOLERANCE:
            problems.append(
                f"{folder.name}/records.jsonl line {number}: the total loss and its weighted components "
                f"differ by {apart:.1e}, more than {_TOTAL_TOLERANCE:g}"
            )
        yield record


def _wrong_record(record: Any, step_before: int) -> str:
    """What keeps a line from being a record, or nothing."""
    if not isinstance(record, dict):
        return "not a record"
    for name in ("step", "tokens", "flops"):
        value = record.get(name)
        if not (isinstance(value, int | float) and _is_number(value) and 0 <= value < math.inf):
            return (
                f"{name} is {str(value)[:40]!r}" if isinstance(value, str) else f"{name} is {str(value)[:40]}"
            )
    if record["step"] <= step_before:
        return f"step {record['step']} comes after step {step_before}"
    loss = record.get("loss")
    if not isinstance(loss, dict) or "total" not in loss:
        return "no total loss"
    if not all(v is None or _is_number(v) for v in loss.values()):
        return "a loss is not a number"
    if not _is_number(record.get("skipped_steps", 0)):
        return "skipped_steps is not a number"
    tasks = record.get("tasks", {})
    if not isinstance(tasks, dict) or not all(
        isinstance(variants, dict) and all(isinstance(score, dict) for score in variants.values())
        for variants in tasks.values()
    ):
        return "the task scores are not {task: {variant: {...}}}"
    scores = (v for variants in tasks.values() for score in variants.values() for v in score.values())
    if not all(v is None or _is_number(v) for v in scores):
        return "a score is not a number"
    return ""


def _total_apart(loss: Mapping[str, Any], weights: Mapping[str, float]) -> float:
    """Relative distance of the total from the weighted sum of components; 0 where it cannot be formed."""
    parts = [(weight, loss.get(name)) for name, weight in weights.items()]
    total = loss["total"]
    if not parts or not total or any(value is None for _, value in parts):
        return 0.0
    distance = abs(sum(weight * float(value) for weight, value in parts if value is not None) - total)
    return distance / abs(total) if math.isfinite(distance) else 0.0


def _read_outcome(folder: Path, problems: list[str]) -> dict[str, Any]:
    path = folder / "outcome.json"
    outcome = _read_json(path, problems) if path.exists() else None
    if outcome is None:
        return {"outcome": UNFINISHED}
    if outcome.get("outcome") not in OUTCOMES:
        problems.append(f"{folder.name}/outcome.json: {outcome.get('outcome')!r} is none of {OUTCOMES}")
        return {**outcome, "outcome": UNFINISHED}
    return outcome


def _read_json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    where = f"{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror}); the run is left out")
        return None
    except (ValueError, RecursionError):
        problems.append(f"{where}: not JSON")
        return None
    if not isinstance(value, dict):
        problems.append(f"{where}: not a JSON object")
        return None
    return value


def _run_folders(folder: Path) -> Iterator[Path]:
    yield from (path.parent for path in sorted(folder.glob("*/spec.json")))


def _fingerprint(folders: list[Path]) -> bytes:
    """A digest of names, sizes and times of everything the tables are made of."""
    digest = hashlib.sha256(f"layout {_LAYOUT}".encode())
    for folder in folders:
        for name in ("spec.json", "outcome.json", "records.jsonl"):
            with contextlib.suppress(OSError):
                stat = (folder / name).stat()
                digest.update(f"{folder.name}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest().encode()


def _read_kept(path: Path) -> pa.Table | None:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None


def _told(table: pa.Table) -> list[str]:
    return list(json.loads((table.schema.metadata or {}).get(_PROBLEMS, b"[]")))


def _missing(kept: pa.Table | None, folders: list[Path]) -> list[str]:
    """Runs that an earlier table knew and whose folder has since gone."""
    if kept is None or "run_id" not in kept.column_names:
        return []
    gone = sorted(set(kept.column("run_id").to_pylist()) - {folder.name for folder in folders})
    return [f"run {name} was in the table and its folder is gone: it is left out" for name in gone]


def _as_arrow(frame: pd.DataFrame, sources: bytes, problems: list[str]) -> pa.Table:
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise UserError(f"the runs do not agree on what a column holds: {error}") from None
    metadata = {**(table.schema.metadata or {}), _SOURCES: sources, _PROBLEMS: json.dumps(problems).encode()}
    return table.replace_schema_metadata(metadata)


def _write(path: Path, table: pa.Table) -> None:
    # Beside and renamed: a reader, or a sweep that analyses the same folder, never meets half a table.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        share(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def share(path: Path) -> None:
    """Give a temporary file the permissions of a plainly written one; made by mkstemp it is private."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
