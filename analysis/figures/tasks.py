"""Draw curves of tasks over model size: every seed, the error that was judged, chance, the class, the threshold.

The report, `emergence --pictures` and `Emergence.plot()` draw with the same strokes, from the tables of
`figures.task_data`.
"""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.detection.emergence import Emergence
from analysis.errors import UserError
from analysis.figures import style
from analysis.figures.task_data import loss_curves_data, small_curves_data, twin_curves_data

SIZE = "size (parameters)"
HELPS = "size; solid line: helps from, dashed: hurts from"
COLOURS = {
    "emergent": style.RED,
    "smooth": style.BLUE,
    "saturated": style.GREEN,
    "flat": style.GREY,
    "inverse": style.PURPLE,
    "u_shaped": style.ORANGE,
}
TWIN_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.RED)


def plot(found: Emergence, ax: Any = None) -> Figure:
    """Draw score against size for an answer, a small plot a task, on new axes or on as many as it has panels."""
    with style.styled():
        return score_page(small_curves_data(found), SIZE, ax)


def write_pictures(found: Emergence, folder: Path) -> list[Path]:
    """Write the pictures curves, twins, against_loss and their data in `folder`, as far as the table has them."""
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: no such folder")
    small, twins, by_loss = small_curves_data(found), twin_curves_data(found), loss_curves_data(found)
    written = []
    with style.styled():
        drawn = [("curves", score_page(small, SIZE), small)]
        if twins is not None:
            drawn.append(("twins", twin_page(twins, HELPS), twins))
        if by_loss is not None:
            drawn.append(("against_loss", loss_curves(by_loss), by_loss))
        for name, figure, data in drawn:
            written += style.write(figure, data, folder, f"emergence_{name}")
    return written


def score_page(data: pd.DataFrame, size_name: str, ax: Any = None) -> Figure:
    """Draw one small plot a panel, all over the same sizes, from `accuracy_data` or `small_curves_data`.

    `ax`: as many axes as there are panels.
    """
    groups = [rows for _, rows in data.groupby("panel")]
    figure, axes = _grid(len(groups), 1.85, ax, size_name)
    _same_sizes(axes, data)
    for axis, rows in zip(axes, groups, strict=True):
        first = rows.iloc[0]
        colour = COLOURS.get(first["class"], style.BLUE)
        _draw_scores(axis, rows, colour)
        _draw_levels(axis, rows)
        for series, width, dashes in (("bytes", 1.0, (1, 1)), ("fitted", 0.9, (4, 2))):
            line = rows[rows["series"] == series]
            if len(line):
                axis.plot(line["size"], line["score"], color=style.INK, lw=width, ls=(0, dashes))
        if np.isfinite(first["threshold"]):
            interval = first["threshold_lower"], first["threshold_upper"]
            axis.axvspan(*interval, color=style.PURPLE, alpha=0.22, lw=0)
            axis.axvline(first["threshold"], color=style.PURPLE, lw=1.0)
        _titled(axis, first["name"], first["said"])
    if ax is None:
        figure.legend(handles=_legend(data), loc="outside upper center", ncols=6)
    return figure


def _legend(data: pd.DataFrame) -> list[Line2D | Patch]:
    """Explain the strokes that the page has."""
    drawn = set(data["series"])
    lines = [
        (True, Line2D([], [], color=style.BLUE, marker="o", ms=3.5, label="seeds, mean, 2 s.e.")),
        ("fitted" in drawn, Line2D([], [], color=style.INK, ls=(0, (4, 2)), lw=0.9, label="fitted shape")),
        ("bytes" in drawn, Line2D([], [], color=style.INK, ls=(0, (1, 1)), label="accuracy by byte")),
        (data["chance"].notna().any(), Line2D([], [], color=style.GREY, ls=":", label="chance")),
        (data["shortcut"].notna().any(), Line2D([], [], color=style.GREY, ls="-.", label="shortcut")),
    ]
    handles: list[Line2D | Patch] = [line for shown, line in lines if shown]
    if data["threshold"].notna().any():
        handles.append(Patch(color=style.PURPLE, alpha=0.35, label="threshold, its interval"))
    return handles


def twin_page(data: pd.DataFrame, size_name: str, ax: Any = None) -> Figure:
    """Draw the curves of each panel of `twins_data` or `twin_curves_data` in one plot.

    `ax`: as many axes as there are panels.
    """
    groups = [list(rows.groupby("name", sort=False)) for _, rows in data.groupby("panel")]
    figure, axes = _grid(len(groups), 2.1 + 0.2 * max(map(len, groups)), ax, size_name, most_across=3)
    _same_sizes(axes, data)
    for axis, group in zip(axes, groups, strict=True):
        handles = []
        for (name, rows), colour in zip(group, TWIN_COLOURS, strict=False):
            _draw_scores(axis, rows, colour)
            _draw_levels(axis, rows)
            handles.append(Line2D([], [], color=colour, label=_wrapped(str(name), 30)))
            for word, line in (("helps", "-"), ("hurts", "--")):
                for size in rows[rows["series"] == word]["size"].tolist():
                    axis.axvline(size, color=style.INK, lw=0.7, ls=line)
        # One name a line above its plot: side by side they would be wider than the axes and squeeze them.
        axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)
    return figure


def loss_curves(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw score against loss, loss falling to the right, from `loss_curves_data`."""
    figure, axes = _grid(data["panel"].nunique(), 1.85, ax, "loss (nats), falling")
    for axis, (_, rows) in zip(axes, data.groupby("panel"), strict=True):
        label = str(rows["class"].iloc[0])
        known = rows[rows["loss"].notna() & rows["score"].notna()]
        words = [f"{said}, loss {loss:.4g}" for said, loss in zip(_told(known), known["loss"], strict=True)]
        style.seed_dots(axis, known["loss"], known["score"], COLOURS[label], words)
        axis.invert_xaxis()
        _titled(axis, str(rows["name"].iloc[0]), label)
    return figure


def _draw_scores(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Draw what was measured: a dot a seed, the line of their mean, the band of two standard errors."""
    mean, seeds = (rows[rows["series"] == series] for series in ("mean", "seed"))
    ax.fill_between(mean["size"], mean["lower"], mean["upper"], color=colour, alpha=0.18, lw=0)
    style.seed_dots(ax, seeds["size"], seeds["score"], colour, _told(seeds))
    ax.plot(mean["size"], mean["score"], color=colour, lw=1.2)


def _told(seeds: pd.DataFrame) -> list[str]:
    about = zip(seeds["size"].tolist(), seeds["seed"].tolist(), seeds["score"].tolist(), strict=True)
    return [f"{style.count(size)} parameters, seed {seed}: score {score:.3g}" for size, seed, score in about]


def _draw_levels(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw the level of a guesser dotted, and dash-dotted a shortcut's that is higher: above it a score counts."""
    for level, line in ((rows["chance"].iloc[0], ":"), (rows["shortcut"].iloc[0], "-.")):
        if np.isfinite(level):
            ax.axhline(level, color=style.GREY, lw=0.9, ls=line)


def _titled(ax: Axes, name: str, said: str) -> None:
    """Write the name above a plot and the class below it, as wide as the plot: what sticks out would squeeze it."""
    lines = textwrap.wrap(said, 30, max_lines=4, placeholder=" ...")
    ax.set_title(_wrapped(name, 24) + "\n" * len(lines), loc="left", fontsize=9)
    below = ax.text(0, 1.03, "\n".join(lines), transform=ax.transAxes, fontsize=7.5)
    below.set_in_layout(False)


def _wrapped(name: str, most: int) -> str:
    """Break a name that is too long for one line: before its variant if that will do, else at any of its marks.

    A second line that is still too long is clipped.
    """
    if len(name) <= most:
        return name
    for marks in (r"[/ ]", r"[_.:\-]"):
        ends = [match.end() for match in re.finditer(marks, name) if match.end() <= most]
        if ends and len(name) - ends[-1] <= most:
            return f"{name[: ends[-1]]}\n{name[ends[-1] :]}"
    return f"{name[: most - 1]}\n{style.clipped(name[most - 1 :], most)}"


def _grid(
    used: int, height: float, given: Any, size_name: str, most_across: int = 4
) -> tuple[Figure, list[Axes]]:
    """Make `used` plots, in rows, or take those given."""

    def make() -> list[Axes]:
        across = min(most_across, used)
        down = -(-used // across)
        figure = style.figure(min(style.WIDTH, 2.9 * across + 0.6), 0.6 + height * down)
        axes = list(figure.subplots(down, across, squeeze=False).ravel())
        for ax in axes[used:]:
            ax.set_visible(False)
        figure.supylabel("score", fontsize=9)
        figure.supxlabel(size_name, fontsize=9)
        return axes[:used]

    return style.panels(given, used, make)


def _same_sizes(axes: Sequence[Axes], data: pd.DataFrame) -> None:
    """Give all plots the same sizes, and scores in 0..1 the same limits; numbers then on the outer ones only.

    Matplotlib's shared axes would ask each of them at every stroke: minutes for the 191 plots of tasks=full.
    """
    low, high = data["size"].min(), data["size"].max()
    margin = max(high / low, 2.0) ** 0.05
    bounded = bool(data["bounded"].all())
    places = [ax.get_subplotspec() for ax in axes]
    across = sum(place is None or place.is_first_row() for place in places)
    for i, ax in enumerate(axes):
        ax.set(xlim=(low / margin, high * margin), autoscalex_on=False)
        if bounded:
            ax.set(ylim=(-0.04, 1.04), autoscaley_on=False)
        style.log_axis(ax, "x", counts=True, most=3)
        ax.tick_params(labelleft=i % across == 0 or not bounded, labelbottom=i + across >= len(axes))
