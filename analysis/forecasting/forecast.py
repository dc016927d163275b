"""Predict runs beyond the data: loss with an interval for one new run, and the best split of a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import Code, Status, UserError, Warn, status_of
from analysis.fitting.fit import Fit, finite, fit_members
from analysis.fitting.observations import Observations
from analysis.forecasting.cost import Cost, cost_model, optimum
from analysis.forecasting.discrepancy import FAR_PRIOR, Discrepancy, discrepancy_of, hold_out
from analysis.forecasting.interval import interval
from analysis.laws.law import Form

# Forms of less weight are not worth their resamples.
LEAST_WEIGHT = 0.05


@dataclass(frozen=True)
class Prediction:
    """One new run: `lower, upper` bound its loss at `level`, seed noise included.

    `flops_ratio` is its compute over that of the largest run fitted. `params`,
    `tokens`, `flops` are None where the table has none.
    """

    params: float | None
    tokens: float | None
    flops: float | None
    loss: float
    lower: float
    upper: float
    level: float
    flops_ratio: float | None

    def to_json(self) -> dict[str, Any]:
        return {name: finite(v) if v is not None else None for name, v in self.__dict__.items()}


@dataclass(frozen=True)
class Forecast:
    """Predictions of new runs, the fit behind them, and what not to believe about them."""

    predictions: tuple[Prediction, ...]
    fit: Fit
    forms: tuple[tuple[str, float], ...]
    cost: Cost
    discrepancy: Discrepancy
    status: Status
    warnings: tuple[Warn, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON of DESIGN.md's `extrapolate`; `cost` says which C(N, D) split the budgets."""
        return {
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "form": self.fit.form.name,
            "forms": [{"form": name, "weight": weight} for name, weight in self.forms],
            "discrepancy_per_efold": self.discrepancy.slope,
            "tested_flops_ratio": float(np.exp(self.discrepancy.tested)),
            "rows_left_out": [left.to_json() for left in self.fit.observations.left_out],
            "n": len(self.fit.observations),
            "cost": self.cost.source,
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
        }

    def summary(self) -> str:
        """The forecast as a table for a person."""
        forms = ", ".join(f"{name} ({weight:.0%})" if weight < 1 else name for name, weight in self.forms)
        lines = [f"{forms} on {len(self.fit.observations)} runs; {self.status}; compute: {self.cost.source}"]
        lines.append(f"{'params':>12} {'tokens':>12} {'flops':>12} {'x largest':>10} {'loss':>9}   interval")
        for p in self.predictions:
            cells = [f"{v:12.4g}" if v is not None else f"{'-':>12}" for v in (p.params, p.tokens, p.flops)]
            ratio = f"{p.flops_ratio:10.3g}" if p.flops_ratio is not None else f"{'-':>10}"
            interval = f"[{p.lower:.5g}, {p.upper:.5g}] {100 * p.level:g}%"
            lines.append(" ".join([*cells, ratio, f"{p.loss:9.5g}", "", interval]))
        lines += [
            f"left out: {len(left.rows)} rows: {left.reason}" for left in self.fit.observations.left_out
        ]
        lines += [f"{warn.code}: {warn.message}" for warn in self.warnings]
        return "\n".join(lines)


def extrapolate(
    table: pd.DataFrame,
    *,
    budgets: Sequence[float] = (),
    targets: pd.DataFrame | None = None,
    at: Sequence[Mapping[str, float]] = (),
    level: float = 0.9,
    form: str | Form = "auto",
    loss: str = "huber",
    scale: str = "log",
    delta: float = 1e-3,
    bootstrap: int = 1000,
    group: str | None = None,
    regime: str = "auto",
    seed: int = 0,
    x: str | None = None,
) -> Forecast:
    """Predict the loss of new runs from `table`.

    They are: compute `budgets` (FLOPs, split for the least loss), the rows of `targets`, and `at` given
    columns (params and tokens). The other options are `fit`'s.
    """
    if not budgets and targets is None and not at:
        raise UserError(
            "nothing to predict: give --budget FLOPS, --at params=...,tokens=... or --targets FILE"
        )
    if bootstrap < 20:
        raise UserError(f"bootstrap = {bootstrap}: an interval needs at least 20 resamples")
    members = fit_members(
        table,
        form,
        loss=loss,
        scale=scale,
        delta=delta,
        bootstrap=bootstrap,
        group=group,
        regime=regime,
        seed=seed,
        level=level,
        x=x,
        least_weight=LEAST_WEIGHT,
        fractional=True,
    )
    fitted = members[0][0]
    cost = cost_model(fitted.observations)
    wanted = _targets(fitted, cost, budgets, targets, at)
    distance = distance_of(fitted.observations, wanted)
    discrepancy = discrepancy_of(hold_out(members, seed), bent=bool(fitted.provenance["bent"]))
    bounds = interval(members, wanted, distance, discrepancy, level=level, seed=seed)
    predicted, lower, upper = np.exp(bounds.centre), np.exp(bounds.lower), np.exp(bounds.upper)
    largest = float(np.max(fitted.observations.flops))
    warnings = [*fitted.warnings]
    far = discrepancy.far(distance)
    if far.any():
        warnings.append(
            Warn(
                Code.FAR_BEYOND_TESTED,
                f"{int(far.sum())} of {len(far)} targets lie up to {np.exp(distance.max()):.3g} x beyond the "
                f"runs; hold-outs tested the law to {np.exp(discrepancy.tested):.3g} x: their width rests "
                f"on a prior (off by {100 * FAR_PRIOR:g}% of loss at a factor e), not on evidence",
            )
        )
    predictions = []
    for i in range(len(wanted)):
        flops = float(wanted["flops"].iloc[i])
        values = {name: float(wanted[name].iloc[i]) for name in ("params", "tokens", "flops")}
        predictions.append(
            Prediction(
                **{name: v if np.isfinite(v) else None for name, v in values.items()},
                loss=float(predicted[i]),
                lower=float(lower[i]),
                upper=float(upper[i]),
                level=level,
                flops_ratio=flops / largest if np.isfinite(flops / largest) else None,
            )
        )
    return Forecast(
        tuple(predictions),
        fitted,
        tuple((f.form.name, w) for f, w in members),
        cost,
        discrepancy,
        status_of(warnings),
        tuple(warnings),
    )


def distance_of(observations: Observations, wanted: pd.DataFrame) -> Array:
    """Log factor by which each target lies beyond the rows, in compute, params or tokens; none inside [m]."""
    distance = np.zeros(len(wanted))
    for name, seen in (("flops", observations.flops), *observations.x.items()):
        if name not in wanted:
            continue
        values = wanted[name].to_numpy(np.float64)
        beyond = np.maximum(np.log(values / seen.max()), np.log(seen.min() / values))
        distance = np.fmax(distance, beyond)
    return np.maximum(distance, 0.0)


def _targets(
    fitted: Fit,
    cost: Cost,
    budgets: Sequence[float],
    targets: pd.DataFrame | None,
    at: Sequence[Mapping[str, float]],
) -> pd.DataFrame:
    """One row a prediction: the form's columns, and params, tokens, flops (NaN where unknown)."""
    frames = []
    if budgets:
        frames.append(_split(fitted, cost, np.asarray(budgets, dtype=np.float64)))
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
    return pd.concat(completed, ignore_index=True)


def _split(fitted: Fit, cost: Cost, budgets: Array) -> pd.DataFrame:
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise UserError(f"--budget {budgets.tolist()}: give positive FLOPs, e.g. --budget 1e21")
    if fitted.form.one_variable:
        return pd.DataFrame({"x": budgets, "flops": budgets})
    if not {"params", "tokens"} <= set(fitted.form.columns) or len(fitted.form.columns) > 2:
        raise UserError(
            f"--budget cannot be split under {fitted.form.name}: "
            f"give --at with {', '.join(fitted.form.columns)}"
        )
    seen = fitted.observations.x["params"]
    params, tokens = optimum(
        lambda n, d: fitted.form.predict(fitted.params, {"params": n, "tokens": d}),
        cost,
        budgets,
        (float(seen.min()), float(seen.max())),
    )
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": budgets})
