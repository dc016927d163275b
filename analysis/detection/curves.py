"""One task's scores over size, as arrays: built from the rows of one (task, variant, metric).

Which rows count and what is no score is left to scores; what a curve means, to posterior and bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array


@dataclass(frozen=True)
class Curve:
    """One task's scores by seed and size; NaN where not run.

    `items` is the number of items behind a score where it is a proportion; `stderr` is set instead (items NaN)
    where only a standard error is known. `size` is in the table's unit. Scores are mapped to
    `(score - shift) / scale`, so that higher is better, chance and ceiling with them; the ceiling is infinite
    where the score has no bounds of its own. `shortcut` is the score of the best guess without the ability, NaN
    where none is known.
    """

    task: str
    variant: str
    metric: str
    size: Float[Array, " J"]
    score: Float[Array, "S J"]
    items: Float[Array, "S J"]
    stderr: Float[Array, "S J"]
    chance: float
    ceiling: float
    loss: Float[Array, "S J"]
    seeds: tuple[str, ...]
    shift: float = 0.0
    scale: float = 1.0
    shortcut: float = np.nan

    @property
    def name(self) -> str:
        """Task, variant and metric in one word."""
        return "/".join(part for part in (self.task, self.variant, self.metric) if part)

    @property
    def bounded(self) -> bool:
        """True where scores lie in 0..1, so that an effect has a unit of its own."""
        return bool(np.isfinite(self.ceiling))

    @property
    def most_seeds(self) -> int:
        """The most seeds that were run at one size."""
        return int(np.isfinite(self.score).sum(0).max())

    def of_seeds(self, places: Sequence[int]) -> "Curve":
        """Return the curve of some of the seeds, over the sizes that these have."""
        rows = np.array(places, dtype=int)
        there = np.isfinite(self.score[rows]).any(0)
        names = ("score", "items", "stderr", "loss")
        picked = {name: getattr(self, name)[rows][:, there] for name in names}
        return replace(self, size=self.size[there], seeds=tuple(self.seeds[at] for at in places), **picked)


def curve_of(task: str, variant: str, metric: str, rows: pd.DataFrame, lower: bool) -> Curve:
    """Build the curve of `rows`, numbers all of them: seed, size, and correct, total or score, stderr.

    lower: less is better. Levels (chance, ceiling, shortcut) are the first that the rows have.
    """
    size = np.sort(rows["size"].unique()).astype(np.float64)
    seeds = tuple(sorted(rows["seed"].unique()))
    at = (rows["seed"].map({s: i for i, s in enumerate(seeds)}), np.searchsorted(size, rows["size"]))
    score, items, stderr, loss = (np.full((len(seeds), len(size)), np.nan) for _ in range(4))
    if {"correct", "total"} <= set(rows.columns) and rows[["correct", "total"]].notna().all(axis=None):
        score[at], items[at] = rows["correct"] / rows["total"], independent_items(rows)
    else:
        score[at], stderr[at] = _scored(rows)
    if "loss" in rows.columns:
        loss[at] = rows["loss"].where(np.isfinite(rows["loss"]))
    chance, ceiling = _level(rows, "chance", np.nan), _level(rows, "ceiling", 1.0)
    # Of corpora that differ by seed the shortcuts may differ by a hair: the highest is to be beaten.
    shortcut = float(rows["shortcut"].max()) if "shortcut" in rows.columns else np.nan
    shift, scale = 0.0, 1.0
    counted = bool(np.isfinite(items).any())
    if counted and lower:
        # Counts of mistakes: what is left is right.
        shift, scale, score = 1.0, -1.0, 1 - score
        chance, ceiling, shortcut = 1 - chance, 1.0, 1 - shortcut
    elif lower or np.nanmin(score) < -1e-9 or np.nanmax(score) > 1 + 1e-9:
        # Outside 0..1 there is no common unit of effect: the range of the scores is taken as one.
        low, high = np.nanmin(score), np.nanmax(score)
        width = max(high - low, 8 * float(np.nanmedian(np.nan_to_num(stderr))), 1e-12)
        shift, scale = (high, -width) if lower else (low, width)
        score, stderr = (score - shift) / scale, np.maximum(stderr / width, 1e-6)
        chance, ceiling, shortcut = np.nan, np.inf, np.nan
    elif not counted:
        items, stderr = _as_proportion(score, stderr)
    levels = {"shift": float(shift), "scale": float(scale), "shortcut": shortcut}
    return Curve(task, variant, metric, size, score, items, stderr, chance, ceiling, loss, seeds, **levels)


def expand_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Turn rows of a run folder (correct, byte_accuracy, nll side by side) into one row a metric.

    The byte accuracy's standard error is the one of `total` independent bytes: larger than the truth, for
    an answer has several, but its bytes are not independent.
    """
    named = "metric" in table.columns and table["metric"].ne("").any()
    if named or "byte_accuracy" not in table.columns:
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
    """Count the items that say something new: the different ones where the table says how many these are (a
    question asked twice is answered twice alike), all of them where it does not."""
    total = table["total"].astype(float)
    if "different_items" not in table.columns:
        return total
    return total.where(table["different_items"].isna(), np.minimum(total, table["different_items"]))


def _scored(rows: pd.DataFrame) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    """Scores and standard errors of rows of which some are counts: those have the error of a proportion."""
    if "total" not in rows.columns or "correct" not in rows.columns:
        return rows["score"], rows["stderr"]
    total = independent_items(rows)
    share = rows["correct"] / rows["total"]
    own = np.sqrt((share * (1 - share) + 0.25 / total) / total)
    return share.fillna(rows["score"]), own.fillna(rows["stderr"])


def _level(rows: pd.DataFrame, column: str, otherwise: float) -> float:
    levels = rows[column].dropna() if column in rows.columns else rows["size"].iloc[:0]
    return float(levels.iloc[0]) if len(levels) else otherwise


def _as_proportion(score: Array, stderr: Array) -> tuple[Array, Array]:
    """Return the items behind scores whose standard errors are those of one number of items; else the errors.

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
