"""Draw whole loss curves with their law, and the collapse of normalised curves with the rungs that leave it."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.curves.curves import Curves
from analysis.curves.schedule import Schedule
from analysis.figures import style


def write_curves(found: Curves, folder: Path) -> list[Path]:
    """Write curves.svg, curves.png and, where sizes share a horizon, collapse.svg and collapse.png."""
    with style.styled():
        paths = style.write(plot_curves(found), folder, "curves")
        return paths + (style.write(plot_collapse(found), folder, "collapse") if found.collapse else [])


def plot_curves(found: Curves) -> Figure:
    """Draw every evaluation, a colour a size, the law along each schedule, and what was predicted."""
    figure, axis = style.axes(None, style.WIDTH, 4.6)
    points = found.points
    tokens = points.x["tokens"]
    sizes = np.unique(points.x["params"])
    colours = style.size_colours(sizes.tolist())
    for size, params in enumerate(sizes.tolist()):
        mine = points.size == size
        for schedule in dict.fromkeys(s for s, own in zip(points.schedules, mine, strict=True) if own):
            alike = mine & np.array([s == schedule for s in points.schedules])
            at = np.linspace(tokens[mine].min(), min(schedule.horizon, tokens[alike].max()), 80)
            axis.plot(at, _law(found, params, size, schedule, at), color=colours[params], lw=0.9, alpha=0.8)
    for falling, mark in ((False, "hollow"), (True, "filled")):
        rows = points.falling == falling
        frame = points.table[rows].assign(tokens=tokens[rows], params=points.x["params"][rows])
        style.points(axis, frame, "tokens", "loss", colours, mark)
    for p in found.predictions:
        style.interval_bar(axis, p.tokens, p.loss, p.lower, p.upper)
    style.log_axis(axis, "x", counts=True)
    style.log_axis(axis, "y")
    law = found.fitted.law.name
    axis.set(
        xlabel="tokens",
        ylabel="loss",
        title=f"{law}, {len(points)} evaluations (hollow: constant rate, filled: it falls); lines: the law",
    )
    style.size_legend(axis, colours, "params")
    return figure


def _law(found: Curves, params: float, size: int, schedule: Schedule, at: np.ndarray) -> np.ndarray:
    """Compute a rung's loss along a schedule: the law with what is known of the rung, of no run in particular."""
    read = [{"params": params, **schedule.columns(tokens)} for tokens in at.tolist()]
    x = {name: np.array([row[name] for row in read]) for name in read[0]}
    return np.exp(found.fitted.predict(x, np.full(len(at), size), np.full(len(at), -1))[0][0])


def plot_collapse(found: Curves) -> Figure:
    """Draw the normalised curves of all sizes, and how far each is from the others beside what seeds leave open."""
    assert found.collapse is not None
    figure = style.figure(style.WIDTH, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    rungs = found.collapse.rungs
    colours = style.size_colours([rung.params for rung in rungs])
    for rung in rungs:
        colour = style.RED if rung.left else colours[rung.params]
        left.plot(rung.share, rung.measured, color=colour, lw=2.0 if rung.left else 1.1)
        left.plot(rung.share, rung.law, color=colour, lw=0.9, ls=":")
    horizon = style.count(found.collapse.horizon)
    left.set(
        xlabel=f"share t of {horizon} tokens",
        ylabel=f"(L(t) - E) / (L(1) - E),  E = {found.collapse.floor:.3g}",
        title="normalised curves, mean of seeds; dotted: the law's",
    )
    style.log_axis(left, "x")
    style.log_axis(left, "y")
    _deviations(right, found)
    return figure


def _deviations(axis: Axes, found: Curves) -> None:
    assert found.collapse is not None
    rungs = found.collapse.rungs
    colours = style.size_colours([rung.params for rung in rungs])
    for rung in rungs:
        colour = style.RED if rung.left else colours[rung.params]
        axis.errorbar(
            [rung.params],
            [100 * rung.deviation],
            yerr=[100 * rung.noise],
            fmt="o",
            ms=4,
            color=colour,
            capsize=3,
            lw=1.2,
        )
        if rung.left:
            axis.annotate(
                "left the collapse",
                (rung.params, 100 * rung.deviation),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=style.RED,
                fontsize=8,
            )
    axis.axhline(0.0, color=style.GREY, lw=1, zorder=0)
    axis.set_xlim(min(colours) / 1.6, max(colours) * 1.6)
    axis.set(
        xlabel="params", ylabel="% of the reducible loss", title="distance from the collapse, ± its noise"
    )
    style.log_axis(axis, "x", counts=True)
