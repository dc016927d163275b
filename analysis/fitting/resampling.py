"""Optimum and resamples of a problem, each resample with its own global search; large tables by subsets."""

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array
from analysis.fitting.observations import LARGE
from analysis.fitting.problem import Problem
from analysis.fitting.search import Found, descend, hop, search

# Cells of its own grid that every resample polishes, besides the optimum of the whole table; of so few rows,
# whose loss has more dents, it polishes more.
RESAMPLE_STARTS = 2
FEW_ROWS, FEW_ROWS_STARTS = 100, 4
# Cells that the whole table polishes: all of a regular grid's, and enough of the random points of a law
# that has none.
TABLE_STARTS = 40
# Newton steps over all the rows of a large table, from the optimum of the subset.
POLISH_STEPS = 8


def solve(
    problem: Problem, bootstrap: int, seed: int, *, fractional: bool = False
) -> tuple[Found, Float[Array, "R p"]]:
    """Find the global optimum of the table, and the internal parameters of `bootstrap` resamples.

    `fractional`: resamples weigh rows (`resample_weights`) in place of counting them.
    """
    observations = problem.observations
    if len(observations) > LARGE:
        return _solve_large(problem, bootstrap, seed, fractional)
    best = search(problem, observations.weight[None], starts=TABLE_STARTS)
    if problem.objective.loss == "huber":
        best = hop(problem, best, seed)
    if not bootstrap:
        return best, np.empty((0, best.theta.shape[1]))
    resampled = (resample_weights if fractional else resample_counts)(observations.group, bootstrap, seed)
    starts = FEW_ROWS_STARTS if len(observations) <= FEW_ROWS else RESAMPLE_STARTS
    starts = starts if problem.form.structure is not None else 1
    found = search(problem, resampled * observations.weight, starts=starts, near=best.theta)
    return best, found.theta


def _solve_large(
    problem: Problem, bootstrap: int, seed: int, fractional: bool
) -> tuple[Found, Float[Array, "R p"]]:
    """Search and resample the subset of m rows; polish on all n. Spread shrinks by sqrt(m / n).

    Resampling m out of n and rescaling is consistent where the plain bootstrap is (Politis and Romano 1994).
    """
    small = problem.small
    best, draws = solve(small, bootstrap, seed, fractional=fractional)
    names = problem.form.names

    def moved(theta: Float[Array, "S p"]) -> Float[Array, "S p"]:
        """Centre parameters on the whole table's columns in place of the subset's."""
        public = small.model.public(theta)
        return np.stack(
            [problem.model.private(dict(zip(names, row.tolist(), strict=True))) for row in public]
        )

    full = descend(problem, moved(best.theta), problem.observations.weight[None], POLISH_STEPS)
    polished = Found(full.theta, full.value, full.converged, full)
    if not bootstrap:
        return polished, np.empty((0, full.theta.shape[1]))
    spread = (moved(draws) - moved(best.theta)) * np.sqrt(len(small.observations) / len(problem.observations))
    return polished, np.clip(full.theta + spread, problem.model.lower, problem.model.upper)


def resample_counts(group: Int[np.ndarray, " n"], resamples: int, seed: int) -> Float[Array, "R n"]:
    """Count each row in resamples of as many groups as there are, drawn with replacement.

    Drawn by numpy's legacy generator, whose stream is frozen (NEP 19): a seed names the same resamples in
    every version, and those of public bootstraps that call `np.random.seed` (42 in Besiroglu et al. 2024).
    """
    groups = int(group.max()) + 1
    random = np.random.RandomState(seed)
    counts = np.empty((resamples, groups))
    for row in counts:
        row[:] = np.bincount(random.choice(groups, groups), minlength=groups)
    return counts[:, group]


def resample_weights(group: Int[np.ndarray, " n"], resamples: int, seed: int) -> Float[Array, "R n"]:
    """Draw exponential weights of the rows, the same within a group and of mean one over groups.

    The Bayesian bootstrap (Rubin 1981), recommended by Xu et al. 2020 (The American Statistician 74, 345) where
    plain resamples of few rows lose what identifies a parameter: every row keeps some weight.
    """
    groups = int(group.max()) + 1
    weight = np.random.RandomState(seed).standard_exponential((resamples, groups))
    return (weight * (groups / weight.sum(axis=1, keepdims=True)))[:, group]
