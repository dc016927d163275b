"""A table of task scores as the rows that a forecast of accuracy is fitted to: score, compute, the task's own loss.

The table is read by `detection.scores`, which refuses what cannot be a score; here its sizes are compute.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.detection.emergence import Emergence, emergence
from analysis.detection.scores import KEYS, read_scores
from analysis.detection.verdict import Verdict
from analysis.errors import UserError
from analysis.forecasting.accuracy_curve import Scored
from analysis.tables.columns import numbers
from analysis.tables.finished import finished_rows

# Draws of each test that classes a task.
DRAWS = 800


@dataclass(frozen=True)
class Scale:
    """The scale of n runs: `compute` (FLOPs; params where the table has no more) and `ratio`, log tokens per
    parameter (0 where unknown); `columns` are those that a law may read."""

    compute: Float[Array, " n"]
    ratio: Float[Array, " n"]
    columns: pd.DataFrame

    def of(self, rows: Bool[np.ndarray, " n"]) -> "Scale":
        """Return some of the runs."""
        return Scale(self.compute[rows], self.ratio[rows], self.columns[rows].reset_index(drop=True))


@dataclass(frozen=True)
class TaskRows:
    """One task's n runs: their scores, scale, own `loss` (NaN where not measured), and the class found for them."""

    verdict: Verdict
    scored: Scored
    scale: Scale
    loss: Float[Array, " n"]


def scale_of(table: pd.DataFrame, like: pd.DataFrame | None = None) -> Scale:
    """Read the scale of the rows of `table`; of targets, by the same columns as the table `like` that is fitted.

    Compute is the column flops, or 6 params tokens, or params (size where there is no column params) alone.
    """
    have = set((table if like is None else like).columns)
    params = "params" if "params" in have else "size"
    reads = ["flops"] if "flops" in have else [params, "tokens"] if "tokens" in have else [params]
    both = ["params", "tokens"] if {"params", "tokens"} <= have else []
    for name in (*reads, *both):
        if name not in table.columns:
            raise UserError(f"column {name!r} is missing: the task scores are read along {', '.join(reads)}")
        values = numbers(table, name)
        bad = ~((values > 0) & np.isfinite(values))
        if bad.any():
            row: Any = bad.idxmax()
            raise UserError(f"row {row}: {name} is {values[row]:g}; a positive number would be right")
    column: dict[str, Array] = {
        name: np.asarray(numbers(table, name), dtype=np.float64) for name in dict.fromkeys((*reads, *both))
    }
    compute = column[reads[0]] if len(reads) == 1 else 6.0 * column[reads[0]] * column[reads[1]]
    ratio = np.log(column["tokens"] / column["params"]) if both else np.zeros(len(compute))
    law = {name: column[name] for name in both} | {"flops": compute, "x": compute}
    return Scale(compute, ratio, pd.DataFrame(law))


def task_rows(table: pd.DataFrame, fdr: float) -> list[TaskRows]:
    """Read every (task, variant) of `table` and class it along compute; every horizon counts.

    Columns are those of `emergence`, with params, tokens, flops where known, and `nll`, the task's own loss (nats
    or bits an answer or byte: the unit is no matter).
    """
    table, _ = finished_rows(table)
    if table.empty:
        raise UserError(
            "no finished run in the table: accuracies are forecast from the last evaluations of done runs"
        )
    # Scores by byte are other scores of the same answers; the forecast is of the exact ones.
    table = table.drop(columns=[name for name in ("byte_accuracy",) if name in table.columns])
    scale = scale_of(table)
    # Two shapes of one compute are two sizes all the same.
    place = pd.DataFrame({"compute": scale.compute, "ratio": scale.ratio}, index=table.index)
    rank = place.groupby("compute")["ratio"].rank(method="dense") - 1
    sized = table.assign(size=scale.compute * (1 + 1e-7 * rank.to_numpy()), _row=np.arange(len(table)))
    found: Emergence = emergence(sized.drop(columns=["nll"], errors="ignore"), fdr=fdr, draws=DRAWS)
    rows = read_scores(sized).rows
    groups = dict(iter(rows.groupby(KEYS, sort=False)))
    loss = (
        numbers(table, "nll").to_numpy(np.float64) if "nll" in table.columns else np.full(len(table), np.nan)
    )
    tasks = []
    for verdict in found.tasks:
        curve = verdict.curve
        group = groups[(curve.task, curve.variant, curve.metric)]
        places = {seed: at for at, seed in enumerate(curve.seeds)}
        at = (
            group["seed"].map(places).to_numpy(int),
            np.searchsorted(curve.size, group["size"].to_numpy(float)),
        )
        scored = Scored(curve.score[at], curve.items[at], curve.stderr[at], curve.chance, curve.ceiling)
        row = group["_row"].to_numpy(int)
        own = Scale(scale.compute[row], scale.ratio[row], scale.columns.iloc[row].reset_index(drop=True))
        tasks.append(TaskRows(verdict, scored, own, loss[row]))
    return tasks
