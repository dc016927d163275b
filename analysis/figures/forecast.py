"""Loss against compute: every run, the law of the small ones, and the held-out target with its interval."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.ladder import LOSS
from analysis.forecasting.target import CUT, Target


@dataclass(frozen=True)
class Forecast:
    """What the law said of the target before it saw it: `loss` with its interval, and its lines by size.

    `lines`: for each model size, compute (FLOPs) and the law's loss there. `used`: which rows of the
    target's `below` the fit kept.
    """

    loss: float
    lower: float
    upper: float
    level: float
    lines: dict[float, tuple[np.ndarray, np.ndarray]]
    used: np.ndarray


def loss_compute(
    rows: pd.DataFrame,
    lost: pd.DataFrame,
    target: Target | None,
    forecast: Forecast | None,
    compute: str,
    loss_name: str = LOSS,
) -> Figure:
    """Loss against training compute, every run and seed, the forecast's lines and the held-out point.

    `rows` are final rows; `lost` the last rows of runs that diverged or failed, marked with a cross where
    they stopped. The right-hand panel is the target magnified.
    """
    fig = style.figure(8.2, 4.6)
    zoomed = target is not None and forecast is not None
    if zoomed:
        ax, near = fig.subplots(1, 2, width_ratios=(4.4, 1))
    else:
        ax = fig.subplots()
    colours = style.size_colours(sorted(rows["params"].unique()))
    below, used = _membership(rows, target, forecast)
    if forecast is not None:
        for size, (flops, loss) in forecast.lines.items():
            ax.plot(flops, loss, color=colours.get(size, style.GREY), lw=1.0, alpha=0.8, zorder=2)
    for size, colour in colours.items():
        group = rows[rows["params"] == size]
        inside, out = group[used[group.index]], group[below[group.index] & ~used[group.index]]
        above = group[~below[group.index]]
        ax.plot(inside["flops"], inside["loss"], "o", ms=5, color=colour, mec="white", mew=0.5, zorder=4)
        ax.plot(above["flops"], above["loss"], "o", ms=5, mfc="white", mec=colour, mew=1.2, zorder=3)
        ax.plot(out["flops"], out["loss"], "x", ms=5, color=colour, mew=1.4, zorder=3)
    top = float(rows["loss"].max()) * 1.03
    _crosses(ax, lost, top)
    low = float(rows["loss"].min())
    if target is not None:
        edge = target.flops / CUT
        if (rows["flops"] <= edge).any():
            ax.axvspan(rows["flops"].min() / 1.6, edge, color=style.SKY, alpha=0.10, lw=0, zorder=0)
            ax.axvline(edge, color=style.BLUE, lw=0.8, ls=(0, (4, 3)), zorder=1)
            said = f"the forecast sees only this side\n(C ≤ target / {CUT:g})"
            ax.annotate(
                said,
                (edge, 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(-5, 0),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=8,
                color=style.BLUE,
            )
    if target is not None and forecast is not None:
        low = min(low, forecast.lower)
        _target(ax, target, forecast, size=1.0)
        _magnified(near, target, forecast, loss_name)
    ax.set_xlim(rows["flops"].min() / 1.6, rows["flops"].max() * 1.8)
    ax.set_ylim(low * 0.94, top * 1.03)
    style.log_axis(ax, "x")
    style.log_axis(ax, "y")
    ax.set_xlabel(f"training compute C (FLOPs, {compute})")
    ax.set_ylabel(loss_name)
    _size_labels(ax, rows)
    fig.legend(handles=_key(below, used, lost, forecast), loc="outside lower center", ncols=4)
    return fig


def _membership(
    rows: pd.DataFrame, target: Target | None, forecast: Forecast | None
) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are below the cut, and which of them the fit kept; without a forecast, all of them."""
    if target is None or forecast is None:
        everything = np.ones(len(rows), dtype=bool)
        return everything, everything
    below = (rows["flops"] <= target.flops / CUT).to_numpy()
    used = np.zeros(len(rows), dtype=bool)
    used[np.flatnonzero(below)] = forecast.used
    return below, used


def _crosses(ax: Axes, lost: pd.DataFrame, top: float) -> None:
    """Runs that were lost, where they stopped; beyond the top of the axis, at the top."""
    known = lost[lost["flops"].gt(0)] if "flops" in lost.columns else lost.iloc[:0]
    if len(known):
        height = known["loss"].fillna(np.inf).clip(upper=top)
        ax.plot(known["flops"], height, "X", ms=8, color=style.RED, mec="white", mew=0.6, zorder=5)


def _target(ax: Axes, target: Target, forecast: Forecast, size: float) -> None:
    error = [[forecast.loss - forecast.lower], [forecast.upper - forecast.loss]]
    ax.errorbar(
        [target.flops],
        [forecast.loss],
        yerr=error,
        fmt="D",
        ms=5.5 * size,
        color=style.RED,
        mfc="white",
        mew=1.4,
        capsize=4,
        lw=1.4,
        zorder=6,
    )
    ax.plot([target.flops] * len(target.losses), target.losses, "*", ms=9 * size, color=style.INK, zorder=7)


def _magnified(ax: Axes, target: Target, forecast: Forecast, loss_name: str) -> None:
    ax.axhspan(forecast.lower, forecast.upper, color=style.RED, alpha=0.12, lw=0)
    ax.axhline(forecast.loss, color=style.RED, lw=1.2)
    across = np.linspace(0.3, 0.7, len(target.losses)) if len(target.losses) > 1 else np.asarray([0.5])
    ax.plot(across, target.losses, "*", ms=11, color=style.INK, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    values = [forecast.lower, forecast.upper, *target.losses]
    margin = 0.25 * (max(values) - min(values)) or 0.01 * forecast.loss
    ax.set_ylim(min(values) - margin, max(values) + margin)
    ax.yaxis.tick_right()
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.spines["right"].set_visible(True)
    off = 100 * (forecast.loss / target.measured - 1)
    ax.set_title(f"the target\nforecast {off:+.2f}%", color=style.INK)
    stars = "star: measured" if len(target.losses) == 1 else "stars: measured, by seed"
    ax.set_xlabel(f"line: forecast\nband: {forecast.level:.0%} interval\n{stars}", fontsize=8)
    ax.tick_params(axis="y", labelsize=8)


def _size_labels(ax: Axes, rows: pd.DataFrame) -> None:
    """Each size named left below its longest run, where that covers no run and no other name."""

    def place(flops: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """Positions as fractions of the axes."""
        points = ax.transData.transform(np.column_stack([flops, loss]))
        return np.asarray(ax.transAxes.inverted().transform(points))

    ends = rows.loc[rows.groupby("params")["flops"].idxmax()].sort_values("params", ascending=False)
    runs = place(rows["flops"].to_numpy(), rows["loss"].to_numpy())
    corners = place(ends["flops"].to_numpy(), ends["loss"].to_numpy())
    width, height = np.asarray([0.07, 0.04])
    named: list[np.ndarray] = []
    said: set[str] = set()
    for params, corner in zip(ends["params"].tolist(), corners, strict=True):
        # The name's box hangs from its corner; the run itself sits just outside of it.
        inside = (np.abs(runs[:, 0] - corner[0] + width / 2 + 0.006) < width / 2) & (
            np.abs(runs[:, 1] - corner[1] + height / 2 + 0.012) < height / 2
        )
        close = any(abs(corner[0] - x) < width and abs(corner[1] - y) < height for x, y in named)
        name = style.count(params)
        if inside.any() or close or name in said:
            continue
        said.add(name)
        ax.annotate(
            name if named else f"N = {name}",
            tuple(corner),
            xycoords="axes fraction",
            xytext=(-5, -5),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7.5,
            color=style.GREY,
        )
        named.append(corner)


def _key(below: np.ndarray, used: np.ndarray, lost: pd.DataFrame, forecast: Forecast | None) -> list[Line2D]:
    """What the marks mean, only those that occur."""
    grey: dict[str, Any] = {"color": style.GREY, "ls": ""}
    handles = []
    if forecast is None:
        handles.append(Line2D([], [], marker="o", label="run", **grey))
    else:
        handles.append(Line2D([], [], marker="o", label="run the forecast used", **grey))
        if (below & ~used).any():
            handles.append(Line2D([], [], marker="x", mew=1.4, label="left out: another regime", **grey))
        handles += [
            Line2D([], [], marker="o", mfc="white", mew=1.2, label="run it did not see", **grey),
            Line2D([], [], color=style.GREY, lw=1, label="the law, size by size"),
            Line2D([], [], marker="D", color=style.RED, mfc="white", mew=1.4, lw=1.4, label="forecast"),
            Line2D([], [], marker="*", ms=9, color=style.INK, ls="", label="measured target"),
        ]
    if len(lost):
        handles.append(Line2D([], [], marker="X", ms=8, color=style.RED, ls="", label="diverged or failed"))
    return handles
