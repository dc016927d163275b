"""The best learning rate of every rung and horizon of a sweep of rates, how far a rule was from it, and its trend.

How the optima are found is `forecasting.rate_curves`' business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import Code, Status, UserError, Warn, status_of
from analysis.fitting.options import check_level
from analysis.fitting.result import finite, html_of, notes
from analysis.forecasting.rate_curves import FEWEST_RATES, Curves, fit_curves, student_reach
from analysis.shown import Shown, drawn
from analysis.tables.columns import numbers
from analysis.tables.finished import LeftOut, finished_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A rule that costs less of loss is tuned enough: it is what two seeds differ by.
ENOUGH = 0.005
# Horizons that differ by less, as a ratio, are one: steps are whole, and some are skipped.
ALIKE = 1.02


@dataclass(frozen=True)
class Rung:
    """One size and horizon (and batch): its best rate, and what the rule's rate cost.

    `place` is what it is at: params, tokens and, where there are several, d_model and batch. `rates`, `losses` are
    what was tried, the mean of seeds. `optimum` is where the curve has its least, of log loss `value`,
    and `spread` the standard error of its logarithm; `edge` is "lowest" or "highest" where the best rate tried is
    that. `cost` is what the rule's rate lost against the optimum, in the units of loss.
    """

    place: dict[str, float]
    rates: Float[Array, " k"]
    losses: Float[Array, " k"]
    runs: int
    optimum: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)
    spread: float = np.nan
    value: float = np.nan
    edge: str = ""
    rule: float = np.nan
    cost: float = np.nan
    cost_interval: tuple[float, float] = (np.nan, np.nan)

    @property
    def inside(self) -> bool:
        """True where the curve has its minimum between the rates tried: then the best of them may be an edge."""
        return bool(self.rates[0] < self.optimum < self.rates[-1])

    def to_json(self) -> dict[str, Any]:
        """Make one entry of `rungs`."""
        return {
            **self.place,
            "runs": self.runs,
            "rates": self.rates.tolist(),
            "losses": self.losses.tolist(),
            "best_tried": float(self.rates[np.argmin(self.losses)]),
            "optimum": finite(self.optimum),
            "interval": [finite(bound) for bound in self.interval],
            "loss": finite(float(np.exp(self.value))),
            "edge": self.edge or None,
            "rule": finite(self.rule),
            "rule_over_optimum": finite(self.rule / self.optimum),
            "rule_cost": finite(self.cost),
            "rule_cost_interval": [finite(bound) for bound in self.cost_interval],
        }


@dataclass(frozen=True)
class Trend:
    """log optimum = `constant` + sum of exponents x log column, over rungs whose optimum lies between rates tried.

    `exponents` by column, with `conf_int`; that of tokens is minus the p of rate x (T0 / T)^p. `scatter` is how far
    optima lie off it besides their own errors (a standard deviation of log rate).
    """

    constant: float
    exponents: dict[str, float]
    conf_int: dict[str, tuple[float, float]]
    scatter: float
    rungs: int

    def rate(self, place: dict[str, float]) -> float:
        """Compute the rate that the trend gives a rung."""
        return float(np.exp(self.constant + sum(e * np.log(place[n]) for n, e in self.exponents.items())))

    def to_json(self) -> dict[str, Any]:
        """Make `trend`; `p` is of rate x (T0 / T)^p."""
        low, high = self.conf_int.get("tokens", (np.nan, np.nan))
        return {
            "constant": self.constant,
            "exponents": self.exponents,
            "conf_int": {name: list(bounds) for name, bounds in self.conf_int.items()},
            "p": finite(-self.exponents.get("tokens", np.nan)),
            "p_conf_int": [finite(-high), finite(-low)],
            "scatter": self.scatter,
            "rungs": self.rungs,
        }


@dataclass(frozen=True, repr=False)
class Tuning(Shown):
    """The rungs of a sweep of rates, the trend of their optima and what not to believe."""

    rungs: tuple[Rung, ...]
    curves: Curves
    trend: Trend | None
    level: float
    left_out: tuple[LeftOut, ...]
    warnings: tuple[Warn, ...] = field(default=())

    @property
    def status(self) -> Status:
        """The trust that its warnings leave the answer."""
        return status_of(self.warnings)

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis tune`."""
        return {
            "rungs": [rung.to_json() for rung in self.rungs],
            "trend": self.trend.to_json() if self.trend else None,
            "curvature": finite(self.curves.curvature),
            "skew": self.curves.skew,
            "noise": self.curves.noise,
            "level": self.level,
            "rows_left_out": [left.to_json() for left in self.left_out],
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
        }

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the rungs: each one's best rate with its interval, the rule's rate and what it costs."""
        said = [rung.to_json() for rung in self.rungs]
        flat = [{name: v for name, v in one.items() if not isinstance(v, list)} for one in said]
        for row, one in zip(flat, said, strict=True):
            row["lower"], row["upper"] = one["interval"]
        return pd.DataFrame(flat)

    def plot(self, ax: Any = None) -> "Figure":
        """Draw every rung's curve about its optimum, and the optima against tokens.

        Returns matplotlib's Figure; `ax`: two axes of it, in place of new ones.
        """
        return drawn("tune.plot_tuning", self, ax)

    def _repr_html_(self) -> str:
        return html_of(self.summary().splitlines()[:1], self.to_frame(), self.left_out, self.warnings)

    def summary(self) -> str:
        """Write the rungs as a table for a person, and the trend."""
        names = list(self.rungs[0].place)
        head = [f"{name:>11}" for name in names] + [f"{'runs':>5}", f"{'optimum':>10}"]
        lines = [" ".join(head) + f"   {100 * self.level:g}% interval       loss       rule       cost"]
        for rung in self.rungs:
            cells = [f"{rung.place[name]:11.4g}" for name in names] + [
                f"{rung.runs:5d}",
                f"{rung.optimum:10.3g}",
            ]
            low, high = rung.interval
            said = f"  [{low:.3g}, {high:.3g}]"
            cells.append(f"{said:20} {np.exp(rung.value):8.4f} {rung.rule:10.3g} {rung.cost:10.2g}")
            lines.append(" ".join(cells) + (f"  best rate is the {rung.edge}" if rung.edge else ""))
        if self.trend:
            powers = [
                f"{name}^{e:.3g} [{self.trend.conf_int[name][0]:.3g}, {self.trend.conf_int[name][1]:.3g}]"
                for name, e in self.trend.exponents.items()
            ]
            lines.append(
                f"optimum ~ {' x '.join(powers)} over {self.trend.rungs} rungs; scatter {self.trend.scatter:.2g} "
                "of log rate"
            )
        return "\n".join([*lines, *notes(self.left_out, self.warnings)])


def tune(table: pd.DataFrame, *, rule: str = "", level: float = 0.9) -> Tuning:
    """Find the best rate of every size and horizon of `table` (learning_rate, params, tokens, loss; optional
    d_model, horizon_tokens, batch or batch_tokens, seed), with an interval at `level`, and the trend of the optima.

    `rule` says what a law's runs used: a column of the table, a number, or NUMBER/COLUMN (0.3/d_model). Seeds of
    one rate are pooled. Raises UserError.

    >>> import math
    >>> import pandas as pd
    >>> from analysis import tune
    >>> rates = (0.0025, 0.005, 0.01, 0.02)
    >>> rows = [(n, 2e8, r, 3 + math.log(r / 10 * n**0.5) ** 2 / 10) for n in (1e6, 4e6) for r in rates]
    >>> table = pd.DataFrame(rows, columns=["params", "tokens", "learning_rate", "loss"])
    >>> [round(rung.optimum, 4) for rung in tune(table).rungs]
    [0.01, 0.005]
    """
    check_level(level)
    for name in ("learning_rate", "params", "tokens", "loss"):
        numbers(table, name)
    table = table.assign(tokens=_horizons(table))
    rows, left_out = finished_rows(table, mixed=True)
    rows = rows.assign(rule=_rule(rows, rule))
    names = ["params", "tokens", *(["d_model"] if "d_model" in rows else [])]
    # A batch that goes with the size is a rule's, not one of several.
    batch = [name for name in ("batch", "batch_tokens") if name in rows]
    names += [name for name in batch if (rows.groupby(names)[name].nunique() > 1).any()][:1]
    rows = rows.assign(**{name: numbers(rows, name) for name in (*names, "learning_rate", "loss")})
    usable = rows[[*names, "learning_rate", "loss"]].gt(0).all(axis=1) & np.isfinite(rows["loss"])
    if not usable.all():
        reason = "no positive rate, size, horizon or loss"
        left_out = (*left_out, LeftOut(reason, tuple(rows.index[~usable].tolist())))
    rows = rows[usable]
    if rows.empty:
        raise UserError("the table has no finished run with a rate and a loss: nothing can be tuned")
    tried = numbers(table, "learning_rate").groupby([numbers(table, name) for name in names])
    groups = [
        (dict(zip(names, map(float, at), strict=True)), rungs, tried.get_group(at))
        for at, rungs in rows.groupby(names)
    ]
    wide = [rungs for _, rungs, _ in groups if rungs["learning_rate"].nunique() >= FEWEST_RATES]
    if not wide:
        raise UserError(
            f"no size and horizon has {FEWEST_RATES} rates: columns {', '.join(names)} tell {len(groups)} rungs "
            "apart; try more rates at each"
        )
    curves, fitted = fit_curves(wide), 0
    found = []
    for place, rungs, rates in groups:
        means = rungs.groupby("learning_rate")["loss"].mean()
        rung = Rung(place, means.index.to_numpy(np.float64), means.to_numpy(np.float64), len(rungs))
        rung = _with_edge(rung, np.asarray(rates, dtype=np.float64))
        if len(means) >= FEWEST_RATES:
            rung = _with_optimum(rung, curves, fitted, float(rungs["rule"].median()), level)
            fitted += 1
        found.append(rung)
    trend = _trend(found, names, level)
    return Tuning(tuple(found), curves, trend, level, left_out, tuple(_warnings(found, curves)))


def _horizons(table: pd.DataFrame) -> "pd.Series[float]":
    """Give the tokens of each row's horizon: the plan's where the table has it, and one number for what differs by
    less than ALIKE from the next."""
    tokens = numbers(table, "tokens")
    if "horizon_tokens" in table:
        planned = numbers(table, "horizon_tokens")
        tokens = planned.where(planned > 0, tokens)
    values = np.sort(tokens.dropna().unique())
    first = np.append(True, values[1:] > ALIKE * values[:-1])[: len(values)]
    last = np.append(first[1:], True)[: len(values)]
    return tokens.map(dict(zip(values, values[last][np.cumsum(first) - 1], strict=True)))


def _rule(rows: pd.DataFrame, rule: str) -> "pd.Series[float] | float":
    """Read the rule's rate of each row: nothing, a number, a column, or a number over a column."""
    if not rule:
        return np.nan
    if rule in rows:
        return numbers(rows, rule)
    number, over, column = rule.partition("/")
    try:
        value = float(number)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0) or (over and column.strip() not in rows):
        have = ", ".join(map(str, rows.columns[:12]))
        raise UserError(
            f"rule = {rule} (--rule): name a column (there are {have}), a rate, or RATE/COLUMN such as .3/d_model"
        )
    return value / numbers(rows, column.strip()) if over else value


def _with_edge(rung: Rung, tried: Float[Array, " r"]) -> Rung:
    """Mark the best rate where no rate beyond it was tried, not even one that diverged."""
    best = rung.rates[np.argmin(rung.losses)]
    tried = tried[np.isfinite(tried)]
    edge = "lowest" if best <= tried.min() else "highest" if best >= tried.max() else ""
    return replace(rung, edge=edge)


def _with_optimum(rung: Rung, curves: Curves, i: int, rule: float, level: float) -> Rung:
    """Add the i-th optimum with its interval, and what the rule's rate cost."""
    best, error, value = (float(of[i]) for of in (curves.optimum, curves.error, curves.value))
    # A factor of 1e100 is as wide as any.
    reach = min(error * student_reach(level, curves.freedom), 230.0)
    cost, bounds = np.nan, (np.nan, np.nan)
    # A rule outside the rates tried is no matter of this curve.
    if rung.rates[0] * (1 - 1e-9) <= rule <= rung.rates[-1] * (1 + 1e-9):
        away = np.log(rule) - np.asarray([best, best - reach, best + reach])
        excess = np.exp(value) * np.expm1(np.maximum(curves.above(away), 0.0))
        cost = float(excess[0])
        bounds = (0.0 if abs(away[0]) <= reach else float(excess.min()), float(excess.max()))
    return replace(
        rung,
        optimum=float(np.exp(best)),
        interval=(float(np.exp(best - reach)), float(np.exp(best + reach))),
        spread=error,
        value=value,
        rule=rule,
        cost=cost,
        cost_interval=bounds,
    )


def _trend(rungs: Sequence[Rung], names: Sequence[str], level: float) -> Trend | None:
    """Regress the log optima on the logarithms of size, horizon and batch; None where too few rungs can say."""
    good = [rung for rung in rungs if rung.inside and np.isfinite(rung.spread)]
    size = "d_model" if "d_model" in names else "params"
    columns = [name for name in (size, "tokens", "batch", "batch_tokens") if name in names]
    columns = [name for name in columns if len({rung.place[name] for rung in good}) > 1]
    if not columns or len(good) < len(columns) + 2:
        return None
    x = np.log([[rung.place[name] for name in columns] for rung in good])
    x = np.concatenate([np.ones((len(good), 1)), x], axis=1)
    # Too alike to be told apart.
    if np.linalg.matrix_rank(x - x.mean(axis=0) + np.eye(1, x.shape[1]), tol=1e-3) < x.shape[1]:
        return None
    y = np.log([rung.optimum for rung in good])
    variance = np.maximum(np.asarray([rung.spread for rung in good]) ** 2, 1e-8)
    scatter = 0.0
    for _ in range(50):
        # The scatter that makes the weighted residuals as large as they should be (Paule and Mandel 1982).
        weight = 1.0 / (variance + scatter)
        covariance = np.linalg.inv(x.T @ (weight[:, None] * x))
        residual = y - x @ (covariance @ (x.T @ (weight * y)))
        excess = float(weight @ residual**2) - (len(y) - x.shape[1])
        if excess <= 0 and scatter == 0.0:
            break
        scatter = max(scatter + excess / float(weight**2 @ residual**2), 0.0)
    found = covariance @ (x.T @ (weight * y))
    reach = student_reach(level, float(len(y) - x.shape[1])) * np.sqrt(np.diag(covariance))
    exponents = dict(zip(columns, found[1:].tolist(), strict=True))
    bounds = zip((found - reach)[1:].tolist(), (found + reach)[1:].tolist(), strict=True)
    return Trend(
        float(found[0]),
        exponents,
        dict(zip(columns, bounds, strict=True)),
        float(np.sqrt(scatter)),
        len(good),
    )


def _warnings(rungs: Sequence[Rung], curves: Curves) -> list[Warn]:
    found = []

    def say(code: Code, which: Sequence[Rung], what: str) -> None:
        if which:
            shown = "; ".join(
                ", ".join(f"{name} {value:.4g}" for name, value in r.place.items()) for r in which[:3]
            )
            more = f" and {len(which) - 3} more" if len(which) > 3 else ""
            found.append(Warn(code, f"{len(which)} of {len(rungs)} rungs ({shown}{more}): {what}"))

    say(
        Code.EDGE_RATE,
        [rung for rung in rungs if rung.edge],
        "the best rate is the lowest or highest tried: try rates beyond it; the trend leaves out those whose "
        "curve has no least between the rates tried",
    )
    say(
        Code.FEW_RATES,
        [rung for rung in rungs if len(rung.rates) < FEWEST_RATES],
        f"fewer than {FEWEST_RATES} rates: no curve, no optimum",
    )
    say(
        Code.UNTUNED,
        [r for r in rungs if r.cost > ENOUGH * np.exp(r.value) and r.cost_interval[0] > 0],
        f"the rule's rate costs more than {100 * ENOUGH:g}% of loss",
    )
    say(
        Code.UNTUNED,
        [r for r in rungs if r.rule > 0 and np.isfinite(r.optimum) and not np.isfinite(r.cost)],
        "the rule's rate is outside the rates tried: what it cost is not known",
    )
    if not curves.freedom:
        found.append(
            Warn(
                Code.ONE_SEED,
                f"too few rates and seeds to measure noise: {100 * curves.noise:g}% of loss is assumed",
            )
        )
    return found
