"""Compute everything that the report says: the held-out forecast, the law of all runs, the tasks' classes.

No HTML and no pictures here. A stage that cannot run leaves the reason in its place, and the others go on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.detection.emergence import Emergence, emergence
from analysis.errors import Code, UserError, Warn
from analysis.fitting.options import FitOptions
from analysis.forecasting.defaults import RECIPE
from analysis.forecasting.forecast import Forecast, Prediction, extrapolate, used_rows
from analysis.forecasting.promise import SAME
from analysis.forecasting.score import Verification
from analysis.forecasting.target import CUT, FEWEST, Target, choose_target, law_rows
from analysis.progress import track
from analysis.report.kept import Kept, along_tokens, by_size, kept_forecasts, of_ladder, with_law
from analysis.report.noise import seed_noise
from analysis.report.source import Source
from analysis.report.units import Units, units_of
from analysis.tables.finished import LeftOut, finished_rows, last_rows
from analysis.tables.load import load_table
from analysis.tables.renaming import parse_columns, with_both_names
from analysis.tables.run_folder import answer_lengths
from analysis.tables.science import largest_science

# Budgets of the next decision, as multiples of the largest run's compute.
RATIOS = (3.0, 10.0, CUT)
_FEWEST_RESAMPLES = 20
PART = "part"
# Outcomes of runs that may still finish: our own word first, then those of trackers.
_GOING_ON = ("unfinished", "running", "queued", "pending", "")
_PROMISED = (
    "its forecasts were registered before it was trained; a second one by another rule would only confuse."
)
_ONE_HORIZON = (
    "every size has one horizon here, so no law can tell parameters from tokens; this ladder is for tasks."
)

_OTHERS = "the forecasts of this folder are of another of its ladders; this one is for tasks."


@dataclass(frozen=True)
class HeldOut:
    """The forecast of the target from the runs below the cut.

    `prediction` bounds one new run at the level of RECIPE. `used` [rows of target.below] are those that the fit
    kept. `lines`: for each model size the compute and the loss along it, by the same law.
    """

    prediction: Prediction
    used: np.ndarray
    lines: Mapping[float, tuple[np.ndarray, np.ndarray]]
    forecast: Forecast
    warnings: tuple[Warn, ...]


@dataclass(frozen=True)
class StepBack:
    """The same step taken backwards: the target, forecast from runs of at most 1/`ratio` of its compute.

    `prediction` is a sentence where so few runs lie below that no law could be fitted.
    """

    ratio: float
    runs: int
    prediction: Prediction | str


@dataclass(frozen=True)
class Law:
    """The law of all finished runs: `path` is its best loss by budget, `next` the budgets of RATIOS.

    Both are empty where `unsplit` says why no budget can be split under it. `back` has a step back for each of
    RATIOS: what a forecast over that distance was worth on these runs.
    """

    forecast: Forecast
    path: tuple[Prediction, ...]
    next: tuple[Prediction, ...]
    back: tuple[StepBack, ...]
    used: np.ndarray
    fitted: np.ndarray
    unsplit: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything that a table of runs says. A `str` in the place of a stage is why it could not run.

    `table` are the rows of `whole` that are of one science; `science` is a sentence where there are others. `rows`
    [n] are those that laws are fitted to, `left_out` the others of `whole`, by reason; `compute` says how the rows'
    flops were counted. `lost` are the last rows of runs that diverged or failed.

    `part` is the name of a ladder among several. `kept` are the forecasts that were registered of the target, the
    nearest cut first, and `lines` the law of the nearest, by size; with them no target is held out once more.
    `recipe` are the options of the laws: those of the forecasts, where there are any.
    `true_floor` is the loss of the best possible model (column floor_<component>), where it is known.
    """

    source: Source
    units: Units
    whole: pd.DataFrame
    table: pd.DataFrame
    rows: pd.DataFrame
    left_out: tuple[LeftOut, ...]
    compute: str
    science: str
    lost: pd.DataFrame
    target: Target | None
    held_out: HeldOut | str
    law: Law | str
    tasks: pd.DataFrame | str
    classes: Emergence | str
    noise: float | None
    problems: tuple[str, ...]
    part: str
    kept: tuple[Kept, ...]
    lines: Mapping[float, tuple[np.ndarray, np.ndarray]]
    recipe: FitOptions
    true_floor: float | None


@dataclass(frozen=True)
class Ladders:
    """What each ladder of a table says, those that have forecasts first, and the scores of all forecasts of its
    folder, `kept`."""

    each: tuple[Findings, ...]
    kept: tuple[Kept, ...]
    verified: Verification | None


def ladders(table: pd.DataFrame, source: Source) -> Ladders:
    """Tell the parts of a table apart (column `part`) and run every stage on each; without parts on the whole."""
    kept, verified = kept_forecasts(source)
    parted = PART in table.columns and source.is_folder
    part = table[PART].fillna("other").astype(str) if parted else pd.Series("", table.index)
    names = sorted(part.unique().tolist())
    if len(names) < 2:
        return Ladders((findings(table, source, kept),), kept, verified)
    found = []
    for name in track(names, "ladders", len(names)):
        # In the quotes that a shell leaves as they are.
        mine = f"{PART} == {json.dumps(name, ensure_ascii=False)}"
        where = f"({source.where}) and {mine}" if source.where else mine
        rows = table[part.eq(name)].reset_index(drop=True)
        found.append(findings(rows, replace(source, where=where), kept, part=name))
    return Ladders(tuple(sorted(found, key=lambda one: not one.kept)), kept, verified)


def findings(
    table: pd.DataFrame, source: Source, registered: Sequence[Kept] = (), part: str = ""
) -> Findings:
    """Run every stage on `table`, as `load_table` gave it for `source`; tasks are read from the same folder."""
    promised = of_ladder(registered, table)
    wanted = [one.columns for one in (*promised, *(registered if part else ())) if one.columns]
    if wanted and not source.columns:
        # A ladder is told in the columns of its forecast, one without a forecast in those of its neighbours: one
        # model has one size on a page.
        source = replace(source, columns=wanted[0])
        table = with_both_names(table, parse_columns(source.columns, table))
    whole = table
    table, science = largest_science(whole, finished_rows(whole, mixed=True)[0])
    others = tuple(whole.index.difference(table.index, sort=False).tolist())
    kept = law_rows(table)
    target = choose_target(table)
    held_out: HeldOut | str
    law: Law | str
    recipe = promised[0].recipe if promised else RECIPE
    if promised:
        promised = tuple(with_law(one, table, source) for one in promised)
        target = _promised_target(promised[0], target, kept.rows)
        held_out = _PROMISED
        law = _law(kept.rows, target, held_out, recipe, promised)
    elif part and registered:
        target, held_out, law = None, _OTHERS, _OTHERS
    elif part and not kept.rows.empty and not along_tokens(kept.rows):
        target, held_out, law = None, _ONE_HORIZON, _ONE_HORIZON
    else:
        held_out = hold_target_out(kept.rows, target)
        law = _law(kept.rows, target, held_out, recipe)
    scores = _tasks(source, table)
    return Findings(
        source=source,
        units=units_of(table, source),
        whole=whole,
        table=table,
        rows=kept.rows,
        left_out=(*([LeftOut("of another science", others)] if others else []), *kept.left_out),
        science=science,
        compute="exact count" if source.is_folder and kept.compute == "as in the table" else kept.compute,
        lost=_lost(table),
        target=target,
        held_out=held_out,
        law=law,
        tasks=scores if isinstance(scores, str) else finished_rows(scores, longest=True)[0],
        classes=_classes(scores, source),
        noise=seed_noise(kept.rows),
        problems=tuple(table.attrs.get("problems", ())),
        part=part,
        kept=promised,
        lines=next((one.lines for one in promised if one.lines), {}),
        recipe=recipe,
        true_floor=_true_floor(kept.rows),
    )


def _promised_target(one: Kept, chosen: Target | None, rows: pd.DataFrame) -> Target:
    """The target that was promised: measured where the chosen one is it, or where `rows` have it."""
    p = one.prediction
    params, tokens, flops = (float(value or np.nan) for value in (p.params, p.tokens, p.flops))
    if (
        chosen is not None
        and abs(chosen.flops / flops - 1) <= SAME
        and abs(chosen.params / params - 1) <= SAME
    ):
        return chosen
    measured = (
        rows[rows["run_id"].isin({score.run for score in one.scores})] if "run_id" in rows else rows.iloc[:0]
    )
    seeds = tuple(measured["seed"].astype(str)) if "seed" in measured else ()
    below = rows[rows["flops"] <= flops / CUT].reset_index(drop=True)
    return Target(params, tokens, flops, tuple(measured["loss"].tolist()), seeds, below)


def _true_floor(rows: pd.DataFrame) -> float | None:
    """The least possible loss of the component that a law is fitted to, where all rows agree on it."""
    for column in rows.columns:
        name = str(column).removeprefix("floor_")
        if name == column or f"loss_{name}" not in rows or not rows[f"loss_{name}"].equals(rows["loss"]):
            continue
        values = pd.to_numeric(rows[column], errors="coerce").unique()
        if len(values) == 1 and np.isfinite(values[0]):
            return float(values[0])
    return None


def _lost(table: pd.DataFrame) -> pd.DataFrame:
    """Return the last rows of runs that ended without finishing, trunks too."""
    last = last_rows(table)
    if "outcome" not in last.columns:
        return last.iloc[:0]
    done, _ = finished_rows(last.drop(columns=["kind", "final"], errors="ignore"))
    going_on = last["outcome"].isna() | last["outcome"].astype(str).str.strip().str.lower().isin(_GOING_ON)
    return last[~last.index.isin(done.index) & ~going_on]


def hold_target_out(rows: pd.DataFrame, target: Target | None) -> HeldOut | str:
    """Forecast the target from the rows below the cut, or say why it cannot be done."""
    if target is None:
        return "a forecast needs finished runs of two model sizes or more."
    if target.below.empty:
        return f"no finished run has 1/30 of the target's compute ({target.flops:.3g} FLOPs) or less."
    try:
        forecast = _forecast_target(target.below, target, RECIPE)
    except UserError as error:
        return f"{len(target.below)} runs lie below the cut, and no law could be fitted to them: {error}."
    lines = {}
    along = along_tokens(rows)
    if along:
        # Asked apart from the target, whose warnings are about it alone; no interval of these is shown.
        grid = pd.concat(along, ignore_index=True)
        drawn = extrapolate(target.below, targets=grid, **(asdict(RECIPE) | {"bootstrap": _FEWEST_RESAMPLES}))
        lines = by_size(grid.assign(loss=[p.loss for p in drawn.predictions]))
    warnings = forecast.warnings
    if len(target.below) < FEWEST and all(w.code != Code.TOO_FEW_RUNS for w in warnings):
        few = f"{len(target.below)} runs below the cut; {FEWEST} or more would be worth a forecast"
        warnings = (Warn(Code.TOO_FEW_RUNS, few), *warnings)
    return HeldOut(forecast.predictions[0], used_rows(forecast, len(target.below)), lines, forecast, warnings)


def _forecast_target(rows: pd.DataFrame, target: Target, recipe: FitOptions) -> Forecast:
    asked = pd.DataFrame({"params": [target.params], "tokens": [target.tokens], "flops": [target.flops]})
    return extrapolate(rows, targets=asked, **asdict(recipe))


def _law(
    rows: pd.DataFrame,
    target: Target | None,
    held_out: HeldOut | str,
    recipe: FitOptions,
    kept: Sequence[Kept] = (),
) -> Law | str:
    if rows.empty:
        return "no run has finished."
    top = float(rows["flops"].max())
    path = np.geomspace(float(rows["flops"].min()), top, 12).tolist()
    budgets = [*path, *(ratio * top for ratio in RATIOS)]
    options = asdict(recipe)
    unsplit = ""
    try:
        try:
            forecast = extrapolate(rows, budgets=budgets, **options)
        except UserError as error:
            # A law whose budgets cannot be split (experts in no one proportion) is a law all the same.
            unsplit = str(error)
            forecast = extrapolate(rows, targets=rows[["params", "tokens", "flops"]], **options)
        fitted = forecast.fit.predict(rows)
    except UserError as error:
        return f"no law could be fitted to all finished runs: {error}."
    predictions = () if unsplit else forecast.predictions
    used = used_rows(forecast, len(rows))
    back = _steps_back(rows, target, held_out, recipe, kept)
    return Law(forecast, predictions, predictions[-len(RATIOS) :], back, used, fitted, unsplit)


def _steps_back(
    rows: pd.DataFrame,
    target: Target | None,
    held_out: HeldOut | str,
    recipe: FitOptions,
    kept: Sequence[Kept],
) -> tuple[StepBack, ...]:
    if target is None or not target.losses:
        return ()
    promised = {one.cut: one.prediction for one in kept}
    steps = []
    for ratio in RATIOS:
        below = rows[rows["flops"] <= target.flops / ratio].reset_index(drop=True)
        said: Prediction | str
        if ratio in promised:
            said = promised[ratio]
        elif ratio == CUT and not isinstance(held_out, str):
            said = held_out.prediction
        else:
            try:
                said = _forecast_target(below, target, recipe).predictions[0]
            except UserError as error:
                said = str(error)
        steps.append(StepBack(ratio, len(below), said))
    return tuple(steps)


def _tasks(source: Source, table: pd.DataFrame) -> pd.DataFrame | str:
    if not source.is_folder:
        return "the table is a file; task scores are read from a folder of runs."
    if "run_id" not in table.columns:
        return "--columns gave the column run_id another name; tasks are joined to runs by it."
    try:
        tasks = load_table(Path(source.path), kind="tasks")
    except UserError as error:
        return f"{error}."
    # The runs of `table` are of one science, perhaps of a person's own choice of columns.
    tasks = tasks[tasks["run_id"].isin(table["run_id"])].drop(columns="science", errors="ignore")
    tasks = tasks.reset_index(drop=True)
    if source.counts_embeddings:
        # One model has one size on a page: the N of the law.
        tasks["size"] = tasks["params"]
    return tasks if len(finished_rows(tasks)[0]) else "no finished run has task scores."


def _classes(tasks: pd.DataFrame | str, source: Source) -> Emergence | str:
    if isinstance(tasks, str):
        return tasks
    try:
        return emergence(tasks, lengths=answer_lengths(Path(source.path)))
    except UserError as error:
        return f"{error}."
