"""Forecast the accuracy of tasks for runs that were not made, or say that it cannot be said and why.

Each task is forecast by the method of `steps` that missed less where rows of the table were held out; the targets
play no part in it. What hold-outs missed beyond parameters and noise widens the intervals. A task whose rows show
no rise, or a jump that is hardly over, has no forecast: what a jump does beyond the data is not in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.options import check_seed
from analysis.forecasting.discrepancy import FAR
from analysis.forecasting.steps import (
    LEAST_ROWS,
    LEAST_SCALES,
    METHODS,
    Held,
    LossLaw,
    held_out_accuracies,
    loss_law,
    one_step,
    two_step,
)
from analysis.forecasting.task_rows import Scale, TaskRows, scale_of, task_rows

LEVELS = (0.5, 0.9)
# False-discovery level of a task's rise and of its jumps.
FDR = 0.05
# Scales past a jump's interval that a curve can be read from.
PAST_JUMP = 4
# A score is off by a normal error of standard deviation slope x (log distance beyond the rows)^GROWTH, the same
# slope for all tasks of a table and method: slopes tried, and the scale of their half-Cauchy prior. GROWTH and
# PRIOR are chosen on made tasks (benchmarks/downstream.py), never on published ones.
SLOPES = np.geomspace(5e-4, 0.2, 40)
PRIOR = 0.02
GROWTH = 0.5
# Power of a hold-out's likelihood: the cuts of a task hold out the same rows over and over.
EVIDENCE = 0.5
# A method that misses so many times more than the other where rows are held out is not heard against it.
REJECTED = 4.0
# A 90% interval wider than this share of what lies between chance and ceiling says nothing.
WIDEST = 0.5


@dataclass(frozen=True)
class MethodForecast:
    """What one method says of a target: `accuracy` (the median), `intervals` by level for one new run, and
    `missed`, its root mean square error over the cuts of the table."""

    accuracy: float
    intervals: dict[float, tuple[float, float]]
    missed: float


@dataclass(frozen=True)
class TaskForecast:
    """The accuracy of one new run at one target (a row of the targets, by its place), or a `reason` for none.

    `intervals` are by level and bound one run: its items, its seed, the curve's parameters, and how far hold-outs
    were off. `method` is one_step or two_step; `methods` are both, where both could be asked. `label` is the task's
    class (`emergence`).
    """

    task: str
    variant: str
    metric: str
    target: int
    label: str
    accuracy: float | None
    intervals: dict[float, tuple[float, float]]
    method: str | None
    reason: str
    methods: dict[str, MethodForecast]

    def to_json(self) -> dict[str, Any]:
        """Make the task's entry of a registered forecast; `reason` is empty where there is an accuracy."""
        return {
            "task": self.task,
            "variant": self.variant,
            "accuracy": self.accuracy,
            "intervals": {f"{level:g}": list(ends) for level, ends in self.intervals.items()},
            "method": self.method,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class _Task:
    """A task on its way: rows, why it has no forecast, its law of loss, its hold-outs by method and factor."""

    rows: TaskRows
    reason: str
    law: LossLaw | None = None
    held: Mapping[str, Mapping[float, Held]] = field(default_factory=dict)

    @property
    def compared(self) -> bool:
        """True where both methods were tried."""
        return bool(self.held) and all(self.held.values())

    def missed(self, method: str) -> float:
        """The root mean square error, averaged over the cuts that every method was tried at."""
        tried = [set(cuts) for cuts in self.held.values() if cuts]
        errors = [self.held[method][factor].error for factor in set.intersection(*tried)]
        return float(np.mean([np.sqrt(np.mean(error**2)) for error in errors]))


def task_forecasts(table: pd.DataFrame, targets: pd.DataFrame, *, seed: int = 0) -> list[TaskForecast]:
    """Forecast every task of `table` at every row of `targets`: one entry each, the targets of a task together.

    table: one row a task, variant and finished run, as `emergence` reads them, with params, tokens and flops where
    known and `nll`, the task's own loss, without which there is one step. targets: the same columns of scale.
    Raises UserError for a column or a value that cannot be, and for a target within the compute of the table.
    """
    check_seed(seed)
    wanted = scale_of(targets.reset_index(drop=True), like=table)
    read = task_rows(table, FDR)
    largest = max(float(rows.scale.compute.max()) for rows in read)
    if (wanted.compute <= largest).any():
        row = int(np.argmax(wanted.compute <= largest))
        raise UserError(
            f"target {row}: its compute is {wanted.compute[row]:.4g} and the largest run's {largest:.4g}; "
            "a target beyond the table would be right"
        )
    tasks = []
    for rows in read:
        reason = _no_curve(rows)
        law = None if reason else loss_law(rows, seed)
        held = {} if reason else held_out_accuracies(rows, law, seed)
        if not reason and not held["one_step"]:
            reason = "too few runs to hold some out and try the curve on them"
        tasks.append(_Task(rows, reason, law, held))
    slopes = {
        method: _slopes([cut for task in tasks for cut in task.held.get(method, {}).values()])
        for method in METHODS
    }
    found = []
    for task in tasks:
        answers = {} if task.reason else _answers(task, _draws(task, wanted, seed), wanted, slopes, seed)
        best = min(answers, key=task.missed, default="")
        for i in range(len(wanted.compute)):
            said = {name: answer[i] for name, answer in answers.items()}
            reason = task.reason or _no_answer(task, said, best, float(wanted.compute[i]))
            found.append(_entry(task, i, said, best, reason))
    return found


def _entry(task: _Task, target: int, said: dict[str, MethodForecast], best: str, reason: str) -> TaskForecast:
    curve = task.rows.verdict.curve
    name = (curve.task, curve.variant, curve.metric, target, task.rows.verdict.label)
    if reason:
        return TaskForecast(*name, None, {}, None, reason, said)
    return TaskForecast(*name, said[best].accuracy, said[best].intervals, best, "", said)


def _no_curve(rows: TaskRows) -> str:
    """Say why no curve of this task is carried on, or nothing."""
    verdict, scales = rows.verdict, np.unique(rows.scale.compute)
    curve = verdict.curve
    if curve.scale != 1 or not curve.bounded:
        return "the score is no share of items"
    if len(rows.loss) < LEAST_ROWS or len(scales) < LEAST_SCALES:
        return f"{len(rows.loss)} runs of {len(scales)} scales; {LEAST_ROWS} of {LEAST_SCALES} are needed"
    level = float(np.mean(rows.scored.score[rows.scale.compute >= np.median(scales)]))
    if verdict.label == "flat":
        return f"no rise with scale ({level:.2f}): whether and where it takes off is not in these runs"
    if verdict.label in ("inverse", "u_shaped"):
        return "the score falls with scale: no curve that rises describes it"
    if verdict.bimodal:
        return "seeds fall into two groups: which one a new run joins is chance"
    if verdict.label == "emergent" and verdict.jump is not None:
        past = int((scales > verdict.jump.high).sum())
        if past < PAST_JUMP:
            return (
                f"it jumps at {verdict.jump.middle:.3g}, and {past} scales past that are too few for a curve"
            )
    return ""


def _no_answer(task: _Task, said: Mapping[str, MethodForecast], best: str, compute: float) -> str:
    """Say why the answer to one target is none, or nothing."""
    largest = float(task.rows.scale.compute.max())
    tested = max(cut.farthest for cut in task.held[best].values())
    if np.log(compute / largest) > tested + np.log(FAR):
        return (
            f"{compute / largest:.3g} x beyond the runs, of which hold-outs tested {np.exp(tested):.3g} x: "
            "too far for a curve of accuracy"
        )
    low, high = said[best].intervals[max(LEVELS)]
    scored = task.rows.scored
    if high - low > WIDEST * (scored.ceiling - np.nan_to_num(scored.chance)):
        return f"anything from {low:.2f} to {high:.2f} is left open"
    missed = [said[method].missed for method in METHODS if method in said]
    if len(said) > 1 and max(missed) <= REJECTED * min(missed):
        one, two = (said[method] for method in METHODS)
        if not _inside(one.accuracy, two) and not _inside(two.accuracy, one):
            both = f"one step says {one.accuracy:.2f} and two say {two.accuracy:.2f}"
            return f"{both}, each outside the other's interval"
    return ""


def _inside(accuracy: float, other: MethodForecast) -> bool:
    low, high = other.intervals[max(LEVELS)]
    return low <= accuracy <= high


def _draws(task: _Task, wanted: Scale, seed: int) -> dict[str, Float[Array, "K m"]]:
    """Draw the targets' scores by every method that could be held out."""
    rows, rng = task.rows, np.random.default_rng(seed)
    everything = np.ones(len(rows.loss), dtype=bool)
    drawn = {"one_step": one_step(rows, everything, wanted, rng)}
    if task.law is not None and task.compared:
        distance = np.log(wanted.compute / rows.scale.compute.max())
        two = two_step(rows, everything, task.law.draws(wanted, distance, seed), rng)
        drawn |= {} if two is None else {"two_step": two}
    return drawn


def _answers(
    task: _Task,
    drawn: Mapping[str, Float[Array, "K m"]],
    wanted: Scale,
    slopes: Mapping[str, Float[Array, " s"]],
    seed: int,
) -> dict[str, list[MethodForecast]]:
    """Make answers of draws: how far hold-outs were off, and the items of one new run, added."""
    scored, rng = task.rows.scored, np.random.default_rng(seed)
    distance = np.log(wanted.compute / task.rows.scale.compute.max())
    ends = [100 * p for level in LEVELS for p in ((1 - level) / 2, (1 + level) / 2)]
    found = {}
    for method, draws in drawn.items():
        slope = rng.choice(SLOPES, (len(draws), 1), p=slopes[method])
        off = slope * distance**GROWTH * rng.standard_normal((len(draws), 1))
        run = np.clip(draws + off, 0, scored.ceiling)
        # A measured share may be above the ceiling of its expectation.
        run = np.clip(run + np.sqrt(scored.new(run)) * rng.standard_normal(run.shape), 0, 1)
        bounds = np.percentile(run, ends, axis=0).T
        found[method] = [
            MethodForecast(
                float(np.median(draws[:, i])),
                {level: (float(b[2 * k]), float(b[2 * k + 1])) for k, level in enumerate(LEVELS)},
                task.missed(method),
            )
            for i, b in enumerate(bounds)
        ]
    return found


def _slopes(cuts: Sequence[Held]) -> Float[Array, " s"]:
    """The probability of each of SLOPES after the hold-outs of a table: the mean error of each is normal, of the
    variance that it was to have and the square of slope x distance^GROWTH."""
    log = np.log((SLOPES / PRIOR) / (1 + (SLOPES / PRIOR) ** 2))
    for cut in cuts:
        variance = cut.variance + (SLOPES * cut.distance**GROWTH) ** 2
        log = log - 0.5 * EVIDENCE * (cut.error.mean() ** 2 / variance + np.log(variance))
    weight = np.exp(log - log.max())
    return np.asarray(weight / weight.sum())
