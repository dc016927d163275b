"""The page of small curves: score, binomial and seed band, chance, fitted shape, threshold band, by class.

Drawing only; every number comes from an Emergence. The report's page (task_plots) draws with the same strokes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.detection.curves import Curve
from analysis.detection.emergence import Emergence
from analysis.detection.twins import related
from analysis.detection.verdict import ORDER, Verdict
from analysis.errors import UserError
from analysis.figures import style as draw

COLOURS = {
    "emergent": draw.RED,
    "smooth": draw.BLUE,
    "saturated": draw.GREEN,
    "flat": draw.GREY,
    "inverse": draw.PURPLE,
    "u_shaped": draw.ORANGE,
}
TWIN_COLOURS = (draw.BLUE, draw.ORANGE, draw.GREEN, draw.PURPLE, draw.RED)


def draw_scores(ax: Axes, curve: Curve, colour: str, label: str | None = None) -> None:
    """What was measured: a dot a seed, the line of their mean, the band of two standard errors."""
    mean, band = score_and_band(curve)
    ax.fill_between(curve.size, mean - band, mean + band, color=colour, alpha=0.18, lw=0)
    for seed in curve.shift + curve.scale * curve.score:
        ax.plot(curve.size, seed, "o", ms=2.6, color=colour, alpha=0.75, mew=0)
    ax.plot(curve.size, mean, color=colour, lw=1.2, label=label)


def draw_chance(ax: Axes, chance: float) -> None:
    """A dotted line, where the level of a guesser is known."""
    if np.isfinite(chance):
        ax.axhline(chance, color=draw.GREY, lw=0.9, ls=":")


def draw_shortcut(ax: Axes, curve: Curve) -> None:
    """A dash-dotted line, where a shortcut has more than chance: above it a score counts."""
    if np.isfinite(curve.shortcut) and not curve.shortcut <= curve.chance:
        ax.axhline(curve.shortcut, color=draw.GREY, lw=0.9, ls="-.")


def draw_verdict(ax: Axes, verdict: Verdict) -> None:
    """What was found: the likeliest curve of the class dashed, the threshold in the band of its interval."""
    ax.plot(verdict.curve.size, verdict.fitted, color=draw.INK, lw=0.9, ls=(0, (4, 2)))
    if verdict.threshold is not None and verdict.threshold_interval is not None:
        ax.axvspan(*verdict.threshold_interval, color=draw.PURPLE, alpha=0.22, lw=0)
        ax.axvline(verdict.threshold, color=draw.PURPLE, lw=1.0)


def score_and_band(curve: Curve) -> tuple[Any, Any]:
    """Mean over seeds [K] and two standard errors: of the items, or of the seeds where those differ by more."""
    there = np.isfinite(curve.score)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, curve.score, 0).sum(0) / count
    with np.errstate(invalid="ignore"):
        own = np.where(np.isfinite(curve.items), mean * (1 - mean) / curve.items, curve.stderr**2)
    own = np.where(there, np.nan_to_num(own), 0).sum(0) / count**2
    spread = np.where(there, (curve.score - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1) / count
    band = 2 * np.sqrt(np.maximum(own, spread))
    return curve.shift + curve.scale * mean, np.abs(curve.scale) * band


def sorted_by_class(found: Emergence) -> list[Verdict]:
    """Emergent first and by threshold, then the others by effect: the order of the page."""
    return sorted(found.tasks, key=lambda v: (ORDER.index(v.label), v.threshold or 0.0, -abs(v.effect)))


def small_curves(found: Emergence, columns: int = 5) -> Figure:
    """One small panel a task, sorted by class: seeds as dots, their mean, its band, the fitted shape."""
    verdicts = sorted_by_class(found)
    figure, panels = _panels(len(verdicts), columns)
    for panel, verdict in zip(panels, verdicts, strict=False):
        _draw(panel, verdict)
    figure.supxlabel("size (parameters)", fontsize=9)
    figure.supylabel("score", fontsize=9)
    return figure


def _draw(panel: Axes, verdict: Verdict) -> None:
    curve, colour = verdict.curve, COLOURS[verdict.label]
    draw_scores(panel, curve, colour)
    draw_verdict(panel, verdict)
    draw_chance(panel, curve.chance)
    draw_shortcut(panel, curve)
    if curve.scale == 1:
        panel.set_ylim(-0.04, 1.04)
    _log_sizes(panel)
    said = verdict.label.replace("_", "-") + _mark(verdict)
    panel.set_title(f"{draw.clipped(curve.name, 34)}\n{said}", fontsize=7, color=colour)


def _mark(verdict: Verdict) -> str:
    codes = {warning.code for warning in verdict.warnings}
    marks = [" (underpowered)"] * ("underpowered" in codes) + [" (one seed)"] * ("one_seed" in codes)
    marks += [" (seeds part)"] * bool(verdict.bimodal) + [" (under its shortcut)"] * (not verdict.counts)
    return "".join(marks)


def twin_curves(found: Emergence, columns: int = 3) -> Figure | None:
    """Related tasks in one panel, with the sizes from which one helps or hurts; None without twins."""
    by_metric: dict[str, dict[tuple[str, str], Verdict]] = {}
    for verdict in found.tasks:
        mine = by_metric.setdefault(verdict.curve.metric, {})
        mine[verdict.curve.task, verdict.curve.variant] = verdict
    groups = [[mine[name] for name in names] for mine in by_metric.values() for names in related(list(mine))]
    if not groups:
        return None
    figure, panels = _panels(len(groups), columns)
    for panel, group in zip(panels, groups, strict=False):
        curve = group[0].curve
        for verdict, colour in zip(group, TWIN_COLOURS, strict=False):
            other = verdict.curve
            label = other.variant if other.task == curve.task else f"{other.task}: {other.variant}"
            draw_scores(panel, other, colour, label or other.task)
        for twin in found.twins:
            if (twin.task, twin.metric) == (curve.task, curve.metric):
                for at, style in ((twin.helps_from, "-"), (twin.hurts_from, "--")):
                    if at is not None:
                        panel.axvline(at, color=draw.INK, lw=0.7, ls=style)
        draw_chance(panel, curve.chance)
        if curve.scale == 1:
            panel.set_ylim(-0.04, 1.04)
        _log_sizes(panel)
        panel.set_title(" ".join(part for part in (curve.task, curve.metric) if part), fontsize=8)
        panel.legend(fontsize=6)
    figure.supxlabel("size; solid line: helps from, dashed: hurts from", fontsize=8)
    figure.supylabel("score", fontsize=8)
    return figure


def loss_curves(found: Emergence, columns: int = 5) -> Figure | None:
    """Score against loss, a panel a task that gains, loss falling to the right; None without losses."""
    wanted = [v for v in sorted_by_class(found) if v.label in ("emergent", "smooth")]
    wanted = [v for v in wanted if np.isfinite(v.curve.loss).any()]
    if not wanted:
        return None
    figure, panels = _panels(len(wanted), columns)
    for panel, verdict in zip(panels, wanted, strict=False):
        curve = verdict.curve
        panel.plot(
            curve.loss.T, (curve.shift + curve.scale * curve.score).T, "o", ms=2.6, mew=0, color=draw.INK
        )
        panel.invert_xaxis()
        panel.set_title(f"{curve.name}\n{verdict.label}", fontsize=7, color=COLOURS[verdict.label])
    figure.supxlabel("loss (nats), falling", fontsize=8)
    figure.supylabel("score", fontsize=8)
    return figure


def write_pictures(found: Emergence, folder: Path) -> list[Path]:
    """curves.png, twins.png and against_loss.png in `folder`, as far as the table has them."""
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: no such folder")
    written = []
    with draw.styled():
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


def _panels(count: int, columns: int) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = draw.figure(2.3 * columns, 1.9 * rows + 0.4)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.tick_params(labelsize=6)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels


def _log_sizes(panel: Axes) -> None:
    panel.set_xscale("log")
    draw.log_axis(panel, "x", counts=True, most=4)
