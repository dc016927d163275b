"""The page of small curves: score, binomial and seed band, chance, fitted shape, threshold band, by class.

Drawing only; every number comes from an Emergence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.emergence import Emergence
from analysis.emergence_verdict import ORDER, Verdict

# Okabe and Ito's palette: told apart by readers who do not see red and green.
COLOURS = {
    "emergent": "#D55E00",
    "smooth": "#0072B2",
    "saturated": "#009E73",
    "flat": "#7F7F7F",
    "inverse": "#CC79A7",
    "u_shaped": "#E69F00",
}


def sorted_by_class(found: Emergence) -> list[Verdict]:
    """Emergent first and by threshold, then the others by effect: the order of the page."""
    return sorted(found.tasks, key=lambda v: (ORDER.index(v.label), v.threshold or 0.0, -abs(v.effect)))


def small_curves(found: Emergence, columns: int = 5) -> Figure:
    """One small panel a task, sorted by class: seeds as dots, their mean, its band, the fitted shape."""
    verdicts = sorted_by_class(found)
    rows = -(-len(verdicts) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.0 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for panel, verdict in zip(grid.flat, verdicts, strict=False):
        draw_curve(panel, verdict)
    for panel in grid.flat[len(verdicts) :]:
        panel.set_visible(False)
    figure.supxlabel("size (parameters)", fontsize=9)
    figure.supylabel("score", fontsize=9)
    return figure


def draw_curve(panel: Axes, verdict: Verdict) -> None:
    """One task: what was measured in its class's colour, what was fitted in black."""
    curve, colour = verdict.curve, COLOURS[verdict.label]
    score = curve.shift + curve.scale * curve.score
    mean, band = score_and_band(verdict)
    panel.fill_between(curve.size, mean - band, mean + band, color=colour, alpha=0.2, lw=0)
    for seed in score:
        panel.plot(curve.size, seed, ".", color=colour, ms=3, alpha=0.6)
    panel.plot(curve.size, mean, "-", color=colour, lw=1)
    panel.plot(curve.size, verdict.fitted, "--", color="black", lw=0.8)
    if np.isfinite(curve.chance):
        panel.axhline(curve.chance, color="black", lw=0.6, ls=":")
    if verdict.threshold is not None and verdict.threshold_interval is not None:
        panel.axvspan(*verdict.threshold_interval, color=colour, alpha=0.12, lw=0)
        panel.axvline(verdict.threshold, color=colour, lw=0.8)
    panel.set_xscale("log")
    if curve.scale == 1:
        panel.set_ylim(-0.04, 1.04)
    panel.tick_params(labelsize=6)
    panel.set_title(f"{curve.name}\n{verdict.label}{_mark(verdict)}", fontsize=7, color=colour)


def score_and_band(verdict: Verdict) -> tuple[Any, Any]:
    """Mean over seeds [K] and two standard errors: of the items, and of the seeds where there are several."""
    curve = verdict.curve
    there = np.isfinite(curve.score)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, curve.score, 0).sum(0) / count
    with np.errstate(invalid="ignore"):
        own = np.where(np.isfinite(curve.items), mean * (1 - mean) / curve.items, curve.stderr**2)
    own = np.where(there, np.nan_to_num(own), 0).sum(0) / count**2
    spread = np.where(there, (curve.score - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1) / count
    band = 2 * np.sqrt(np.maximum(own, spread))
    return curve.shift + curve.scale * mean, np.abs(curve.scale) * band


def _mark(verdict: Verdict) -> str:
    codes = {warning.code for warning in verdict.warnings}
    marks = [" (underpowered)"] * ("underpowered" in codes) + [" (seeds part)"] * bool(verdict.bimodal)
    return "".join(marks)


def save(figure: Figure, path: Path) -> None:
    """Write the picture; the ending of the name says the format."""
    figure.savefig(path, dpi=130)


def legend_of_classes(found: Emergence) -> Sequence[tuple[str, str, int]]:
    """(class, colour, how many tasks) of the classes that occur, in the page's order."""
    counts = [(name, COLOURS[name], sum(v.label == name for v in found.tasks)) for name in ORDER]
    return [row for row in counts if row[2]]
