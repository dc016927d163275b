"""The compute of a run as a function of parameters and tokens, the best split of a budget, and the runs wanted.

The table's own flops are modelled where it has them; 6ND (Kaplan et al. 2020) stands in where it has not, with the
active parameters of a mixture of experts for N.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import Code, UserError
from analysis.fitting.observations import Observations
from analysis.fitting.result import Fit

# Experts of one table count as a constant share of the parameters where total / active varies less than this.
SAME_SHARE = 1.01


@dataclass(frozen=True)
class Cost:
    """flops = tokens x (linear x N + root x sqrt(N)); `source` says where that comes from.

    N is the column `size`: the active parameters of a mixture of experts, `experts` times fewer than `params` in
    the whole table (NaN: not in one proportion). At a fixed depth the attention scores and an embedding that costs
    nothing grow as the width, so as the square root of params: the second coefficient, which may be negative,
    absorbs them.
    """

    linear: float
    root: float
    source: str
    size: str = "params"
    experts: float = 1.0

    def per_token(self, size: Float[Array, "*shape"] | float) -> Float[Array, "..."]:
        """Compute the FLOPs per token at the size that the cost is of."""
        size = np.asarray(size, dtype=np.float64)
        return np.asarray(self.linear * size + self.root * np.sqrt(size))

    def flops(self, table: pd.DataFrame) -> Float[Array, " m"]:
        """Compute the FLOPs of runs of params, tokens and perhaps params_active; NaN where unknown."""
        params = table["params"].to_numpy(np.float64)
        active = table.get(self.size)
        size = params / self.experts if active is None else active.to_numpy(np.float64)
        return np.asarray(table["tokens"].to_numpy(np.float64) * self.per_token(size), dtype=np.float64)


def cost_model(observations: Observations) -> Cost:
    """Fit C(N, D) to a table: 6ND where it has no flops or agrees within 1%, a fitted cost otherwise."""
    x, source = observations.x, observations.flops_source
    if source == "none" or not {"params", "tokens"} <= set(x):
        return Cost(6.0, 0.0, "6ND")
    params, per_token = x["params"], observations.flops / x["tokens"]
    if _agrees(per_token, params):
        return Cost(6.0, 0.0, "6ND")
    dense = _fitted(per_token, params, Cost(0.0, 0.0, "N"))
    active = x.get("params_active")
    if active is None or not (np.isfinite(active) & (active > 0)).all():
        return dense[0]
    share = params / active
    experts = float(np.median(share)) if share.max() < SAME_SHARE * share.min() else np.nan
    named = Cost(6.0, 0.0, "6 N_active D", "params_active", experts)
    if _agrees(per_token, active):
        return named
    # The flops themselves say which parameters they count.
    return min(
        dense, _fitted(per_token, active, replace(named, source="N_active")), key=lambda found: found[1]
    )[0]


def _agrees(per_token: Float[Array, " n"], size: Float[Array, " n"]) -> bool:
    return bool(np.all(np.abs(per_token / (6.0 * size) - 1.0) < 0.01))


def _fitted(per_token: Float[Array, " n"], size: Float[Array, " n"], named: Cost) -> tuple[Cost, float]:
    """Fit both coefficients to the FLOPs per token, in relative error, and say by how much they miss at most.

    `named.source` is the symbol of the size.
    """
    design = np.stack([size, np.sqrt(size)], axis=1) / per_token[:, None]
    enough = len(np.unique(size)) > 2
    linear, root = np.linalg.lstsq(design, np.ones(len(size)), rcond=None)[0] if enough else (0.0, 0.0)
    least = float(size.min())
    if linear <= 0 or linear * least + root * np.sqrt(least) <= 0:
        linear, root = float(np.exp(np.mean(np.log(per_token / size)))), 0.0
    if abs(root) < 1e-9 * linear * np.sqrt(least):
        root = 0.0
    cost = replace(named, linear=float(linear), root=float(root))
    miss = float(np.max(np.abs(cost.per_token(size) / per_token - 1.0)))
    terms = f"{linear:.4g} {named.source}"
    terms += f" {'+' if root > 0 else '-'} {abs(root):.4g} sqrt({named.source})" if root else ""
    return replace(cost, source=f"D ({terms}), fitted to the table's flops within {100 * miss:.2g}%"), miss


def optimum(
    loss: Callable[[Array, Array], Array],
    cost: Cost,
    flops: Float[Array, "*shape"],
    params: tuple[float, float],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Find the params and tokens of least `loss(params, tokens)` at each budget `flops`.

    Searched over a factor of 1,000 on both sides of the range `params`, moved along the square root of the
    budget: a golden-section search on log params, exact to 1e-9 for a loss with one valley.
    """
    low = np.broadcast_to(np.log(params[0]) - 7.0, flops.shape).copy()
    high = np.broadcast_to(np.log(params[1]) + 14.0, flops.shape).copy()

    def per_token(size: Array) -> Array:
        return cost.per_token(size / cost.experts)

    def at(log_params: Array) -> Array:
        size = np.exp(log_params)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value = loss(size, flops / per_token(size))
        return np.where(np.isfinite(value) & (per_token(size) > 0), value, np.inf)

    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    inner, outer = high - golden * (high - low), low + golden * (high - low)
    f_inner, f_outer = at(inner), at(outer)
    for _ in range(60):
        left = f_inner < f_outer
        high, low = np.where(left, outer, high), np.where(left, low, inner)
        kept, f_kept = np.where(left, inner, outer), np.where(left, f_inner, f_outer)
        probe = np.where(left, high - golden * (high - low), low + golden * (high - low))
        f_probe = at(probe)
        inner, outer = np.where(left, probe, kept), np.where(left, kept, probe)
        f_inner, f_outer = np.where(left, f_probe, f_kept), np.where(left, f_kept, f_probe)
    size = np.exp(0.5 * (low + high))
    return size, flops / per_token(size)


def split(fitted: Fit, cost: Cost, budgets: Float[Array, " B"]) -> tuple[pd.DataFrame, str]:
    """Split each budget for the least loss of a fitted law, and say by which rule where it is another.

    A law that cannot tell params from tokens, for they rose together, has no best split: the budget is spent at
    the table's own ratio. A law of params alone is asked at the table's own tokens, where all runs have the same;
    and so for a law of tokens alone.
    """
    form, observations = fitted.form, fitted.observations
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise UserError(f"budgets = {budgets.tolist()} (--budget): give positive FLOPs, e.g. --budget 1e21")
    x = observations.x
    if form.one_variable and observations.x_name == "flops":
        return pd.DataFrame({"flops": budgets}), ""
    alone = {"params": "tokens", "tokens": "params"}.get(observations.x_name) if form.one_variable else None
    if alone is not None and alone in x and np.ptp(x[alone]) == 0:
        fixed = float(x[alone][0])
        if alone == "tokens":
            params = _sizes(cost, budgets, lambda size: np.full_like(size, fixed))
            return pd.DataFrame(
                {"params": params, "tokens": fixed, "flops": budgets}
            ), f", {fixed:.4g} tokens"
        tokens = budgets / cost.per_token(fixed / cost.experts)
        return pd.DataFrame({"params": fixed, "tokens": tokens, "flops": budgets}), f", {fixed:.4g} params"
    if form.columns != ("params", "tokens") or np.isnan(cost.experts):
        reads = [observations.x_name if name == "x" else name for name in form.columns]
        reads += ["params_active"] if np.isnan(cost.experts) and "params_active" not in reads else []
        raise UserError(
            f"budgets (--budget): FLOPs cannot be split under {form.name} of {', '.join(reads)}: "
            f"give points with {', '.join(reads)} instead (at, --at or --targets)"
        )
    if any(warn.code is Code.CONSTANT_RATIO for warn in fitted.warnings):
        ratio = float(np.median(x["tokens"] / x["params"]))
        params = _sizes(cost, budgets, lambda size: ratio * size)
        table = pd.DataFrame({"params": params, "tokens": ratio * params, "flops": budgets})
        return table, f", at the table's own {ratio:.3g} tokens per parameter"
    params, tokens = optimum(
        lambda n, d: form.predict(fitted.params, {"params": n, "tokens": d}),
        cost,
        budgets,
        (float(x["params"].min()), float(x["params"].max())),
    )
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": budgets}), ""


def _sizes(cost: Cost, budgets: Float[Array, " B"], tokens: Callable[[Array], Array]) -> Float[Array, " B"]:
    """Solve cost(params, tokens(params)) = budget for params, by bisection on log params."""
    low, high = np.full_like(budgets, -10.0), np.full_like(budgets, 80.0)
    for _ in range(100):
        middle = 0.5 * (low + high)
        size = np.exp(middle)
        above = cost.per_token(size / cost.experts) * tokens(size) > budgets
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp(0.5 * (low + high))


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
