"""Everything the report says, computed: the held-out forecast, the law of all runs, the tasks' classes.

No HTML and no pictures here. A stage that cannot run leaves the reason in its place, and the others go on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.detection.emergence import Emergence, emergence
from analysis.errors import Code, UserError, Warn
from analysis.forecasting.forecast import Forecast, Prediction, extrapolate
from analysis.forecasting.target import FEWEST, Target, choose_target
from analysis.tables.finished import final_rows, finished_rows, largest_science, last_rows
from analysis.tables.load import is_run_folder, load_table
from analysis.tables.run_folder import answer_lengths

# One recipe for every ladder, so that none is chosen after looking.
# The joint law on every row below the cut: on four ladders of the default design (docs/log.md, 2026-11-22) it
# missed the target by 1% or less. Choosing forms or regimes by hold-outs among so few rows missed by up to 21%.
FORM, REGIME, LEVEL = "chinchilla", "all", 0.9
RATIOS = (3.0, 10.0, 30.0)
_FEWEST_RESAMPLES = 20


@dataclass(frozen=True)
class HeldOut:
    """The forecast of the target from the runs below the cut.

    `prediction` bounds one new run at LEVEL. `used` [rows of target.below] are those that the fit kept.
    `lines`: for each model size the compute and the loss along it, by the same law.
    """

    prediction: Prediction
    used: np.ndarray
    lines: dict[float, tuple[np.ndarray, np.ndarray]]
    forecast: Forecast
    warnings: tuple[Warn, ...]


@dataclass(frozen=True)
class Law:
    """The law of all finished runs: `path` is its best loss by budget, `next` the budgets of RATIOS."""

    forecast: Forecast
    path: tuple[Prediction, ...]
    next: tuple[Prediction, ...]
    used: np.ndarray
    fitted: np.ndarray


@dataclass(frozen=True)
class Findings:
    """What a table of runs has to say. A `str` in the place of a stage is why it could not run."""

    source: str
    table: pd.DataFrame
    rows: pd.DataFrame
    lost: pd.DataFrame
    target: Target | None
    held_out: HeldOut | str
    law: Law | str
    tasks: pd.DataFrame | str
    classes: Emergence | str
    noise: float | None
    problems: tuple[str, ...]


def findings(table: pd.DataFrame, source: str) -> Findings:
    """Run every stage on `table`, as `load_table(source)` gave it; tasks are read from the same folder."""
    table, mixture = largest_science(table)
    rows = final_rows(table)
    last = last_rows(table)
    lost = last[last["outcome"].isin(["diverged", "failed"])] if "outcome" in last else last.iloc[:0]
    target = choose_target(table)
    scores = _tasks(source, table)
    return Findings(
        source=source,
        table=table,
        rows=rows,
        lost=lost,
        target=target,
        held_out=_held_out(rows, target),
        law=_law(rows),
        tasks=scores if isinstance(scores, str) else finished_rows(scores, longest=True)[0],
        classes=_classes(scores, source),
        noise=seed_noise(rows),
        problems=(*([mixture] if mixture else []), *table.attrs.get("problems", ())),
    )


def seed_noise(rows: pd.DataFrame) -> float | None:
    """Standard deviation of log loss between seeds of the same size and horizon, pooled; None without seeds."""
    if "seed" not in rows.columns:
        return None
    horizon = "horizon_tokens" if "horizon_tokens" in rows.columns else "tokens"
    logs = np.log(rows["loss"].where(rows["loss"] > 0))
    grouped = logs.groupby([rows["params"], rows[horizon]])
    squares = float(((logs - grouped.transform("mean")) ** 2).sum())
    free = len(rows) - grouped.ngroups
    return float(np.sqrt(squares / free)) if free > 0 else None


def _held_out(rows: pd.DataFrame, target: Target | None) -> HeldOut | str:
    if target is None:
        return "a forecast needs finished runs of two model sizes or more."
    if target.below.empty:
        return f"no finished run has 1/30 of the target's compute ({target.flops:.3g} FLOPs) or less."
    wanted = pd.DataFrame({"params": [target.params], "tokens": [target.tokens], "flops": [target.flops]})
    try:
        forecast = extrapolate(target.below, targets=wanted, level=LEVEL, form=FORM, regime=REGIME)
    except UserError as error:
        return f"{len(target.below)} runs lie below the cut, and no law could be fitted to them: {error}."
    lines = {}
    along = _along_tokens(rows)
    if along:
        # Asked apart from the target, whose warnings are about it alone; no interval of these is shown.
        grid = pd.concat(along, ignore_index=True)
        drawn = extrapolate(
            target.below, targets=grid, level=LEVEL, form=FORM, regime=REGIME, bootstrap=_FEWEST_RESAMPLES
        )
        grid["loss"] = [p.loss for p in drawn.predictions]
        for size in grid["params"].unique().tolist():
            mine = grid[grid["params"] == size]
            lines[size] = (mine["flops"].to_numpy(), mine["loss"].to_numpy())
    warnings = forecast.warnings
    if len(target.below) < FEWEST and all(w.code != Code.TOO_FEW_RUNS for w in warnings):
        few = f"{len(target.below)} runs below the cut; {FEWEST} or more would be worth a forecast"
        warnings = (Warn(Code.TOO_FEW_RUNS, few), *warnings)
    return HeldOut(forecast.predictions[0], _used(forecast, len(target.below)), lines, forecast, warnings)


def _along_tokens(rows: pd.DataFrame, points: int = 24) -> list[pd.DataFrame]:
    """Each size that was trained at several horizons, along tokens: where the law is drawn."""
    parts = []
    for size, group in rows.groupby("params"):
        low, high = group["tokens"].min(), group["tokens"].max()
        if high > 1.05 * low:
            tokens = np.geomspace(low / 1.2, high * 1.15, points)
            per_token = float((group["flops"] / group["tokens"]).mean())
            parts.append(pd.DataFrame({"params": size, "tokens": tokens, "flops": per_token * tokens}))
    return parts


def _law(rows: pd.DataFrame) -> Law | str:
    top = float(rows["flops"].max()) if len(rows) else 0.0
    path = np.geomspace(float(rows["flops"].min()), top, 12).tolist() if len(rows) else []
    budgets = [*path, *(ratio * top for ratio in RATIOS)]
    try:
        forecast = extrapolate(rows, budgets=budgets, level=LEVEL, form=FORM, regime=REGIME)
        fitted = forecast.fit.predict(rows)
    except UserError as error:
        return f"no law could be fitted to all finished runs: {error}."
    predictions = forecast.predictions
    return Law(forecast, predictions, predictions[-len(RATIOS) :], _used(forecast, len(rows)), fitted)


def _used(forecast: Forecast, n: int) -> np.ndarray:
    used = np.ones(n, dtype=bool)
    for left in forecast.fit.observations.left_out:
        used[np.asarray(left.rows, dtype=int)] = False
    return used


def _tasks(source: str, table: pd.DataFrame) -> pd.DataFrame | str:
    if not is_run_folder(source):
        return "the table is a file; task scores are read from a folder of runs."
    try:
        tasks = load_table(Path(source), kind="tasks")
    except UserError as error:
        return f"{error}."
    # The runs of `table` are of one science, perhaps of a person's own choice of columns.
    tasks = tasks[tasks["run_id"].isin(table["run_id"])].drop(columns="science", errors="ignore")
    tasks = tasks.reset_index(drop=True)
    return tasks if len(finished_rows(tasks)[0]) else "no finished run has task scores."


def _classes(tasks: pd.DataFrame | str, source: str) -> Emergence | str:
    if isinstance(tasks, str):
        return tasks
    try:
        return emergence(tasks, lengths=answer_lengths(Path(source)))
    except UserError as error:
        return f"{error}."
