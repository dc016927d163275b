"""What the losses of two recipes' runs have in common: pairs of one place and seed, branches of a trunk, misfit."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.spatial.distance import cdist

from analysis.arrays import Array
from analysis.forecasting.joint_law import TwoLadders
from analysis.forecasting.recipes import Recipe

# Runs of two recipes are at one place where their sizes and tokens differ by less, as a log.
NEAR = 0.05
# Rows of a recipe that a joint fit takes, the others left out at random.
MOST_ROWS = 300


def two_ladders(first: Recipe, second: Recipe, *, alone: bool, seed: int) -> TwoLadders:
    """Put the rows of two recipes together, with what they share.

    Runs of one size, tokens and seed share what their batches and the law's misfit there have in common, and so a
    difference between the recipes is known better than either. Branches of one trunk share its luck. Where a law is
    seen to be off, a misfit that is a smooth function of each recipe's own comes on top.
    """
    kept = [_some(recipe, seed) for recipe in (first, second)]
    names = ("flops",) if alone else ("params", "tokens")
    logs = [
        np.log(
            np.stack([r.observations.flops if n == "flops" else r.observations.x[n] for n in names], axis=1)
        )[k]
        for r, k in zip((first, second), kept, strict=True)
    ]
    x = np.concatenate(logs)
    y = np.concatenate([np.log(r.observations.loss)[k] for r, k in zip((first, second), kept, strict=True)])
    is_second = np.repeat([False, True], [len(k) for k in kept])
    same = is_second[:, None] == is_second
    apart = cdist(x, x)
    shared: list[Array] = []
    if first.wrong or second.wrong:
        shared.append(np.exp(-0.5 * apart**2) * same)
    if (pairs := _pairs(apart, same, _seeds(first, second, kept))) is not None:
        shared.append(pairs)
    groups = np.concatenate(
        [
            r.observations.group[k] + i * 10**9
            for i, (r, k) in enumerate(zip((first, second), kept, strict=True))
        ]
    )
    branches = (groups[:, None] == groups).astype(np.float64)
    if branches.sum() > len(y):
        shared.append(branches)
    centre = x.mean(axis=0)
    return TwoLadders(x - centre, centre, y, is_second, tuple(shared), alone)


def _some(recipe: Recipe, seed: int) -> Int[np.ndarray, " m"]:
    n = len(recipe.observations)
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST_ROWS])


def _seeds(
    first: Recipe, second: Recipe, kept: list[Int[np.ndarray, " m"]]
) -> Shaped[np.ndarray, " n"] | None:
    """The seed of every row, where both recipes tell them."""
    if not all("seed" in recipe.rows for recipe in (first, second)):
        return None
    found = []
    for recipe, rows in zip((first, second), kept, strict=True):
        found.append(recipe.rows.loc[recipe.observations.labels, "seed"].astype(str).to_numpy()[rows])
    return np.concatenate(found)


def _pairs(
    apart: Float[Array, "n n"], same: Bool[np.ndarray, "n n"], seeds: Shaped[np.ndarray, " n"] | None
) -> Float[Array, "n n"] | None:
    """Match the rows that are each other's nearest of the other recipe, of one seed; None where there is none."""
    allowed = ~same & (apart < NEAR)
    if seeds is not None:
        allowed &= seeds[:, None] == seeds
    away = np.where(allowed, apart, np.inf)
    nearest = away.argmin(axis=1)
    rows = np.arange(len(apart))
    mutual = np.isfinite(away.min(axis=1)) & (nearest[nearest] == rows)
    if not mutual.any():
        return None
    found = np.eye(len(apart))
    found[rows[mutual], nearest[mutual]] = 1.0
    return found
