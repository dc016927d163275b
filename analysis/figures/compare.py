"""Draw a comparison: both recipes' losses with the bands of their laws, and the multiplier over compute."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.figures import style
from analysis.forecasting.compare import Comparison

# A multiplier farther from one than this is at the edge of the picture.
FARTHEST = 30.0


def write_comparison(found: Comparison, folder: str | Path) -> list[Path]:
    """Write compare.svg and compare.png. UserError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--plots {folder}: no such folder")
    with style.styled():
        return style.write(plot_comparison(found), folder, "compare")


def plot_comparison(found: Comparison) -> Figure:
    """Draw loss and multiplier over compute, the laws' bands at the comparison's level."""
    figure = style.figure(style.WIDTH, 3.8)
    left, right = figure.subplots(1, 2)
    least = min(recipe.observations.flops.min() for recipe in (found.a, found.b))
    budgets = np.geomspace(least, max(m.flops for m in found.multipliers), 80)
    _losses(left, found, budgets)
    _multipliers(right, found, np.geomspace(found.multipliers[0].flops, budgets[-1], 60))
    said = f"bands: {100 * found.level:g}% intervals; dots: runs; the dashed line ends the runs of both"
    figure.supxlabel(said, x=0.01, ha="left", fontsize=8, color=style.GREY)
    return figure


def _losses(ax: Axes, found: Comparison, budgets: Array) -> None:
    tail = 50.0 * (1.0 - found.level)
    for recipe, curves, colour in (
        (found.a, found.paths.first, style.GREY),
        (found.b, found.paths.second, style.BLUE),
    ):
        log = np.asarray([np.interp(np.log(budgets), np.log(found.paths.budgets), row) for row in curves])
        low, middle, high = np.exp(np.percentile(log, [tail, 50.0, 100.0 - tail], axis=0))
        ax.fill_between(budgets, low, high, color=colour, alpha=0.2, lw=0)
        ax.plot(budgets, middle, color=colour, lw=1.2, label=recipe.name)
        style.seed_dots(ax, recipe.observations.flops, recipe.observations.loss, colour)
    ax.set(xlabel="FLOPs", ylabel="loss", title="best split of compute, by each law")
    ax.legend()
    style.log_axis(ax, "x")
    style.log_axis(ax, "y")


def _multipliers(ax: Axes, found: Comparison, budgets: Array) -> None:
    tail = 50.0 * (1.0 - found.level)
    log = found.paths.multipliers(budgets)
    low, middle, high = np.clip(
        np.exp(np.percentile(log, [tail, 50.0, 100.0 - tail], axis=0)), 1 / FARTHEST, FARTHEST
    )
    ax.fill_between(budgets, low, high, color=style.BLUE, alpha=0.2, lw=0)
    ax.plot(budgets, middle, color=style.BLUE, lw=1.2)
    ax.axhline(1.0, color=style.INK, lw=0.8)
    ax.axvline(found.multipliers[found.observed - 1].flops, color=style.GREY, lw=0.8, ls="--")
    for m in found.multipliers[found.observed :]:
        shown = np.clip([m.value, m.lower, m.upper], 1 / FARTHEST, FARTHEST)
        style.interval_bar(ax, m.flops, *shown)
    ax.set(
        xlabel=f"FLOPs of {found.a.name}",
        ylabel="compute multiplier",
        title=f"compute of {found.a.name} / of {found.b.name} at equal loss",
    )
    style.log_axis(ax, "x")
    style.log_axis(ax, "y")
