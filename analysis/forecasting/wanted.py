"""The runs to be predicted: budgets that are split, points and tables that are given, each with its compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """Collect the runs to be predicted by a fit; UserError names what one of them lacks."""
    cost = cost_model(fitted.observations)
    frames = []
    if budgets:
        frames.append(split(fitted, cost, np.asarray(budgets, dtype=np.float64)))
    if targets is not None:
        frames.append(targets.reset_index(drop=True))
    if at:
        frames.append(pd.DataFrame([dict(point) for point in at]))
    completed = []
    for frame in frames:
        frame = frame.copy()
        if "flops" not in frame and {"params", "tokens"} <= set(frame.columns):
            frame["flops"] = frame["tokens"] * cost.per_token(frame["params"].to_numpy(np.float64))
        if fitted.form.one_variable and "x" not in frame and "flops" in frame:
            frame["x"] = frame["flops"]
        for name in fitted.form.columns:
            if name not in frame:
                raise UserError(
                    f"a target needs {name}: {fitted.form.name} reads {', '.join(fitted.form.columns)}"
                )
            values = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64)
            bad = ~(np.isfinite(values) & (values > 0))
            if bad.any():
                row = int(np.argmax(bad))
                raise UserError(f"target {row}: {name} = {frame[name].iloc[row]}: give a positive number")
        for name in ("params", "tokens", "flops"):
            if name not in frame:
                frame[name] = np.nan
        completed.append(frame[[*dict.fromkeys([*fitted.form.columns, "params", "tokens", "flops"])]])
    return Wanted(pd.concat(completed, ignore_index=True), cost)
