"""The page of small curves: score, binomial and seed band, chance, fitted shape, threshold band, by class.

Drawing only; every number comes from an Emergence.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.emergence import Emergence
from analysis.emergence_verdict import ORDER, Verdict
from analysis.errors import UserError

# Okabe and Ito's palette: told apart by readers who do not see red and green.
COLOURS = {
    "emergent": "#D55E00",
    "smooth": "#0072B2",
    "saturated": "#009E73",
    "flat": "#7F7F7F",
    "inverse": "#CC79A7",
    "u_shaped": "#E69F00",
}
TWIN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def sorted_by_class(found: Emergence) -> list[Verdict]:
    """Emergent first and by threshold, then the others by effect: the order of the page."""
    return sorted(found.tasks, key=lambda v: (ORDER.index(v.label), v.threshold or 0.0, -abs(v.effect)))


def small_curves(found: Emergence, columns: int = 5) -> Figure:
    """One small panel a task, sorted by class: seeds as dots, their mean, its band, the fitted shape."""
    verdicts = sorted_by_class(found)
    figure, panels = _panels(len(verdicts), columns)
    for panel, verdict in zip(panels, verdicts, strict=False):
        draw_curve(panel, verdict)
    figure.supxlabel("size (parameters)", fontsize=9)
    figure.supylabel("score", fontsize=9)
    return figure


def draw_curve(panel: Axes, verdict: Verdict) -> None:
    """One task: what was measured in its class's colour, what was fitted in black."""
    curve, colour = verdict.curve, COLOURS[verdict.label]
    _seeds_and_band(panel, verdict, colour, None)
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


def twin_curves(found: Emergence, columns: int = 3) -> Figure | None:
    """Variants of one task in one panel, with the sizes from which one helps or hurts; None without twins."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in found.tasks:
        groups.setdefault((verdict.curve.task, verdict.curve.metric), []).append(verdict)
    pairs = [group for group in groups.values() if len(group) > 1]
    if not pairs:
        return None
    figure, panels = _panels(len(pairs), columns)
    for panel, pair in zip(panels, pairs, strict=False):
        for verdict, colour in zip(pair, TWIN_COLOURS, strict=False):
            _seeds_and_band(panel, verdict, colour, verdict.curve.variant or verdict.curve.task)
        curve = pair[0].curve
        for twin in found.twins:
            if (twin.task, twin.metric) == (curve.task, curve.metric):
                for at, style in ((twin.helps_from, "-"), (twin.hurts_from, "--")):
                    if at is not None:
                        panel.axvline(at, color="black", lw=0.7, ls=style)
        if np.isfinite(curve.chance):
            panel.axhline(curve.chance, color="black", lw=0.6, ls=":")
        panel.set_xscale("log")
        panel.set_title(" ".join(part for part in (curve.task, curve.metric) if part), fontsize=8)
        panel.legend(fontsize=6, frameon=False)
        panel.tick_params(labelsize=6)
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
        panel.plot(curve.loss.T, (curve.shift + curve.scale * curve.score).T, ".", ms=3, color="#333333")
        panel.invert_xaxis()
        panel.tick_params(labelsize=6)
        panel.set_title(f"{curve.name}\n{verdict.label}", fontsize=7, color=COLOURS[verdict.label])
    figure.supxlabel("loss (nats), falling", fontsize=8)
    figure.supylabel("score", fontsize=8)
    return figure


def write_pictures(found: Emergence, folder: Path) -> list[Path]:
    """curves.png, twins.png and against_loss.png in `folder`, as far as the table has them."""
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: no such folder")
    drawn = {"curves": small_curves(found), "twins": twin_curves(found), "against_loss": loss_curves(found)}
    written = []
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(folder / f"emergence_{name}.png", dpi=110)
            written.append(folder / f"emergence_{name}.png")
    return written


def _panels(count: int, columns: int) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.6 * columns, 2.0 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels


def _seeds_and_band(panel: Axes, verdict: Verdict, colour: str, label: str | None) -> None:
    curve = verdict.curve
    mean, band = score_and_band(verdict)
    panel.fill_between(curve.size, mean - band, mean + band, color=colour, alpha=0.2, lw=0)
    for seed in curve.shift + curve.scale * curve.score:
        panel.plot(curve.size, seed, ".", color=colour, ms=3, alpha=0.6)
    panel.plot(curve.size, mean, "-", color=colour, lw=1, label=label)
