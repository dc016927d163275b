"""Fit a scaling law to a table of runs: a global search, resampled intervals, and what not to believe.

What a law is lives in `forms`, how a minimum is found in `search`; predictions of new runs in `forecast`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError, Warn
from analysis.forms import Array, Columns, Form, Named, get_form
from analysis.models import Model, PowerSumModel
from analysis.observations import Observations, check_enough, observe
from analysis.penalty import Objective
from analysis.search import Found, search

# Cells of its own grid that every resample polishes, besides the optimum of the whole table.
RESAMPLE_STARTS = 2


@dataclass(frozen=True)
class Fit:
    """A fitted law. `params` by name (nats, per-parameter units of `form.equation`); `draws` [R, P] are the
    resampled parameters behind `bse` (their standard deviation) and `conf_int()` (their percentiles)."""

    form: Form
    objective: Objective
    value: float
    params: Mapping[str, float]
    draws: Array
    level: float
    status: str
    warnings: tuple[Warn, ...]
    observations: Observations
    candidates: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bse(self) -> dict[str, float]:
        """Standard error of each parameter: the standard deviation over resamples (NaN without resamples)."""
        spread = self.draws.std(axis=0, ddof=1) if len(self.draws) > 1 else np.full(len(self.params), np.nan)
        return dict(zip(self.form.names, spread.tolist(), strict=True))

    def conf_int(self, level: float | None = None) -> dict[str, tuple[float, float]]:
        """Percentile interval of each parameter, at the fit's level unless another is given."""
        if len(self.draws) < 2:
            return dict.fromkeys(self.form.names, (np.nan, np.nan))
        tail = 50.0 * (1.0 - (level or self.level))
        low, high = np.percentile(self.draws, [tail, 100.0 - tail], axis=0)
        return {name: (float(a), float(b)) for name, a, b in zip(self.form.names, low, high, strict=True)}

    def predict(self, x: Columns | pd.DataFrame) -> Array:
        """Loss [m] at the columns of `x` that the form reads, each [m]."""
        return self.form.predict(self.params, columns_of(x, self.form))

    def predict_draws(self, x: Columns | pd.DataFrame) -> Array:
        """Loss [R, m] at `x` under every resample's parameters."""
        columns = columns_of(x, self.form)
        draws = {name: self.draws[:, i, None] for i, name in enumerate(self.form.names)}
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(self.form.law(Named(draws), Named(columns)), dtype=np.float64)

    def residuals(self) -> Array:
        """log(observed / predicted) of the rows used, [n]."""
        return np.log(self.observations.loss / self.predict(self.observations.x))

    def to_json(self) -> dict[str, Any]:
        """The JSON of DESIGN.md's `fit`."""
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

    def summary(self) -> str:
        """The fit as a table for a person."""
        objective = self.objective
        what = f"{objective.loss} on {objective.scale} loss"
        if objective.loss == "huber":
            what += f", delta {objective.delta:g}"
        lines = [
            f"{self.form.name}: L = {self.form.equation}",
            f"{len(self.observations)} runs; {what}, summed: {self.value:.9g}; {self.status}",
            f"{'':>8} {'value':>12} {'std. error':>12}   {100 * self.level:g}% interval",
        ]
        bse, interval = self.bse, self.conf_int()
        for name, value in self.params.items():
            low, high = interval[name]
            lines.append(f"{name:>8} {value:12.6g} {bse[name]:12.4g}   [{low:.5g}, {high:.5g}]")
        lines += [f"left out: {len(left.rows)} rows: {left.reason}" for left in self.observations.left_out]
        lines += [f"{warn.code}: {warn.message}" for warn in self.warnings]
        return "\n".join(lines)


def fit(
    table: pd.DataFrame,
    form: str | Form = "chinchilla",
    *,
    loss: str = "huber",
    scale: str = "log",
    delta: float = 1e-3,
    bootstrap: int = 1000,
    group: str | None = None,
    regime: str = "all",
    seed: int = 0,
    level: float = 0.95,
    x: str | None = None,
) -> Fit:
    """Fit `form` to `table` (columns params, tokens, loss; optional flops, unique_tokens, weight, group).

    The objective is summed over rows. `bootstrap` resamples of rows (or of `group`s) each get their own
    global search. One-variable forms read the column `x` (flops unless said). Raises UserError.
    """
    objective = Objective(loss, scale, delta)
    if not 0 < level < 1:
        raise UserError(f"level = {level}: a probability between 0 and 1")
    if bootstrap < 0 or bootstrap == 1:
        raise UserError(f"bootstrap = {bootstrap}: 0 for none, or at least 2 resamples")
    chosen = get_form(form)
    observations = observe(table, chosen.columns, x=x, group=group)
    warnings = check_enough(observations, chosen)
    model = bind(chosen, observations)
    best, draws = solve(model, observations, objective, bootstrap, seed)
    params = dict(zip(chosen.names, model.public(best.theta)[0].tolist(), strict=True))
    residual = np.log(model.predict(best.theta)[0]) if scale == "log" else model.predict(best.theta)[0]
    residual = residual - objective.target(observations.loss)
    return Fit(
        form=chosen,
        objective=objective,
        value=objective.report(residual, observations.weight),
        params=params,
        draws=model.public(draws) if len(draws) else np.empty((0, len(chosen.names))),
        level=level,
        status="caution" if warnings else "ok",
        warnings=warnings,
        observations=observations,
        provenance={
            "resamples": bootstrap,
            "resampled_by": observations.group_source,
            "seed": seed,
            "starts": len(best.basins.value),
            "columns": list(chosen.columns),
            "reference": chosen.reference,
        },
    )


def bind(form: Form, observations: Observations) -> Model:
    """The law at the rows of a table, ready for the search."""
    return PowerSumModel(form, observations.x, observations.loss)


def solve(
    model: Model, observations: Observations, objective: Objective, bootstrap: int, seed: int
) -> tuple[Found, Array]:
    """The global optimum of the table, and the internal parameters [R, p] of `bootstrap` resamples."""
    loss, weight = observations.loss, observations.weight
    best = search(model, loss, weight[None], objective)
    if not bootstrap:
        return best, np.empty((0, best.theta.shape[1]))
    counts = resample_counts(observations.group, bootstrap, seed)
    found = search(model, loss, counts * weight, objective, starts=RESAMPLE_STARTS, near=best.theta)
    return best, found.theta


def resample_counts(group: np.ndarray, resamples: int, seed: int) -> Array:
    """How often each row occurs, [R, n], when as many groups as there are get drawn with replacement."""
    groups = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=resamples)
    return counts[:, group].astype(np.float64)


def columns_of(x: Columns | pd.DataFrame, form: Form) -> dict[str, Array]:
    """The columns a form reads, as float arrays; UserError names one that is missing."""
    missing = [name for name in form.columns if name not in x]
    if missing:
        raise UserError(
            f"{form.name} needs the column {missing[0]} to predict (given: {', '.join(map(str, x))})"
        )
    return {name: np.atleast_1d(np.asarray(x[name], dtype=np.float64)) for name in form.columns}


def finite(value: float) -> float | None:
    """JSON has no NaN: a number, or null."""
    return float(value) if np.isfinite(value) else None
