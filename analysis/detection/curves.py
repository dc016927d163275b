"""Read a table of task scores into arrays by size, and refuse what cannot be a score.

Knows columns and rows; what a curve means is left to emergence_posterior and emergence_bootstrap.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.tables.columns import numbers, row_name
from analysis.tables.finished import finished_rows

Floats = NDArray[np.float64]
KEYS = ("task", "variant", "metric")
_COUNTS = ("correct", "total", "different_items")
_NUMBERS = ("size", *_COUNTS, "score", "stderr", "chance", "ceiling", "shortcut", "loss", "tokens", "step")
_LOWER_IS_BETTER = ("nll", "loss", "ppl", "perplexity", "brier", "bits", "entropy", "error")


@dataclass(frozen=True)
class Curve:
    """One task's scores over S seeds and K sizes; `score` and `items` are [S, K], NaN where not run.

    `items` is the number of items behind a score where it is a proportion; `stderr` is set instead
    (items NaN) where only a standard error is known. Units: `size` as given (params), scores as given,
    mapped so that higher is better and, where `scale` is not 1, to `(score - shift) / scale`. `shortcut` is
    the score of the best guess without the ability, NaN where none is known.
    """

    task: str
    variant: str
    metric: str
    size: Floats
    score: Floats
    items: Floats
    stderr: Floats
    chance: float
    ceiling: float
    loss: Floats
    seeds: tuple[str, ...]
    shift: float = 0.0
    scale: float = 1.0
    shortcut: float = np.nan

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.task, self.variant, self.metric) if part)


def read_curves(table: pd.DataFrame) -> list[Curve]:
    """Every (task, variant, metric) of the table as a Curve, in the order of first appearance.

    Raises UserError, naming the row, for what cannot be: a total of zero, correct above total, one size,
    a (task, variant, metric, size, seed) given twice, a chance at or above the ceiling, text in numbers.
    """
    if table.empty:
        raise UserError("the table has no rows; emergence needs rows with task, size, correct and total")
    table, _ = finished_rows(table, longest="run_id" in table.columns)
    if table.empty:
        raise UserError("no finished run in the table: emergence counts the last evaluation of done runs")
    table = expand_metrics(table)
    for column in ("task", "size"):
        if column not in table.columns:
            raise UserError(f"column {column!r} is missing; emergence needs task, size, correct and total")
    if not {"correct", "total"} <= set(table.columns) and not {"score", "stderr"} <= set(table.columns):
        raise UserError(
            "give either the columns correct, total or score, stderr; "
            f"the table has {', '.join(map(str, table.columns))}"
        )
    table = table.assign(**{name: numbers(table, name) for name in _NUMBERS if name in table.columns})
    _check(table)
    for key in ("variant", "metric", "seed"):
        table[key] = "" if key not in table.columns else table[key].map(_word)
    table["task"] = table["task"].map(_word)
    keys = [*KEYS, "size", "seed"]
    twice = table.duplicated(keys, keep="first")
    if twice.any():
        row: Any = twice.idxmax()
        raise UserError(
            f"{_where(table, row)}: a second row for the same task, variant, metric, size and seed "
            f"{_cell(table, row, 'seed')!r}; keep one, or tell them apart by a seed or variant column"
        )
    groups = table.groupby(list(KEYS), sort=False)
    return [_curve((str(key[0]), str(key[1]), str(key[2])), rows) for key, rows in groups]


def expand_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a run folder (correct, byte_accuracy, nll side by side) as one row a metric.

    The byte accuracy's standard error is the one of `total` independent bytes: larger than the truth, for
    an answer has several, but its bytes are not independent.
    """
    if "metric" in table.columns or "byte_accuracy" not in table.columns:
        return table
    parts = [table.assign(metric="exact_match")]
    # An answer of one byte has one score: the second would only be counted twice.
    apart = (table["byte_accuracy"] - table["correct"] / table["total"]).abs() > 1e-6
    names = [key for key in ("task", "variant") if key in table.columns]
    longer = table[table["byte_accuracy"].notna() & apart.groupby([table[n] for n in names]).transform("any")]
    if len(longer):
        byte = longer.assign(metric="byte_accuracy", correct=longer["byte_accuracy"] * longer["total"])
        levels = [level for level in ("chance", "ceiling", "shortcut") if level in byte.columns]
        byte[levels] = np.nan
        parts.append(byte)
    return pd.concat(parts, ignore_index=True)


def independent_items(table: pd.DataFrame) -> "pd.Series[float]":
    """Items that say something new: the different ones where the table says how many these are (a question asked
    twice is answered twice alike), all of them where it does not."""
    total = table["total"].astype(float)
    if "different_items" not in table.columns:
        return total
    return total.where(table["different_items"].isna(), np.minimum(total, table["different_items"]))


def lower_is_better(metric: str) -> bool:
    """Whether a metric's name says that less is better (nll, loss, perplexity, Brier score, ...)."""
    words = metric.lower().replace("-", "_")
    return any(word in words for word in _LOWER_IS_BETTER)


def _word(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _cell(table: pd.DataFrame, row: Any, column: str) -> Any:
    return table.at[row, column]


def _where(table: pd.DataFrame, row: Any) -> str:
    parts = [row_name(table, row)]
    for column in ("task", "size"):
        if column in table.columns:
            parts.append(f"{column} {_cell(table, row, column)}")
    return f"{parts[0]} ({', '.join(parts[1:])})"


def _check(table: pd.DataFrame) -> None:
    def refuse(bad: "pd.Series[bool]", column: str, remedy: str) -> None:
        if bad.any():
            row: Any = bad.idxmax()
            raise UserError(f"{_where(table, row)}: {column} is {_cell(table, row, column):g}; {remedy}")

    def lacking(column: str) -> None:
        gone = table[column].isna()
        if gone.any():
            raise UserError(f"{_where(table, gone.idxmax())}: {column} is missing; every row needs one")

    lacking("task")
    lacking("size")
    refuse(~(table["size"] > 0) | ~np.isfinite(table["size"]), "size", "a positive number would be right")
    counts = {"correct", "total"} <= set(table.columns)
    has_score = {"score", "stderr"} <= set(table.columns)
    counted = table["total"].notna() if counts else pd.Series(False, table.index)
    if counts:
        rows = table[counted | table["correct"].notna()] if has_score else table
        for column in ("total", "correct"):
            gone = rows[column].isna()
            if gone.any():
                raise UserError(f"{_where(rows, gone.idxmax())}: {column} is missing; every row needs one")
        refuse(counted & ~(table["total"] > 0), "total", "an item or more would be right")
        refuse(counted & (table["correct"] < 0), "correct", "0 or more would be right")
        over = counted & (table["correct"] > table["total"] * (1 + 1e-9))
        if over.any():
            row: Any = over.idxmax()
            raise UserError(
                f"{_where(table, row)}: correct is {_cell(table, row, 'correct'):g}, above total "
                f"{_cell(table, row, 'total'):g}; correct counts the right answers among total"
            )
    if "different_items" in table.columns:
        few = table["different_items"].notna() & ~(table["different_items"] >= 1)
        refuse(few, "different_items", "an item or more would be right")
    if has_score:
        plain = ~counted
        for column in ("score", "stderr"):
            gone = plain & ~np.isfinite(table[column])
            if gone.any():
                raise UserError(f"{_where(table, gone.idxmax())}: {column} is not a finite number")
        refuse(plain & (table["stderr"] < 0), "stderr", "0 or more would be right")
    if "chance" in table.columns:
        refuse(table["chance"].notna() & ~(table["chance"] < 1), "chance", "a level below 1 would be right")
        refuse(table["chance"] < 0, "chance", "0 or more would be right")
    if "ceiling" in table.columns:
        low = table["chance"].fillna(0.0) if "chance" in table.columns else 0.0
        refuse(table["ceiling"] <= low, "ceiling", "a level above chance would be right")
    if "shortcut" in table.columns:
        outside = table["shortcut"].notna() & ~table["shortcut"].between(0, 1)
        refuse(outside, "shortcut", "a level in 0..1 would be right")


def _one_level(rows: pd.DataFrame, column: str, otherwise: float) -> float:
    if column not in rows.columns:
        return otherwise
    levels = rows[column].dropna().unique()
    if len(levels) > 1:
        row = rows.index[rows[column].ne(levels[0]) & rows[column].notna()][0]
        raise UserError(
            f"{_where(rows, row)}: {column} is {_cell(rows, row, column):g} here and {levels[0]:g} before; "
            "one level a task would be right"
        )
    return float(levels[0]) if len(levels) else otherwise


def _curve(key: tuple[str, str, str], rows: pd.DataFrame) -> Curve:
    task, variant, metric = key
    size = np.sort(rows["size"].unique())
    if len(size) < 2:
        raise UserError(
            f"{_where(rows, rows.index[0])}: the only size of this task; two sizes or more needed"
        )
    seeds = tuple(sorted(rows["seed"].unique()))
    at = (rows["seed"].map({s: i for i, s in enumerate(seeds)}), np.searchsorted(size, rows["size"]))
    empty = np.full((len(seeds), len(size)), np.nan)
    score, items, stderr, loss = empty.copy(), empty.copy(), empty.copy(), empty.copy()
    if "total" in rows.columns and rows["total"].notna().all():
        score[at], items[at] = rows["correct"] / rows["total"], independent_items(rows)
    else:
        score[at], stderr[at] = rows["score"], rows["stderr"]
    if "loss" in rows.columns:
        loss[at] = rows["loss"]
    chance = _one_level(rows, "chance", np.nan)
    ceiling = _one_level(rows, "ceiling", 1.0)
    # Of corpora that differ by seed the shortcuts may differ by a hair: the highest is to be beaten.
    shortcut = float(rows["shortcut"].max()) if "shortcut" in rows.columns else np.nan
    shift, scale = 0.0, 1.0
    if lower_is_better(metric) or np.nanmin(score) < -1e-9 or np.nanmax(score) > 1 + 1e-9:
        # Outside 0..1 there is no common unit of effect: the range of the scores is taken as one.
        sign = -1.0 if lower_is_better(metric) else 1.0
        low, high = np.nanmin(score), np.nanmax(score)
        width = max(high - low, 8 * float(np.nanmedian(np.nan_to_num(stderr))), 1e-12)
        shift, scale = (low if sign > 0 else high), sign * width
        score, stderr = (score - shift) / scale, np.maximum(stderr / width, 1e-6)
        chance, ceiling, shortcut = np.nan, np.inf, np.nan
    elif np.isnan(items).all():
        items, stderr = _as_proportion(score, stderr)
    return Curve(
        task,
        variant,
        metric,
        size,
        score,
        items,
        stderr,
        chance,
        ceiling,
        loss,
        seeds,
        shift,
        scale,
        shortcut,
    )


def _as_proportion(score: Floats, stderr: Floats) -> tuple[Floats, Floats]:
    """Items behind scores whose standard errors are those of one number of items; else the errors.

    Evaluation harnesses print stderr = sqrt(p (1 - p) / n), zero at scores of 0 and 1: the items are the
    better description, for the error under another curve is not the error at the observed score.
    """
    variance = score * (1 - score)
    with np.errstate(divide="ignore", invalid="ignore"):
        items = np.where((stderr > 0) & (variance > 0), variance / stderr**2, np.nan)
    if np.isnan(items).all():
        return items, np.where(np.isnan(score), np.nan, np.maximum(stderr, 1e-6))
    middle = float(np.nanmedian(items))
    if middle >= 5 and np.nanmax(np.abs(np.log(items / middle))) < 0.2:
        return np.where(np.isnan(score), np.nan, np.round(middle)), np.full_like(stderr, np.nan)
    floor = 0.5 / max(middle, 1.0)
    return np.full_like(items, np.nan), np.where(np.isnan(score), np.nan, np.maximum(stderr, floor))
