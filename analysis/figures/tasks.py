"""Draw curves of tasks over model size: every seed, the error that was judged, chance, the class, the threshold.

The report, `emergence --pictures` and `Emergence.plot()` draw with the same strokes. Nothing is judged here: the
classes come from an Emergence, the bands from detection.noise.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.arrays import Array
from analysis.detection.curves import Curve, curve_of
from analysis.detection.emergence import Emergence
from analysis.detection.noise import level_and_error
from analysis.detection.twins import Twin, related
from analysis.detection.verdict import ORDER, Verdict
from analysis.errors import Code, UserError
from analysis.figures import style

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
Found = Mapping[tuple[str, str, str], Verdict]


@dataclass(frozen=True)
class Panel:
    """One small plot: a curve, the verdict on it, the accuracy by byte of the same answers, and the class that the
    task was built to show."""

    name: str
    curve: Curve
    verdict: Verdict | None = None
    by_byte: Curve | None = None
    expected: str = ""

    @property
    def said(self) -> str:
        """The class found, the expected one where it is another, and what not to overlook."""
        said = self.verdict.label if self.verdict else ""
        if self.expected and self.expected != said:
            said = f"{said} (expected {self.expected})" if said else f"expected {self.expected}"
        if self.verdict is not None:
            codes = {warning.code for warning in self.verdict.warnings}
            said += ", under its shortcut" * (not self.verdict.counts)
            said += ", one seed" * (Code.ONE_SEED in codes) + ", underpowered" * (Code.UNDERPOWERED in codes)
            said += ", seeds part" * bool(self.verdict.bimodal)
        return said.replace("_", "-")


def by_curve(found: Emergence) -> dict[tuple[str, str, str], Verdict]:
    """Return the verdicts by (task, variant, metric)."""
    return {(v.curve.task, v.curve.variant, v.curve.metric): v for v in found.tasks}


def verdict_of(found: Found, task: str, variant: str) -> Verdict | None:
    """Return the verdict on exact match, under whatever name the table's metric went."""
    return next((found[task, variant, m] for m in ("exact_match", "") if (task, variant, m) in found), None)


def curves(rows: pd.DataFrame, found: Found) -> list[tuple[str, str]]:
    """List (task, variant) sorted by the class found, or expected where none was, in ORDER."""
    named = rows.drop_duplicates(["task", "variant"])[["task", "variant", "intended_class"]]

    def rank(task: str, variant: str, expected: object) -> int:
        verdict = verdict_of(found, task, variant)
        label = verdict.label if verdict else expected
        return ORDER.index(label) if label in ORDER else len(ORDER)

    keyed = [
        (rank(task, variant, expected), i, (task, variant))
        for i, (task, variant, expected) in enumerate(named.to_numpy().tolist())
    ]
    return [name for _, _, name in sorted(keyed)]


def accuracy_data(rows: pd.DataFrame, found: Found) -> pd.DataFrame:
    """Make the table of `score_page` for a run folder: a panel a task and variant, with the expected classes.

    `rows` are finished ones, of each size and seed the longest.
    """
    names = curves(rows, found)
    panels = []
    for task, variant in names:
        expected = rows[(rows["task"] == task) & (rows["variant"] == variant)]["intended_class"].dropna()
        alone = sum(task == other for other, _ in names) == 1
        name = task if variant in ("", "direct") and alone else f"{task}: {variant}"
        verdict = verdict_of(found, task, variant)
        curve = verdict.curve if verdict else _exact(rows, task, variant)
        by_byte = found.get((task, variant, "byte_accuracy"))
        expected_class = str(expected.iloc[0]) if len(expected) else ""
        panels.append(Panel(name, curve, verdict, by_byte.curve if by_byte else None, expected_class))
    return _panel_data(panels)


def small_curves_data(found: Emergence) -> pd.DataFrame:
    """Make the table of `score_page` for an answer: every task, variant and metric, emergent first."""
    verdicts = by_curve(found)
    beside = {
        key[:2]: verdict.curve
        for key, verdict in verdicts.items()
        if key[2] == "byte_accuracy" and verdict_of(verdicts, *key[:2]) is not None
    }
    ordered = sorted(found.tasks, key=lambda v: (ORDER.index(v.label), v.threshold or 0.0, -abs(v.effect)))
    return _panel_data(
        [
            Panel(v.curve.name, v.curve, v, beside.get((v.curve.task, v.curve.variant)))
            for v in ordered
            if v.curve.metric != "byte_accuracy" or (v.curve.task, v.curve.variant) not in beside
        ]
    )


def small_curves(found: Emergence, ax: Any = None) -> Figure:
    """Draw score against size for an answer, a small plot a task, on new axes or on as many as it has panels."""
    return score_page(small_curves_data(found), "size (parameters)", ax)


def plot(found: Emergence, ax: Any = None) -> Figure:
    """Draw `small_curves` in the project's look."""
    with style.styled():
        return small_curves(found, ax)


def find_twins(rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Find the related tasks and variants of a table, of each group as many as there are colours."""
    names = list(dict.fromkeys(zip(rows["task"], rows["variant"], strict=True)))
    return [group[: len(TWIN_COLOURS)] for group in related(names)]


def twins_data(rows: pd.DataFrame, pairs: Sequence[Sequence[tuple[str, str]]], found: Found) -> pd.DataFrame:
    """Make the table of `twin_page`: tasks that differ in one thing, each of `pairs` in one plot."""
    groups = []
    for pair in pairs:
        verdicts = [verdict_of(found, *name) for name in pair]
        groups.append(
            [
                (verdict.curve, verdict.scatter) if verdict else (_exact(rows, *name), 0.0)
                for name, verdict in zip(pair, verdicts, strict=True)
            ]
        )
    return _twin_data(groups, ())


def twin_curves_data(found: Emergence) -> pd.DataFrame | None:
    """Make the table of `twin_page` for an answer, and the sizes from which one helps or hurts; None without."""
    by_metric: dict[str, dict[tuple[str, str], Verdict]] = {}
    for verdict in found.tasks:
        mine = by_metric.setdefault(verdict.curve.metric, {})
        mine[verdict.curve.task, verdict.curve.variant] = verdict
    groups = [[mine[name] for name in names] for mine in by_metric.values() for names in related(list(mine))]
    if not groups:
        return None
    drawn = [[(v.curve, v.scatter) for v in group[: len(TWIN_COLOURS)]] for group in groups]
    return _twin_data(drawn, found.twins)


def loss_curves_data(found: Emergence) -> pd.DataFrame | None:
    """Make the table of `loss_curves`: scores and losses of every task that gains; None without losses."""
    gaining = [
        v for v in found.tasks if v.label in ("emergent", "smooth") and np.isfinite(v.curve.loss).any()
    ]
    if not gaining:
        return None
    gaining.sort(key=lambda v: (ORDER.index(v.label), v.threshold or 0.0))
    parts = [
        pd.DataFrame(
            {
                "panel": number,
                "name": v.curve.name,
                "class": v.label,
                "seed": np.repeat(v.curve.seeds, len(v.curve.size)),
                "size": np.tile(v.curve.size, len(v.curve.seeds)),
                "loss": v.curve.loss.ravel(),
                "score": _raw(v.curve, v.curve.score).ravel(),
            }
        )
        for number, v in enumerate(gaining)
    ]
    return pd.concat(parts, ignore_index=True)


def loss_curves(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw score against loss, loss falling to the right, from `loss_curves_data`."""
    figure, axes = _grid(data["panel"].nunique(), 1.85, ax, "loss (nats), falling")
    for axis, (_, rows) in zip(axes, data.groupby("panel"), strict=True):
        label = str(rows["class"].iloc[0])
        style.seed_dots(axis, rows["loss"], rows["score"], COLOURS[label])
        axis.invert_xaxis()
        _titled(axis, str(rows["name"].iloc[0]), label)
    return figure


def write_pictures(found: Emergence, folder: Path) -> list[Path]:
    """Write the pictures curves, twins, against_loss and their data in `folder`, as far as the table has them."""
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: no such folder")
    twins, by_loss = twin_curves_data(found), loss_curves_data(found)
    written = []
    with style.styled():
        drawn = [("curves", small_curves(found), small_curves_data(found))]
        if twins is not None:
            drawn.append(("twins", twin_page(twins, HELPS), twins))
        if by_loss is not None:
            drawn.append(("against_loss", loss_curves(by_loss), by_loss))
        for name, figure, data in drawn:
            written += style.write(figure, data, folder, f"emergence_{name}")
    return written


def score_and_band(curve: Curve, scatter: float) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    """Return the mean over seeds and two standard errors, in the table's unit: the error that was judged."""
    mean, error = level_and_error(curve, scatter)
    return _raw(curve, mean), np.abs(curve.scale) * 2 * error


def _raw(curve: Curve, score: Array) -> Array:
    return np.asarray(curve.shift + curve.scale * score)


def _exact(rows: pd.DataFrame, task: str, variant: str) -> Curve:
    """Build a curve that has no class, without the checks that a class asks for."""
    mine = rows[(rows["task"] == task) & (rows["variant"] == variant)]
    return curve_of(task, variant, "", mine.assign(seed=mine["seed"].astype(str)), lower=False)


def _panel_data(panels: Sequence[Panel]) -> pd.DataFrame:
    """Make the table of `score_page`: a row a panel, series and size.

    `series` is seed, mean (with the band that was judged, `lower` to `upper`), fitted (the shape) or bytes (the
    accuracy by byte). The same on all rows of a panel: the levels `chance` and `shortcut`, `class`, `said`, and
    `threshold` with its interval.
    """
    parts = []
    for number, panel in enumerate(panels):
        curve, verdict = panel.curve, panel.verdict
        mine = _curve_rows(curve, verdict.scatter if verdict else 0.0)
        if panel.by_byte is not None:
            mean = level_and_error(panel.by_byte, 0.0)[0]
            mine.append(pd.DataFrame({"series": "bytes", "size": panel.by_byte.size, "score": mean}))
        if verdict is not None:
            mine.append(pd.DataFrame({"series": "fitted", "size": curve.size, "score": verdict.fitted}))
        threshold, interval = None, None
        if verdict is not None and verdict.threshold_interval is not None:
            threshold, interval = verdict.threshold, verdict.threshold_interval
        low, high = interval or (None, None)
        about: dict[str, Any] = {"panel": number, "name": panel.name, "said": panel.said}
        about |= {"class": verdict.label if verdict else "", **_about(curve)}
        about |= {"threshold": threshold, "threshold_lower": low, "threshold_upper": high}
        parts.append(pd.concat(mine, ignore_index=True).assign(**about))
    return _ordered(parts, "threshold", "threshold_lower", "threshold_upper")


def _twin_data(groups: Sequence[Sequence[tuple[Curve, float]]], twins: Sequence[Twin]) -> pd.DataFrame:
    """Make the table of `twin_page` from each plot's curves, with the scatter that each was judged by.

    Besides the series seed and mean: helps and hurts, the size from which a variant does.
    """
    parts = []
    for number, group in enumerate(groups):
        named = zip(group, _twin_names([curve for curve, _ in group]), strict=True)
        for (curve, scatter), name in named:
            mine = pd.concat(_curve_rows(curve, scatter), ignore_index=True)
            parts.append(mine.assign(panel=number, name=name, **_about(curve)))
        first = group[0][0]
        for twin in twins:
            if (twin.task, twin.metric) == (first.task, first.metric):
                at = {"helps": twin.helps_from, "hurts": twin.hurts_from}
                sizes = pd.DataFrame(
                    [{"series": word, "size": size} for word, size in at.items() if size is not None]
                )
                parts.append(sizes.assign(panel=number, name=parts[-1]["name"].iloc[0], **_about(first)))
    return _ordered(parts)


def _ordered(parts: Sequence[pd.DataFrame], *more: str) -> pd.DataFrame:
    first = [
        "panel",
        "name",
        "task",
        "variant",
        "metric",
        "series",
        "seed",
        "size",
        "score",
        "lower",
        "upper",
    ]
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    data = data.astype(dict.fromkeys([name for name in more if name in data], float))
    return data[[*first, *(name for name in data.columns if name not in first)]]


def _about(curve: Curve) -> dict[str, Any]:
    level = curve.shift + curve.scale * curve.chance
    shortcut = np.nan if curve.shortcut <= curve.chance else curve.shift + curve.scale * curve.shortcut
    about = {"task": curve.task, "variant": curve.variant, "metric": curve.metric}
    return about | {"chance": level, "shortcut": shortcut, "bounded": curve.bounded}


def _curve_rows(curve: Curve, scatter: float) -> list[pd.DataFrame]:
    """Tabulate what was measured: a score a seed, their mean with two standard errors."""
    mean, band = score_and_band(curve, scatter)
    seeds = pd.DataFrame(
        {
            "series": "seed",
            "seed": np.repeat(np.asarray(curve.seeds, dtype=object), len(curve.size)),
            "size": np.tile(curve.size, len(curve.seeds)),
            "score": _raw(curve, curve.score).ravel(),
        }
    )
    measured = {
        "series": "mean",
        "size": curve.size,
        "score": mean,
        "lower": mean - band,
        "upper": mean + band,
    }
    return [seeds[seeds["score"].notna()], pd.DataFrame(measured)]


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


def _twin_names(group: Sequence[Curve]) -> list[str]:
    """Name the curves of one plot by what differs between them."""
    metric = f" ({group[0].metric})" if group[0].metric not in ("", "exact_match") else ""
    plain = len({c.task for c in group}) > 1 and all(c.variant == group[0].variant for c in group)
    return [(c.task if plain or not c.variant else f"{c.task}: {c.variant}") + metric for c in group]


def _draw_scores(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Draw what was measured: a dot a seed, the line of their mean, the band of two standard errors."""
    mean, seeds = (rows[rows["series"] == series] for series in ("mean", "seed"))
    ax.fill_between(mean["size"], mean["lower"], mean["upper"], color=colour, alpha=0.18, lw=0)
    about = zip(seeds["size"].tolist(), seeds["seed"].tolist(), seeds["score"].tolist(), strict=True)
    words = [f"{style.count(size)} parameters, seed {seed}: score {score:.3g}" for size, seed, score in about]
    style.seed_dots(ax, seeds["size"], seeds["score"], colour, words)
    ax.plot(mean["size"], mean["score"], color=colour, lw=1.2)


def _draw_levels(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw the level of a guesser dotted, and dash-dotted a shortcut's that is higher: above it a score counts."""
    for level, line in ((rows["chance"].iloc[0], ":"), (rows["shortcut"].iloc[0], "-.")):
        if np.isfinite(level):
            ax.axhline(level, color=style.GREY, lw=0.9, ls=line)


def _titled(ax: Axes, name: str, said: str) -> None:
    """Write the name above a plot and the class below it, as wide as the plot: what sticks out would squeeze it."""
    lines = textwrap.wrap(said, 30, max_lines=2, placeholder=" ...")
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
