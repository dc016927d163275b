"""Draw a sweep of rates: every rung's curve about its optimum, and the optima against the horizon."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import UserError
from analysis.figures import style
from analysis.forecasting.rate_curves import Curves
from analysis.forecasting.tune import Rung, Tuning


def write_tuning(found: Tuning, folder: str | Path) -> list[Path]:
    """Write tune.svg and tune.png. UserError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--plots {folder}: no such folder")
    with style.styled():
        return style.write(plot_tuning(found), folder, "tune")


def plot_tuning(found: Tuning) -> Figure:
    """Draw loss above each rung's best against the rate over its optimum, and optima against tokens."""
    colours = style.size_colours([rung.place["params"] for rung in found.rungs])
    figure = style.figure(style.WIDTH, 3.6)
    left, right = figure.subplots(1, 2)
    shown = [rung for rung in found.rungs if np.isfinite(rung.optimum)]
    for rung in shown:
        _curve(left, rung, found.curves, colours[rung.place["params"]])
        _optimum(right, rung, colours[rung.place["params"]], found)
    left.set(xlabel="rate / optimum", ylabel="loss above the optimum's, %", title="every rung and horizon")
    left.set_xscale("log")
    left.axvline(1.0, color=style.GREY, lw=0.8, zorder=0)
    left.set_ylim(bottom=min(0.0, left.get_ylim()[0]))
    style.log_axis(left, "x")
    right.set(xlabel="tokens", ylabel="learning rate", title="optima, and their trend (lines)")
    right.set_xscale("log")
    right.set_yscale("log")
    style.log_axis(right, "x", counts=True)
    style.log_axis(right, "y")
    style.size_legend(right, colours, "params")
    said = f"bars: {100 * found.level:g}% intervals; hollow: the best rate is at an edge; crosses: the rule's rate"
    figure.supxlabel(said, x=0.01, ha="left", fontsize=8, color=style.GREY)
    return figure


def _curve(ax: Axes, rung: Rung, curves: Curves, colour: style.Colour) -> None:
    """Draw the mean losses of the rates tried, those of the fitted curve's range joined by it."""
    away = np.log(rung.rates / rung.optimum)
    above = 100.0 * np.expm1(np.log(rung.losses) - rung.value)
    ax.plot(rung.rates / rung.optimum, above, "o", ms=3, color=colour, mew=0, alpha=0.8)
    u = np.linspace(max(away.min(), -np.log(4.0)), min(away.max(), np.log(4.0)), 50)
    if not rung.edge:
        ax.plot(np.exp(u), 100.0 * np.expm1(curves.above(u)), color=colour, lw=0.8, alpha=0.6)


def _optimum(ax: Axes, rung: Rung, colour: style.Colour, found: Tuning) -> None:
    """Draw the optimum with its interval, cut at the rates tried and a factor of four beyond."""
    tokens = rung.place["tokens"]
    low, high = np.clip(rung.interval, rung.rates[0] / 4.0, rung.rates[-1] * 4.0)
    ax.plot([tokens, tokens], [low, high], color=colour, lw=1.0, alpha=0.6)
    ax.plot(tokens, rung.optimum, "o", ms=4, color=colour, mfc="white" if rung.edge else colour)
    if rung.rule > 0:
        ax.plot(tokens, rung.rule, "x", ms=4, color=style.RED, mew=1.0)
    if found.trend and "tokens" in found.trend.exponents:
        ends = [r.place["tokens"] for r in found.rungs if r.place["params"] == rung.place["params"]]
        line = [found.trend.rate({**rung.place, "tokens": t}) for t in (min(ends), max(ends))]
        ax.plot([min(ends), max(ends)], line, color=colour, lw=0.6, alpha=0.5)
