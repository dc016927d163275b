"""Predict runs beyond the data: loss with an interval for one new run, and the best split of a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.errors import Code, Status, UserError, Warn, status_of
from analysis.fitting.fit import fit_members
from analysis.fitting.options import FitOptions
from analysis.fitting.result import Fit, Member, finite, html_of, notes
from analysis.forecasting.cost import Cost, wanted_runs
from analysis.forecasting.discrepancy import FAR_PRIOR, Discrepancy, discrepancy_of, distance_of, hold_out
from analysis.forecasting.interval import interval
from analysis.forecasting.sensitivity import Sensitivity, sensitivity
from analysis.shown import Shown

# The options of a fit where `extrapolate` differs from `fit`.
DEFAULTS = FitOptions(form="auto", regime="auto", level=0.9)
FEWEST_RESAMPLES = 20
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

    def holds(self, loss: float) -> bool:
        """True where a measured loss lies in the interval."""
        return bool(self.lower <= loss <= self.upper)  # numpy's numbers make numpy's truth

    def to_json(self) -> dict[str, Any]:
        """Make one entry of `predictions`."""
        return {name: finite(v) if v is not None else None for name, v in self.__dict__.items()}


@dataclass(frozen=True, repr=False)
class Forecast(Shown):
    """Predictions of new runs, the fit behind them, and what not to believe about them. `draws` are losses of new
    runs, one column a prediction: what the intervals are made of."""

    predictions: tuple[Prediction, ...]
    fit: Fit
    forms: tuple[tuple[str, float], ...]
    cost: Cost
    discrepancy: Discrepancy
    warnings: tuple[Warn, ...]
    draws: Float[Array, "K m"]
    sensitivity: tuple[Sensitivity, ...]

    @property
    def status(self) -> Status:
        """The trust that its warnings leave the forecast."""
        return status_of(self.warnings)

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the predictions, one row each."""
        return pd.DataFrame([prediction.to_json() for prediction in self.predictions])

    def _repr_html_(self) -> str:
        return html_of([self._headline()], self.to_frame(), self.fit.observations.left_out, self.warnings)

    def _headline(self) -> str:
        forms = ", ".join(f"{name} ({weight:.0%})" if weight < 1 else name for name, weight in self.forms)
        return f"{forms} on {len(self.fit.observations)} runs; {self.status}; compute: {self.cost.source}"

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis extrapolate`; `cost` says which C(N, D) split the budgets."""
        return {
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "form": self.fit.form.name,
            "forms": [{"form": name, "weight": weight} for name, weight in self.forms],
            "floor": self.fit.floor.to_json(),
            "sensitivity": [moved.to_json() for moved in self.sensitivity],
            "discrepancy_per_efold": self.discrepancy.slope,
            "tested_flops_ratio": float(np.exp(self.discrepancy.tested)),
            "rows_left_out": [left.to_json() for left in self.fit.observations.left_out],
            "n": len(self.fit.observations),
            "cost": self.cost.source,
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
        }

    def summary(self) -> str:
        """Write the forecast as a table for a person."""
        lines = [self._headline()]
        lines.append(f"{'params':>12} {'tokens':>12} {'flops':>12} {'x largest':>10} {'loss':>9}   interval")
        for p in self.predictions:
            cells = [f"{v:12.4g}" if v is not None else f"{'-':>12}" for v in (p.params, p.tokens, p.flops)]
            ratio = f"{p.flops_ratio:10.3g}" if p.flops_ratio is not None else f"{'-':>10}"
            interval = f"[{p.lower:.5g}, {p.upper:.5g}] {100 * p.level:g}%"
            lines.append(" ".join([*cells, ratio, f"{p.loss:9.5g}", "", interval]))
        if self.fit.floor.kind != "free":
            lines.append(f"floor: {self.fit.floor}")
        for moved in self.sensitivity:
            losses = ", ".join(f"{loss:.5g}" for loss in moved.loss)
            floors = ", ".join(f"{name} {floor:.4g}" for name, floor in moved.floor.items())
            lines.append(f"with the floor E {moved.shift:+.1g} nats ({floors}): {losses}")
        return "\n".join([*lines, *notes(self.fit.observations.left_out, self.warnings)])


def extrapolate(
    table: pd.DataFrame | Fit,
    *,
    budgets: Sequence[float] = (),
    targets: pd.DataFrame | None = None,
    at: Sequence[Mapping[str, float]] = (),
    **options: Any,
) -> Forecast:
    """Predict the loss of new runs from `table`, or from a fit that was made of one.

    They are: compute `budgets` (FLOPs, split for the least loss), the rows of `targets`, and `at` given
    columns (params and tokens, or what a law of one variable reads). `options` are the fields of `FitOptions`, with
    `DEFAULTS` for those not given; of a fit `level` and `seed` alone can be chosen.

    >>> import pandas as pd
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> runs = [(n, d, law(n, d)) for n in (1e6, 4e6, 2e7) for d in (2e7, 1e8, 6e8)]
    >>> table = pd.DataFrame(runs, columns=["params", "tokens", "loss"])
    >>> from analysis import extrapolate
    >>> (said,) = extrapolate(table, at=[{"params": 1e8, "tokens": 2e9}], bootstrap=20).predictions
    >>> round(said.loss, 2), said.lower < said.loss < said.upper
    (3.48, True)
    """
    if not budgets and targets is None and not at:
        raise UserError(
            "nothing to predict: give budgets (--budget FLOPS), at (--at params=...,tokens=...) or targets "
            "(--targets FILE)"
        )
    chosen = replace(DEFAULTS, **options)
    resamples = len(table.draws) if isinstance(table, Fit) else chosen.bootstrap
    if resamples < FEWEST_RESAMPLES:
        raise UserError(f"bootstrap = {resamples}: an interval needs at least {FEWEST_RESAMPLES} resamples")
    if isinstance(table, Fit):
        if other := sorted(set(options) - {"level", "seed"}):
            raise UserError(f"{other[0]} = {options[other[0]]}: the fit has been made; give it to fit")
        members = [Member(table, 1.0)]
    else:
        members = fit_members(table, chosen, least_weight=LEAST_WEIGHT, fractional=True)
    fitted = members[0].fit
    runs = wanted_runs(fitted, budgets, targets, at)
    wanted = runs.table
    distance = distance_of(fitted.observations, wanted)
    discrepancy = discrepancy_of(
        hold_out(members, chosen.seed), bent=bool(fitted.provenance["bent"]), structure=fitted.structure
    )
    far = discrepancy.far(distance)
    bounds = interval(members, wanted, distance, discrepancy, level=chosen.level, seed=chosen.seed)
    predicted, lower, upper = np.exp(bounds.centre), np.exp(bounds.lower), np.exp(bounds.upper)
    largest = float(np.max(fitted.observations.flops))
    warnings = [*fitted.warnings]
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
                level=chosen.level,
                flops_ratio=flops / largest if np.isfinite(flops / largest) else None,
            )
        )
    return Forecast(
        tuple(predictions),
        fitted,
        tuple((member.fit.form.name, member.weight) for member in members),
        runs.cost,
        discrepancy,
        tuple(warnings),
        np.exp(bounds.draws),
        sensitivity(members, wanted),
    )


def used_rows(forecast: Forecast, n: int) -> Bool[np.ndarray, " n"]:
    """Mark which of the `n` rows that a forecast was asked with its fit used."""
    used = np.ones(n, dtype=bool)
    for left in forecast.fit.observations.left_out:
        used[np.asarray(left.rows, dtype=int)] = False
    return used
