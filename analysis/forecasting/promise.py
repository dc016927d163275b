"""A forecast as a promise: one target, the rows that may be used, loss with quantiles for every part, one recipe.

Here is what the promise says. `registry` keeps it in a file that shows when it is altered, and `score` judges it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.fitting.observations import observe
from analysis.forecasting.cost import Cost, cost_model
from analysis.forecasting.defaults import RECIPE
from analysis.forecasting.downstream import task_forecasts
from analysis.forecasting.forecast import Forecast, extrapolate, used_rows
from analysis.forecasting.registry import register
from analysis.forecasting.target import law_rows
from analysis.tables.science import COLUMN

# Levels of the intervals that a promise states.
LEVELS = (0.5, 0.9)
# Equally likely members of a forecast, at probabilities (i - 1/2) / MEMBERS: their CRPS is exact (`score.crps`).
MEMBERS = 50
PROBABILITIES = (np.arange(MEMBERS) + 0.5) / MEMBERS
# A component's law is one of many and no headline.
COMPONENT_RESAMPLES = 200
# Horizons within this of each other are one: a run's tokens are whole steps, and skipped steps cost some.
SAME = 0.005
# Of a row, what a promise depends on besides its losses.
HASHED = ("run_id", "params", "params_active", "tokens", "unique_tokens", "flops", "weight", "group", "seed")


@dataclass(frozen=True)
class Request:
    """What is to be forecast: a run by its size, a budget, a planned rung or a planned run of a folder."""

    at: Mapping[str, float] | None = None
    budget: float | None = None
    rung: tuple[float, float | None] | None = None
    run: str | None = None


def promise(
    table: pd.DataFrame,
    request: Request,
    *,
    cut: float | None = None,
    tasks: pd.DataFrame | None = None,
    plans: pd.DataFrame | None = None,
    source: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Make the content of a forecast of `request` from the finished runs of `table`.

    cut: use runs with at most 1/cut of the target's compute; without it all runs, which the target must lie beyond.
    tasks: the table of their scores. plans: the whole table, where `table` is a part of it. source: where the table
    came from, to find it again. `options` are fields of `FitOptions`, with RECIPE for those not given. Raises
    UserError for a target below or inside the data.
    """
    plans = table if plans is None else plans
    planned = _planned(plans, request)
    if planned is not None and COLUMN in table:
        table = table[table[COLUMN].eq(planned[COLUMN])]
    if COLUMN in table and COLUMN in plans:
        plans = plans[plans[COLUMN].isin(table[COLUMN])]
    hashes = row_hashes(table, tasks)
    kept = law_rows(table.assign(row_hash=hashes))
    rows = kept.rows
    if rows.empty:
        raise UserError("no run has finished, so there is nothing to forecast from")
    cost = cost_model(observe(rows, ("params", "tokens")))
    target = _target(request, planned, rows, cost)
    rows = _usable(rows, target, cut)
    recipe = asdict(replace(RECIPE, **options))
    asked: dict[str, Any] = {"budgets": [target["flops"]]}
    if request.budget is None:
        asked = {"targets": pd.DataFrame([target])}
    used = rows.drop(columns="row_hash")
    made = extrapolate(used, **asked, **recipe)
    (prediction,) = made.predictions
    point = {name: getattr(prediction, name) for name in ("params", "tokens", "flops")}
    kept_rows = used_rows(made, len(rows))
    return {
        "data_hash": _digest(sorted(rows["row_hash"][kept_rows])),
        "rule": _rule(cut, int(kept_rows.sum()), recipe, source or {}),
        "recipe": {name: value for name, value in recipe.items() if value not in (None, "")},
        "form": made.fit.form.name,
        "floor": made.fit.floor.to_json(),
        "flops_ratio": prediction.flops_ratio,
        "targets": [
            {
                **point,
                **_of_run(planned, used),
                "from_budget": request.budget is not None,
                **_said(made),
                "components": _components(used, pd.DataFrame([point]), recipe, _said(made)),
                "tasks": _tasks(tasks, used, pd.DataFrame([point])),
            }
        ],
        "sensitivity": [moved.to_json() for moved in made.sensitivity],
        "warnings": [{"code": warn.code, "message": warn.message} for warn in made.warnings],
        "data": {
            "source": dict(source or {}),
            "cut": cut,
            "hashed": _hashed(table),
            "rows": sorted(set(rows["row_hash"][kept_rows])),
            "has_target": _is_there(plans, point),
        },
    }


def forecast(table: pd.DataFrame, request: Request, folder: Path, **options: Any) -> dict[str, Any]:
    """Make a promise of `request` from the runs of `table`, register it in `folder` and return what its file holds.

    `options` are those of `promise`: cut, tasks, plans, source, and the fields of `FitOptions`.

    >>> import pandas as pd
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> runs = [(n, d, law(n, d)) for n in (1e6, 4e6, 2e7) for d in (2e7, 1e8, 6e8)]
    >>> table = pd.DataFrame(runs, columns=["params", "tokens", "loss"])
    >>> import tempfile
    >>> from pathlib import Path
    >>> from analysis import Request, forecast, verify
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = forecast(table, Request(at={"params": 1e8, "tokens": 4e9}), Path(folder))
    ...     measured = pd.concat([table, pd.DataFrame([{"params": 1e8, "tokens": 4e9, "loss": law(1e8, 4e9)}])])
    ...     scored = verify(Path(folder), measured.reset_index(drop=True))
    >>> len(scored.scores), abs(scored.scores[0].error) < 0.02
    (1, True)
    """
    return register(folder, promise(table, request, **options))[0]


def row_hashes(
    table: pd.DataFrame, tasks: pd.DataFrame | None = None, columns: Sequence[str] | None = None
) -> list[str]:
    """Hash each row of a table (16 hex digits of SHA-256): what a promise depends on, its run's task scores too.

    columns: those that were hashed before; a row that lacks one of them has no such hash.
    """
    names = list(columns) if columns is not None else _hashed(table)
    scores: dict[str, str] = {}
    if tasks is not None and "run_id" in tasks:
        text = tasks[["task", "variant", "total", "correct", "tokens"]].astype(str).agg(" ".join, axis=1)
        scores = {str(run): _digest(list(lines)) for run, lines in text.groupby(tasks["run_id"])}
    cells = [
        [_cell(value) for value in table[name]] if name in table else [""] * len(table) for name in names
    ]
    of_run = [scores.get(str(run), "") for run in table["run_id"]] if "run_id" in table else [""] * len(table)
    return [_digest([*row, score])[:16] for *row, score in zip(*cells, of_run, strict=True)]


def _hashed(table: pd.DataFrame) -> list[str]:
    losses = [name for name in table.columns if name == "loss" or str(name).startswith("loss_")]
    return [name for name in (*HASHED, *losses) if name in table.columns]


def _cell(value: object) -> str:
    """A value as text: a whole number is the same as a float, and one that is missing is nothing."""
    if isinstance(value, int | float | np.integer | np.floating):
        return "" if np.isnan(value) else repr(float(value))
    return "" if value is None or value is pd.NA else str(value)


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _planned(table: pd.DataFrame, request: Request) -> "pd.Series[Any] | None":
    """The row of the planned run that is requested; None where a size or a budget is."""
    if request.run is None and request.rung is None:
        return None
    for name in ("run_id", "dial", "horizon_tokens"):
        if name not in table:
            raise UserError(f"no column {name}: rungs are of run folders; give --at params=...,tokens=...")
    runs = table.drop_duplicates("run_id", keep="last")
    runs = runs[runs["kind"].ne("trunk")]
    if request.run is not None:
        runs = runs[runs["run_id"].eq(request.run)]
        if runs.empty:
            raise UserError(f"--run {request.run}: no such run is planned in the folder, or it is a trunk")
        return runs.iloc[0]
    assert request.rung is not None
    dial, tokens = request.rung
    rung = runs[runs["dial"].eq(dial)]
    if rung.empty:
        there = ", ".join(f"{d:g}" for d in sorted(runs["dial"].dropna().unique()))
        raise UserError(
            f"--rung {dial:g}: not planned in this folder, which has {there}; plan it with make forecast "
            f"TARGET=dial={dial:g}, or give --at params=...,tokens=..."
        )
    if COLUMN in rung and rung[COLUMN].nunique() > 1:
        first, *_ = names = sorted(rung[COLUMN].unique())
        raise UserError(
            f"--rung {dial:g}: planned in {len(names)} sciences ({', '.join(names)}); choose one with --where "
            f"\"science == '{first}'\""
        )
    longest = float(rung["horizon_tokens"].max())
    found = rung[(rung["horizon_tokens"] / (tokens or longest) - 1).abs() <= SAME]
    if found.empty:
        horizons = ", ".join(f"{t:,.0f}" for t in sorted(rung["horizon_tokens"].unique()))
        raise UserError(
            f"--rung {dial:g},{tokens:g}: no run of {tokens:,.0f} tokens is planned there, and the trunk saves no "
            f"state for one; the horizons of this rung are {horizons}"
        )
    return found.iloc[0]


def _target(
    request: Request, planned: "pd.Series[Any] | None", rows: pd.DataFrame, cost: Cost
) -> dict[str, float]:
    """The target's params, tokens and flops; of a budget flops alone are known."""
    if request.budget is not None:
        least = float(rows["flops"].min())
        if not (np.isfinite(request.budget) and request.budget > least):
            raise UserError(
                f"budget = {request.budget:g} (--budget): smaller than the smallest run ({least:.3g} FLOPs); give "
                f"FLOPs beyond the largest ({rows['flops'].max():.3g})"
            )
        return {"params": np.nan, "tokens": np.nan, "flops": request.budget}
    if planned is not None:
        point = {"params": float(planned["params"]), "tokens": float(planned["horizon_tokens"])}
    else:
        point = {name: float(value) for name, value in (request.at or {}).items()}
    for name in ("params", "tokens"):
        if not (np.isfinite(point.get(name, np.nan)) and point[name] > 0):
            raise UserError(
                f"a target needs {name}, a positive number (--at params=1e9,tokens=2e10); it is "
                f"{point.get(name, 'not given')}"
            )
    if "flops" not in point:
        same = rows[(rows["params"] / point["params"] - 1).abs() < 1e-9]
        per_token = float((same["flops"] / same["tokens"]).median()) if len(same) else np.nan
        modelled = float(cost.flops(pd.DataFrame([point]))[0])
        point["flops"] = per_token * point["tokens"] if np.isfinite(per_token) else modelled
    return point


def _usable(rows: pd.DataFrame, target: Mapping[str, float], cut: float | None) -> pd.DataFrame:
    """The rows that the forecast may use; UserError where the target does not lie beyond them."""
    least, largest = float(rows["flops"].min()), float(rows["flops"].max())
    named = f"the target of {target['flops']:.3g} FLOPs"
    if cut is not None and not cut >= 1:
        raise UserError(f"--cut {cut:g}: a factor of compute, at least 1")
    if target["flops"] / (cut or 1.0) < least:
        lies = (
            "lies below the data" if target["flops"] < least else f"has no run with 1/{cut:g} of its compute"
        )
        raise UserError(f"{named} {lies}: the smallest run has {least:.3g} FLOPs; give a larger target")
    if cut is not None:
        rows = rows[rows["flops"] <= target["flops"] / cut * (1 + SAME)].reset_index(drop=True)
    beyond = any(target[name] > rows[name].max() * (1 + SAME) for name in ("params", "tokens", "flops"))
    if not beyond:
        raise UserError(
            f"{named} lies inside the data (the largest run used has {largest:.3g}), so there is nothing to "
            "forecast; give a larger one, or --cut 30 to use only runs with a thirtieth of its compute"
        )
    return rows


def _said(made: Forecast) -> dict[str, Any]:
    """Loss, intervals at LEVELS and the MEMBERS of a forecast of one target."""
    draws = np.sort(made.draws[:, 0])
    loss = made.predictions[0].loss
    intervals = {}
    for level in LEVELS:
        low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], method="inverted_cdf")
        intervals[f"{level:g}"] = [_short(min(low, loss)), _short(max(high, loss))]
    members = np.quantile(draws, PROBABILITIES, method="inverted_cdf")
    return {
        "loss": _short(loss),
        "intervals": intervals,
        "quantiles": [_short(value) for value in members],
        "status": str(made.status),
    }


def _short(value: float) -> float:
    """Round to seven digits, which no loss has. A draw may be infinite far out; a file holds numbers."""
    return float(f"{np.nan_to_num(float(value), posinf=1e300):.7g}")


def _components(
    rows: pd.DataFrame, target: pd.DataFrame, recipe: Mapping[str, Any], text: Mapping[str, Any]
) -> dict[str, Any]:
    """Forecast the total and every component by the same recipe, each with a floor of its own. `text` is what was
    said of the primary one, whose column is the loss."""
    recipe = {name: value for name, value in recipe.items() if not name.startswith(("floor", "share"))}
    found: dict[str, Any] = {}
    for column in rows.columns:
        name = str(column).removeprefix("loss_")
        if name == column or "." in name:  # token classes are parts of a component
            continue
        if rows[column].equals(rows["loss"]):
            found[name] = dict(text)
            continue
        try:
            made = extrapolate(
                rows.assign(loss=rows[column]),
                targets=target,
                **{**recipe, "bootstrap": COMPONENT_RESAMPLES},
            )
        except UserError as error:
            found[name] = {"loss": None, "reason": str(error)}
            continue
        found[name] = _said(made)
    return found


def _tasks(tasks: pd.DataFrame | None, rows: pd.DataFrame, target: pd.DataFrame) -> list[dict[str, Any]]:
    if tasks is None or "run_id" not in rows:
        return []
    mine = tasks[tasks["run_id"].isin(rows["run_id"])]
    try:
        return [said.to_json() for said in task_forecasts(mine, target)]
    except UserError as error:
        pairs = mine[["task", "variant"]].drop_duplicates().itertuples(index=False)
        unsaid: dict[str, Any] = {"accuracy": None, "intervals": {}, "reason": str(error)}
        return [{"task": task, "variant": variant, **unsaid} for task, variant in pairs]


def _is_there(table: pd.DataFrame, point: Mapping[str, Any]) -> bool:
    """Say whether the table already has a loss of the target."""
    return bool((same_run(table, point) & table["loss"].notna()).any())


def same_run(table: pd.DataFrame, point: Mapping[str, Any]) -> "pd.Series[bool]":
    """Mark the rows of the target's size and horizon, within SAME as a ratio; those of evaluations on the way to
    it too, where the table says the horizon. A rung is known by its dial, whichever parameters a law counts."""
    size = "dial" if "dial" in point and "dial" in table else "params"
    horizon = table["tokens"] if "horizon_tokens" not in table else table["horizon_tokens"]
    apart = [(table[size], point[size]), (horizon, point["tokens"])]
    masks = [(pd.to_numeric(column, errors="coerce") / value - 1).abs() <= SAME for column, value in apart]
    return masks[0] & masks[1]


def _of_run(planned: "pd.Series[Any] | None", used: pd.DataFrame) -> dict[str, Any]:
    """Name the planned run; without one, a run that was used: the target is of its ladder."""
    if planned is None:
        return {"like": str(used["run_id"].iloc[-1])} if "run_id" in used else {}
    return {"run_id": str(planned["run_id"]), "dial": int(planned["dial"])}


def _rule(cut: float | None, n: int, recipe: Mapping[str, Any], source: Mapping[str, str]) -> str:
    """A sentence: which rows and which options the forecast used."""
    rows = "every finished run" if cut is None else f"every finished run of at most 1/{cut:g} of its compute"
    where = f" where {source['where']}" if source.get("where") else ""
    said = ", ".join(f"{name}={value}" for name, value in recipe.items() if value not in (None, ""))
    return f"{rows}{where} ({n} rows); {said}; components with {COMPONENT_RESAMPLES} resamples"
