"""Say which runs a law may use, and which one it is asked to predict: rules stated before anything was looked at.

The fit itself is `analysis.fitting`'s, the interval `forecasting.interval`'s; here is only who is in and out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.fitting.rows import usable_rows
from analysis.tables.columns import numbers
from analysis.tables.finished import LeftOut, finished_rows, last_rows
from analysis.tables.where import no_such_column

# The forecast of the largest run sees only runs with at most 1/30 of its compute: far enough that a
# prediction is worth something, near enough that a ladder of an hour has runs below it.
CUT = 30.0
# Under eight runs a law of five parameters has next to nothing left to judge it by.
FEWEST = 8
# Of the law of N and D that is fitted to them: what rows must carry.
PARAMETERS = 5
# Nothing that is counted or measured here comes near; six times a product of two such is still a number.
_MOST = 1e60
# Counts differ by what they call a parameter (embeddings), not by more than this.
_MOST_ACTIVE = 10.0
RULE = (
    "The target is the largest model at its longest horizon. The forecast may use the finished runs with at "
    f"most 1/{CUT:g} of the target's training compute, every one of them, and no other. "
    f"Under {FEWEST} runs below the cut the answer carries the warning too_few_runs. The rule is part of the "
    "program and reads no setting: nothing about it was chosen after looking at the target."
)


@dataclass(frozen=True)
class LawRows:
    """The rows a law of N and D can be fitted to, numbered anew, and what was left out.

    `rows` have positive finite params, tokens, flops and loss. `compute` says how their flops were counted.
    """

    rows: pd.DataFrame
    left_out: tuple[LeftOut, ...]
    compute: str


def law_rows(table: pd.DataFrame) -> LawRows:
    """Keep the last evaluations of finished runs that have a size, a horizon, a compute and a loss.

    Rows without (a run that diverged, an evaluation before the first step, a blank line) are left out and named by
    their label in `table`; so are, as in every fit, checkpoints of a schedule and settings that another beats.
    Where no row has flops they are counted: 6 N D, N the active parameters if the table has them (column
    `params_active`). Raises UserError for a column that is missing or holds text.
    """
    for name in ("params", "tokens", "loss"):
        if name not in table.columns:
            error = no_such_column(name, table.columns, f"column {name!r}")
            raise UserError(f"{error}; name it with --columns {name}=COLUMN")
    named = [name for name in ("params", "tokens", "loss", "flops", "params_active") if name in table.columns]
    rows, left_out = finished_rows(table.assign(**{name: numbers(table, name) for name in named}))
    rows, compute = _with_compute(_with_active(rows))
    for name in ("params", "tokens", "loss", "flops"):
        values = rows[name]
        for bad, what in (
            (values.isna(), "is missing"),
            (values <= 0, "is zero or negative"),
            (values > _MOST, f"is infinite or above {_MOST:g}"),
        ):
            if bad.any():
                left_out = (*left_out, LeftOut(f"{name} {what}", tuple(rows.index[bad].tolist())))
        rows = rows[(values > 0) & (values <= _MOST)]
    best = usable_rows(rows, ("params", "tokens"), PARAMETERS)
    return LawRows(best.table.reset_index(drop=True), (*left_out, *best.left_out), compute)


def _with_active(rows: pd.DataFrame) -> pd.DataFrame:
    """Read a model as dense where its active parameters are missing or impossible, as fits do."""
    if "params_active" not in rows.columns:
        return rows
    active, params = rows["params_active"], rows["params"]
    said = active.gt(0) & (active <= _MOST_ACTIVE * params)
    return (
        rows.assign(params_active=active.where(said, params))
        if said.any()
        else rows.drop(columns="params_active")
    )


def _with_compute(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Add flops where the table has none; the rows, and how they are counted."""
    if "flops" in rows.columns and (np.isfinite(rows["flops"]) & (rows["flops"] > 0)).any():
        return rows, "as in the table"
    active = "params_active" in rows.columns
    size = rows["params_active"] if active else rows["params"]
    said = "6 × active parameters × tokens" if active else "6 × parameters × tokens"
    if "flops" in rows.columns:
        said += ", for the column flops has no positive value"
    return rows.assign(flops=6.0 * size * rows["tokens"]), said


@dataclass(frozen=True)
class Target:
    """The run that is held out, all its seeds, and the rows a forecast of it may use.

    `flops` is the target's compute; `losses` are in the table's units, one a run of its size and horizon; `seeds`
    are these runs' seeds, or empty where the table does not tell them apart. `below` are the rows with
    flops <= target / CUT.
    """

    params: float
    tokens: float
    flops: float
    losses: tuple[float, ...]
    seeds: tuple[str, ...]
    below: pd.DataFrame
    note: str = ""

    @property
    def measured(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.losses))


def choose_target(table: pd.DataFrame) -> Target | None:
    """Choose the held-out target by RULE; None where there is nothing smaller to predict it from.

    Where every seed of the largest model's longest run diverged or failed, the longest one that was finished
    stands in, and `note` says so.
    """
    rows = law_rows(table).rows
    if rows["params"].nunique() < 2:
        return None
    params = float(rows["params"].max())
    largest = rows[rows["params"] == params]
    tokens = float(largest["tokens"].max())
    # Skipped steps cost a run tokens: its seeds are those within half a percent of the longest.
    alike = largest[largest["tokens"] >= 0.995 * tokens]
    flops = float(alike["flops"].mean())
    seeds = alike["seed"].astype(str).tolist() if "seed" in alike.columns else []
    return Target(
        params=params,
        tokens=float(alike["tokens"].mean()),
        flops=flops,
        losses=tuple(float(loss) for loss in alike["loss"]),
        seeds=tuple(seeds) if len(set(seeds)) == len(alike) else (),
        below=rows[rows["flops"] <= flops / CUT].reset_index(drop=True),
        note=_stood_in(table, params, tokens),
    )


def _stood_in(table: pd.DataFrame, params: float, tokens: float) -> str:
    """A sentence where a larger or longer run was planned than the largest that finished."""
    if not {"outcome", "kind", "horizon_tokens"} <= set(table.columns):
        return ""
    planned = last_rows(table)
    planned = planned[planned["kind"].ne("trunk") & planned["outcome"].ne("done")]
    size = pd.to_numeric(planned["params"], errors="coerce")
    horizon = pd.to_numeric(planned["horizon_tokens"], errors="coerce")
    beyond = planned[size.gt(params) | (size.eq(params) & horizon.gt(tokens))]
    if beyond.empty:
        return ""
    ends = ", ".join(f"{count} {word}" for word, count in beyond["outcome"].value_counts().items())
    return (
        f"A larger or longer run was planned and did not finish ({ends}); "
        "the largest that did stands in as the target."
    )
