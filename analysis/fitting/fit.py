"""Fit a scaling law to a table of runs: a global search, resampled intervals, and what not to believe.

What a law is lives in `forms`, how a minimum is found in `search`, its resamples in `resampling`; predictions of
new runs in `forecast`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array, Columns
from analysis.errors import Status, UserError, Warn, status_of
from analysis.fitting.bound_law import Model
from analysis.fitting.diagnostics import bend_warning, diagnose, regime_reason
from analysis.fitting.holdouts import choose
from analysis.fitting.objective import Objective
from analysis.fitting.observations import Observations, check_enough, observe
from analysis.fitting.percentiles import percentiles
from analysis.fitting.resampling import bind, check_seed, solve, thinned
from analysis.laws.catalogue import get_form
from analysis.laws.law import Form, Named

# Rolling hold-outs so many times better without some rows are a bend that a fit of all rows has to mention.
FLAGRANT = 3.0
# Joint laws that `auto` weighs; kaplan's has no floor and never came first on a public table.
AUTO = ("chinchilla", "chinchilla6", "tied")


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
    status: Status
    warnings: tuple[Warn, ...]
    observations: Observations
    candidates: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bse(self) -> dict[str, float]:
        """Standard error of each parameter: the standard deviation over resamples (NaN without resamples,
        infinite where a resample is)."""
        if len(self.draws) < 2:
            return dict.fromkeys(self.form.names, np.nan)
        finite_draws = np.isfinite(self.draws).all(axis=0)
        spread = np.where(finite_draws, np.where(finite_draws, self.draws, 0.0).std(axis=0, ddof=1), np.inf)
        return dict(zip(self.form.names, spread.tolist(), strict=True))

    def conf_int(self, level: float | None = None) -> dict[str, tuple[float, float]]:
        """Percentile interval of each parameter, at the fit's level unless another is given."""
        if len(self.draws) < 2:
            return dict.fromkeys(self.form.names, (np.nan, np.nan))
        tail = 50.0 * (1.0 - (level or self.level))
        low, high = percentiles(self.draws, [tail, 100.0 - tail])
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
    global search. `form="auto"` takes the form of least rolling held-out error; `regime="auto"` leaves out
    the rows of highest loss where the law bends (`fitting.holdouts`; neither looks at a target).
    One-variable forms read the column `x` (flops unless said). Raises UserError.
    """
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
        least_weight=1.0,
        fractional=False,
    )
    return members[0][0]


def fit_members(
    table: pd.DataFrame,
    form: str | Form,
    *,
    loss: str,
    scale: str,
    delta: float,
    bootstrap: int,
    group: str | None,
    regime: str,
    seed: int,
    level: float,
    x: str | None,
    least_weight: float,
    fractional: bool,
) -> list[tuple[Fit, float]]:
    """The best form's fit, and those of the others whose weight is at least `least_weight`, best first.

    Weights sum to one over what is returned. `fractional`: resamples weigh rows (`resample_weights`) in place
    of counting them.
    """
    objective = Objective(loss, scale, delta)
    if not 0 < level < 1:
        raise UserError(f"level = {level}: a probability between 0 and 1")
    if bootstrap < 0 or bootstrap == 1:
        raise UserError(f"bootstrap = {bootstrap}: 0 for none, or at least 2 resamples")
    check_seed(seed)
    if regime not in ("all", "auto"):
        raise UserError(f"regime = {regime}: all, or auto")
    forms = auto_forms(table, x) if form == "auto" else [get_form(form)]
    observations = observe(table, forms[0].columns, x=x, group=group)
    warnings = list(check_enough(observations, min(forms, key=lambda f: len(f.names))))
    forms = [f for f in forms if len(observations) > len(f.names)]
    # A bend is looked for where the search is quick; a law of one's own has to ask for it.
    quick = all(f.structure is not None for f in forms)
    rows = thinned(observations, seed)
    models = {f.name: bind(f, rows) for f in forms}
    choice = choose(rows, [(f, models[f.name]) for f in forms], objective, regimes=regime == "auto" or quick)
    if choice.bent and regime == "auto":
        observations = observations.keep(observations.loss <= choice.ceiling, regime_reason(choice))
    elif choice.improvement > FLAGRANT:
        warnings.append(bend_warning(choice))
    ranked = choice.weigh(choice.ceiling if regime == "auto" else choice.everything)
    candidates = tuple(
        {
            "form": c.form.name,
            "objective": c.objective,
            "rolling_error": finite(c.error),
            "weight": weight,
        }
        for c, weight in ranked
    )
    kept = [(c.form, w) for i, (c, w) in enumerate(ranked) if i == 0 or w >= least_weight]
    total = sum(w for _, w in kept)
    fits = []
    for chosen, weight in kept:
        # Resamples are shared out by weight: together they are draws from the mixture.
        resamples = round(bootstrap * weight / total) if len(kept) > 1 else bootstrap
        fits.append(
            (
                fit_observations(
                    observations,
                    # A model of the same rows has its grid already.
                    models[chosen.name] if observations is rows else bind(chosen, observations),
                    objective,
                    bootstrap=max(resamples, min(bootstrap, 2)),
                    fractional=fractional,
                    seed=seed,
                    level=level,
                    warnings=warnings,
                    candidates=candidates,
                    bent=choice.improvement > FLAGRANT or (choice.bent and regime == "auto"),
                ),
                weight / total,
            )
        )
    return fits


def fit_observations(
    observations: Observations,
    model: Model,
    objective: Objective,
    *,
    bootstrap: int,
    fractional: bool,
    seed: int,
    level: float,
    warnings: Sequence[Warn] = (),
    candidates: tuple[Mapping[str, Any], ...] = (),
    bent: bool = False,
) -> Fit:
    """Fit a form bound to rows that have been checked and chosen; `bent`: rolling hold-outs showed a bend."""
    form = model.form
    best, draws = solve(model, observations, objective, bootstrap, seed, fractional=fractional)
    predicted = model.predict(best.theta)[0]
    residual = (np.log(predicted) if objective.scale == "log" else predicted) - objective.target(
        observations.loss
    )
    found = (*warnings, *diagnose(form, model, observations, best, draws))
    return Fit(
        form=form,
        objective=objective,
        value=objective.report(residual, observations.weight),
        params=dict(zip(form.names, model.public(best.theta)[0].tolist(), strict=True)),
        draws=model.public(draws) if len(draws) else np.empty((0, len(form.names))),
        level=level,
        status=status_of(found),
        warnings=found,
        observations=observations,
        candidates=candidates,
        provenance={
            "resamples": bootstrap,
            "resampled_by": observations.group_source,
            "resampled_with": "exponential weights" if fractional else "counts",
            "seed": seed,
            "starts": len(best.basins.value),
            "at_the_optimum": int(np.sum(best.basins.value <= best.value[0] * (1 + 1e-6))),
            "columns": list(form.columns),
            "flops": observations.flops_source,
            "bent": bent,
            "reference": form.reference,
        },
    )


def auto_forms(table: pd.DataFrame, x: str | None) -> list[Form]:
    """The forms that `auto` weighs: joint laws where there are params and tokens, else of one variable."""
    names = ["power", "power_const"] if x or not {"params", "tokens"} <= set(table.columns) else list(AUTO)
    return [get_form(name) for name in names]


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
