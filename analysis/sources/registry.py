"""The formats by kind, and the one rule of which of them a file or a folder is."""

import importlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.errors import UserError, nearest
from analysis.sources.kinds import KINDS
from analysis.sources.run import Source, TrackedRun, told_apart


def _source(kind: str, what: str) -> Source:
    module = importlib.import_module(f"analysis.sources.{kind}")
    return Source(kind, what, module.recognises, module.read)


SOURCES = tuple(_source(kind, what) for kind, what in KINDS.items())
# A folder of more files is not looked through: is it the right one?
MOST_FILES = 20_000


def source_of(path: Path, kind: str = "") -> Source | None:
    """Return the format of a file, a folder, or the files in a folder; None where no reader knows it.

    `kind` forces one. UserError for a kind that there is not and for a folder that holds several.
    """
    if kind:
        return _of_kind(kind)
    if found := next((source for source in SOURCES if source.recognises(path)), None):
        return found
    if not path.is_dir():
        return None
    kinds: dict[str, Path] = {}
    for file in _files(path):
        if source := next((source for source in SOURCES if source.recognises(file)), None):
            kinds.setdefault(source.kind, file)
    if len(kinds) > 1:
        held = ", ".join(f"{kind} ({file.relative_to(path)})" for kind, file in kinds.items())
        raise UserError(f"{path}: files of several kinds: {held}; choose one with `import --source KIND`")
    return _of_kind(next(iter(kinds))) if kinds else None


def read_source(path: Path, source: Source) -> list[TrackedRun] | pd.DataFrame:
    """Read a file, or a folder that the format knows as a whole, or every file of the format in a folder."""
    if not path.is_dir() or source.recognises(path):
        read = source.read(path)
        return read if isinstance(read, pd.DataFrame) else told_apart(read)
    files = [file for file in _files(path) if source.recognises(file)]
    if not files:
        raise UserError(f"{path}: no file of the kind {source.kind} in it ({source.what})")
    each = [(file, source.read(file)) for file in files]
    tables = [found for _, found in each if isinstance(found, pd.DataFrame)]
    if tables:
        return pd.concat(tables, ignore_index=True)
    runs = [(file, run) for file, found in each if isinstance(found, list) for run in found]
    often = Counter(run.name for _, run in runs)
    # Runs of one name in several folders are called after these.
    return told_apart(
        run if often[run.name] == 1 else replace(run, name=f"{file.parent.relative_to(path)}/{run.name}")
        for file, run in runs
    )


def _of_kind(kind: str) -> Source:
    kinds = {source.kind: source for source in SOURCES}
    if kind not in kinds:
        hint = nearest(kind, kinds).strip() or f"there are {', '.join(kinds)}"
        raise UserError(f"--source {kind}: no such kind; {hint}")
    return kinds[kind]


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in order; hidden ones apart."""
    count = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                raise UserError(f"{folder}: more than {MOST_FILES:,} files; name the folder of one project")
            if not name.startswith("."):
                yield Path(root) / name
