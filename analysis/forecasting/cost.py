"""The compute of a run as a function of parameters and tokens, and the best split of a budget.

The table's own flops are modelled where it has them; 6ND (Kaplan et al. 2020) stands in where it has not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.observations import Observations
from analysis.fitting.result import Fit


@dataclass(frozen=True)
class Cost:
    """flops = tokens x (linear x params + root x sqrt(params)); `source` says where that comes from.

    At a fixed depth the attention scores and an embedding that costs nothing grow as the width, so as the
    square root of params: the second coefficient, which may be negative, absorbs them.
    """

    linear: float
    root: float
    source: str

    def per_token(self, params: Float[Array, "*shape"] | float) -> Float[Array, "..."]:
        """Compute the FLOPs per token at `params`."""
        params = np.asarray(params, dtype=np.float64)
        return self.linear * params + self.root * np.sqrt(params)


def cost_model(observations: Observations) -> Cost:
    """Fit C(N, D) to a table: 6ND where it has no flops or agrees within 1%, a fitted cost otherwise."""
    if observations.flops_source != "flops" or not {"params", "tokens"} <= set(observations.x):
        return Cost(6.0, 0.0, "6ND")
    params, tokens = observations.x["params"], observations.x["tokens"]
    per_token = observations.flops / tokens
    if np.all(np.abs(per_token / (6.0 * params) - 1.0) < 0.01):
        return Cost(6.0, 0.0, "6ND")
    design = np.stack([params, np.sqrt(params)], axis=1) / per_token[:, None]
    sizes = len(np.unique(params))
    linear, root = np.linalg.lstsq(design, np.ones(len(params)), rcond=None)[0] if sizes > 2 else (0.0, 0.0)
    least = float(params.min())
    if linear <= 0 or linear * least + root * np.sqrt(least) <= 0:
        linear, root = float(np.exp(np.mean(np.log(per_token / params)))), 0.0
    cost = Cost(float(linear), float(root), "")
    miss = float(np.max(np.abs(cost.per_token(params) / per_token - 1.0)))
    terms = f"{linear:.4g} N" + (f" {'+' if root > 0 else '-'} {abs(root):.4g} sqrt(N)" if root else "")
    return Cost(cost.linear, cost.root, f"D ({terms}), fitted to the table's flops within {100 * miss:.2g}%")


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

    def at(log_params: Array) -> Array:
        size = np.exp(log_params)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value = loss(size, flops / cost.per_token(size))
        return np.where(np.isfinite(value) & (cost.per_token(size) > 0), value, np.inf)

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
    return size, flops / cost.per_token(size)


def split(fitted: Fit, cost: Cost, budgets: Float[Array, " B"]) -> pd.DataFrame:
    """Split each budget for the least loss of a fitted law."""
    form = fitted.form
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise UserError(f"--budget {budgets.tolist()}: give positive FLOPs, e.g. --budget 1e21")
    if form.one_variable:
        return pd.DataFrame({"x": budgets, "flops": budgets})
    if not {"params", "tokens"} <= set(form.columns) or len(form.columns) > 2:
        raise UserError(
            f"--budget cannot be split under {form.name}: give --at with {', '.join(form.columns)}"
        )
    seen = fitted.observations.x["params"]
    params, tokens = optimum(
        lambda n, d: form.predict(fitted.params, {"params": n, "tokens": d}),
        cost,
        budgets,
        (float(seen.min()), float(seen.max())),
    )
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": budgets})
