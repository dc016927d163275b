"""Draw how well registered forecasts were calibrated: coverage against level, and where measured values fell."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from analysis.figures import style
from analysis.forecasting.score import STANDINGS, Verification

# Levels whose coverage is drawn, and the forecasts from which a histogram says more than dots.
LEVELS = np.linspace(0.05, 0.95, 19)
ENOUGH, BINS = 20, 10
MEASURED = ("forecast", "measured", "error", "pit")
COLOURS = dict(zip(STANDINGS, (style.BLUE, style.ORANGE, style.RED), strict=True))


def calibration_data(found: Verification) -> pd.DataFrame:
    """Make the table that is drawn: each forecast that calibration counts, its standing and its PIT."""
    rows = [
        {
            "standing": standing,
            "id": score.id,
            "params": score.target["params"],
            "tokens": score.target["tokens"],
            **{name: getattr(score, name) for name in MEASURED},
        }
        for standing in STANDINGS
        for score in found.of(standing)
    ]
    return pd.DataFrame(rows, columns=["standing", "id", "params", "tokens", *MEASURED])


def plot_calibration(found: Verification, ax: Any = None) -> Figure:
    """Draw coverage against nominal level, with binomial bands of calibrated forecasters, and the PIT values."""
    return draw_calibration(calibration_data(found), ax)


def draw_calibration(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw `calibration_data`, on new axes or on the two of `ax`."""
    fig, (left, right) = style.panels(ax, 2, lambda: style.figure(style.WIDTH, 3.4).subplots(1, 2))
    pits = {name: data[data["standing"] == name]["pit"].to_numpy(dtype=float) for name in STANDINGS}
    n = len(pits["registered"])
    left.plot([0, 1], [0, 1], color=style.GREY, lw=1)
    if n:
        grid = np.linspace(0.01, 0.99, 99)
        for level, shade in ((0.9, 0.5), (0.5, 0.9)):
            low, high = (binom.ppf(0.5 + sign * level / 2, n, grid) / n for sign in (-1, 1))
            left.fill_between(grid, low, high, color=style.FAINT, alpha=shade, lw=0, step="mid")
    for standing, values in pits.items():
        if len(values):
            share = [float(np.mean(np.abs(values - 0.5) <= level / 2)) for level in LEVELS]
            label = f"{standing} ({len(values)})"
            left.plot(LEVELS, share, lw=1.2, color=COLOURS[standing], label=label)
            inside = [
                f"{standing}, {level:.0%} intervals, {count * len(values):.0f} of {len(values)} inside"
                for level, count in zip(LEVELS, share, strict=True)
            ]
            style.seed_dots(left, LEVELS, share, COLOURS[standing], inside)
    left.set(
        xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="level of the interval", ylabel="share of forecasts inside"
    )
    left.set_title("coverage; bands: 50 and 90% of calibrated forecasters", loc="left")
    left.legend(loc="best")
    _pit(right, data)
    return fig


def _pit(ax: Axes, data: pd.DataFrame) -> None:
    """Draw the share of each forecast below the measured value: a histogram where there are enough, else dots."""
    values = data[data["standing"] == "registered"]["pit"].to_numpy(dtype=float)
    n = len(values)
    if n >= ENOUGH:
        ax.hist(values, bins=BINS, range=(0, 1), color=style.BLUE, alpha=0.8, edgecolor=style.PAPER)
        low, high = binom.ppf([0.05, 0.95], n, 1 / BINS)
        ax.axhspan(low, high, color=style.FAINT, zorder=0)
        ax.axhline(n / BINS, color=style.GREY, lw=1)
        ax.set_ylabel("registered forecasts")
        ax.set_title("measured values; band: 90% of calibrated forecasters", loc="left")
    else:
        for row, standing in enumerate(STANDINGS):
            found = data[data["standing"] == standing]
            look: dict[str, Any] = {"s": 25, "color": COLOURS[standing], "linewidths": 0, "zorder": 3}
            drawn = ax.scatter(found["pit"], np.full(len(found), float(-row)), **look)
            words = [
                f"{f.id}: {standing} forecast of {style.count(f.params)} parameters, {style.count(f.tokens)} "
                f"tokens, loss {f.forecast:.4g}, measured {f.measured:.4g}, error {100 * f.error:+.2f}%"
                for f in style.marks(found)
            ]
            style.tell(drawn, words)
        ax.axvspan(0.05, 0.95, color=style.FAINT, alpha=0.5, lw=0)
        ax.axvspan(0.25, 0.75, color=style.FAINT, alpha=0.9, lw=0)
        ax.set_yticks([0, -1, -2], STANDINGS)
        ax.set_ylim(-2.5, 0.5)
        ax.set_title("measured values; bands: 50 and 90% intervals", loc="left")
    ax.set(xlim=(-0.02, 1.02), xlabel="share of the forecast below the measured loss (PIT)")


def write_calibration(found: Verification, folder: Path) -> list[Path]:
    """Write the picture and its data as calibration.* in `folder`/figures; return their paths.

    Not in `folder` itself, where every JSON is taken for a forecast.
    """
    data = calibration_data(found)
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    with style.styled():
        return style.write(draw_calibration(data), data, figures, "calibration")
