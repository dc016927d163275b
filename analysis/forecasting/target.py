"""Which runs a law may use, and which one it is asked to predict: rules stated before anything was looked at.

The fit itself is `analysis.fit`, the interval `analysis.forecast`; here is only who is in and who is out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.tables.finished import final_rows, last_rows

# The forecast of the largest run sees only runs with at most 1/30 of its compute: far enough that a
# prediction is worth something, near enough that a ladder of an hour has runs below it.
CUT = 30.0
# Under eight runs a law of five parameters has next to nothing left to judge it by.
FEWEST = 8
RULE = (
    "The target is the largest model at its longest horizon. The forecast may use the finished runs with at "
    f"most 1/{CUT:g} of the target's training compute, every one of them, and no other. "
    f"Under {FEWEST} runs below the cut the answer carries the warning too_few_runs. The rule is part of the "
    "program and reads no setting: nothing about it was chosen after looking at the target."
)


@dataclass(frozen=True)
class Target:
    """The run that is held out, all its seeds, and the rows a forecast of it may use.

    `flops` is the target's compute, in the column that `compute_column` names; `losses` are in the table's
    units, one a seed; `below` are the rows with flops <= target / CUT.
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
    """The held-out target by RULE, or None where there is nothing smaller to predict it from.

    Where every seed of the largest model's longest run diverged or failed, the longest one that was finished
    stands in, and `note` says so.
    """
    rows = final_rows(table)
    rows = rows[rows["loss"].gt(0) & rows["params"].gt(0) & rows["tokens"].gt(0)]
    if rows["params"].nunique() < 2:
        return None
    params = float(rows["params"].max())
    largest = rows[rows["params"] == params]
    tokens = float(largest["tokens"].max())
    # Skipped steps cost a run tokens: its seeds are those within half a percent of the longest.
    seeds = largest[largest["tokens"] >= 0.995 * tokens]
    flops = float(seeds["flops"].mean())
    names = seeds["seed"].astype(str) if "seed" in seeds.columns else pd.Series([""] * len(seeds))
    return Target(
        params=params,
        tokens=float(seeds["tokens"].mean()),
        flops=flops,
        losses=tuple(float(loss) for loss in seeds["loss"]),
        seeds=tuple(names),
        below=rows[rows["flops"] <= flops / CUT].reset_index(drop=True),
        note=_stood_in(table, params, tokens),
    )


def _stood_in(table: pd.DataFrame, params: float, tokens: float) -> str:
    """A sentence where a larger or longer run was planned than the largest that finished."""
    if not {"outcome", "kind", "horizon_tokens"} <= set(table.columns):
        return ""
    planned = last_rows(table)
    planned = planned[planned["kind"].ne("trunk") & planned["outcome"].ne("done")]
    beyond = planned[
        planned["params"].gt(params) | (planned["params"].eq(params) & planned["horizon_tokens"].gt(tokens))
    ]
    if beyond.empty:
        return ""
    ends = ", ".join(f"{count} {word}" for word, count in beyond["outcome"].value_counts().items())
    return (
        f"A larger or longer run was planned and did not finish ({ends}); "
        "the largest that did stands in as the target."
    )
