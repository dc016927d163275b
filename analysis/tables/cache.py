"""The tables of an experiment, kept beside its run folders as Parquet and rebuilt whenever those have changed."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import UserError
from analysis.tables.atomic import write_whole
from analysis.tables.run_folder import LAYOUT, PARTS, Runs, is_run, read_runs

_SOURCES, _PROBLEMS, _SCIENCES = b"analysis.sources", b"analysis.problems", b"analysis.sciences"
_TABLES = {"runs": "table.parquet", "tasks": "tasks.parquet"}


def is_experiment(folder: Path) -> bool:
    """Say whether `folder` holds runs, or the tables that were made of them."""
    return any(True for _ in _run_folders(folder)) or any((folder / t).is_file() for t in _TABLES.values())


def load_experiment(folder: Path, kind: str) -> pd.DataFrame:
    """Return the `runs` or `tasks` table of `runs/<experiment>` (or of one run).

    `attrs["problems"]` are sentences on what was wrong, `attrs["sciences"]` what each science is. Reads
    table.parquet and tasks.parquet where they are newer than every run, otherwise reads the run folders and
    writes both, whole or not at all. A folder that cannot be written still gives its table.
    """
    if is_run(folder):
        found = read_runs([folder])
        table = found.runs if kind == "runs" else found.tasks
        table.attrs = {"problems": found.problems, "sciences": found.sciences}
        return table
    folders = list(_run_folders(folder))
    kept = {name: _read_kept(folder / file) for name, file in _TABLES.items()}
    wanted = kept[kind]
    if not folders:
        if wanted is None:
            raise UserError(
                f"{folder}: no runs in this folder (none of its folders has a spec.json); "
                "name the folder of an experiment, runs/<experiment>, or a CSV or Parquet file"
            )
        return _as_frame(wanted, ["the run folders are gone: the table is what they left"])
    sources = _fingerprint(folders)
    fresh = all(t is not None and (t.schema.metadata or {}).get(_SOURCES) == sources for t in kept.values())
    if fresh and wanted is not None:
        return _as_frame(wanted)
    found = read_runs(folders)
    notes = _missing(kept["runs"], folders)
    notes += [
        f"{file} could not be read (half-written?) and was rebuilt from the run folders"
        for name, file in _TABLES.items()
        if kept[name] is None and (folder / file).exists()
    ]
    made = {"runs": _as_arrow(found.runs, sources, found), "tasks": _as_arrow(found.tasks, sources, found)}
    try:
        for name, table in made.items():
            write_whole(folder / _TABLES[name], functools.partial(pq.write_table, table))
    except OSError as error:
        notes.append(f"the tables could not be kept in {folder} ({error.strerror}); nothing else is affected")
    return _as_frame(made[kind], notes)


def _run_folders(folder: Path) -> Iterator[Path]:
    yield from (path.parent for path in sorted(folder.glob("*/spec.json")))


def _fingerprint(folders: list[Path]) -> bytes:
    """A digest of names, sizes and times of everything the tables are made of."""
    digest = hashlib.sha256(f"layout {LAYOUT}".encode())
    files = [f / name for f in folders for name in ("spec.json", "outcome.json", "records.jsonl")]
    for path in [*files, *(f / PARTS for f in sorted({folder.parent for folder in folders}))]:
        with contextlib.suppress(OSError):
            stat = path.stat()
            digest.update(f"{path.parent.name}/{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest().encode()


def _read_kept(path: Path) -> pa.Table | None:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None


def _as_frame(table: pa.Table, notes: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a kept table, with what was told when it was made."""
    metadata = table.schema.metadata or {}
    frame = table.to_pandas()
    frame.attrs = {
        "problems": [*json.loads(metadata.get(_PROBLEMS, b"[]")), *notes],
        "sciences": json.loads(metadata.get(_SCIENCES, b"{}")),
    }
    return frame


def _missing(kept: pa.Table | None, folders: list[Path]) -> list[str]:
    """Runs that an earlier table knew and whose folder has since gone."""
    if kept is None or "run_id" not in kept.column_names:
        return []
    gone = sorted(set(kept.column("run_id").to_pylist()) - {folder.name for folder in folders})
    return [f"run {name} was in the table and its folder is gone: it is left out" for name in gone]


def _as_arrow(frame: pd.DataFrame, sources: bytes, found: Runs) -> pa.Table:
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise UserError(f"the runs do not agree on what a column holds: {error}") from None
    told = {_PROBLEMS: json.dumps(found.problems).encode(), _SCIENCES: json.dumps(found.sciences).encode()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _SOURCES: sources, **told})
