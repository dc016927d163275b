"""Which further runs would settle a comparison: pairs, a run of each recipe, chosen by `forecasting.spending`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from analysis.arrays import Array
from analysis.forecasting.joint_law import Believed, log_loss
from analysis.forecasting.multiplier import Paths
from analysis.forecasting.recipes import Recipe
from analysis.forecasting.spending import Belief, spend

# Places of the runs in hand that may be repeated, how much larger ones may be, runs of one place, and what all of
# them may cost over what both tables hold.
PLACES, LARGER, MOST_SEEDS, MORE = 6, (2.0, 4.0), 3, 4.0
# A draw beyond these percentiles counts as at them: one wild draw would be most of a variance.
TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Settling:
    """Pairs of runs to be made next (`runs`: columns of the law, flops of one run, seeds), what they cost together,
    the standard deviation of the log multiplier at `target` before and after, and whether that is expected to
    decide."""

    runs: pd.DataFrame
    flops: float
    target: float
    error_before: float
    error_after: float
    settles: bool

    def to_json(self) -> dict[str, Any]:
        """Make `next`."""
        return {
            "runs": self.runs.to_dict("records"),
            "flops": self.flops,
            "target": self.target,
            "error_before": self.error_before,
            "error_after": self.error_after,
            "settles": self.settles,
        }

    def sentence(self) -> str:
        """Say it in a line."""
        if self.runs.empty:
            return "no further run of up to four times the largest narrows the multiplier much for its cost"
        named = "; ".join(
            f"{int(row.seeds)} x {row.flops:.3g} FLOPs"
            + (f" ({row.params:.3g} params)" if "params" in row else "")
            for _, row in self.runs.iterrows()
        )
        end = "would be expected to settle it" if self.settles else "would still not settle it"
        return (
            f"next, of each recipe: {named}: {self.flops:.3g} FLOPs in all bring the multiplier's error from "
            f"{100 * self.error_before:.2g}% to {100 * self.error_after:.2g}% and {end}"
        )


def settle(
    first: Recipe,
    second: Recipe,
    believed: Believed,
    paths: Paths,
    target: float,
    *,
    same: float,
    ahead: float,
) -> Settling:
    """Choose pairs of runs for up to MORE times what both tables hold.

    The belief is the draws' covariance of the differences of losses with the log multiplier at the target. What the
    laws are off by beyond their rows no small run takes away.
    """
    log = _clipped(paths.multipliers(np.asarray([target]), bare=True))[:, 0]
    whole = _clipped(paths.multipliers(np.asarray([target])))[:, 0]
    shift, z = abs(float(np.median(whole))), float(norm.ppf(ahead))
    off = max(float(whole.var() - log.var()), 0.0)

    def decides(error: float) -> bool:
        return shift > z * error or 1.645 * error + shift < np.log(same)

    places = _places(first, alone=paths.alone)
    x = np.log(places[["flops"] if paths.alone else ["params", "tokens"]].to_numpy()) - believed.centre
    differ = log_loss(believed.second[:, None, :], x) - log_loss(believed.first[:, None, :], x)
    together = np.column_stack([_clipped(differ), log])
    together = together - together.mean(axis=0)
    noise = np.append(np.full(len(places), 2.0 * believed.noise**2), 1e-12 + off)
    belief = Belief(together.T @ together / len(together), np.zeros((len(noise), len(noise))), noise)
    spent = float(first.observations.flops.sum() + second.observations.flops.sum())
    cost = 2.0 * places["flops"].to_numpy(np.float64)
    bought = spend(belief, cost, MORE * spent, most=MOST_SEEDS)
    enough = [i for i, error in enumerate(bought.error) if i and decides(error)]
    count = enough[0] if enough else len(bought.runs)
    counts = pd.Series(bought.runs[:count], dtype=int).value_counts(sort=False)
    runs = places.iloc[counts.index].reset_index(drop=True).assign(seeds=counts.to_numpy())
    flops = float(cost[list(bought.runs[:count])].sum())
    return Settling(runs, flops, float(target), bought.error[0], bought.error[count], bool(enough))


def _clipped(draws: Array) -> Array:
    low, high = np.percentile(draws, TAILS, axis=0)
    return np.asarray(np.clip(draws, low, high))


def _places(recipe: Recipe, *, alone: bool) -> pd.DataFrame:
    """List places for further runs: the dearest in hand, and larger ones of their shape."""
    rows = recipe.observations
    columns = (
        {"flops": rows.flops}
        if alone
        else {**{n: rows.x[n] for n in ("params", "tokens")}, "flops": rows.flops}
    )
    table = pd.DataFrame(columns).round(0).drop_duplicates().sort_values("flops", ascending=False)
    largest = table.iloc[:1]
    # A size and tokens each by the root: their FLOPs grow by the factor.
    larger = [largest * ([f] if alone else [np.sqrt(f), np.sqrt(f), f]) for f in LARGER]
    return pd.concat([*larger[::-1], table.iloc[:PLACES]], ignore_index=True)
