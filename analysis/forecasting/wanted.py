"""The runs to be predicted: budgets that are split, points and tables that are given, each with its compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.fitting.result import Fit
from analysis.forecasting.cost import Cost, cost_model, split


@dataclass(frozen=True)
class Wanted:
    """One row a prediction: the law's columns, params, tokens and flops (NaN where unknown), related by `cost`."""

    table: pd.DataFrame
    cost: Cost


def wanted_runs(
    fitted: Fit,
    budgets: Sequence[float],
    targets: pd.DataFrame | None,
    at: Sequence[Mapping[str, float]],
) -> Wanted:
    """Collect the runs to be predicted by a fit; UserError names what one of them lacks.

    A law of one variable is asked at the column that it was fitted to.
    """
    form, x_name = fitted.form, fitted.observations.x_name
    cost = cost_model(fitted.observations)
    frames = []
    if budgets:
        frame, rule = split(fitted, cost, np.asarray(budgets, dtype=np.float64))
        cost = replace(cost, source=cost.source + rule)
        frames.append(frame)
    if targets is not None:
        frames.append(targets.reset_index(drop=True))
    if at:
        frames.append(pd.DataFrame([dict(point) for point in at]))
    reads = [x_name if name == "x" else name for name in form.columns]
    completed = []
    for frame in frames:
        frame = frame.copy()
        if "flops" not in frame and {"params", "tokens"} <= set(frame.columns):
            frame["flops"] = cost.flops(frame)
        if form.one_variable and x_name not in frame and "x" in frame:
            frame = frame.rename(columns={"x": x_name})
        for name in reads:
            if name not in frame:
                why = " (what --x names)" if form.one_variable and name != "flops" else ""
                raise UserError(
                    f"a target needs {name}: {form.name} reads {', '.join(reads)}{why}; give it with "
                    f"at or targets (--at {name}=NUMBER, --targets FILE)"
                )
            values = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64)
            bad = ~(np.isfinite(values) & (values > 0))
            if bad.any():
                row = int(np.argmax(bad))
                raise UserError(f"target {row}: {name} = {frame[name].iloc[row]}: give a positive number")
        for name in ("params", "tokens", "flops"):
            if name not in frame:
                frame[name] = np.nan
        if form.one_variable:
            frame["x"] = frame[x_name]
        completed.append(frame[[*dict.fromkeys([*form.columns, "params", "tokens", "flops"])]])
    return Wanted(pd.concat(completed, ignore_index=True), cost)
