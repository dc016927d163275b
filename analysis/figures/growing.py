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
    # Not wider than a phone can show with letters that can be read.
    fig, axis = style.axes(ax, 5.6, 4.0)
    colours: dict[Any, style.Colour] = dict(style.size_colours(sorted(data["params"].unique())))
    for (_, params, series), run in data.groupby(["run_id", "params", "series"]):
        colour = colours[params]
        look: dict[str, Any] = {"lw": 0.6, "alpha": 0.6}
        if series != "batch":
            look = {"lw": 0.9, "marker": "o", "ms": 2.5}
        (line,) = axis.plot(run["tokens"], run["loss"], color=colour, **look)
        # A run has words, not each of its dots: hundreds of runs are sent again with every renewal.
        style.tell(line, style.told(run.tail(1)))
    style.log_axis(axis, "x", counts=True)
    style.log_axis(axis, "y")
    axis.set_xlabel("tokens")
    axis.set_ylabel("loss (nats)")
    handles = style.size_swatches(colours)
    handles[0].set_label(f"N = {handles[0].get_label()}")
    if ax is None:
        fig.legend(handles=handles, loc="outside lower center", ncols=5)
    else:
        axis.legend(handles=handles)
    return fig
