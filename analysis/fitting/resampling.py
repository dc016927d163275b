"""Weights of rows that stand for repeating the experiment: counts of rows drawn again, or exponential weights."""

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array


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
