"""Read a table of task scores into curves: which rows count, what the columns hold, and what cannot be a score.

Every refusal names the row, the column, its value and what to do. What a curve means is left to posterior.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.detection.curves import Curve, curve_of, expand_metrics
from analysis.detection.direction import Direction, direction
from analysis.errors import UserError
from analysis.tables.columns import numbers, row_name
from analysis.tables.finished import LeftOut, finished_rows

KEYS = ["task", "variant", "metric"]
_NUMBERS = (
    *("size", "correct", "total", "different_items", "score", "stderr", "chance", "ceiling", "shortcut"),
    *("loss", "tokens", "step", "nll", "byte_accuracy"),
)
_LEVELS = ("chance", "ceiling", "shortcut")
# Metrics that are shares of something: above 1 they are written in percent.
_SHARES = {"acc", "accuracy", "em", "f1", "auc", "auroc", "pass", "precision", "recall"}
# Columns of harnesses and trackers that are likely meant, by the name that is read.
_ALSO_CALLED = {
    "task": ("task_name", "benchmark", "dataset", "eval", "subject"),
    "size": ("params", "n_params", "num_params", "parameters", "parameter_count", "model_size", "N"),
    "total": ("n", "n_samples", "num_samples", "samples", "count", "n_items", "num_examples"),
    "correct": ("n_correct", "num_correct", "right", "hits"),
}
# Columns that say too little by themselves: what is lacking, and why.
_WITHOUT = {
    "score": ("total", "a score has no error by itself: add its stderr, or total, the questions behind it"),
    "correct": ("total", "correct needs total, the number of questions asked"),
    "stderr": ("score", "stderr needs the score that it belongs to"),
    "total": ("correct", "total needs correct, the number of right answers, or score"),
}
# A standard error that would take more questions than this is no measured one.
_MOST_ITEMS = 1e10


@dataclass(frozen=True)
class Scores:
    """The scores of a table: the curves, the rows behind them (numbers, metrics side by side as they came), the
    rows of all horizons, the rows left out by reason, and how the table was read where that is not plain."""

    curves: tuple[Curve, ...]
    rows: pd.DataFrame
    all_horizons: pd.DataFrame
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def read_scores(table: pd.DataFrame, lower: Collection[str] = (), higher: Collection[str] = ()) -> Scores:
    """Read every (task, variant, metric) of the table as a curve, in the order of first appearance.

    lower, higher: metrics (tasks, where the table names no metric) of which less, or more, is better whatever
    their names say. Raises UserError, naming the row, for what cannot be: a total of zero, correct above total,
    text in numbers, percentages beside shares, an error of zero, one size, two rows for one score.
    """
    if table.empty:
        raise UserError("the table has no rows; emergence needs rows with task, size, correct and total")
    _refuse_missing_columns(table)
    table, unfinished = finished_rows(table)
    if table.empty:
        raise UserError("no finished run in the table: emergence counts the last evaluation of done runs")
    # Zero has no sign, wherever it was rounded to.
    table = table.assign(**{name: numbers(table, name) + 0.0 for name in _NUMBERS if name in table.columns})
    for name in ("task", "size"):
        if table[name].isna().any():
            row = table[name].isna().idxmax()
            raise UserError(f"{_where(table, row)}: {name} is missing; every row needs one")
    words = {key: table[key].map(_word) if key in table.columns else "" for key in [*KEYS, "seed"]}
    rows, shorter = finished_rows(table.assign(**words), longest="run_id" in table.columns)
    rows = _with_counts(rows)
    _check(rows)
    rows, notes = _with_seeds(rows)
    _refuse_second_rows(rows)
    long = expand_metrics(rows)
    groups = [((str(t), str(v), str(m)), group) for (t, v, m), group in long.groupby(KEYS, sort=False)]
    ways = direction(lower, higher, [(task, metric) for (task, _, metric), _ in groups])
    lone = [group for _, group in groups if group["size"].nunique() < 2]
    if len(lone) == len(groups):
        only = _where(lone[0], lone[0].index[0])
        raise UserError(f"{only}: the only size of this task; two sizes or more needed")
    curves = [_checked_curve(*key, group, ways) for key, group in groups if group["size"].nunique() > 1]
    left_out = [*unfinished, *shorter]
    if lone:
        left_out.append(LeftOut("the only size of its task", tuple(pd.concat(lone).index.unique())))
    return Scores(tuple(curves), rows, table.assign(**words), tuple(left_out), tuple(notes))


def _refuse_missing_columns(table: pd.DataFrame) -> None:
    """Refuse a table without task, size and scores; say which of its columns may be meant."""
    have = {str(name) for name in table.columns}
    if "task" not in have and {"run_id", "loss"} <= have:
        source = table.attrs.get("source", "FOLDER")
        raise UserError(
            "this is a table of runs, one row an evaluation, and has no column task; scores of tasks are read "
            f'from a run folder by load_table("{source}", kind="tasks")'
        )
    scored = any(pair <= have for pair in ({"correct", "total"}, {"score", "stderr"}, {"score", "total"}))
    lacking = [name for name in ("task", "size") if name not in have]
    if scored and not lacking:
        return
    renames = [_meant(name, have) for name in lacking]
    held = next((name for name in _WITHOUT if name in have), "")
    other, how = _WITHOUT.get(held, ("", f"the table has {', '.join(map(str, table.columns))}"))
    why = f"give either the columns correct, total or score, stderr; {how}"
    if lacking:
        why = (
            f"column {lacking[0]!r} is missing; emergence needs task, size, correct, total (or score, stderr)"
        )
    if not scored:
        renames.append(_meant(other, have) or _harness(have))
    hint = ",".join(name for name in renames if name)
    raise UserError(why + (f'; name it with --columns "{hint}"' if hint else ""))


def _meant(name: str, have: set[str]) -> str:
    """Return NAME=COLUMN for the column that may be meant by `name`, or nothing."""
    found = next((other for other in _ALSO_CALLED.get(name, ()) if other in have), None)
    return f"{name}={found}" if found else ""


def _harness(have: set[str]) -> str:
    """Return how a score and its standard error are named in the table of an evaluation harness, or nothing."""
    for error in sorted(have):
        for ending in ("_stderr", "_std_err", "_se", "_sem"):
            score = error.replace(ending, "", 1)
            if ending in error and score in have:
                return f"score={score},stderr={error}"
    return ""


def _with_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a score and a total, but neither counts nor an error, as counts."""
    if not {"score", "total"} <= set(rows.columns):
        return rows
    correct = rows["correct"] if "correct" in rows.columns else pd.Series(np.nan, rows.index)
    error = rows["stderr"] if "stderr" in rows.columns else pd.Series(np.nan, rows.index)
    bare = correct.isna() & error.isna() & rows["score"].notna() & rows["total"].notna()
    outside = bare & ~rows["score"].between(0, 1)
    _refuse(rows, outside, "score", "a share of total, in 0..1, would be right: divide a percentage by 100")
    counts = rows.assign(correct=correct.where(~bare, rows["score"] * rows["total"]))
    return counts if "stderr" in rows.columns else counts.assign(stderr=np.nan)


def _check(rows: pd.DataFrame) -> None:
    """Refuse what no row can hold."""
    size = rows["size"]
    _refuse(rows, ~(size > 0) | ~np.isfinite(size), "size", "a positive number would be right")
    has = set(rows.columns)
    counted = pd.Series(False, rows.index)
    if {"correct", "total"} <= has:
        counted = rows["correct"].notna() & rows["total"].notna()
        started = rows["correct"].notna() if "stderr" in has else pd.Series(True, rows.index)
        _check_counts(rows[started | counted])
    if {"score", "stderr"} <= has:
        _check_errors(rows[~counted])
    if "different_items" in has:
        few = rows["different_items"].notna() & ~(rows["different_items"] >= 1)
        _refuse(rows, few, "different_items", "an item or more would be right")
    _check_levels(rows)


def _check_counts(rows: pd.DataFrame) -> None:
    for name in ("total", "correct"):
        gone = rows[name].isna()
        if gone.any():
            raise UserError(
                f"{_where(rows, gone.idxmax())}: {name} is missing; every row needs one, or is left out with "
                f'--where "{name} >= 0"'
            )
    correct, total = rows["correct"], rows["total"]
    _refuse(rows, ~(total >= 1) | ~np.isfinite(total), "total", "an item or more would be right")
    broken = (total - total.round()).abs() > 1e-3
    _refuse(rows, broken, "total", "a whole number of questions would be right")
    _refuse(rows, correct < 0, "correct", "0 or more would be right")
    over = correct > total * (1 + 1e-9)
    if over.any():
        row: Any = over.idxmax()
        raise UserError(
            f"{_where(rows, row)}: correct is {correct[row]:g}, above total {total[row]:g}; correct counts the "
            "right answers among total"
        )
    if len(rows) and (correct <= 1).all() and (correct % 1 > 0).any() and total.min() > 1:
        remedy = "a count would be right; a share of total is a score: --columns score=correct"
        _refuse(rows, correct % 1 > 0, "correct", remedy)


def _check_errors(rows: pd.DataFrame) -> None:
    for name in ("score", "stderr"):
        gone = ~np.isfinite(rows[name])
        if gone.any():
            # Only a missing error can be made up for by a number of questions.
            more = ", or give them a total (how many questions are behind the score)" * (name == "stderr")
            rule = "stderr >= 0" if name == "stderr" else "score > -1e300"
            _refuse(
                rows, gone, name, f'leave out the {int(gone.sum())} such rows with --where "{rule}"{more}'
            )
    score, error = rows["score"], rows["stderr"]
    _refuse(rows, error < 0, "stderr", "0 or more would be right")
    inside = (score > 0) & (score < 1)
    with np.errstate(divide="ignore"):
        items = score * (1 - score) / error**2
    exact = (error == 0) & ~score.isin([0.0, 1.0, 100.0]) | inside & (items > _MOST_ITEMS)
    if exact.any():
        row: Any = exact.idxmax()
        raise UserError(
            f"{_where(rows, row)}: stderr is {error[row]:g} at score {score[row]:g} ({int(exact.sum())} such): no "
            "measured score is exact; give correct and total, or score and total (how many questions are behind "
            'it), or leave such rows out with --where "stderr > 0"'
        )
    wide = score.between(0, 1) & (error > 0.5)
    if wide.any() and score.between(0, 1).all():
        _refuse(rows, wide, "stderr", "a score in 0..1 has .5 at most; divide a percentage by 100")


def _check_levels(rows: pd.DataFrame) -> None:
    top = rows["score"].max() if "score" in rows.columns else np.nan
    percent = ": these look like percentages, divide score, stderr and chance by 100" if top > 1 else ""
    if "chance" in rows.columns:
        chance = rows["chance"]
        high = chance.notna() & ~(chance < 1)
        _refuse(rows, high, "chance", f"a level below 1 would be right{percent or _or_percent(chance)}")
        _refuse(rows, chance < 0, "chance", "0 or more would be right")
    if "ceiling" in rows.columns:
        low = rows["chance"].fillna(0.0) if "chance" in rows.columns else 0.0
        _refuse(rows, rows["ceiling"] <= low, "ceiling", "a level above chance would be right")
    if "shortcut" in rows.columns:
        outside = rows["shortcut"].notna() & ~rows["shortcut"].between(0, 1)
        more = _or_percent(rows["shortcut"])
        _refuse(rows, outside, "shortcut", f"a level in 0..1 would be right{more}")


def _or_percent(levels: "pd.Series[float]") -> str:
    return ": divide a percentage by 100" if 1 < levels.max() <= 100 else ""


def _with_seeds(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows with run_id for the seed, where several runs of a size have no seed of their own."""
    if (rows["seed"] != "").any() or "run_id" not in rows.columns:
        return rows, []
    if not rows.duplicated([*KEYS, "size"]).any():
        return rows, []
    runs = rows["run_id"].map(_word)
    said = f"no column seed: each of the {runs.nunique()} runs (run_id) is taken for a seed of its own"
    return rows.assign(seed=runs), [said]


def _refuse_second_rows(rows: pd.DataFrame) -> None:
    """Refuse two rows for one score; name the columns that would tell them apart, where there are some."""
    keys = [*KEYS, "size", "seed"]
    twice = rows.duplicated(keys, keep="first")
    if not twice.any():
        return
    row: Any = twice.idxmax()
    first: Any = rows[keys].eq(rows.loc[row, keys]).all(axis=1).idxmax()
    texts = rows.astype(str)
    differ = texts.columns[texts.loc[row].ne(texts.loc[first])].tolist()
    head = f"{_where(rows, row)}: a second row for the same task, variant, metric, size and seed"
    if not differ:
        raise UserError(f"{head}: it repeats {row_name(rows, first)}; keep one of them")
    columns = [name for name in differ if name not in _NUMBERS]
    seed = next((name for name in columns if not texts.duplicated([*keys, name]).any()), "")
    how = "keep one with --where, or tell them apart by a seed or variant column"
    if {"tokens", "step"} & set(differ):
        how = "keep one evaluation of each run with --where, or name the runs in a column run_id"
    elif seed:
        taken = "" if (rows["seed"] == "").all() else " in place of the present one"
        how = f"keep one with --where, or, if {seed} tells seeds apart, --columns seed={seed}{taken}"
    raise UserError(
        f"{head}: it differs from {row_name(rows, first)} in {', '.join(map(str, differ[:6]))}; {how}"
    )


def _checked_curve(task: str, variant: str, metric: str, rows: pd.DataFrame, ways: Direction) -> Curve:
    """The curve of one (task, variant, metric), its levels and its unit checked."""
    for name in _LEVELS[:2]:
        levels = rows[name].dropna() if name in rows.columns else rows["size"].iloc[:0]
        other = levels.ne(levels.iloc[0]) if len(levels) else levels.astype(bool)
        if other.any():
            row: Any = other.idxmax()
            raise UserError(
                f"{_where(rows, row)}: {name} is {levels[row]:g} here and {levels.iloc[0]:g} before; "
                "one level a task would be right"
            )
    less = ways.less(task, metric)
    if not less and "score" in rows.columns:
        _refuse_percentages(metric, rows[rows["score"].notna()])
    return curve_of(task, variant, metric, rows, less)


def _refuse_percentages(metric: str, rows: pd.DataFrame) -> None:
    """Refuse scores in percent: what is a share has to be in 0..1, so that its error and effect are known."""
    score, error = rows["score"], rows["stderr"]
    above = score > 1 + 1e-9
    if not above.any():
        return
    remedy = "divide score and stderr by 100"
    chance = rows["chance"] if "chance" in rows.columns else pd.Series(0.0, rows.index)
    _refuse(rows, above & (chance > 0), "score", f"above 1, but chance is a share: {remedy}")
    if set(re.split(r"[^a-z0-9]+", metric.lower())) & _SHARES or "exact_match" in metric.lower():
        _refuse(rows, above, "score", f"{metric} lies in 0..1: {remedy} where it is a percentage")
    if score.between(0, 100).all():
        if _one_number(score / 100, error / 100):
            _refuse(rows, above, "score", f"its stderr is that of a percentage of some questions: {remedy}")
        unit = np.where(above, 100.0, 1.0)
        if _one_number(score / unit, error / unit):
            _refuse(rows, above, "score", f"a percentage, where other rows of the task are shares: {remedy}")


def _one_number(score: "pd.Series[float]", error: "pd.Series[float]") -> bool:
    """True where three errors or more are those of shares of one number of questions, and the scores differ so
    much that other errors would not be."""
    known = (error > 0) & (score > 0) & (score < 1)
    if known.sum() < 3:
        return False
    variance = np.log((score * (1 - score))[known])
    items = variance - 2 * np.log(error[known])
    return bool(np.ptp(items) < 0.05 and np.ptp(variance) > 0.1 and items.median() > np.log(5))


def _refuse(rows: pd.DataFrame, bad: "pd.Series[bool]", column: str, remedy: str) -> None:
    if bad.any():
        row: Any = bad.idxmax()
        raise UserError(f"{_where(rows, row)}: {column} is {_shown(rows.at[row, column])}; {remedy}")


def _where(rows: pd.DataFrame, row: Any) -> str:
    about = [f"{name} {_shown(rows.at[row, name])}" for name in ("task", "size") if name in rows.columns]
    return f"{row_name(rows, row)} ({', '.join(about)})"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "missing" if np.isnan(value) else f"{value:g}"
    return str(value)


def _word(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
