"""Curves of tasks over model size: one small plot each, every seed, chance, the class found, the threshold.

The classes come from `analysis.emergence`; nothing is judged here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.detection.curves import Curve, independent_items
from analysis.detection.emergence import Emergence
from analysis.detection.twins import related
from analysis.detection.verdict import ORDER, Verdict
from analysis.errors import Code
from analysis.figures import style
from analysis.figures.emergence_plots import (
    TWIN_COLOURS,
    draw_chance,
    draw_scores,
    draw_shortcut,
    draw_verdict,
)

SIZE = "parameters without embeddings"
Found = Mapping[tuple[str, str, str], Verdict]


def by_curve(found: Emergence) -> dict[tuple[str, str, str], Verdict]:
    """Verdicts by (task, variant, metric)."""
    return {(v.curve.task, v.curve.variant, v.curve.metric): v for v in found.tasks}


def verdict_of(found: Found, task: str, variant: str) -> Verdict | None:
    """The verdict on exact match, under whatever name the table's metric went."""
    return next((found[task, variant, m] for m in ("exact_match", "") if (task, variant, m) in found), None)


def curves(rows: pd.DataFrame, found: Found) -> list[tuple[str, str]]:
    """(task, variant) sorted by the class found, or meant where none was, in ORDER."""
    named = rows.drop_duplicates(["task", "variant"])[["task", "variant", "intended_class"]]

    def rank(task: str, variant: str, meant: object) -> int:
        verdict = verdict_of(found, task, variant)
        label = verdict.label if verdict else meant
        return ORDER.index(label) if label in ORDER else len(ORDER)

    keyed = [
        (rank(task, variant, meant), i, (task, variant))
        for i, (task, variant, meant) in enumerate(named.to_numpy().tolist())
    ]
    return [name for _, _, name in sorted(keyed)]


def accuracy(rows: pd.DataFrame, found: Found) -> Figure:
    """Score against size, one small plot a task and variant: exact match solid, byte accuracy dashed.

    `rows` are finished ones, of each size and seed the longest. The title says the class found and, where it
    differs, the class that was meant; the band is the interval of the threshold.
    """
    names = curves(rows, found)
    across = min(4, max(1, len(names)))
    down = -(-len(names) // across)
    fig = style.figure(8.2, 0.6 + 1.85 * down)
    axes = _panels(fig, len(names), across, rows["size"])
    for ax, (task, variant) in zip(axes, names, strict=True):
        mine = rows[(rows["task"] == task) & (rows["variant"] == variant)]
        exact = _exact(mine)
        draw_scores(ax, exact, style.BLUE)
        _bytes(ax, mine, exact)
        draw_chance(ax, exact.chance)
        draw_shortcut(ax, exact)
        alone = sum(task == other for other, _ in names) == 1
        _verdict(ax, mine, task, variant, found, alone)
    handles = [
        Line2D([], [], color=style.BLUE, marker="o", ms=3.5, label="exact match, seeds"),
        Line2D([], [], color=style.INK, ls=(0, (4, 2)), lw=0.9, label="fitted shape"),
        Line2D([], [], color=style.ORANGE, ls="--", label="accuracy by byte"),
        Line2D([], [], color=style.GREY, ls=":", label="chance"),
        Line2D([], [], color=style.GREY, ls="-.", label="shortcut"),
        Patch(color=style.PURPLE, alpha=0.35, label="threshold (90%)"),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=6)
    return fig


def twins(rows: pd.DataFrame, pairs: Sequence[Sequence[tuple[str, str]]]) -> Figure:
    """Tasks that differ in one thing, drawn together: each of `pairs` lists (task, variant) of one plot."""
    across = min(3, len(pairs))
    down = -(-len(pairs) // across)
    most = max(len(pair) for pair in pairs)
    fig = style.figure(min(8.2, 2.9 * across + 0.6), 0.5 + (2.1 + 0.2 * most) * down)
    axes = _panels(fig, len(pairs), across, rows["size"])
    for ax, pair in zip(axes, pairs, strict=True):
        for (task, variant), colour in zip(pair, TWIN_COLOURS, strict=False):
            mine = rows[(rows["task"] == task) & (rows["variant"] == variant)]
            exact = _exact(mine)
            draw_scores(ax, exact, colour)
            draw_chance(ax, exact.chance)
        names = _twin_names(pair)
        handles = [Line2D([], [], color=c, label=n) for n, c in zip(names, TWIN_COLOURS, strict=False)]
        # One name a line above its plot: side by side they would be wider than the axes and squeeze them.
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)
    return fig


def find_twins(rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """The related tasks and variants of a table, of each group as many as there are colours."""
    names = list(dict.fromkeys(zip(rows["task"], rows["variant"], strict=True)))
    return [group[: len(TWIN_COLOURS)] for group in related(names)]


def _twin_names(pair: Sequence[tuple[str, str]]) -> list[str]:
    if len({task for task, _ in pair}) == 1:
        return [style.clipped(f"{task}: {variant}", 24) for task, variant in pair]
    plain = all(variant == pair[0][1] for _, variant in pair)
    return [style.clipped(task if plain else f"{task}: {variant}", 24) for task, variant in pair]


def _curve(rows: pd.DataFrame, score: "pd.Series[float]") -> Curve:
    """The scores of one task and variant by seed and size, without the checks that a class asks for."""
    by = [rows["seed"], rows["size"]]
    table = score.groupby(by).mean().unstack()
    items = independent_items(rows).groupby(by).mean().unstack()
    nothing = np.full(table.shape, np.nan)
    name, variant = rows["task"].iloc[0], rows["variant"].iloc[0]
    chance = rows["chance"].dropna()
    level = float(chance.iloc[0]) if len(chance) else np.nan
    seeds = tuple(map(str, table.index))
    size = table.columns.to_numpy(dtype=float)
    shortcut = float(rows["shortcut"].max()) if "shortcut" in rows.columns else np.nan
    scores = (table.to_numpy(), items.to_numpy(), nothing)
    return Curve(name, variant, "", size, *scores, level, 1.0, nothing, seeds, shortcut=shortcut)


def _exact(rows: pd.DataFrame) -> Curve:
    return _curve(rows, rows["correct"] / rows["total"])


def _bytes(ax: Axes, rows: pd.DataFrame, exact: Curve) -> None:
    if rows["byte_accuracy"].notna().any():
        by_byte = np.nanmean(_curve(rows, rows["byte_accuracy"]).score, axis=0)
        if np.nanmax(np.abs(by_byte - np.nanmean(exact.score, axis=0))) > 0.01:
            ax.plot(exact.size, by_byte, color=style.ORANGE, lw=1, ls="--")


def _verdict(ax: Axes, rows: pd.DataFrame, task: str, variant: str, found: Found, alone: bool) -> None:
    verdict = verdict_of(found, task, variant)
    meant = rows["intended_class"].dropna()
    said = verdict.label if verdict else ""
    alone_in_it = verdict is not None and any(w.code == Code.ONE_SEED for w in verdict.warnings)
    if len(meant) and meant.iloc[0] != said:
        said = f"{said} (meant {meant.iloc[0]})" if said else f"meant {meant.iloc[0]}"
    if alone_in_it:
        said += ", one seed"
    if verdict is not None:
        draw_verdict(ax, verdict)
    name = task if variant in ("", "direct") and alone else f"{task}: {variant}"
    ax.set_title(f"{style.clipped(name, 24)}\n", loc="left", fontsize=9.5)
    shown = style.clipped(said.replace("_", "-"), 34)
    ax.text(0, 1.03, shown, transform=ax.transAxes, fontsize=8, color=style.GREY)


def _panels(fig: Figure, used: int, across: int, sizes: "pd.Series[float]") -> list[Axes]:
    """`used` plots in rows of `across`, all with the same limits; numbers on the outer ones only.

    Matplotlib's shared axes would ask each of them at every stroke: minutes for the 191 plots of tasks=full.
    """
    down = -(-used // across)
    margin = max(sizes.max() / sizes.min(), 2.0) ** 0.05
    axes = list(fig.subplots(down, across, squeeze=False).ravel())
    for i, ax in enumerate(axes):
        ax.set(xlim=(sizes.min() / margin, sizes.max() * margin), ylim=(-0.04, 1.04), autoscale_on=False)
        style.log_axis(ax, "x", counts=True, most=3)
        ax.tick_params(labelleft=i % across == 0, labelbottom=i + across >= used)
        ax.set_visible(i < used)
    fig.supylabel("score", fontsize=9)
    fig.supxlabel(SIZE, fontsize=9)
    return axes[:used]
