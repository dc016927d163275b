"""Pictures of a ladder: what comes next, residuals, components, n-grams.

Each function takes rows and numbers that are already decided and returns a matplotlib Figure; what is fitted
is `analysis.fit`'s business; the forecast's own picture is in `analysis.forecast_plot`, curves of tasks in
`analysis.task_plots`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style as draw

LOSS = "text loss (nats per byte)"


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
