"""Compute-optimal sizes: the envelope of runs, isoFLOP parabolas, or a parametric law (Hoffmann et al. 2022,
approaches 1, 2 and 3), and the exponents of N*(C) and D*(C)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.arrays import Array
from analysis.errors import Code, Status, UserError, Warn, status_of
from analysis.fitting.fit import fit
from analysis.fitting.observations import Observations, observe
from analysis.fitting.options import FitOptions
from analysis.fitting.resampling import resample_counts
from analysis.fitting.result import Fit, finite, html_of, notes
from analysis.forecasting.cost import cost_model, optimum
from analysis.forecasting.defaults import METHODS
from analysis.shown import Shown
from analysis.tables.finished import LeftOut

# Factors of compute: a gap between two budgets, the scatter of one, and its width where there are no gaps.
GAPS = (1.3, 1.2, 1.1)
SCATTER = 1.6
SAME_BUDGET = 1.1
# A parabola through fewer sizes is no evidence of a minimum.
LEAST_SIZES = 4
# Far from its minimum a profile is no parabola: the sizes nearest the best one, up to this many.
NEAREST = 7


@dataclass(frozen=True)
class Optimum:
    """The params and tokens of least loss at a budget of `flops`."""

    flops: float
    params: float
    tokens: float
    loss: float


@dataclass(frozen=True, repr=False)
class IsoFlop(Shown):
    """N* = const x C^exponent_params, D* likewise; `draws` are resampled exponents (NaN: no line)."""

    method: str
    exponent_params: float
    exponent_tokens: float
    draws: Float[Array, "R 2"]
    level: float
    optima: tuple[Optimum, ...]
    warnings: tuple[Warn, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def status(self) -> Status:
        """The trust that their warnings leave the exponents."""
        return status_of(self.warnings)

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the optima, one row a budget."""
        return pd.DataFrame([dict(o.__dict__) for o in self.optima])

    def _repr_html_(self) -> str:
        return html_of(self._headline(), self.to_frame(), self.left_out, self.warnings)

    def _headline(self) -> list[str]:
        lines = [f"compute-optimal sizes by {self.method}: {self.status}"]
        for name, (low, high) in self.conf_int().items():
            lines.append(
                f"{name:>16} {getattr(self, name):8.4f}   [{low:.4f}, {high:.4f}] {100 * self.level:g}%"
            )
        return lines

    def conf_int(self) -> dict[str, tuple[float, float]]:
        """Give percentile intervals of both exponents."""
        tail = 50.0 * (1.0 - self.level)
        fine = self.draws[np.isfinite(self.draws).all(axis=1)]
        if len(fine) < 2:
            return {"exponent_params": (np.nan, np.nan), "exponent_tokens": (np.nan, np.nan)}
        low, high = np.percentile(fine, [tail, 100.0 - tail], axis=0)
        return {
            "exponent_params": (float(low[0]), float(high[0])),
            "exponent_tokens": (float(low[1]), float(high[1])),
        }

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis isoflop`."""
        return {
            "method": self.method,
            "exponent_params": self.exponent_params,
            "exponent_tokens": self.exponent_tokens,
            "conf_int": {name: [finite(a), finite(b)] for name, (a, b) in self.conf_int().items()},
            "level": self.level,
            "optima": [dict(o.__dict__) for o in self.optima],
            "rows_left_out": [left.to_json() for left in self.left_out],
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
        }

    def summary(self) -> str:
        """Write the optima as a table for a person."""
        lines = [*self._headline(), f"{'flops':>12} {'params':>12} {'tokens':>12} {'loss':>9}"]
        lines += [f"{o.flops:12.4g} {o.params:12.4g} {o.tokens:12.4g} {o.loss:9.5g}" for o in self.optima]
        return "\n".join([*lines, *notes(self.left_out, self.warnings)])


def isoflop(
    table: pd.DataFrame,
    *,
    method: str = "parabola",
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    group: str | None = None,
) -> IsoFlop:
    """Find the optimum of every budget in `table` (params, tokens, loss; flops, or 6ND) and how it grows.

    method: parabola (log loss against log params at each budget), envelope (the best run of each budget) or
    parametric (the chinchilla law under the table's own cost). bootstrap: resamples, drawn with `seed`, of runs
    or of `group`s of them. level: of the intervals. UserError if fewer than two budgets have an optimum inside
    their sizes.

    >>> import pandas as pd
    >>> from analysis import isoflop
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> at = [(b, (b / 120) ** 0.5 * share) for b in (1e16, 1e17, 1e18) for share in (0.25, 0.5, 1, 2, 4)]
    >>> rows = [(n, b / 6 / n, law(n, b / 6 / n)) for b, n in at]
    >>> table = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    >>> round(isoflop(table, bootstrap=20).exponent_params, 2)
    0.45
    """
    if method not in METHODS:
        raise UserError(f"method = {method}: choose one of {', '.join(METHODS)}")
    # The options that are a fit's are checked as a fit's.
    FitOptions(bootstrap=bootstrap, seed=seed, level=level)
    if method == "parametric":
        fitted = fit(table, "chinchilla", bootstrap=bootstrap, seed=seed, level=level, group=group)
        return _parametric(fitted)
    observations = observe(table, ("params", "tokens"), group=group, seed=seed, parameters=LEAST_SIZES)
    label, centres = budgets(observations.flops)
    counts = np.concatenate(
        [np.ones((1, len(observations))), resample_counts(observations.group, max(bootstrap, 1), seed)]
    )
    found = [
        optimum_at(observations, np.flatnonzero(label == i), counts, method) for i in range(len(centres))
    ]
    inside = [i for i, (log_n, _, _) in enumerate(found) if np.isfinite(log_n[0])]
    warnings = list(observations.warnings)
    if len(inside) < 2:
        raise UserError(
            f"{len(inside)} budget(s) with an optimum inside their sizes ({len(centres)} budgets of at least "
            f"{LEAST_SIZES} sizes within a factor {SAME_BUDGET} of compute): an exponent needs two; train "
            'more sizes at each budget, or use method="parametric" (--method parametric)'
            + "".join(
                f"; left out before: {len(left.rows)} rows: {left.reason}" for left in observations.left_out
            )
        )
    if len(inside) < 4:
        warnings.append(Warn(Code.FEW_BUDGETS, f"the exponents rest on {len(inside)} budgets"))
    if edge := len(centres) - len(inside):
        warnings.append(
            Warn(Code.EDGE_OPTIMUM, f"at {edge} budget(s) the least loss is at the smallest or largest size")
        )
    log_c = np.log(np.asarray([centres[i] for i in inside]))
    log_n = np.stack([found[i][0] for i in inside], axis=1)
    log_d = np.stack([found[i][1] for i in inside], axis=1)
    slopes = np.stack([slope(log_c, log_n), slope(log_c, log_d)], axis=1)
    used = np.isin(label, inside)
    return IsoFlop(
        method=method,
        exponent_params=float(slopes[0, 0]),
        exponent_tokens=float(slopes[0, 1]),
        draws=slopes[1:] if bootstrap else np.empty((0, 2)),
        level=level,
        optima=tuple(
            Optimum(
                float(centres[i]),
                float(np.exp(found[i][0][0])),
                float(np.exp(found[i][1][0])),
                float(np.exp(found[i][2][0])),
            )
            for i in inside
        ),
        warnings=tuple(warnings),
        left_out=observations.keep(used, "in no budget with an optimum inside its sizes").left_out,
    )


def budgets(flops: Float[Array, " n"]) -> tuple[Int[np.ndarray, " n"], Float[Array, " B"]]:
    """Label each row's budget (-1: none with enough rows); besides, the budgets' compute, ascending.

    A real run's compute is off its label by several percent. Where gaps leave every budget within SCATTER, and
    narrower than the gaps, they end there; where compute is spread without such, SAME_BUDGET above the least row.
    """
    order = np.argsort(flops)
    parts = _parts(flops[order])
    label = np.full(len(flops), -1)
    centres: list[float] = []
    for rows in [order[part] for part in parts]:
        if len(rows) >= LEAST_SIZES:
            label[rows] = len(centres)
            centres.append(float(np.exp(np.mean(np.log(flops[rows])))))
    return label, np.asarray(centres)


def _parts(ordered: Float[Array, " n"]) -> list[slice]:
    """Cut ascending compute into budgets."""
    n = len(ordered)
    for gap in GAPS:
        ends = [0, *(np.flatnonzero(ordered[1:] > gap * ordered[:-1]) + 1).tolist(), n]
        parts = [slice(a, b) for a, b in pairwise(ends)]
        width = max(ordered[part.stop - 1] / ordered[part.start] for part in parts)
        apart = min((ordered[b.start] / ordered[a.stop - 1] for a, b in pairwise(parts)), default=np.inf)
        if width <= min(SCATTER, apart):
            return parts
    parts, start = [], 0
    for stop in range(1, n + 1):
        if stop == n or ordered[stop] > SAME_BUDGET * ordered[start]:
            parts.append(slice(start, stop))
            start = stop
    return parts


def optimum_at(
    observations: Observations, rows: Int[np.ndarray, " k"], counts: Float[Array, "R n"], method: str
) -> tuple[Float[Array, " R"], Float[Array, " R"], Float[Array, " R"]]:
    """Find log params, log tokens and log loss at a budget's optimum for every weighting `counts` of all rows.

    NaN where the optimum is not inside the sizes.
    """
    log_n, log_d = np.log(observations.x["params"][rows]), np.log(observations.x["tokens"][rows])
    log_l = np.log(observations.loss[rows])
    weight = counts[:, rows]
    nothing = np.full(len(counts), np.nan)
    if len(np.unique(log_n)) < LEAST_SIZES:
        return nothing, nothing, nothing
    if method == "envelope":
        best = np.argmin(np.where(weight > 0, log_l, np.inf), axis=1)
        edge = (log_n[best] <= log_n.min()) | (log_n[best] >= log_n.max())
        return tuple(np.where(edge, np.nan, v[best]) for v in (log_n, log_d, log_l))  # type: ignore[return-value]
    near = np.argsort(np.abs(log_n - log_n[np.argmin(log_l)]))[:NEAREST]
    centre = log_n[near].mean()
    u = log_n[near] - centre
    design = np.stack([np.ones_like(u), u, u * u], axis=1)
    w = weight[:, near] * observations.weight[rows][near]
    normal = np.einsum("rn,ni,nj->rij", w, design, design) + 1e-12 * np.eye(3)
    constant, linear, bend = np.linalg.solve(
        normal, np.einsum("rn,ni,n->ri", w, design, log_l[near])[:, :, None]
    )[:, :, 0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        at = -0.5 * linear / bend
        inside = (bend > 0) & (at > u.min()) & (at < u.max()) & ((w > 0).sum(1) >= 3)
    # Tokens follow params along a budget: a straight line in logs.
    tilt, level = np.polyfit(u, log_d[near], 1)
    log_loss = constant + linear * at + bend * at * at
    return (
        np.where(inside, centre + at, np.nan),
        np.where(inside, level + tilt * at, np.nan),
        np.where(inside, log_loss, np.nan),
    )


def slope(x: Float[Array, " n"], y: Float[Array, "*shape n"]) -> Float[Array, "*shape"]:
    """Compute the ordinary least squares slope of y on x, over the finite entries of each row."""
    fine = np.isfinite(y)
    n = fine.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        dx = np.where(fine, x - np.where(fine, x, 0.0).sum(-1, keepdims=True) / n, 0.0)
        result = (dx * np.where(fine, y, 0.0)).sum(-1) / (dx * dx).sum(-1)
    return np.where(n[..., 0] >= 2, result, np.nan)


def _parametric(fitted: Fit) -> IsoFlop:
    """Follow approach 3: the optimum of the fitted law along the table's range of compute."""
    observations = fitted.observations
    cost = cost_model(observations)
    if np.isnan(cost.experts) or any(warn.code is Code.CONSTANT_RATIO for warn in fitted.warnings):
        why = (
            "the share of active parameters varies"
            if np.isnan(cost.experts)
            else "tokens per parameter hardly vary"
        )
        raise UserError(
            f"method = parametric (--method): {why}, so a law of params and tokens has no optimum here"
        )
    grid = np.geomspace(observations.flops.min(), observations.flops.max(), 9)
    seen = observations.x["params"]
    span = (float(seen.min()), float(seen.max()))

    def law(params: Mapping[str, Any]) -> Any:
        return lambda n, d: fitted.form.predict(params, {"params": n, "tokens": d})

    params, tokens = optimum(law(fitted.params), cost, grid, span)
    draws = {name: fitted.draws[:, i, None] for i, name in enumerate(fitted.form.names)}
    slopes = np.empty((0, 2))
    if len(fitted.draws):
        wide = np.broadcast_to(grid, (len(fitted.draws), len(grid)))
        n, d = optimum(law(draws), cost, wide, span)
        slopes = np.stack([slope(np.log(grid), np.log(n)), slope(np.log(grid), np.log(d))], axis=1)
    loss = law(fitted.params)(params, tokens)
    return IsoFlop(
        method="parametric",
        exponent_params=float(slope(np.log(grid), np.log(params))),
        exponent_tokens=float(slope(np.log(grid), np.log(tokens))),
        draws=slopes,
        level=fitted.level,
        optima=tuple(
            Optimum(float(c), float(n), float(d), float(v))
            for c, n, d, v in zip(grid, params, tokens, loss, strict=True)
        ),
        warnings=fitted.warnings,
        left_out=observations.left_out,
    )
