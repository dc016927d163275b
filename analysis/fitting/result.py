"""A fitted law: its parameters, their resamples, its predictions and what not to believe about it.

Fitting is `fitting.fit`'s business; predictions of new runs with intervals are `forecasting`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array, Columns
from analysis.errors import Status, UserError, Warn, status_of
from analysis.fitting.floor import Floor
from analysis.fitting.objective import Objective
from analysis.fitting.observations import Observations
from analysis.fitting.problem import Problem
from analysis.fitting.structure import structure
from analysis.laws.law import Form
from analysis.shown import Shown, as_html, drawn
from analysis.tables.finished import LeftOut

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Fit(Shown):
    """A fitted law. `params` by name (nats, per-parameter units of `form.equation`); `draws` are the resampled
    parameters behind `bse` (their standard deviation) and `conf_int()` (their percentiles)."""

    problem: Problem
    params: Mapping[str, float]
    draws: Float[Array, "R p"]
    level: float
    warnings: tuple[Warn, ...]
    candidates: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    floor: Floor = field(default_factory=Floor)

    @property
    def form(self) -> Form:
        """The law."""
        return self.problem.form

    @property
    def objective(self) -> Objective:
        """The objective that was minimised."""
        return self.problem.objective

    @property
    def observations(self) -> Observations:
        """The rows that were fitted."""
        return self.problem.observations

    @property
    def status(self) -> Status:
        """The trust that its warnings leave the fit."""
        return status_of(self.warnings)

    @property
    def value(self) -> float:
        """The objective at the parameters, summed over rows."""
        predicted = self.predict(self.observations.x)
        on_scale = np.log(predicted) if self.objective.scale == "log" else predicted
        return self.objective.report(on_scale - self.problem.target, self.observations.weight)

    @property
    def df_resid(self) -> float:
        """The degrees of freedom left in the residuals (of a large table's subset), at least one."""
        rows = self.observations.small
        residual = np.log(rows.loss / self.predict(rows.x))
        return max(self.objective.spare(residual, rows.loss, self.problem.parameters), 1.0)

    @property
    def structure(self) -> float:
        """The log Bayes factor of structure in the residuals against none (`fitting.structure`)."""
        # A term that has vanished has a coefficient of zero, whose logarithm the model bounds.
        with np.errstate(divide="ignore"):
            theta = self.problem.small.model.private(self.params)
        return structure(self.problem, theta)

    @property
    def bse(self) -> dict[str, float]:
        """The standard error of each parameter: the standard deviation over resamples (NaN without resamples,
        infinite where a resample is)."""
        if len(self.draws) < 2:
            return dict.fromkeys(self.form.names, np.nan)
        finite_draws = np.isfinite(self.draws).all(axis=0)
        spread = np.where(finite_draws, np.where(finite_draws, self.draws, 0.0).std(axis=0, ddof=1), np.inf)
        # What is held has none, whatever its mean is rounded to.
        spread = np.where((self.draws == self.draws[0]).all(axis=0), 0.0, spread)
        return dict(zip(self.form.names, spread.tolist(), strict=True))

    def conf_int(self, level: float | None = None) -> dict[str, tuple[float, float]]:
        """Give the percentile interval of each parameter, at the fit's level unless another is given."""
        if len(self.draws) < 2:
            return dict.fromkeys(self.form.names, (np.nan, np.nan))
        tail = 50.0 * (1.0 - (level or self.level))
        low, high = percentiles(self.draws, [tail, 100.0 - tail])
        return {name: (float(a), float(b)) for name, a, b in zip(self.form.names, low, high, strict=True)}

    def predict(self, x: Columns | pd.DataFrame) -> Float[Array, " m"]:
        """Predict the loss at the columns of `x` that the form reads."""
        return self.form.predict(self.params, columns_of(x, self.form))

    def predict_draws(self, x: Columns | pd.DataFrame) -> Float[Array, "R m"]:
        """Predict the loss at `x` under every resample's parameters."""
        draws = {name: self.draws[:, i, None] for i, name in enumerate(self.form.names)}
        return self.form.predict(draws, columns_of(x, self.form))

    def residuals(self) -> Float[Array, " n"]:
        """Compute log(observed / predicted) of the rows used."""
        return np.log(self.observations.loss / self.predict(self.observations.x))

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis fit`."""
        return {
            "form": self.form.name,
            "objective": {
                "loss": self.objective.loss,
                "scale": self.objective.scale,
                "delta": self.objective.delta if self.objective.loss == "huber" else None,
                "reduction": "sum",
                "value": self.value,
            },
            "params": dict(self.params),
            "floor": self.floor.to_json(),
            "bse": {name: finite(value) for name, value in self.bse.items()},
            "conf_int": {name: [finite(a), finite(b)] for name, (a, b) in self.conf_int().items()},
            "level": self.level,
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
            "n": len(self.observations),
            "rows_left_out": [left.to_json() for left in self.observations.left_out],
            "candidates": [dict(candidate) for candidate in self.candidates],
            "provenance": dict(self.provenance),
        }

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the parameters: value, standard error and interval."""
        interval = self.conf_int()
        return pd.DataFrame(
            {
                "value": dict(self.params),
                "std_error": self.bse,
                "lower": {name: low for name, (low, _) in interval.items()},
                "upper": {name: high for name, (_, high) in interval.items()},
            }
        )

    def plot(self, ax: Any = None) -> "Figure":
        """Draw observed against predicted loss, on `ax` or on new axes; returns matplotlib's Figure."""
        return drawn("law.plot_fit", self, ax)

    def _repr_html_(self) -> str:
        return html_of(self._headline(), self.to_frame(), self.observations.left_out, self.warnings)

    def _headline(self) -> list[str]:
        objective = self.objective
        what = f"{objective.loss} on {objective.scale} loss"
        if objective.loss == "huber":
            what += f", delta {objective.delta:g}"
        return [
            f"{self.form.name}: L = {self.form.equation}",
            f"{len(self.observations)} runs; {what}, summed: {self.value:.9g}; {self.status}",
            *([] if self.floor.kind == "free" else [f"floor: {self.floor}"]),
            *([f"k: {self.provenance['k']}"] if "k" in self.provenance else []),
        ]

    def summary(self) -> str:
        """Write the fit as a table for a person."""
        lines = [
            *self._headline(),
            f"{'':>8} {'value':>12} {'std. error':>12}   {100 * self.level:g}% interval",
        ]
        bse, interval = self.bse, self.conf_int()
        for name, value in self.params.items():
            low, high = interval[name]
            lines.append(f"{name:>8} {value:12.6g} {bse[name]:12.4g}   [{low:.5g}, {high:.5g}]")
        return "\n".join([*lines, *notes(self.observations.left_out, self.warnings)])


@dataclass(frozen=True)
class Member:
    """A fit among several that are mixed, and its share of the mixture; `joint` is the fit of all the groups that
    share its floor, where it was taken out of one."""

    fit: Fit
    weight: float
    joint: Fit | None = None


def percentiles(draws: Float[Array, "R ..."], wanted: Sequence[float]) -> Float[Array, "q ..."]:
    """Return the `wanted` percentiles of `draws` along its first axis.

    Interpolated where all draws are finite. Between infinite ones there is nothing to interpolate: then the
    least draw that has the share at or below it, which may itself be infinite (NaN counts as infinite).
    """
    if np.isfinite(draws).all():
        return np.asarray(np.percentile(draws, wanted, axis=0))
    known = np.where(np.isnan(draws), np.inf, draws)
    return np.asarray(np.percentile(known, wanted, axis=0, method="inverted_cdf"))


def columns_of(x: Columns | pd.DataFrame, form: Form) -> dict[str, Float[Array, "..."]]:
    """Take the columns that a form reads as float arrays; UserError names one that is missing."""
    missing = [name for name in form.columns if name not in x]
    if missing:
        raise UserError(
            f"{form.name} needs the column {missing[0]} to predict (given: {', '.join(map(str, x))})"
        )
    return {name: np.atleast_1d(np.asarray(x[name], dtype=np.float64)) for name in form.columns}


def finite(value: float) -> float | None:
    """JSON has no NaN: a number, or null."""
    return float(value) if np.isfinite(value) else None


def notes(left_out: Iterable[LeftOut], warnings: Iterable[Warn]) -> list[str]:
    """Write the lines that end every summary: rows left out, and caveats."""
    return [
        *(f"left out: {len(left.rows)} rows: {left.reason}" for left in left_out),
        *(f"{warn.code}: {warn.message}" for warn in warnings),
    ]


def html_of(
    headline: Sequence[str], frame: pd.DataFrame, left_out: Iterable[LeftOut], warnings: Iterable[Warn]
) -> str:
    """Write an answer as HTML, for a notebook."""
    return as_html(headline, frame, notes(left_out, warnings))
