"""A folder of runs that each wrote their history as JSON Lines or CSV, with their settings as JSON or YAML beside.

One file is a table of runs and is read as such; a folder of them is a project.
"""

from pathlib import Path

import pandas as pd

from analysis.errors import UserError
from analysis.sources import names
from analysis.sources.json_files import flat, object_in, read_lines, read_object
from analysis.sources.run import Source, TrackedRun

_SETTINGS = ("config", "hparams", "args", "params", "hyperparameters", "settings", "run_config")
_STEPS = frozenset({"step", "global_step", "iter", "iteration", "train_step", "steps"})
_COMMON = frozenset({"metrics", "history", "log", "logs", "train", "training", "log_history", "results"})


def recognises(path: Path) -> bool:
    """Tell a folder by its histories: files whose rows have a step and a loss."""
    try:
        return path.is_dir() and any(_is_history(file) for file in _files(path)[:20])
    except OSError:
        return False


def read(path: Path) -> list[TrackedRun]:
    """Read every history of the folder, or the one file."""
    files = [file for file in _files(path) if _is_history(file)] if path.is_dir() else [path]
    return [_run(file, path) for file in files]


def _files(folder: Path) -> list[Path]:
    found = [
        file
        for depth in ("", "*/", "*/*/")
        for kind in ("jsonl", "csv")
        for file in folder.glob(f"{depth}*.{kind}")
    ]
    return sorted(found)


def _is_history(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(1_000_000)
    is_csv = path.suffix == ".csv"
    columns = [name.strip().strip('"') for name in first.split(",")] if is_csv else list(object_in(first))
    # What is logged first as JSON may be a row without the loss.
    return bool(_STEPS & {names.plain(name) for name in columns}) and (
        not is_csv or bool(names.losses(columns))
    )


def _run(file: Path, project: Path) -> TrackedRun:
    rows = _rows(file)
    step = next((name for name in rows.columns if names.plain(str(name)) in _STEPS), None)
    if step is None:
        raise UserError(f"{file}: no column counts the steps ({', '.join(map(str, rows.columns[:8]))})")
    history = rows.assign(step=pd.to_numeric(rows[step], errors="coerce"))
    if history["step"].isna().any():
        row = int(history["step"].isna().to_numpy().argmax())
        raise UserError(f"{file}: row {row + 1}: {step} is {str(rows[step].iloc[row])!r}, not a number")
    numeric = history.select_dtypes("number")
    lone = file.parent != project and file.stem in _COMMON
    config = _settings(file.parent) if file.parent != project or not project.is_dir() else _settings_of(file)
    return TrackedRun(file.parent.name if lone else file.stem, config, numeric, None)


def _rows(file: Path) -> pd.DataFrame:
    if file.suffix == ".csv":
        try:
            return pd.read_csv(file)
        except ValueError as error:
            raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    return pd.DataFrame([flat(row) for row in read_lines(file)])


def _settings_of(file: Path) -> dict[str, object]:
    """The settings of a history that lies beside others: RUN.json or RUN.yaml beside RUN.jsonl."""
    return next(
        (_read(p) for p in (file.with_suffix(s) for s in (".json", ".yaml", ".yml")) if p.is_file()), {}
    )


def _settings(folder: Path) -> dict[str, object]:
    files = (folder / f"{name}{kind}" for name in _SETTINGS for kind in (".json", ".yaml", ".yml"))
    return next((_read(file) for file in files if file.is_file()), {})


def _read(file: Path) -> dict[str, object]:
    if file.suffix == ".json":
        return flat(read_object(file))
    try:
        import yaml
    except ImportError:
        raise UserError(f"{file}: needs PyYAML; or give the settings as JSON") from None
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())[:200]}") from None
    return flat(found) if isinstance(found, dict) else {}


SOURCE = Source(
    "history_files",
    "a folder of runs, each with its history as JSON Lines or CSV and its settings as JSON or YAML",
    recognises,
    read,
)
