"""Draw curves of tasks over model size: every seed, the error that was judged, chance, the class, the threshold.

The report, `emergence --pictures` and `Emergence.plot()` draw with the same strokes. Nothing is judged here: the
classes come from an Emergence, the bands from detection.noise.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from analysis.detection.twins import related
from analysis.detection.verdict import ORDER, Verdict
from analysis.errors import Code, UserError
from analysis.figures import style

SIZE = "parameters without embeddings"
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


def accuracy(rows: pd.DataFrame, found: Found, size_name: str = SIZE) -> Figure:
    """Draw score against size for a run folder, a small plot a task and variant, with the expected classes.

    `rows` are finished ones, of each size and seed the longest; `size_name` is what their sizes count.
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
    return _page(panels, size_name)


def small_curves(found: Emergence) -> Figure:
    """Draw score against size for every task, variant and metric of an answer: emergent first and by threshold."""
    verdicts = by_curve(found)
    beside = {
        key[:2]: verdict.curve
        for key, verdict in verdicts.items()
        if key[2] == "byte_accuracy" and verdict_of(verdicts, *key[:2]) is not None
    }
    ordered = sorted(found.tasks, key=lambda v: (ORDER.index(v.label), v.threshold or 0.0, -abs(v.effect)))
    panels = [
        Panel(v.curve.name, v.curve, v, beside.get((v.curve.task, v.curve.variant)))
        for v in ordered
        if v.curve.metric != "byte_accuracy" or (v.curve.task, v.curve.variant) not in beside
    ]
    return _page(panels, "size (parameters)")


def plot(found: Emergence) -> Figure:
    """Draw `small_curves` in the project's look."""
    with style.styled():
        return small_curves(found)


def find_twins(rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Find the related tasks and variants of a table, of each group as many as there are colours."""
    names = list(dict.fromkeys(zip(rows["task"], rows["variant"], strict=True)))
    return [group[: len(TWIN_COLOURS)] for group in related(names)]


def twins(
    rows: pd.DataFrame, pairs: Sequence[Sequence[tuple[str, str]]], found: Found, size_name: str = SIZE
) -> Figure:
    """Draw tasks that differ in one thing together: each of `pairs` lists (task, variant) of one plot."""
    groups = []
    for pair in pairs:
        verdicts = [verdict_of(found, *name) for name in pair]
        drawn = [
            (verdict.curve, verdict.scatter) if verdict else (_exact(rows, *name), 0.0)
            for name, verdict in zip(pair, verdicts, strict=True)
        ]
        groups.append(drawn)
    return _twin_page(groups, size_name)[0]


def twin_curves(found: Emergence) -> Figure | None:
    """Draw related tasks of an answer together, and from where one helps or hurts; None without twins."""
    by_metric: dict[str, dict[tuple[str, str], Verdict]] = {}
    for verdict in found.tasks:
        mine = by_metric.setdefault(verdict.curve.metric, {})
        mine[verdict.curve.task, verdict.curve.variant] = verdict
    groups = [[mine[name] for name in names] for mine in by_metric.values() for names in related(list(mine))]
    if not groups:
        return None
    drawn = [[(v.curve, v.scatter) for v in group[: len(TWIN_COLOURS)]] for group in groups]
    figure, axes = _twin_page(drawn, "size; solid line: helps from, dashed: hurts from")
    for ax, group in zip(axes, groups, strict=True):
        curve = group[0].curve
        for twin in found.twins:
            if (twin.task, twin.metric) == (curve.task, curve.metric):
                for at, line in ((twin.helps_from, "-"), (twin.hurts_from, "--")):
                    if at is not None:
                        ax.axvline(at, color=style.INK, lw=0.7, ls=line)
    return figure


def loss_curves(found: Emergence) -> Figure | None:
    """Draw score against loss for every task that gains, loss falling to the right; None without losses."""
    gaining = [
        v for v in found.tasks if v.label in ("emergent", "smooth") and np.isfinite(v.curve.loss).any()
    ]
    if not gaining:
        return None
    gaining.sort(key=lambda v: (ORDER.index(v.label), v.threshold or 0.0))
    figure, axes = _grid(len(gaining), 1.85)
    for ax, verdict in zip(axes, gaining, strict=True):
        curve = verdict.curve
        style.seed_dots(ax, curve.loss.T, _raw(curve, curve.score).T, style.INK)
        ax.invert_xaxis()
        _titled(ax, curve.name, verdict.label, COLOURS[verdict.label])
    figure.supxlabel("loss (nats), falling", fontsize=9)
    figure.supylabel("score", fontsize=9)
    return figure


def write_pictures(found: Emergence, folder: Path) -> list[Path]:
    """Write curves.png, twins.png and against_loss.png in `folder`, as far as the table has them."""
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: no such folder")
    written = []
    with style.styled():
        drawn = {
            "curves": small_curves(found),
            "twins": twin_curves(found),
            "against_loss": loss_curves(found),
        }
        for name, figure in drawn.items():
            if figure is not None:
                figure.savefig(folder / f"emergence_{name}.png", dpi=110, metadata={"Software": None})
                written.append(folder / f"emergence_{name}.png")
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


def _page(panels: Sequence[Panel], size_name: str) -> Figure:
    """Draw one small plot a panel, all over the same sizes."""
    figure, axes = _grid(len(panels), 1.85)
    _same_sizes(axes, [panel.curve for panel in panels])
    for ax, panel in zip(axes, panels, strict=True):
        curve, verdict = panel.curve, panel.verdict
        colour = COLOURS[verdict.label] if verdict else style.BLUE
        _draw_scores(ax, curve, verdict.scatter if verdict else 0.0, colour)
        if panel.by_byte is not None:
            mean = level_and_error(panel.by_byte, 0.0)[0]
            ax.plot(panel.by_byte.size, mean, color=style.INK, lw=1, ls=(0, (1, 1)))
        _draw_levels(ax, curve)
        if verdict is not None:
            ax.plot(curve.size, verdict.fitted, color=style.INK, lw=0.9, ls=(0, (4, 2)))
            if verdict.threshold is not None and verdict.threshold_interval is not None:
                ax.axvspan(*verdict.threshold_interval, color=style.PURPLE, alpha=0.22, lw=0)
                ax.axvline(verdict.threshold, color=style.PURPLE, lw=1.0)
        _titled(ax, panel.name, panel.said, colour)
    figure.supylabel("score", fontsize=9)
    figure.supxlabel(size_name, fontsize=9)
    figure.legend(handles=_legend(panels), loc="outside upper center", ncols=6)
    return figure


def _legend(panels: Sequence[Panel]) -> list[Line2D | Patch]:
    """Explain the strokes that the page has."""
    found = [panel.verdict for panel in panels if panel.verdict is not None]
    has_chance = any(np.isfinite(panel.curve.chance) for panel in panels)
    has_shortcut = any(np.isfinite(panel.curve.shortcut) for panel in panels)
    lines = [
        (True, Line2D([], [], color=style.BLUE, marker="o", ms=3.5, label="seeds, mean, 2 s.e.")),
        (bool(found), Line2D([], [], color=style.INK, ls=(0, (4, 2)), lw=0.9, label="fitted shape")),
        (
            any(panel.by_byte is not None for panel in panels),
            Line2D([], [], color=style.INK, ls=(0, (1, 1)), label="accuracy by byte"),
        ),
        (has_chance, Line2D([], [], color=style.GREY, ls=":", label="chance")),
        (has_shortcut, Line2D([], [], color=style.GREY, ls="-.", label="shortcut")),
    ]
    handles: list[Line2D | Patch] = [line for shown, line in lines if shown]
    if any(verdict.threshold is not None for verdict in found):
        handles.append(Patch(color=style.PURPLE, alpha=0.35, label="threshold, its interval"))
    return handles


def _twin_page(groups: Sequence[Sequence[tuple[Curve, float]]], size_name: str) -> tuple[Figure, list[Axes]]:
    """Draw each group of curves, with the scatter that each was judged by, in one plot."""
    most = max(len(group) for group in groups)
    figure, axes = _grid(len(groups), 2.1 + 0.2 * most, most_across=3)
    _same_sizes(axes, [curve for group in groups for curve, _ in group])
    for ax, group in zip(axes, groups, strict=True):
        for (curve, scatter), colour in zip(group, TWIN_COLOURS, strict=False):
            _draw_scores(ax, curve, scatter, colour)
            _draw_levels(ax, curve)
        names = [_wrapped(name, 30) for name in _twin_names([curve for curve, _ in group])]
        handles = [Line2D([], [], color=c, label=n) for n, c in zip(names, TWIN_COLOURS, strict=False)]
        # One name a line above its plot: side by side they would be wider than the axes and squeeze them.
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)
    figure.supylabel("score", fontsize=9)
    figure.supxlabel(size_name, fontsize=9)
    return figure, axes


def _twin_names(group: Sequence[Curve]) -> list[str]:
    """Name the curves of one plot by what differs between them."""
    metric = f" ({group[0].metric})" if group[0].metric not in ("", "exact_match") else ""
    plain = len({c.task for c in group}) > 1 and all(c.variant == group[0].variant for c in group)
    return [(c.task if plain or not c.variant else f"{c.task}: {c.variant}") + metric for c in group]


def _draw_scores(ax: Axes, curve: Curve, scatter: float, colour: str) -> None:
    """Draw what was measured: a dot a seed, the line of their mean, the band of two standard errors."""
    mean, band = score_and_band(curve, scatter)
    ax.fill_between(curve.size, mean - band, mean + band, color=colour, alpha=0.18, lw=0)
    for name, seed in zip(curve.seeds, _raw(curve, curve.score), strict=True):
        about = zip(curve.size.tolist(), seed.tolist(), strict=True)
        words = [f"{style.count(size)} parameters, seed {name}: score {score:.3g}" for size, score in about]
        style.seed_dots(ax, curve.size, seed, colour, words)
    ax.plot(curve.size, mean, color=colour, lw=1.2)


def _draw_levels(ax: Axes, curve: Curve) -> None:
    """Draw the level of a guesser dotted, and dash-dotted a shortcut's that is higher: above it a score counts."""
    if np.isfinite(curve.chance):
        ax.axhline(curve.shift + curve.scale * curve.chance, color=style.GREY, lw=0.9, ls=":")
    if np.isfinite(curve.shortcut) and not curve.shortcut <= curve.chance:
        ax.axhline(curve.shift + curve.scale * curve.shortcut, color=style.GREY, lw=0.9, ls="-.")


def _titled(ax: Axes, name: str, said: str, colour: str) -> None:
    """Write the name above a plot and the class below it, as wide as the plot: what sticks out would squeeze it."""
    lines = textwrap.wrap(said, 30, max_lines=2, placeholder=" ...")
    ax.set_title(_wrapped(name, 24) + "\n" * len(lines), loc="left", fontsize=9)
    below = ax.text(
        0, 1.03, "\n".join(lines), transform=ax.transAxes, fontsize=7.5, color=style.readable(colour)
    )
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


def _grid(used: int, height: float, most_across: int = 4) -> tuple[Figure, list[Axes]]:
    """Make `used` plots, in rows."""
    across = min(most_across, used)
    down = -(-used // across)
    figure = style.figure(min(style.WIDTH, 2.9 * across + 0.6), 0.6 + height * down)
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    for ax in axes[used:]:
        ax.set_visible(False)
    return figure, axes[:used]


def _same_sizes(axes: Sequence[Axes], drawn: Sequence[Curve]) -> None:
    """Give all plots the same sizes, and scores in 0..1 the same limits; numbers then on the outer ones only.

    Matplotlib's shared axes would ask each of them at every stroke: minutes for the 191 plots of tasks=full.
    """
    sizes = np.concatenate([curve.size for curve in drawn])
    margin = max(sizes.max() / sizes.min(), 2.0) ** 0.05
    bounded = all(curve.bounded for curve in drawn)
    across = sum(ax.get_subplotspec().is_first_row() for ax in axes)  # type: ignore[union-attr]
    for i, ax in enumerate(axes):
        ax.set(xlim=(sizes.min() / margin, sizes.max() * margin), autoscalex_on=False)
        if bounded:
            ax.set(ylim=(-0.04, 1.04), autoscaley_on=False)
        style.log_axis(ax, "x", counts=True, most=3)
        ax.tick_params(labelleft=i % across == 0 or not bounded, labelbottom=i + across >= len(axes))
