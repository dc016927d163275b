"""Which runs say most of a target for their cost: a greedy choice under a joint normal belief.

What the belief rests on is `forecasting.design`'s business; here are only numbers. Under a normal belief what
is not known after some runs does not depend on their losses: a whole design can be made at once.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array

# A run is bought only where it shrinks what is not known by this share for the whole budget, in proportion to what
# it costs of that, and by a hundredth of this share whatever it costs.
WORTH, LEAST_COST = 0.1, 0.01
# Gain over cost to these powers: the best single runs, the best for their cost, and between (Leskovec et al. 2007,
# KDD, take the better of the first two).
POWERS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Belief:
    """The log losses of m runs as normal variables, before any of them is made.

    `law` is their covariance for what is not known of a law's parameters, `wrong` that for what the law itself
    misses, `noise` the variance of one run. The last `targets` of the runs are those to be predicted.
    """

    law: Float[Array, "m m"]
    wrong: Float[Array, "m m"]
    noise: Float[Array, " m"]
    targets: int = 1


@dataclass(frozen=True)
class Purchase:
    """Runs in the order bought (numbers of candidates) and what they cost.

    Of the targets before any run and after each: `error` is the standard deviation of what is not known of them,
    noise of one run included (root mean square); `law` the variance of each that the parameters alone leave.
    """

    runs: tuple[int, ...]
    error: tuple[float, ...]
    law: Float[Array, "s k"]
    cost: float


def spend(
    belief: Belief,
    cost: Float[Array, " c"],
    budget: float,
    *,
    most: Int[np.ndarray, " c"] | int,
    first: int = 0,
) -> Purchase:
    """Buy runs of the first c of the belief's until the budget is spent or none is worth its cost; each at most
    `most` times. The first `first` runs are of as many candidates, whatever they are worth: a law needs them.

    The best of the greedy choices by gain over cost to each of POWERS.
    """
    found = [_greedy(belief, cost, budget, power, most=most, first=first) for power in POWERS]
    return min(found, key=lambda bought: bought.error[-1])


def _greedy(
    belief: Belief,
    cost: Float[Array, " c"],
    budget: float,
    power: float,
    *,
    most: Int[np.ndarray, " c"] | int,
    first: int,
) -> Purchase:
    """Buy one run after another: a run c narrows target t by cov(t, c)^2 / (var(c) + noise), given those before."""
    count, k = len(cost), belief.targets
    known, both = belief.law.copy(), belief.law + belief.wrong
    left = np.broadcast_to(np.asarray(most), count).copy()
    # Without a budget a run's cost is measured by the most expensive.
    least = WORTH * np.maximum(cost / (budget if np.isfinite(budget) else cost.max()), LEAST_COST)
    bought: list[int] = []
    spent, path, laws = 0.0, [_total(belief, both)], [np.diag(known)[-k:]]
    while True:
        starting = len(bought) < first
        gain = np.mean(both[:count, -k:] ** 2, axis=1) / (np.diag(both)[:count] + belief.noise[:count])
        shrinks = 1.0 - np.sqrt(np.maximum(1.0 - gain / path[-1] ** 2, 0.0))
        open_to = (left > 0) & (cost <= budget - spent) & ((shrinks >= least) | starting)
        if starting:
            open_to[bought] = False
        if not open_to.any():
            break
        best = int(np.argmax(np.where(open_to, gain / cost ** (0.5 if starting else power), -1.0)))
        known, both = (_after(of, best, belief.noise[best]) for of in (known, both))
        left[best] -= 1
        spent += float(cost[best])
        bought.append(best)
        path.append(_total(belief, both))
        laws.append(np.maximum(np.diag(known)[-k:], 0.0))
    return Purchase(tuple(bought), tuple(path), np.asarray(laws), spent)


def _after(covariance: Float[Array, "m m"], run: int, noise: float) -> Float[Array, "m m"]:
    """Compute the covariance once this run has been made."""
    step = covariance[run] / np.sqrt(covariance[run, run] + noise)
    return np.asarray(covariance - np.outer(step, step))


def _total(belief: Belief, covariance: Float[Array, "m m"]) -> float:
    k = belief.targets
    return float(np.sqrt(np.mean(np.diag(covariance)[-k:] + belief.noise[-k:])))
