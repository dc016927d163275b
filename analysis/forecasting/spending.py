"""Which runs shrink a target's interval most for their cost: a greedy choice under a joint normal belief.

What the belief rests on is `forecasting.design`'s business; here are only numbers. Under a normal belief the
variance of a target given some runs does not depend on their losses: a whole design can be made at once.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.arrays import Array

# A run is bought only where it shrinks the width by this share of itself for the whole budget, in proportion to the
# share of the budget that it costs, and by a hundredth of that whatever it costs.
WORTH, LEAST_COST = 0.1, 0.01
# Gain over cost to these powers: the best single runs, the best for their cost, and between (Leskovec et al. 2007,
# KDD, take the better of the first two).
POWERS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Belief:
    """The losses of m runs as a normal distribution of log loss, before any of them is made.

    `mean`, `covariance` (the law's parameters and its misfit) are of the runs' expected log losses; `noise` is the
    variance that one run adds to it. The last `targets` of the runs are those to be predicted.
    """

    mean: Float[Array, " m"]
    covariance: Float[Array, "m m"]
    noise: Float[Array, " m"]
    targets: int = 1

    def half_width(self, variance: Float[Array, " k"], level: float) -> float:
        """Compute half the interval of one new run at the targets, in log loss, root mean square over them."""
        total = float(np.mean(variance + self.noise[-self.targets :]))
        return NormalDist().inv_cdf(0.5 + 0.5 * level) * float(np.sqrt(total))


@dataclass(frozen=True)
class Purchase:
    """Runs in the order bought (numbers of candidates), and the half-width before and after each."""

    runs: tuple[int, ...]
    half_widths: tuple[float, ...]
    cost: float


def spend(
    belief: Belief,
    cost: Float[Array, " c"],
    budget: float,
    *,
    most: Int[np.ndarray, " c"] | int,
    level: float,
    wanted: float = 0.0,
    first: int = 0,
) -> Purchase:
    """Buy runs of the first c of the belief's until the budget is spent, the half-width `wanted` is reached or
    none is worth its cost; each at most `most` times. The first `first` runs are of as many candidates, whatever
    they are worth: a law needs them.

    The best of the greedy choices by gain over cost to each of POWERS: the narrowest, or the cheapest of those that
    reach the half-width.
    """
    found = [
        _greedy(belief, cost, budget, power, most=most, level=level, wanted=wanted, first=first)
        for power in POWERS
    ]
    return min(found, key=lambda bought: (max(bought.half_widths[-1], wanted), bought.cost))


def _greedy(
    belief: Belief,
    cost: Float[Array, " c"],
    budget: float,
    power: float,
    *,
    most: Int[np.ndarray, " c"] | int,
    level: float,
    wanted: float,
    first: int,
) -> Purchase:
    count, k = len(cost), belief.targets
    variance = np.diag(belief.covariance).copy()
    shared = belief.covariance[:, -k:].copy()
    seen: list[Array] = []
    left, bought = np.broadcast_to(np.asarray(most), count).copy(), []
    # Without a budget a run's cost is measured by the dearest.
    scale = budget if np.isfinite(budget) else float(cost.max())
    least = WORTH * np.maximum(cost / scale, LEAST_COST)
    spent, widths = 0.0, [belief.half_width(variance[-k:], level)]
    while widths[-1] > wanted or len(bought) < first:
        starting = len(bought) < first
        total = variance[:count] + belief.noise[:count]
        gain = np.mean(shared[:count] ** 2, axis=1) / total
        now = float(np.mean(variance[-k:] + belief.noise[-k:]))
        shrinks = 1.0 - np.sqrt(np.maximum(1.0 - gain / now, 0.0))
        open_to = (left > 0) & (cost <= budget - spent) & ((shrinks >= least) | starting)
        if starting:
            open_to[bought] = False
        if not open_to.any():
            break
        best = int(np.argmax(np.where(open_to, gain / cost ** (0.5 if starting else power), -1.0)))
        step = belief.covariance[:, best] - sum(v * v[best] for v in seen)
        step = step / np.sqrt(total[best])
        seen.append(step)
        variance = np.maximum(variance - step**2, 0.0)
        shared = shared - step[:, None] * step[-k:]
        left[best] -= 1
        spent += float(cost[best])
        bought.append(best)
        widths.append(belief.half_width(variance[-k:], level))
    return Purchase(tuple(bought), tuple(widths), spent)


def condition(
    covariance: Float[Array, "a a"], observed: Bool[np.ndarray, " a"], noise: Float[Array, " o"]
) -> Float[Array, "b b"]:
    """Compute the covariance of those not `observed`, given those that are, each with its noise's variance."""
    inner = covariance[np.ix_(observed, observed)] + np.diag(noise)
    outer = covariance[np.ix_(observed, ~observed)]
    return np.asarray(covariance[np.ix_(~observed, ~observed)] - outer.T @ np.linalg.solve(inner, outer))
