"""Optimum and resamples of a law on a table, each resample with its own global search; large tables by subsets."""

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.bound_law import Model
from analysis.fitting.function_law import JetModel
from analysis.fitting.newton import minimise
from analysis.fitting.objective import Objective
from analysis.fitting.observations import LARGE, Observations
from analysis.fitting.power_sum import PowerSumModel
from analysis.fitting.search import Found, hop, search
from analysis.laws.law import Form

# Cells of its own grid that every resample polishes, besides the optimum of the whole table; of so few rows,
# whose loss has more dents, it polishes more.
RESAMPLE_STARTS = 2
FEW_ROWS, FEW_ROWS_STARTS = 100, 4
# Cells that the whole table polishes: all of a regular grid's, and enough of the random points of a law
# that has none.
TABLE_STARTS = 40
# Of a table of more than `LARGE` rows, so many are searched and resampled.
LARGE_ROWS = 5000
# Newton steps over all the rows of a large table, from the optimum of the subset.
POLISH_STEPS = 8


def bind(form: Form, observations: Observations) -> Model:
    """The law at the rows of a table, ready for the search."""
    x = {name: observations.x[name] for name in form.columns}
    kind = PowerSumModel if form.structure is not None else JetModel
    return kind(form, x, observations.loss)


def solve(
    model: Model,
    observations: Observations,
    objective: Objective,
    bootstrap: int,
    seed: int,
    *,
    fractional: bool = False,
) -> tuple[Found, Array]:
    """The global optimum of the table, and the internal parameters [R, p] of `bootstrap` resamples."""
    if len(observations) > LARGE:
        return _solve_large(observations, model, objective, bootstrap, seed, fractional)
    loss, weight = observations.loss, observations.weight
    best = search(model, loss, weight[None], objective, starts=TABLE_STARTS)
    if objective.loss == "huber":
        best = hop(model, loss, weight[None], objective, best, seed)
    if not bootstrap:
        return best, np.empty((0, best.theta.shape[1]))
    resampled = (resample_weights if fractional else resample_counts)(observations.group, bootstrap, seed)
    starts = FEW_ROWS_STARTS if len(observations) <= FEW_ROWS else RESAMPLE_STARTS
    starts = starts if model.form.structure is not None else 1
    found = search(model, loss, resampled * weight, objective, starts=starts, near=best.theta)
    return best, found.theta


def thinned(observations: Observations, seed: int) -> Observations:
    """A random subset of `LARGE_ROWS` rows of a large table; a smaller table as it is."""
    n = len(observations)
    if n <= LARGE:
        return observations
    mask = np.zeros(n, dtype=bool)
    mask[np.random.default_rng(seed).choice(n, LARGE_ROWS, replace=False)] = True
    return observations.keep(mask)


def _solve_large(
    observations: Observations,
    model: Model,
    objective: Objective,
    bootstrap: int,
    seed: int,
    fractional: bool,
) -> tuple[Found, Array]:
    """Search and resample a subset of m rows; polish on all n. Spread shrinks by sqrt(m / n).

    Resampling m out of n and rescaling is consistent where the plain bootstrap is (Politis and Romano 1994).
    """
    small = thinned(observations, seed)
    part = bind(model.form, small)
    best, draws = solve(part, small, objective, bootstrap, seed, fractional=fractional)
    names = model.form.names

    def moved(theta: Array) -> Array:
        public = part.public(theta)
        return np.stack([model.private(dict(zip(names, row.tolist(), strict=True))) for row in public])

    full = minimise(
        model,
        moved(best.theta),
        observations.weight[None],
        objective.target(observations.loss),
        scale=objective.scale,
        width=objective.width,
        steps=POLISH_STEPS,
    )
    polished = Found(full.theta, full.value, full.converged, full)
    if not bootstrap:
        return polished, np.empty((0, full.theta.shape[1]))
    spread = (moved(draws) - moved(best.theta)) * np.sqrt(len(small) / len(observations))
    return polished, np.clip(full.theta + spread, model.lower, model.upper)


def resample_counts(group: np.ndarray, resamples: int, seed: int) -> Array:
    """How often each row occurs, [R, n], when as many groups as there are get drawn with replacement.

    Drawn by numpy's legacy generator, whose stream is frozen (NEP 19): a seed names the same resamples in
    every version, and those of public bootstraps that call `np.random.seed` (42 in Besiroglu et al. 2024).
    """
    groups = int(group.max()) + 1
    random = np.random.RandomState(seed)
    counts = np.empty((resamples, groups))
    for row in counts:
        row[:] = np.bincount(random.choice(groups, groups), minlength=groups)
    return counts[:, group]


def resample_weights(group: np.ndarray, resamples: int, seed: int) -> Array:
    """Exponential weights of the rows, [R, n], the same within a group and of mean one over groups.

    The Bayesian bootstrap (Rubin 1981), recommended by Xu et al. 2020 (The American Statistician 74, 345) where
    plain resamples of few rows lose what identifies a parameter: every row keeps some weight.
    """
    groups = int(group.max()) + 1
    weight = np.random.RandomState(seed).standard_exponential((resamples, groups))
    return (weight * (groups / weight.sum(axis=1, keepdims=True)))[:, group]


def check_seed(seed: int) -> None:
    """UserError unless numpy's generators take the seed."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed = {seed}: a whole number from 0 to {2**32 - 1}")
