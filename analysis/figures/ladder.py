"""Draw a ladder: what more compute buys, residuals, components, n-grams.

Each function takes rows and numbers that are already decided and returns a matplotlib Figure. Fitting is
`analysis.fitting`'s; the forecast's own picture is in `figures.forecast`, curves of tasks in `figures.tasks`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.forecasting.forecast import Prediction

WITHOUT_EMBEDDINGS = "parameters without embeddings"


def next_budgets(
    rows: pd.DataFrame,
    path: Sequence[Prediction],
    marked: Sequence[Prediction],
    held: Sequence[tuple[float, float] | None],
    loss_name: str,
    caution: str = "",
) -> Figure:
    """Draw what more compute buys: the law's best loss beyond the data with its interval, and the best N and D.

    `path` and `marked` are predictions of `extrapolate` by budget; `marked` are the ones to point out, each with
    the bounds, relative to its loss, that a hold-out over the same distance had (`held`; None: untested).
    `caution` is printed above: a picture without its caveat is passed on.
    """
    fig = style.figure(style.WIDTH, 3.6)
    left, right = fig.subplots(1, 2)
    _best_loss(left, rows, path, loss_name)
    ends = float(rows["flops"].max())
    for point, bounds in zip(marked, held, strict=True):
        _marked(left, point, bounds, ends)
    left.legend(loc="upper right")
    _best_split(right, path, marked, ends)
    if caution:
        fig.suptitle(caution, fontsize=9, color=style.readable(style.RED))
    return fig


def _best_loss(ax: Axes, rows: pd.DataFrame, path: Sequence[Prediction], loss_name: str) -> None:
    flops = np.asarray([p.flops for p in path], dtype=np.float64)
    best = np.asarray([p.loss for p in path])
    highest = float(rows["loss"].max()) * 1.03
    # An interval may reach far beyond the picture, or to infinity; it is cut at its edge.
    upper = np.minimum([p.upper for p in path], 10 * highest)
    lower = np.maximum([p.lower for p in path], 0.3 * best)
    look: dict[str, Any] = {"s": 12, "facecolors": "white", "edgecolors": style.GREY, "linewidths": 1.0}
    style.tell(ax.scatter(rows["flops"], rows["loss"], label="runs", zorder=2, **look), style.told(rows))
    said = f"{path[0].level:.0%} interval of one new run, by this law"
    ax.fill_between(flops, lower, upper, color=style.BLUE, alpha=0.18, lw=0, label=said)
    split = int(np.searchsorted(flops, float(rows["flops"].max()) * 0.999))
    inside, beyond = slice(0, split + 1), slice(split, None)
    ax.plot(flops[inside], best[inside], color=style.BLUE, lw=1.4)
    dashed = (0, (4, 2))
    said = "best loss for the compute"
    ax.plot(flops[beyond], best[beyond], color=style.BLUE, lw=1.4, ls=dashed, label=said)
    ax.set_ylim(min(float(rows["loss"].min()), float(lower.min())) * 0.92, highest)
    style.log_axis(ax, "x")
    style.log_axis(ax, "y", most=6)
    ax.set_xlabel("training compute C (FLOPs)")
    ax.set_ylabel(loss_name)


def _marked(ax: Axes, point: Prediction, held: tuple[float, float] | None, ends: float) -> None:
    """Point out one budget, with the law's interval and behind it the hold-out's."""
    if point.flops is None:
        return
    if held is not None:
        label = (
            None
            if any("held out" in str(line.get_label()) for line in ax.lines)
            else "the same step, held out"
        )
        bounds = [point.loss * max(held[0], 0.1), point.loss * min(held[1], 10.0)]
        ax.plot(
            [point.flops] * 2, bounds, color=style.GREY, lw=5, alpha=0.35, solid_capstyle="butt", label=label
        )
    style.interval_bar(ax, point.flops, point.loss, point.lower, point.upper)
    ax.annotate(
        f"{point.flops / ends:.3g}×",
        (point.flops, point.loss),
        xytext=(-6, -6),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=style.readable(style.RED),
    )


def _best_split(ax: Axes, path: Sequence[Prediction], marked: Sequence[Prediction], ends: float) -> None:
    flops = [p.flops or math.nan for p in path]
    for name, label, colour, marker in (
        ("params", "parameters N", style.BLUE, "o"),
        ("tokens", "tokens D", style.ORANGE, "s"),
    ):
        best = [_known(p, name) for p in path]
        ax.plot(flops, best, color=colour, lw=1.4, label=label)
        points = [_known(p, name) for p in marked]
        ax.plot(
            [p.flops or math.nan for p in marked], points, marker, ms=5.5, color=colour, mfc="white", mew=1.4
        )
    values = [v for p in path for v in (_known(p, "params"), _known(p, "tokens")) if math.isfinite(v)]
    # A law that cannot tell N from D splits no budget; its axes stay empty, and say so.
    ax.set_ylim((min(values) / 1.5, max(values) * 3) if values else (1.0, 10.0))
    if not values:
        ax.set_title("no split under this law", fontsize=8, color=style.GREY)
    ax.set_xlim(min(flops) / 1.6, max(flops) * 1.6)
    style.log_axis(ax, "x")
    style.log_axis(ax, "y", counts=True)
    ax.axvline(ends, color=style.GREY, lw=0.8, ls=":")
    ax.annotate(
        "largest run",
        (ends, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=8,
        color=style.GREY,
    )
    if values:
        ax.legend(loc="best")
    ax.set_xlabel("training compute C (FLOPs)")
    ax.set_ylabel("compute-optimal N and D")


def _known(point: Prediction, name: str) -> float:
    value = getattr(point, name)
    return math.nan if value is None else float(value)


def residuals(rows: pd.DataFrame, fitted: np.ndarray, used: np.ndarray, noise: float | None) -> Figure:
    """Draw (measured - fitted) / fitted in percent, against compute and against tokens per parameter.

    `used` marks the rows that were fitted; `noise`, if known, is the spread between seeds, drawn as a band.
    """
    fig = style.figure(style.WIDTH, 3.2)
    axes = fig.subplots(1, 2, sharey=True)
    percent = 100 * (rows["loss"].to_numpy() / fitted - 1)
    colours = style.size_colours(sorted(rows["params"].unique()))
    xs = (rows["flops"].to_numpy(), (rows["tokens"] / rows["params"]).to_numpy())
    for ax, x in zip(axes, xs, strict=True):
        ax.axhline(0, color=style.GREY, lw=0.8)
        if noise is not None:
            ax.axhspan(-200 * noise, 200 * noise, color=style.GREY, alpha=0.12, lw=0)
        for mark, mask in (("filled", used), ("cross", ~used)):
            if mask.any():
                shown = rows[mask].assign(x=x[mask], y=percent[mask])
                style.points(ax, shown, "x", "y", colours, mark)
    style.log_axis(axes[0], "x")
    style.log_axis(axes[1], "x", counts=True)
    # Rows that the fit left out may lie far away; those it used decide the scale.
    reach = 1.3 * max(np.abs(percent[used]).max(initial=0.0), 200 * (noise or 0.0), 0.2)
    axes[0].set_ylim(-reach, reach)
    away = int((np.abs(percent) > reach).sum())
    if away:
        axes[0].set_title(f"{away} left-out rows lie outside the picture", fontsize=8, color=style.GREY)
    axes[0].set_xlabel("training compute C (FLOPs)")
    axes[1].set_xlabel("tokens per parameter D / N")
    axes[0].set_ylabel("loss above the fit (%)")
    if noise is not None:
        axes[1].set_title("band: two standard deviations between seeds", fontsize=8, color=style.GREY)
    style.size_legend(axes[1], colours, "parameters N")
    return fig


def components(
    rows: pd.DataFrame, names: Sequence[str], size: str, loss_name: str, size_name: str = WITHOUT_EMBEDDINGS
) -> Figure:
    """Draw the loss of each component over model size, one small plot each.

    Every seed is a dot, the mean a line; the least possible loss (column `floor_<name>`) is a dashed line where it
    is known. `size` is the column with the parameters, `size_name` what they count.
    """
    across = min(5, max(1, len(names)))
    down = -(-len(names) // across)
    fig = style.figure(style.WIDTH, 0.35 + 1.55 * down)
    axes = np.atleast_1d(fig.subplots(down, across, sharex=True, squeeze=False)).ravel()
    for ax, name in zip(axes, names, strict=False):
        column = f"loss_{name}"
        shown = rows[rows[column].notna()]
        mean = shown.groupby(size)[column].mean()
        ax.plot(mean.index, mean, color=style.SEED_DOT, lw=1.3)
        style.seed_dots(ax, shown[size], shown[column], words=style.told(shown))
        top = float(shown[column].max()) if len(shown) else 1.0
        for floor in rows.get(f"floor_{name}", pd.Series(dtype=float)).dropna().unique():
            ax.axhline(floor, color=style.GREY, lw=1, ls="--", clip_on=False)
        ax.set_ylim(0, top * 1.1 or 1.0)
        ax.set_title(_title(name), fontsize=8.5)
        ax.yaxis.get_major_locator().set_params(nbins=4)
        style.log_axis(ax, "x", counts=True, most=3)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(names) - across) : len(names)]:
        ax.tick_params(labelbottom=True)
    fig.supylabel(loss_name, fontsize=9)
    fig.supxlabel(size_name, fontsize=9)
    return fig


def _title(name: str) -> str:
    """Name a component above its small plot; a long name is broken at its last mark, and no letter is left out."""
    if len(name) <= 16:
        return name
    at = max(name.rfind(mark, 0, 17) for mark in "._- ") + 1 or 16
    return f"{name[:at]}\n{_title(name[at:])}"


def ngrams(
    rows: pd.DataFrame, orders: Sequence[str], size: str, loss_name: str, size_name: str = WITHOUT_EMBEDDINGS
) -> Figure:
    """Draw the loss over model size with the n-grams' losses as lines, and the divergence from each in nats."""
    fig = style.figure(style.WIDTH, 3.0)
    left, right = fig.subplots(1, 2)
    mean = rows.groupby(size)["loss"].mean()
    left.plot(mean.index, mean, color=style.SEED_DOT, lw=1.3)
    style.seed_dots(left, rows[size], rows["loss"], words=style.told(rows))
    for order, line in zip(orders, ("-", "--", ":"), strict=False):
        known = rows[f"ngram_{order}"].dropna() if f"ngram_{order}" in rows else pd.Series(dtype=float)
        if len(known):
            left.axhline(float(known.iloc[0]), color=style.GREY, lw=1, ls=line)
            corner = (float(mean.index.max()), float(known.iloc[0]))
            left.annotate(order, corner, ha="right", va="bottom", fontsize=8)
        far = rows.groupby(size)[f"kl_{order}"].mean()
        right.plot(far.index, far, color=style.BLUE, lw=1.3, ls=line, label=order)
    left.set_ylabel(loss_name)
    right.set_ylabel("KL(model || n-gram) (nats)")
    right.legend()
    for ax in (left, right):
        style.log_axis(ax, "x", counts=True, most=4)
        ax.set_xlabel(size_name)
    return fig
