"""MLflow's stores, read without it: the SQLite database, and the folders of the file store (mlruns/)."""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from analysis.errors import UserError
from analysis.sources.logged import history_of, run_of
from analysis.sources.run import TrackedRun
from analysis.sources.sql import opened

_TABLES = {"runs", "metrics", "params", "tags"}
_FINISHED = ("FINISHED", "3")  # the file store has its number


def recognises(path: Path) -> bool:
    """Say whether a file is a database with MLflow's tables, or a folder holds runs as its file store does."""
    try:
        if path.is_dir():
            return any(True for _ in _run_folders(path))
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                return False
        with closing(opened(path)) as database:
            names = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        return {name for (name,) in names} >= _TABLES
    except (OSError, sqlite3.Error):
        return False


def read(path: Path) -> list[TrackedRun]:
    """Read the runs that were not deleted. UserError, one line, where the database is damaged or there is none."""
    if path.is_dir():
        runs = [run for folder in _run_folders(path) if (run := _from_folder(folder))]
    else:
        try:
            with closing(opened(path)) as database:
                runs = _from_database(database)
        except sqlite3.Error as error:
            raise UserError(f"{path}: it cannot be read ({error}); copy it again from its server") from error
    if not runs:
        raise UserError(f"{path}: a store of MLflow without a run")
    often = Counter(run.name for run in runs)
    return [
        run if often[run.name] == 1 else replace(run, name=f"{run.name}-{str(run.config['run_id'])[:8]}")
        for run in runs
    ]


def _from_database(database: sqlite3.Connection) -> list[TrackedRun]:
    told: dict[str, dict[str, object]] = {}
    for run, name, value in database.execute("select run_uuid, key, value from params"):
        told.setdefault(run, {})[name] = _plain(value)
    kept = "select run_uuid, name, status from runs where lifecycle_stage = 'active' order by rowid"
    runs = []
    for run, name, status in database.execute(kept).fetchall():
        found = database.execute(
            "select step, key, value from metrics where run_uuid = ? and not is_nan order by rowid", (run,)
        )
        columns = list(zip(*found, strict=True)) or [(), (), ()]
        config = {"run_id": run} | told.get(run, {})
        runs.append(run_of(name or run, config, history_of(*columns), status in _FINISHED))
    return runs


def _run_folders(path: Path) -> Iterator[Path]:
    """The folders of runs in a store, in one of its experiments, or the folder of a run."""
    for depth in ("", "*/", "*/*/", "mlruns/*/*/"):
        for meta in sorted(path.glob(f"{depth}meta.yaml")):
            if (meta.parent / "metrics").is_dir():
                yield meta.parent


def _from_folder(folder: Path) -> TrackedRun | None:
    text = (folder / "meta.yaml").read_text(errors="replace")
    meta = {
        name: value.strip(" '\"") for name, _, value in (line.partition(":") for line in text.splitlines())
    }
    if meta.get("lifecycle_stage") == "deleted":
        return None
    rows: list[tuple[float, int, str, float]] = []
    bad: list[str] = []
    for path in _files(folder / "metrics"):
        name = path.relative_to(folder / "metrics").as_posix()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            try:
                when, value, step = line.split()[:3]
                rows.append((float(when), int(step), name, float(value)))
            except ValueError:
                bad.append(f"{path} line {number}: not a time, a value and a step")
    rows.sort(key=lambda row: row[0])  # a file a metric: the time is their common order
    params = folder / "params"
    config = {path.relative_to(params).as_posix(): _plain(path.read_text()) for path in _files(params)}
    history = history_of([row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows])
    more = f" and {len(bad) - 1} more lines" if len(bad) > 1 else ""
    name, status = meta.get("run_name") or folder.name, meta.get("status", "")
    note = f"{bad[0]}{more}; left out" if bad else ""
    return run_of(name, {"run_id": folder.name} | config, history, status in _FINISHED, note)


def _plain(text: str) -> object:
    """Return the number that a setting kept as text is, or the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and math.isfinite(value) else text


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
