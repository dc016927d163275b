"""Draw a ladder: what more compute buys, residuals, components, n-grams.

Each picture has two functions: one makes the table of what is drawn from rows and numbers that are already decided,
one draws that table and nothing else, on a new matplotlib Figure or on the axes `ax`. Fitting is
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


def next_budgets_data(
    rows: pd.DataFrame,
    path: Sequence[Prediction],
    marked: Sequence[Prediction],
    held: Sequence[tuple[float, float] | None],
) -> pd.DataFrame:
    """Make the table that `next_budgets` draws: `series` is run, path (the law's best loss by budget) or next.

    `path` and `marked` are predictions of `extrapolate` by budget; `marked` are the ones to point out, each with
    the bounds, relative to its loss, that a hold-out over the same distance had (`held`; None: untested).
    """
    runs = style.about(rows).assign(series="run")
    said = pd.DataFrame([{"series": "path", **p.to_json()} for p in path])
    pointed = pd.DataFrame([{"series": "next", **p.to_json()} for p in marked])
    for name, side in (("held_out_lower", 0), ("held_out_upper", 1)):
        pointed[name] = [
            math.nan if bounds is None else p.loss * bounds[side]
            for p, bounds in zip(marked, held, strict=True)
        ]
    numbers = ["lower", "upper", "level", "flops_ratio", "held_out_lower", "held_out_upper"]
    data = pd.concat([runs, said, pointed], ignore_index=True)
    data = data.reindex(columns=["series", *style.about(rows).columns, *numbers])
    return data.astype(dict.fromkeys(["params", "tokens", "flops", "loss", *numbers], float))


def next_budgets(data: pd.DataFrame, loss_name: str, caution: str = "", ax: Any = None) -> Figure:
    """Draw what more compute buys: the law's best loss beyond the data with its interval, and the best N and D.

    `caution` is printed above: a picture without its caveat is passed on. `ax`: two axes.
    """
    fig, (left, right) = style.panels(ax, 2, lambda: style.figure(style.WIDTH, 3.6).subplots(1, 2))
    rows, path, marked = (data[data["series"] == name] for name in ("run", "path", "next"))
    _best_loss(left, rows, path, loss_name)
    ends = float(rows["flops"].max())
    for point in style.marks(marked[marked["flops"].notna()]):
        _marked(left, point, ends)
    left.legend(loc="upper right")
    _best_split(right, path, marked, ends)
    if caution:
        fig.suptitle(caution, fontsize=9, color=style.RED)
    return fig


def _best_loss(ax: Axes, rows: pd.DataFrame, path: pd.DataFrame, loss_name: str) -> None:
    flops, best = path["flops"].to_numpy(), path["loss"].to_numpy()
    highest = float(rows["loss"].max()) * 1.03
    # An interval may reach far beyond the picture, or to infinity; it is cut at its edge.
    upper = path["upper"].fillna(np.inf).clip(upper=10 * highest)
    lower = path["lower"].clip(lower=0.3 * path["loss"])
    look: dict[str, Any] = {"s": 12, "facecolors": style.PAPER, "edgecolors": style.GREY, "linewidths": 1.0}
    style.tell(ax.scatter(rows["flops"], rows["loss"], label="runs", zorder=2, **look), style.told(rows))
    said = f"{path['level'].iloc[0]:.0%} interval of one new run, by this law"
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


def _marked(ax: Axes, point: Any, ends: float) -> None:
    """Point out one budget, with the law's interval and behind it the hold-out's."""
    if math.isfinite(point.held_out_lower):
        said = "the same step, held out"
        label = None if any(str(line.get_label()) == said for line in ax.lines) else said
        bounds = [max(point.held_out_lower, 0.1 * point.loss), min(point.held_out_upper, 10 * point.loss)]
        ax.plot(
            [point.flops] * 2, bounds, color=style.GREY, lw=5, alpha=0.35, solid_capstyle="butt", label=label
        )
    upper = point.upper if math.isfinite(point.upper) else math.inf
    style.interval_bar(ax, point.flops, point.loss, point.lower, upper, _next(point))
    ax.annotate(
        f"{point.flops / ends:.3g}×",
        (point.flops, point.loss),
        xytext=(-6, -6),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=style.RED,
    )


def _next(point: Any) -> str:
    """Tell a budget beyond the runs: its loss by the law, and the size and tokens that reach it."""
    split = [
        f"{style.count(value)} {name}"
        for name, value in (("parameters", point.params), ("tokens", point.tokens))
        if math.isfinite(value)
    ]
    said = style.between(point.loss, point.lower, point.upper, point.level)
    return ", ".join([f"{point.flops_ratio:.3g} times the largest run's compute", *split, said])


def _best_split(ax: Axes, path: pd.DataFrame, marked: pd.DataFrame, ends: float) -> None:
    for name, label, colour, marker in (
        ("params", "parameters N", style.BLUE, "o"),
        ("tokens", "tokens D", style.ORANGE, "s"),
    ):
        ax.plot(path["flops"], path[name], color=colour, lw=1.4, label=label)
        look: dict[str, Any] = {"marker": marker, "facecolors": style.PAPER, "edgecolors": colour}
        known = marked[marked[name].notna()]
        drawn = ax.scatter(known["flops"], known[name], s=30, linewidths=1.4, zorder=3, **look)
        style.tell(drawn, [_next(point) for point in style.marks(known)])
    values = path[["params", "tokens"]].to_numpy()
    values = values[np.isfinite(values)]
    # A law that cannot tell N from D splits no budget; its axes stay empty, and say so.
    ax.set_ylim((values.min() / 1.5, values.max() * 3) if len(values) else (1.0, 10.0))
    if not len(values):
        ax.set_title("no split under this law", fontsize=8, color=style.GREY)
    ax.set_xlim(path["flops"].min() / 1.6, path["flops"].max() * 1.6)
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
    if len(values):
        ax.legend(loc="best")
    ax.set_xlabel("training compute C (FLOPs)")
    ax.set_ylabel("compute-optimal N and D")


def residuals_data(
    rows: pd.DataFrame, fitted: np.ndarray, used: np.ndarray, noise: float | None
) -> pd.DataFrame:
    """Make the table that `residuals` draws: each row's `fitted` loss and (loss - fitted) / fitted in `percent`.

    `used` marks the rows that were fitted; `noise`, the spread between seeds as a share of loss, if known, is in
    percent.
    """
    percent = 100 * (rows["loss"].to_numpy() / fitted - 1)
    return style.about(rows).assign(
        fitted=fitted, percent=percent, used=used, noise=math.nan if noise is None else 100 * noise
    )


def residuals(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw `residuals_data` against compute and against tokens per parameter, with a band of two `noise`.

    `ax`: two axes.
    """
    fig, axes = style.panels(ax, 2, lambda: style.figure(style.WIDTH, 3.2).subplots(1, 2, sharey=True))
    noise = float(data["noise"].iloc[0])
    colours = style.size_colours(sorted(data["params"].unique()))
    data = data.assign(ratio=data["tokens"] / data["params"])
    for axis, x in zip(axes, ("flops", "ratio"), strict=True):
        axis.axhline(0, color=style.GREY, lw=0.8)
        if math.isfinite(noise):
            axis.axhspan(-2 * noise, 2 * noise, color=style.GREY, alpha=0.12, lw=0)
        for mark, mask in (("filled", data["used"]), ("cross", ~data["used"])):
            style.points(axis, data[mask], x, "percent", colours, mark)
        style.log_axis(axis, "x", counts=x == "ratio")
    # Rows that the fit left out may lie far away; those it used decide the scale.
    percent = data["percent"].abs()
    reach = 1.3 * max(percent[data["used"]].max(), 2 * np.nan_to_num(noise), 0.2)
    axes[0].set_ylim(-reach, reach)
    away = int((percent > reach).sum())
    if away:
        axes[0].set_title(f"{away} left-out rows lie outside the picture", fontsize=8, color=style.GREY)
    axes[0].set_xlabel("training compute C (FLOPs)")
    axes[1].set_xlabel("tokens per parameter D / N")
    axes[0].set_ylabel("loss above the fit (%)")
    if math.isfinite(noise):
        axes[1].set_title("band: two standard deviations between seeds", fontsize=8, color=style.GREY)
    style.size_legend(axes[1], colours, "parameters N")
    return fig


def components_data(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Make the table that `components` draws: of each `component` the loss of every run, their mean by size, and
    the least possible loss (column `floor_<name>`) where it is known; `series` is run, mean or floor.
    """
    parts = []
    for name in names:
        column = f"loss_{name}"
        shown = rows[rows[column].notna()]
        mean = shown.groupby("params")[column].mean()
        floors = rows.get(f"floor_{name}", pd.Series(dtype=float)).dropna().unique()
        parts.append(style.about(shown).assign(component=name, series="run", loss=shown[column]))
        found = {"params": mean.index, "loss": mean.to_numpy()}
        parts.append(pd.DataFrame(found).assign(component=name, series="mean"))
        parts.append(pd.DataFrame({"loss": floors}).assign(component=name, series="floor"))
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return data.reindex(columns=["component", "series", *style.about(rows).columns])


def components(data: pd.DataFrame, loss_name: str, size_name: str, ax: Any = None) -> Figure:
    """Draw the loss of each component over model size from `components_data`, one small plot each.

    Every seed is a dot, the mean a line, the floor a dashed line; `size_name` is what sizes count. `ax`: as many
    axes as there are components.
    """
    names = data["component"].unique().tolist()
    across = min(5, len(names))
    down = -(-len(names) // across)

    def make() -> list[Axes]:
        fig = style.figure(style.WIDTH, 0.35 + 1.55 * down)
        axes = fig.subplots(down, across, sharex=True, squeeze=False).ravel().tolist()
        for one in axes[len(names) :]:
            one.set_visible(False)
        for one in axes[max(0, len(names) - across) : len(names)]:
            one.tick_params(labelbottom=True)
        fig.supylabel(loss_name, fontsize=9)
        fig.supxlabel(size_name, fontsize=9)
        return axes[: len(names)]

    fig, axes = style.panels(ax, len(names), make)
    for axis, (name, part) in zip(axes, data.groupby("component", sort=False), strict=True):
        run, mean, floor = (part[part["series"] == series] for series in ("run", "mean", "floor"))
        axis.plot(mean["params"], mean["loss"], color=style.SEED_DOT, lw=1.3)
        style.seed_dots(axis, run["params"], run["loss"], words=style.told(run))
        for level in floor["loss"].tolist():
            axis.axhline(level, color=style.GREY, lw=1, ls="--", clip_on=False)
        axis.set_ylim(0, run["loss"].max() * 1.1 or 1.0)
        axis.set_title(_title(str(name)), fontsize=8.5)
        axis.locator_params(axis="y", nbins=4)
        style.log_axis(axis, "x", counts=True, most=3)
    return fig


def _title(name: str) -> str:
    """Name a component above its small plot; a long name is broken at its last mark, and no letter is left out."""
    if len(name) <= 16:
        return name
    at = max(name.rfind(mark, 0, 17) for mark in "._- ") + 1 or 16
    return f"{name[:at]}\n{_title(name[at:])}"


def ngrams_data(rows: pd.DataFrame, orders: Sequence[str]) -> pd.DataFrame:
    """Make the table that `ngrams` draws: `loss` or `kl` by `series`: run, mean, or an n-gram's name."""
    mean = rows.groupby("params")["loss"].mean()
    parts = [
        style.about(rows).assign(series="run"),
        pd.DataFrame({"params": mean.index, "loss": mean.to_numpy()}).assign(series="mean"),
    ]
    for order in orders:
        known = rows[f"ngram_{order}"].dropna() if f"ngram_{order}" in rows else pd.Series(dtype=float)
        far = rows.groupby("params")[f"kl_{order}"].mean()
        parts.append(pd.DataFrame({"loss": known.head(1)}).assign(series=order))
        parts.append(pd.DataFrame({"params": far.index, "kl": far.to_numpy()}).assign(series=order))
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return data.reindex(columns=["series", *style.about(rows).columns, "kl"])


def ngrams(data: pd.DataFrame, loss_name: str, size_name: str, ax: Any = None) -> Figure:
    """Draw the loss over model size with the n-grams' losses as lines, and the divergence from each in nats.

    `data` is of `ngrams_data`; `ax`: two axes.
    """
    fig, (left, right) = style.panels(ax, 2, lambda: style.figure(style.WIDTH, 3.0).subplots(1, 2))
    run, mean = (data[data["series"] == series] for series in ("run", "mean"))
    left.plot(mean["params"], mean["loss"], color=style.SEED_DOT, lw=1.3)
    style.seed_dots(left, run["params"], run["loss"], words=style.told(run))
    models = data[~data["series"].isin(["run", "mean"])].groupby("series", sort=False)
    for (order, model), line in zip(models, ("-", "--", ":"), strict=False):
        for level in model["loss"].dropna().tolist():
            left.axhline(level, color=style.GREY, lw=1, ls=line)
            corner = (float(mean["params"].max()), level)
            # Above the line, with the letters that reach below their own.
            about: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8}
            left.annotate(str(order), corner, xytext=(0, 1.5), textcoords="offset points", **about)
        far = model[model["kl"].notna()]
        right.plot(far["params"], far["kl"], color=style.BLUE, lw=1.3, ls=line, label=str(order))
    left.set_ylabel(loss_name)
    right.set_ylabel("KL(model || n-gram) (nats)")
    right.legend()
    for axis in (left, right):
        style.log_axis(axis, "x", counts=True, most=4)
        axis.set_xlabel(size_name)
    return fig
