"""Draw a sweep of rates: every rung's curve about its optimum, and the optima against the horizon."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import UserError
from analysis.figures import style
from analysis.forecasting.tune import Tuning


def write_tuning(found: Tuning, folder: str | Path) -> list[Path]:
    """Write the picture and its data as tune.*. UserError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--plots {folder}: no such folder")
    data = tuning_data(found)
    with style.styled():
        return style.write(draw_tuning(data), data, folder, "tune")


def tuning_data(found: Tuning) -> pd.DataFrame:
    """Make the table that is drawn, of every rung that has an optimum: `series` is tried (a rate, with the loss
    above the optimum's in percent), curve (what was fitted through them), or optimum (its interval cut at
    the rates tried and a factor of four beyond; the rates of `rule` and `trend`; is the best at an `edge`)."""
    parts = []
    for number, rung in enumerate(r for r in found.rungs if np.isfinite(r.optimum)):
        away = np.log(rung.rates / rung.optimum)
        above = 100.0 * np.expm1(np.log(rung.losses) - rung.value)
        mine = [pd.DataFrame({"series": "tried", "rate": rung.rates, "above": above})]
        if not rung.edge:
            u = np.linspace(max(away.min(), -np.log(4.0)), min(away.max(), np.log(4.0)), 50)
            rates = rung.optimum * np.exp(u)
            curve = {"series": "curve", "rate": rates, "above": 100.0 * np.expm1(found.curves.above(u))}
            mine.append(pd.DataFrame(curve))
        low, high = np.clip(rung.interval, rung.rates[0] / 4.0, rung.rates[-1] * 4.0)
        trend = found.trend.rate(rung.place) if found.trend and "tokens" in found.trend.exponents else np.nan
        best = {"series": "optimum", "rate": rung.optimum, "lower": low, "upper": high, "rule": rung.rule}
        mine.append(pd.DataFrame([best | {"trend": trend, "edge": bool(rung.edge)}]))
        place = {name: rung.place[name] for name in ("params", "tokens")}
        parts.append(pd.concat(mine, ignore_index=True).assign(rung=number, optimum=rung.optimum, **place))
    columns = ["rung", "params", "tokens", "series", "rate", "above", "optimum", "lower", "upper", "rule"]
    columns += ["trend", "edge"]
    data = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return data.reindex(columns=columns).assign(level=found.level)


def plot_tuning(found: Tuning, ax: Any = None) -> Figure:
    """Draw loss above each rung's best against the rate over its optimum, and optima against tokens."""
    return draw_tuning(tuning_data(found), ax)


def draw_tuning(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw `tuning_data`, on new axes or on the two of `ax`."""
    figure, (left, right) = style.panels(ax, 2, lambda: style.figure(style.WIDTH, 3.6).subplots(1, 2))
    colours: dict[Any, style.Colour] = dict(style.size_colours(data["params"].unique().tolist() or [1.0]))
    for _, rung in data.groupby("rung"):
        colour = colours[rung["params"].iloc[0]]
        tried, curve = (rung[rung["series"] == series] for series in ("tried", "curve"))
        about = (
            f"{style.count(rung['params'].iloc[0])} parameters, {style.count(rung['tokens'].iloc[0])} tokens"
        )
        words = [
            f"{about}, rate {rate:.3g}: {above:+.2g}%" for rate, above in tried[["rate", "above"]].to_numpy()
        ]
        style.seed_dots(left, tried["rate"] / tried["optimum"], tried["above"], colour, words)
        left.plot(curve["rate"] / curve["optimum"], curve["above"], color=colour, lw=0.8, alpha=0.6)
    for params, optima in data[data["series"] == "optimum"].groupby("params"):
        _optima(right, optima.sort_values("tokens"), colours[params])
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
    if ax is None:
        level = 100 * data["level"].iloc[0] if len(data) else 0
        said = f"bars: {level:g}% intervals; hollow: the best rate is at an edge; crosses: the rule's rate"
        figure.supxlabel(said, x=0.01, ha="left", fontsize=8, color=style.GREY)
    return figure


def _optima(ax: Axes, optima: pd.DataFrame, colour: style.Colour) -> None:
    """Draw a size's optima with their intervals, the rule's rates, and the trend through them."""
    for best in style.marks(optima):
        ax.plot([best.tokens] * 2, [best.lower, best.upper], color=colour, lw=1.0, alpha=0.6)
        about = f"{style.count(best.params)} parameters, {style.count(best.tokens)} tokens"
        look: dict[str, Any] = {"facecolors": style.PAPER if best.edge else colour, "edgecolors": colour}
        drawn = ax.scatter([best.tokens], [best.rate], s=16, zorder=3, **look)
        style.tell(drawn, [f"{about}, optimum {best.rate:.3g} ({best.lower:.3g} to {best.upper:.3g})"])
        if best.rule > 0:
            rule = ax.scatter([best.tokens], [best.rule], s=16, marker="x", color=style.RED, linewidths=1.0)
            style.tell(rule, [f"{about}, the rule's rate {best.rule:.3g}"])
    ends = optima.iloc[[0, -1]]
    ax.plot(ends["tokens"], ends["trend"], color=colour, lw=0.6, alpha=0.5)
