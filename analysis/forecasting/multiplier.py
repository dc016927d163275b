"""Compute multipliers of two laws: the compute of one over that of the other at equal loss, each well spent."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.forecasting.discrepancy import GROWTH
from analysis.forecasting.joint_law import Believed, log_loss
from analysis.forecasting.recipes import Recipe

# Budgets of a curve, and how far it is followed beyond those asked for.
BUDGETS, BEYOND = 100, 1e3
# Splits of a budget that are tried: tokens per parameter from a tenth of the least of a recipe's runs to ten times
# the most. What lies farther off they do not show.
SPLITS, WIDER = 21, 10.0
# Beyond this log factor of compute a law is off by no more.
FARTHEST = np.log(1e3)


@dataclass(frozen=True)
class Split:
    """How a recipe spends compute: FLOPs per token are linear x N + root x sqrt(N), tokens per parameter between
    `least` and `most` in its own runs."""

    linear: float
    root: float
    least: float
    most: float

    def places(self, budgets: Float[Array, " B"]) -> Float[Array, "B s 2"]:
        """List log params and log tokens of SPLITS of each budget."""
        ratio = np.geomspace(self.least / WIDER, self.most * WIDER, SPLITS)
        low, high = np.full((len(budgets), len(ratio)), -5.0), np.full((len(budgets), len(ratio)), 60.0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            size = np.exp(middle)
            above = (self.linear * size + self.root * np.sqrt(size)) * ratio * size > budgets[:, None]
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.stack([low, low + np.log(ratio)], axis=-1)


def curve(
    laws: Float[Array, "R p"], centre: Float[Array, " k"], budgets: Float[Array, " B"], split: Split | None
) -> Float[Array, "R B"]:
    """Compute log loss at budgets, each split for the least; a law of compute (`split` None) reads the budget."""
    if split is None:
        return log_loss(laws[:, None, :], np.log(budgets)[None, :, None] - centre)
    places = split.places(budgets) - centre
    # A few budgets at a time: all of them are too many for the cache.
    found = [
        log_loss(laws[:, None, None, :], places[None, i : i + 8]).min(axis=-1)
        for i in range(0, len(budgets), 8)
    ]
    return np.concatenate(found, axis=1)


def grid(asked: Float[Array, " m"]) -> Float[Array, " B"]:
    """Lay out the budgets at which curves are followed."""
    return np.geomspace(asked.min() / BEYOND, asked.max() * BEYOND, BUDGETS)


def log_multipliers(
    first: Float[Array, "R B"],
    second: Float[Array, "R B"],
    budgets: Float[Array, " B"],
    at: Float[Array, " m"],
) -> Float[Array, "R m"]:
    """Compute the log of the compute `at` over what the second curve needs for the first's loss there.

    Where the second never reaches it within the grid, the grid's end stands for what it needs.
    """
    log = np.log(budgets)
    found = np.empty((len(first), len(at)))
    for r, (a, b) in enumerate(zip(first, second, strict=True)):
        wanted = np.interp(np.log(at), log, a)
        found[r] = np.log(at) - np.interp(-wanted, -b, log)
    return found


@dataclass(frozen=True)
class Paths:
    """Draws of both recipes' log losses over budgets; `bare` are those without the misfit of the laws."""

    budgets: Float[Array, " B"]
    first: Float[Array, "R B"]
    second: Float[Array, "R B"]
    bare: tuple[Float[Array, "R B"], Float[Array, "R B"]]
    alone: bool

    def multipliers(self, at: Float[Array, " m"], *, bare: bool = False) -> Float[Array, "R m"]:
        """Compute log multipliers at budgets of the first."""
        curves = self.bare if bare else (self.first, self.second)
        return log_multipliers(*curves, self.budgets, at)


def paths_of(
    first: Recipe, second: Recipe, believed: Believed, at: Float[Array, " m"], *, alone: bool, seed: int
) -> Paths:
    """Follow both laws over budgets around `at`, each off beyond its rows by its discrepancy."""
    rng = np.random.default_rng(seed)
    budgets = grid(at)
    bare, found = [], []
    for recipe, laws in ((first, believed.first), (second, believed.second)):
        losses = curve(laws, believed.centre, budgets, None if alone else _split(recipe))
        beyond = np.minimum(np.log(np.maximum(budgets, 1.0) / recipe.observations.flops.max()), FARTHEST)
        slopes = recipe.discrepancy.slopes, recipe.discrepancy.probability
        slope = rng.choice(slopes[0], size=(len(laws), 1), p=slopes[1])
        off = slope * rng.standard_normal((len(laws), 1)) * np.maximum(beyond, 0.0) ** GROWTH
        # More compute is never worse, whatever a law is off by.
        found.append(np.minimum.accumulate(losses + off, axis=1))
        bare.append(losses)
    return Paths(budgets, found[0], found[1], (bare[0], bare[1]), alone)


def _split(recipe: Recipe) -> Split:
    x = recipe.observations.x
    ratio = x["tokens"] / x["params"]
    return Split(recipe.linear, recipe.root, float(ratio.min()), float(ratio.max()))
