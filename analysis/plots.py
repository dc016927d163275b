"""Pictures of a ladder: loss against compute with its held-out point, what comes next, residuals, components.

Each function takes rows and numbers that are already decided and returns a matplotlib Figure; what is fitted
is `analysis.fit`'s business, curves of tasks are in `analysis.task_plots`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import draw
from analysis.ladder import CUT, Target

LOSS = "text loss (nats per byte)"


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
    fig = draw.figure(8.2, 4.6)
    zoomed = target is not None and forecast is not None
    if zoomed:
        ax, near = fig.subplots(1, 2, width_ratios=(4.4, 1))
    else:
        ax = fig.subplots()
    colours = draw.size_colours(sorted(rows["params"].unique()))
    below, used = _membership(rows, target, forecast)
    if forecast is not None:
        for size, (flops, loss) in forecast.lines.items():
            ax.plot(flops, loss, color=colours.get(size, draw.GREY), lw=1.0, alpha=0.8, zorder=2)
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
            ax.axvspan(rows["flops"].min() / 1.6, edge, color=draw.SKY, alpha=0.10, lw=0, zorder=0)
            ax.axvline(edge, color=draw.BLUE, lw=0.8, ls=(0, (4, 3)), zorder=1)
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
                color=draw.BLUE,
            )
    if target is not None and forecast is not None:
        low = min(low, forecast.lower)
        _target(ax, target, forecast, size=1.0)
        _magnified(near, target, forecast, loss_name)
    ax.set_xlim(rows["flops"].min() / 1.6, rows["flops"].max() * 1.8)
    ax.set_ylim(low * 0.94, top * 1.03)
    draw.log_axis(ax, "x")
    draw.log_axis(ax, "y")
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
        ax.plot(known["flops"], height, "X", ms=8, color=draw.RED, mec="white", mew=0.6, zorder=5)


def _target(ax: Axes, target: Target, forecast: Forecast, size: float) -> None:
    error = [[forecast.loss - forecast.lower], [forecast.upper - forecast.loss]]
    ax.errorbar(
        [target.flops],
        [forecast.loss],
        yerr=error,
        fmt="D",
        ms=5.5 * size,
        color=draw.RED,
        mfc="white",
        mew=1.4,
        capsize=4,
        lw=1.4,
        zorder=6,
    )
    ax.plot([target.flops] * len(target.losses), target.losses, "*", ms=9 * size, color=draw.INK, zorder=7)


def _magnified(ax: Axes, target: Target, forecast: Forecast, loss_name: str) -> None:
    ax.axhspan(forecast.lower, forecast.upper, color=draw.RED, alpha=0.12, lw=0)
    ax.axhline(forecast.loss, color=draw.RED, lw=1.2)
    across = np.linspace(0.3, 0.7, len(target.losses)) if len(target.losses) > 1 else np.asarray([0.5])
    ax.plot(across, target.losses, "*", ms=11, color=draw.INK, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    values = [forecast.lower, forecast.upper, *target.losses]
    margin = 0.25 * (max(values) - min(values)) or 0.01 * forecast.loss
    ax.set_ylim(min(values) - margin, max(values) + margin)
    ax.yaxis.tick_right()
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.spines["right"].set_visible(True)
    off = 100 * (forecast.loss / target.measured - 1)
    ax.set_title(f"the target\nforecast {off:+.2f}%", color=draw.INK)
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
        name = draw.count(params)
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
            color=draw.GREY,
        )
        named.append(corner)


def _key(below: np.ndarray, used: np.ndarray, lost: pd.DataFrame, forecast: Forecast | None) -> list[Line2D]:
    """What the marks mean, only those that occur."""
    grey: dict[str, Any] = {"color": draw.GREY, "ls": ""}
    handles = []
    if forecast is None:
        handles.append(Line2D([], [], marker="o", label="run", **grey))
    else:
        handles.append(Line2D([], [], marker="o", label="run the forecast used", **grey))
        if (below & ~used).any():
            handles.append(Line2D([], [], marker="x", mew=1.4, label="left out: another regime", **grey))
        handles += [
            Line2D([], [], marker="o", mfc="white", mew=1.2, label="run it did not see", **grey),
            Line2D([], [], color=draw.GREY, lw=1, label="the law, size by size"),
            Line2D([], [], marker="D", color=draw.RED, mfc="white", mew=1.4, lw=1.4, label="forecast"),
            Line2D([], [], marker="*", ms=9, color=draw.INK, ls="", label="measured target"),
        ]
    if len(lost):
        handles.append(Line2D([], [], marker="X", ms=8, color=draw.RED, ls="", label="diverged or failed"))
    return handles


def next_budgets(
    rows: pd.DataFrame,
    path: Sequence[dict[str, Any]],
    marked: Sequence[dict[str, Any]],
    loss_name: str = LOSS,
) -> Figure:
    """What more compute buys: the law's best loss beyond the data with its interval, and the best N and D.

    `path` and `marked` are predictions of `extrapolate` by budget; `marked` are the ones to point out.
    """
    fig = draw.figure(8.2, 3.6)
    left, right = fig.subplots(1, 2)
    flops = np.asarray([p["flops"] for p in path])
    ends = float(rows["flops"].max())
    left.plot(rows["flops"], rows["loss"], "o", ms=3.5, mfc="white", mec=draw.GREY, label="runs")
    left.fill_between(
        flops,
        [p["lower"] for p in path],
        [p["upper"] for p in path],
        color=draw.BLUE,
        alpha=0.18,
        lw=0,
        label=f"{path[0]['level']:.0%} interval of one new run",
    )
    best = np.asarray([p["loss"] for p in path])
    split = int(np.searchsorted(flops, ends * 0.999))
    left.plot(flops[: split + 1], best[: split + 1], color=draw.BLUE, lw=1.4)
    left.plot(
        flops[split:],
        best[split:],
        color=draw.BLUE,
        lw=1.4,
        ls=(0, (4, 2)),
        label="best loss for the compute",
    )
    for point in marked:
        error = [[point["loss"] - point["lower"]], [point["upper"] - point["loss"]]]
        left.errorbar(
            [point["flops"]],
            [point["loss"]],
            yerr=error,
            fmt="D",
            ms=5.5,
            color=draw.RED,
            mfc="white",
            mew=1.4,
            capsize=3,
            lw=1.2,
        )
        left.annotate(
            f"{point['flops'] / ends:.3g}×",
            (point["flops"], point["loss"]),
            xytext=(-6, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
            color=draw.RED,
        )
    losses = [*rows["loss"], *(p["lower"] for p in path), *(p["upper"] for p in path)]
    left.set_ylim(min(losses) * 0.97, float(rows["loss"].max()) * 1.03)
    draw.log_axis(left, "x")
    draw.log_axis(left, "y", most=6)
    left.set_xlabel("training compute C (FLOPs)")
    left.set_ylabel(loss_name)
    left.legend(loc="upper right")
    for name, label, colour, marker in (
        ("params", "parameters N", draw.BLUE, "o"),
        ("tokens", "tokens D", draw.ORANGE, "s"),
    ):
        right.plot(flops, [p[name] for p in path], color=colour, lw=1.4)
        right.plot(
            [p["flops"] for p in marked],
            [p[name] for p in marked],
            marker,
            ms=5.5,
            color=colour,
            mfc="white",
            mew=1.4,
        )
        right.annotate(
            label,
            (flops[-1], path[-1][name]),
            xytext=(-4, 6),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=colour,
        )
    values = [p[name] for p in path for name in ("params", "tokens")]
    right.set_ylim(min(values) / 1.5, max(values) * 3)
    draw.log_axis(right, "x")
    draw.log_axis(right, "y", counts=True)
    right.axvline(ends, color=draw.GREY, lw=0.8, ls=":")
    right.annotate(
        "largest run",
        (ends, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=8,
        color=draw.GREY,
    )
    right.set_xlabel("training compute C (FLOPs)")
    right.set_ylabel("compute-optimal N and D")
    return fig


def residuals(rows: pd.DataFrame, fitted: np.ndarray, used: np.ndarray, noise: float | None) -> Figure:
    """(measured - fitted) / fitted in percent, against compute and against tokens per parameter.

    `used` marks the rows that were fitted; `noise`, if known, is the spread between seeds, drawn as a band.
    """
    fig = draw.figure(8.2, 3.2)
    axes = fig.subplots(1, 2, sharey=True)
    percent = 100 * (rows["loss"].to_numpy() / fitted - 1)
    colours = draw.size_colours(sorted(rows["params"].unique()))
    xs = (rows["flops"].to_numpy(), (rows["tokens"] / rows["params"]).to_numpy())
    for ax, x in zip(axes, xs, strict=True):
        ax.axhline(0, color=draw.GREY, lw=0.8)
        if noise is not None:
            ax.axhspan(-200 * noise, 200 * noise, color=draw.GREY, alpha=0.12, lw=0)
        for size in colours:
            mine = (rows["params"] == size).to_numpy()
            ax.plot(
                x[mine & used], percent[mine & used], "o", ms=4.5, color=colours[size], mec="white", mew=0.4
            )
            ax.plot(x[mine & ~used], percent[mine & ~used], "x", ms=5, color=colours[size], mew=1.4)
        draw.log_axis(ax, "x")
    # Rows that the fit left out may lie far away; those it used decide the scale.
    reach = 1.3 * max(np.abs(percent[used]).max(initial=0.0), 200 * (noise or 0.0), 0.2)
    axes[0].set_ylim(-reach, reach)
    away = int((np.abs(percent) > reach).sum())
    if away:
        axes[0].set_title(f"{away} left-out rows lie outside the picture", fontsize=8, color=draw.GREY)
    axes[0].set_xlabel("training compute C (FLOPs)")
    axes[1].set_xlabel("tokens per parameter D / N")
    axes[0].set_ylabel("loss above the fit (%)")
    if noise is not None:
        axes[1].set_title("band: two standard deviations between seeds", fontsize=8, color=draw.GREY)
    draw.size_legend(axes[1], colours, "parameters")
    return fig


def components(rows: pd.DataFrame, names: Sequence[str], size: str) -> Figure:
    """The loss of each component over model size, one small plot each, every seed a dot, the mean a line; the
    least possible loss (column `floor_<name>`) a dashed line where it is known."""
    across = min(5, max(1, len(names)))
    down = -(-len(names) // across)
    fig = draw.figure(8.2, 0.35 + 1.55 * down)
    axes = np.atleast_1d(fig.subplots(down, across, sharex=True, squeeze=False)).ravel()
    for ax, name in zip(axes, names, strict=False):
        column = f"loss_{name}"
        shown = rows[rows[column].notna()]
        mean = shown.groupby(size)[column].mean()
        ax.plot(mean.index, mean, color=draw.BLUE, lw=1.3)
        ax.plot(shown[size], shown[column], "o", ms=2.8, color=draw.BLUE, alpha=0.7, mew=0)
        top = float(shown[column].max()) if len(shown) else 1.0
        for floor in rows.get(f"floor_{name}", pd.Series(dtype=float)).dropna().unique():
            ax.axhline(floor, color=draw.GREY, lw=1, ls="--", clip_on=False)
        ax.set_ylim(0, top * 1.1 or 1.0)
        ax.set_title(draw.clipped(name, 22))
        ax.yaxis.get_major_locator().set_params(nbins=4)
        draw.log_axis(ax, "x", counts=True, most=3)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(names) - across) : len(names)]:
        ax.tick_params(labelbottom=True)
    fig.supylabel("loss (nats per byte)", fontsize=9)
    fig.supxlabel("parameters without embeddings", fontsize=9)
    return fig


def ngrams(rows: pd.DataFrame, orders: Sequence[str], size: str) -> Figure:
    """The loss over model size with the n-grams' losses as lines, and the divergence from each."""
    fig = draw.figure(8.2, 3.0)
    left, right = fig.subplots(1, 2)
    mean = rows.groupby(size)["loss"].mean()
    left.plot(mean.index, mean, color=draw.BLUE, lw=1.3)
    left.plot(rows[size], rows["loss"], "o", ms=2.8, color=draw.BLUE, alpha=0.7, mew=0)
    for order, style in zip(orders, ("-", "--", ":"), strict=False):
        level = float(rows[f"ngram_{order}"].dropna().iloc[0])
        left.axhline(level, color=draw.GREY, lw=1, ls=style)
        left.annotate(order, (float(mean.index.max()), level), ha="right", va="bottom", fontsize=8)
        far = rows.groupby(size)[f"kl_{order}"].mean()
        right.plot(far.index, far, color=draw.BLUE, lw=1.3, ls=style, label=order)
    left.set_ylabel("loss (nats per token)")
    right.set_ylabel("KL(model || n-gram) (nats)")
    right.legend(fontsize=8, frameon=False)
    for ax in (left, right):
        draw.log_axis(ax, "x", counts=True, most=4)
        ax.set_xlabel("parameters without embeddings")
    return fig
