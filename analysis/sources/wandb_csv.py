"""Exports of W&B as CSV: the curves of a chart, the table of runs, or a folder of both.

A chart's columns are called `RUN - METRIC`, with the least and the greatest of each point in `__MIN` and `__MAX`;
the table of runs has settings and last values side by side. Runs are joined by their names.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.sources import names
from analysis.sources.run import Source, TrackedRun, told_apart
from analysis.sources.tokens import horizon_steps

_FINISHED = {
    "finished": True,
    **dict.fromkeys(("running", "crashed", "failed", "killed", "preempted"), False),
}
# What W&B itself puts into its table of runs.
_META = frozenset(
    [
        *("Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep", "Group", "Job Type", "ID"),
        *("End Time", "Start Time", "Updated", "Report", "Description", "GitHub", "Hostname", "Commit"),
        *("GPU Count", "GPU Type"),
    ]
)
_TIMES = ("time", "timestamp", "runtime", "wall")
_BOUNDS = ("__MIN", "__MAX")


def recognises(path: Path) -> bool:
    """Tell an export by its header, and a folder by the exports in it."""
    if path.is_dir():
        try:
            return any(_kind(file) for file in path.glob("*.csv"))
        except OSError:
            return False
    return bool(_kind(path))


def read(path: Path) -> list[TrackedRun]:
    """Read the runs of an export, or of all exports in a folder, joined by name."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    kinds = [(file, _kind(file)) for file in files]
    charts = [run for file, kind in kinds if kind == "chart" for run in _chart(file)]
    listed = {run.name: run for file, kind in kinds if kind == "runs" for run in told_apart(_runs(file))}
    if not (charts or listed):
        raise UserError(f"{path}: neither a chart nor a table of runs as W&B exports them")
    curves: dict[str, TrackedRun] = {}
    for run in charts:
        before = curves.get(run.name)
        if before:
            # Each metric is read by itself; a second chart of one metric is as a restart that repeats its rows.
            history = pd.concat([before.history, run.history], ignore_index=True)
            run = replace(before, history=history, notes=(*before.notes, *run.notes))
        curves[run.name] = run
    joined = []
    # A chart shows ten runs unless more are chosen: the others have their last values in the table.
    for name in dict.fromkeys([*listed, *curves]):
        curve, found = curves.get(name), listed.get(name)
        if curve and found:
            history = _with_last_values(curve.history, found.history)
            joined.append(replace(found, history=history, notes=curve.notes))
        elif curve and listed:
            notes = (*curve.notes, f"run {name} is in a chart and not in the table of runs")
            joined.append(replace(curve, notes=notes))
        else:
            joined += [run for run in (curve, found) if run]
    return joined


def _with_last_values(curves: pd.DataFrame, last: pd.DataFrame) -> pd.DataFrame:
    """Return the curves, and below them the last values of metrics that no chart shows."""
    besides = last.drop(columns=[name for name in last if name in curves and name != "step"])
    if besides["step"].isna().all():
        besides = besides.assign(step=curves["step"].max())
    return pd.concat([curves, besides], ignore_index=True) if besides.shape[1] > 1 else curves


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return next(csv.reader([file.readline(1_000_000)]), [])
    except (OSError, csv.Error):
        return []


def _kind(path: Path) -> str:
    """Tell a chart from a table of runs; nothing for another file."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return ""
    header = _header(path)
    if {"Name", "State"} <= set(header) and {"Created", "Runtime", "Notes", "User", "ID"} & set(header):
        return "runs"
    curves = [name for name in header[1:] if not name.endswith(_BOUNDS)]
    bounded = set(header) & {f"{name}{bound}" for name in curves for bound in _BOUNDS}
    return "chart" if bounded and all(" - " in name for name in curves) else ""


def _table(path: Path) -> pd.DataFrame:
    header = _header(path)
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(
            f"{path}: two columns {twice[0]!r}: give the runs names of their own in W&B and export again"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = pd.read_csv(io.StringIO(text), low_memory=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    if table.empty:
        raise UserError(f"{path}: the export has no rows")
    last = text.rstrip("\r\n").rpartition("\n")[2]
    if '"' not in last and last.count(",") != len(header) - 1:
        raise UserError(f"{path}: the last line ends in the middle ({last[-40:]!r}): export it again")
    return table


def _chart(path: Path) -> Iterator[TrackedRun]:
    table = _table(path)
    x = str(table.columns[0])
    if any(word in names.plain(x) for word in _TIMES):
        raise UserError(
            f"{path}: the curves are drawn over {x}; set the chart's x axis to Step and export again"
        )
    step = pd.to_numeric(table[x], errors="coerce")
    if step.isna().any():
        row = int(step.isna().to_numpy().argmax())
        raise UserError(f"{path}: line {row + 2}: {x} is {str(table[x].iloc[row])!r}, not a number")
    by_run: dict[str, dict[str, pd.Series]] = {}
    spread: dict[str, int] = {}
    for column in map(str, table.columns[1:]):
        if column.endswith(_BOUNDS):
            continue
        run, _, metric = column.rpartition(" - ")
        values = pd.to_numeric(table[column], errors="coerce")
        wrong = values.isna() & table[column].notna() & ~table[column].astype(str).str.lower().isin(["nan"])
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(f"{path}: line {row + 2}: {column} is {table[column].iloc[row]!r}, not a number")
        by_run.setdefault(run, {})[metric] = values
        low, high = (pd.to_numeric(table.get(f"{column}{b}", values), errors="coerce") for b in _BOUNDS)
        spread[run] = spread.get(run, 0) + int((low < high).sum())
    for run, metrics in by_run.items():
        history = pd.DataFrame({"step": step.astype(np.float64), **metrics})
        if names.plain(x) != "step":
            history[x] = history["step"]
        notes: tuple[str, ...] = ()
        if spread[run]:
            notes = (
                f"{path.name}: points that are means of several (__MIN below __MAX: buckets, or a group's runs)",
            )
        yield TrackedRun(run, {}, history.dropna(how="all", subset=list(metrics)), None, notes=notes)


def _runs(path: Path) -> Iterator[TrackedRun]:
    table = _table(path)
    for row in table.to_dict("records"):
        values = {str(name): value for name, value in row.items() if not pd.isna(value)}
        name, state = str(values.get("Name", "")), str(values.get("State", "")).lower()
        if state not in _FINISHED:
            raise UserError(f"{path}: run {name!r}: State is {state!r}; W&B writes {', '.join(_FINISHED)}")
        config = {key: value for key, value in values.items() if key not in _META}
        # Last values stand among the settings; which is which is told by their names alone.
        metrics = [key for group in names.losses(config) for key in group]
        metrics += [
            key for group in (names.TOKENS, names.FLOPS, names.STEP) for key in names.matching(config, group)
        ]
        step = config.get("_step")
        horizon = horizon_steps(config)
        if step is None and horizon and _FINISHED[state]:
            step = horizon[0]
        history = pd.DataFrame(
            [{"step": np.nan if step is None else step, **{m: config[m] for m in metrics}}]
        )
        yield TrackedRun(
            name,
            {key: value for key, value in config.items() if key not in metrics},
            history,
            _FINISHED[state],
            str(values.get("Group", "")),
        )


SOURCE = Source(
    "wandb_csv",
    "CSV files that W&B exports: charts, the table of runs, or a folder of both",
    recognises,
    read,
)
