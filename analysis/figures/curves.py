"""Draw whole loss curves with their law, and the collapse of normalised curves with the rungs that leave it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.curves.curves import Curves
from analysis.curves.schedule import Schedule
from analysis.figures import style


def write_curves(found: Curves, folder: Path) -> list[Path]:
    """Write curves.* and, where sizes share a horizon, collapse.*: the pictures and their data."""
    data = curves_data(found)
    with style.styled():
        paths = style.write(draw_curves(data), data, folder, "curves")
        if found.collapse is not None:
            data = collapse_data(found)
            paths += style.write(draw_collapse(data), data, folder, "collapse")
        return paths


def curves_data(found: Curves) -> pd.DataFrame:
    """Make the table that is drawn: `series` is constant or falls (an evaluation while the rate is constant, or
    while it falls), law (along a size's `schedule`) or forecast (`lower` to `upper`)."""
    points = found.points
    tokens = points.x["tokens"]
    sizes = np.unique(points.x["params"])
    measured = style.about(points.table).assign(
        series=np.where(points.falling, "falls", "constant"), params=points.x["params"], tokens=tokens
    )
    parts = [measured]
    for size, params in enumerate(sizes.tolist()):
        mine = points.size == size
        for number, schedule in enumerate(
            dict.fromkeys(s for s, own in zip(points.schedules, mine, strict=True) if own)
        ):
            alike = mine & np.array([s == schedule for s in points.schedules])
            at = np.linspace(tokens[mine].min(), min(schedule.horizon, tokens[alike].max()), 80)
            loss = _law(found, params, size, schedule, at)
            parts.append(
                pd.DataFrame(
                    {"series": "law", "params": params, "schedule": number, "tokens": at, "loss": loss}
                )
            )
    parts.append(
        pd.DataFrame(
            [
                {
                    "series": "forecast",
                    "params": p.params,
                    "tokens": p.tokens,
                    "loss": p.loss,
                    "lower": p.lower,
                    "upper": p.upper,
                }
                for p in found.predictions
            ],
            columns=["series", "params", "tokens", "loss", "lower", "upper"],
        )
    )
    return pd.concat([part for part in parts if len(part)], ignore_index=True).assign(
        law=found.fitted.law.name
    )


def plot_curves(found: Curves, ax: Axes | None = None) -> Figure:
    """Draw every evaluation, a colour a size, the law along each schedule, and what was predicted."""
    return draw_curves(curves_data(found), ax)


def draw_curves(data: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw `curves_data`, on new axes or on `ax`."""
    figure, axis = style.axes(ax, style.WIDTH, 4.6)
    sizes = data[data["series"] != "forecast"]["params"].unique().tolist()
    colours: dict[Any, style.Colour] = dict(style.size_colours(sizes))
    law = data[data["series"] == "law"]
    for (params, _), line in law.groupby(["params", "schedule"]):
        axis.plot(line["tokens"], line["loss"], color=colours[params], lw=0.9, alpha=0.8)
    for series, mark in (("constant", "hollow"), ("falls", "filled")):
        style.points(axis, data[data["series"] == series], "tokens", "loss", colours, mark)
    for p in style.marks(data[data["series"] == "forecast"]):
        words = (
            f"forecast, {style.count(p.params)} parameters, {style.count(p.tokens)} tokens, loss {p.loss:.4g}"
        )
        said = f"{words} ({p.lower:.4g} to {p.upper:.4g})"
        style.interval_bar(axis, p.tokens, p.loss, p.lower, p.upper, said)
    style.log_axis(axis, "x", counts=True)
    style.log_axis(axis, "y")
    count = int(data["series"].isin(["constant", "falls"]).sum())
    axis.set(
        xlabel="tokens",
        ylabel="loss",
        title=f"{data['law'].iloc[0]}, {count} evaluations (hollow: constant rate, filled: it falls); "
        "lines: the law",
    )
    style.size_legend(axis, colours, "params")
    return figure


def _law(found: Curves, params: float, size: int, schedule: Schedule, at: np.ndarray) -> np.ndarray:
    """Compute a rung's loss along a schedule: the law with what is known of the rung, of no run in particular."""
    read = [{"params": params, **schedule.columns(tokens)} for tokens in at.tolist()]
    x = {name: np.array([row[name] for row in read]) for name in read[0]}
    return np.exp(found.fitted.predict(x, np.full(len(at), size), np.full(len(at), -1))[0][0])


def collapse_data(found: Curves) -> pd.DataFrame:
    """Make the table that is drawn: of each size the normalised curve and the law's by `share` of the horizon; its
    `deviation` from the others and what seeds leave open (`noise`), in percent of the reducible loss."""
    assert found.collapse is not None
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "params": rung.params,
                    "share": rung.share,
                    "measured": rung.measured,
                    "law": rung.law,
                    "deviation": 100 * rung.deviation,
                    "noise": 100 * rung.noise,
                    "left": rung.left,
                }
            )
            for rung in found.collapse.rungs
        ],
        ignore_index=True,
    ).assign(horizon_tokens=found.collapse.horizon, floor=found.collapse.floor)


def plot_collapse(found: Curves, ax: Any = None) -> Figure:
    """Draw the normalised curves of all sizes, and how far each is from the others beside what seeds leave open."""
    return draw_collapse(collapse_data(found), ax)


def draw_collapse(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw `collapse_data`, on new axes or on the two of `ax`."""
    figure, (left, right) = style.panels(
        ax, 2, lambda: style.figure(style.WIDTH, 4.0).subplots(1, 2, width_ratios=(1.5, 1))
    )
    colours: dict[Any, style.Colour] = dict(style.size_colours(data["params"].unique().tolist()))
    for params, rung in data.groupby("params"):
        first = rung.iloc[0]
        colour = style.RED if first["left"] else colours[params]
        left.plot(rung["share"], rung["measured"], color=colour, lw=2.0 if first["left"] else 1.1)
        left.plot(rung["share"], rung["law"], color=colour, lw=0.9, ls=":")
        _deviation(right, float(first["params"]), first["deviation"], first["noise"], first["left"], colour)
    horizon, floor = style.count(data["horizon_tokens"].iloc[0]), data["floor"].iloc[0]
    left.set(
        xlabel=f"share t of {horizon} tokens",
        ylabel=f"(L(t) - E) / (L(1) - E),  E = {floor:.3g}",
        title="normalised curves, mean of seeds; dotted: the law's",
    )
    style.log_axis(left, "x")
    style.log_axis(left, "y")
    right.axhline(0.0, color=style.GREY, lw=1, zorder=0)
    right.set_xlim(min(colours) / 1.6, max(colours) * 1.6)
    right.set(
        xlabel="params", ylabel="% of the reducible loss", title="distance from the collapse, ± its noise"
    )
    style.log_axis(right, "x", counts=True)
    return figure


def _deviation(
    axis: Axes, params: float, deviation: float, noise: float, left: bool, colour: str | style.Colour
) -> None:
    axis.errorbar([params], [deviation], yerr=[noise], fmt="o", ms=4, color=colour, capsize=3, lw=1.2)
    if left:
        axis.annotate(
            "left the collapse",
            (params, deviation),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=style.RED,
            fontsize=8,
        )
