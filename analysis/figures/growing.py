"""Draw the loss curves of a ladder that still trains."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style


def loss_curves(data: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw loss over tokens, a colour a size (column params), on new axes or on `ax`.

    `data` has a row a point: run_id, params, tokens, loss, and `series`: evaluated (on held-out text: a line with
    dots) or batch (of a run that goes on: a thin line).
    """
    fig, axis = style.axes(ax, style.WIDTH, 3.6)
    colours: dict[Any, style.Colour] = dict(style.size_colours(sorted(data["params"].unique())))
    for (_, params, series), run in data.groupby(["run_id", "params", "series"]):
        colour = colours[params]
        if series == "batch":
            axis.plot(run["tokens"], run["loss"], color=colour, lw=0.6, alpha=0.6)
        else:
            axis.plot(run["tokens"], run["loss"], "o-", color=colour, lw=0.9, ms=2.5)
    style.log_axis(axis, "x", counts=True)
    style.log_axis(axis, "y")
    axis.set_xlabel("tokens")
    axis.set_ylabel("loss (nats)")
    style.size_legend(axis, colours, "parameters N")
    return fig
