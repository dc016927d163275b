"""Draw a comparison: both recipes' losses with the bands of their laws, and the multiplier over compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import UserError
from analysis.figures import style
from analysis.forecasting.compare import Comparison

# A multiplier farther from one than this is at the edge of the picture.
FARTHEST = 30.0


def write_comparison(found: Comparison, folder: str | Path) -> list[Path]:
    """Write the picture and its data as compare.*. UserError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--plots {folder}: no such folder")
    with style.styled():
        return style.write(plot_comparison(found), comparison_data(found), folder, "compare")


def comparison_data(found: Comparison) -> pd.DataFrame:
    """Make the table that is drawn, of both recipes: run (its loss), law (median and band of loss by compute),
    multiplier (median and band), and target (the multipliers that were asked for)."""
    tail = 50.0 * (1.0 - found.level)
    wanted = [tail, 50.0, 100.0 - tail]
    least = min(recipe.observations.flops.min() for recipe in (found.a, found.b))
    budgets = np.geomspace(least, max(m.flops for m in found.multipliers), 80)
    parts = []
    for which, recipe, curves in (("A", found.a, found.paths.first), ("B", found.b, found.paths.second)):
        rows = recipe.observations
        log = np.asarray([np.interp(np.log(budgets), np.log(found.paths.budgets), row) for row in curves])
        low, middle, high = np.exp(np.percentile(log, wanted, axis=0))
        runs = style.about(recipe.rows).drop(columns="loss")
        parts.append(runs.assign(series="run", flops=rows.flops, value=rows.loss))
        parts.append(
            pd.DataFrame({"series": "law", "flops": budgets, "value": middle, "lower": low, "upper": high})
        )
        for part in parts[-2:]:
            part.insert(0, "recipe", which)
            part.insert(1, "name", recipe.name)
    budgets = np.geomspace(found.multipliers[0].flops, budgets[-1], 60)
    low, middle, high = np.exp(np.percentile(found.paths.multipliers(budgets), wanted, axis=0))
    parts.append(
        pd.DataFrame({"series": "multiplier", "flops": budgets, "value": middle, "lower": low, "upper": high})
    )
    parts.append(
        pd.DataFrame(
            [
                {"series": series, "flops": m.flops, "value": m.value, "lower": m.lower, "upper": m.upper}
                for series, some in (
                    ("observed", found.multipliers[: found.observed]),
                    ("target", found.multipliers[found.observed :]),
                )
                for m in some
            ]
        )
    )
    return pd.concat(parts, ignore_index=True).assign(level=found.level)


def plot_comparison(found: Comparison, ax: Any = None) -> Figure:
    """Draw loss and multiplier over compute, the laws' bands at the comparison's level."""
    return draw_comparison(comparison_data(found), ax)


def draw_comparison(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw `comparison_data`, on new axes or on the two of `ax`."""
    figure, (left, right) = style.panels(ax, 2, lambda: style.figure(style.WIDTH, 3.8).subplots(1, 2))
    names = []
    for which, colour in (("A", style.GREY), ("B", style.BLUE)):
        run, law = (data[(data["recipe"] == which) & (data["series"] == series)] for series in ("run", "law"))
        names.append(str(law["name"].iloc[0]))
        left.fill_between(law["flops"], law["lower"], law["upper"], color=colour, alpha=0.2, lw=0)
        left.plot(law["flops"], law["value"], color=colour, lw=1.2, label=names[-1])
        words = [f"{said}, {names[-1]}" for said in style.told(run.assign(loss=run["value"]))]
        style.seed_dots(left, run["flops"], run["value"], colour, words)
    left.set(xlabel="FLOPs", ylabel="loss", title="best split of compute, by each law")
    left.legend()
    _multipliers(right, data, *names)
    for axis in (left, right):
        style.log_axis(axis, "x")
        style.log_axis(axis, "y")
    if ax is None:
        level = 100 * data["level"].iloc[0]
        said = f"bands: {level:g}% intervals; dots: runs; the dashed line ends the runs of both"
        figure.supxlabel(said, x=0.01, ha="left", fontsize=8, color=style.GREY)
    return figure


def _multipliers(ax: Axes, data: pd.DataFrame, first: str, second: str) -> None:
    values = ["value", "lower", "upper"]
    shown = data.assign(**data[values].clip(1 / FARTHEST, FARTHEST))
    band, observed, targets = (
        shown[shown["series"] == name] for name in ("multiplier", "observed", "target")
    )
    ax.fill_between(band["flops"], band["lower"], band["upper"], color=style.BLUE, alpha=0.2, lw=0)
    ax.plot(band["flops"], band["value"], color=style.BLUE, lw=1.2)
    ax.axhline(1.0, color=style.INK, lw=0.8)
    ax.axvline(observed["flops"].iloc[-1], color=style.GREY, lw=0.8, ls="--")
    for m in style.marks(targets):
        said = f"{m.value:.3g} times ({m.level:.0%} interval {m.lower:.3g} to {m.upper:.3g})"
        words = f"{style.power(m.flops)} FLOPs of {first} / of {second} at equal loss, {said}"
        style.interval_bar(ax, m.flops, m.value, m.lower, m.upper, words)
    title = f"compute of {first} / of {second} at equal loss"
    ax.set(xlabel=f"FLOPs of {first}", ylabel="compute multiplier", title=title)
