"""Values of one run at its evaluations: a metric, a setting, the step, or a product of such and of numbers."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.sources.names import STEP, matching
from analysis.sources.numbers import number, size_in
from analysis.sources.run import TrackedRun

# Read out of a run's name, where it is asked for: `--columns params=size_in_name`.
SIZE_IN_NAME = "size_in_name"


def last_written(step: Float[Array, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark the rows that no restart has repeated: those below every step that was written after them."""
    later = np.minimum.accumulate(np.append(step[1:], np.inf)[::-1])[::-1]
    return step < later


def series(run: TrackedRun, metric: str) -> tuple[Float[Array, " n"], Float[Array, " n"], int]:
    """Return the steps and values of a metric as last written, and how many rows a restart had repeated."""
    step = run.history["step"].to_numpy(np.float64)
    values = pd.to_numeric(run.history[metric], errors="coerce").to_numpy(np.float64)
    there = ~np.isnan(values) & ~np.isinf(step)
    step, values = step[there], values[there]
    kept = last_written(np.nan_to_num(step))  # the one row of a run whose step is not known has none
    return step[kept], values[kept], int((~kept).sum())


def clock(run: TrackedRun) -> str:
    """Name what counts the optimiser's steps: a metric that does, or else the tracker's own step."""
    return next((name for name in matching(run.history.columns, STEP) if len(series(run, name)[0])), "step")


def value_at(run: TrackedRun, name: str, steps: Float[Array, " n"]) -> Float[Array, " n"] | None:
    """Return what `name` is at these steps of the tracker; None where the run has no such number.

    A metric is interpolated in steps, and beyond its ends continued in proportion to them, as counts grow.
    """
    if name == "step":
        return steps
    if name == SIZE_IN_NAME:
        size = size_in(run.name)
        return None if size is None else np.full(len(steps), size)
    if name in run.history.columns:
        at, values, _ = series(run, name)
        if len(at) == 0:
            return None
        if len(at) == 1:
            return np.full(len(steps), values[0])
        found = np.interp(steps, at, values)
        if values[0] != values[-1]:
            beyond = (steps > at[-1]) & (at[-1] > 0)
            found = np.where(beyond, values[-1] * steps / (at[-1] or 1.0), found)
        return found
    constant = number(run.config.get(name))
    return None if constant is None else np.full(len(steps), constant)


def product_at(run: TrackedRun, product: str, steps: Float[Array, " n"]) -> Float[Array, " n"] | None:
    """Return a product such as `step*batch_size*1024` at these steps; None where a part of it is not there."""
    found = value_at(run, product, steps)
    if found is not None:
        return found
    total = np.ones(len(steps))
    for part in product.split("*"):
        constant = number(part)
        value = np.full(len(steps), constant) if constant is not None else value_at(run, part.strip(), steps)
        if value is None:
            return None
        total = total * value
    return total


def names_of(runs: list[TrackedRun]) -> list[str]:
    """Return every name that a column can be taken from, in the order of first appearance."""
    names: dict[str, None] = {"step": None, SIZE_IN_NAME: None}
    for run in runs:
        names |= dict.fromkeys(map(str, run.history.columns)) | dict.fromkeys(run.config)
    return list(names)
