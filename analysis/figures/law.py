"""Draw one fitted law: the fit, its residuals, profiles of its parameters, contours of L(N, D)."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import UserError
from analysis.figures import style
from analysis.fitting.profile import profile
from analysis.fitting.result import Fit
from analysis.forecasting.cost import cost_model, split

SIZE = (6.4, 4.2)
# Points a side at which contours look smooth: 60 x 60 losses are a tenth of a megabyte of CSV.
GRID = 60
# A legend below the axes covers no run and no label of a contour.
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}


def write_law_plots(fitted: Fit, folder: str | Path) -> list[Path]:
    """Write fit, residuals, profile and, for a law of params and tokens, contours: the pictures and their data."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--plots {folder}: no such folder")
    title, rows = _title(fitted), fit_data(fitted)
    paths = []
    with style.styled():
        paths += style.write(draw_fit(rows, title), rows, folder, "fit")
        paths += style.write(draw_residuals(rows, title), rows, folder, "residuals")
        names = [n for n in ("alpha", "beta", "b", "k", "E") if n in fitted.params]
        if fitted.form.structure is not None and names:
            data = profile_data(fitted, names[:2])
            paths += style.write(draw_profile(data), data, folder, "profile")
        if set(fitted.form.columns) == {"params", "tokens"}:
            data = contours_data(fitted)
            paths += style.write(draw_contours(data, title), data, folder, "contours")
    return paths


def fit_data(fitted: Fit) -> pd.DataFrame:
    """Make the table of `draw_fit` and `draw_residuals`: of each row what the law reads, its flops (where known),
    loss, predicted loss, and log(loss / predicted) in percent."""
    rows = fitted.observations
    columns = {**rows.x, "flops": rows.flops, "loss": rows.loss, "predicted": fitted.predict(rows.x)}
    return pd.DataFrame(columns, index=rows.labels).assign(percent=100 * fitted.residuals())


def plot_fit(fitted: Fit, ax: Axes | None = None) -> Figure:
    """Draw observed against predicted loss, on the line where they are equal."""
    return draw_fit(fit_data(fitted), _title(fitted), ax)


def draw_fit(data: pd.DataFrame, title: str, ax: Axes | None = None) -> Figure:
    """Draw observed against predicted loss from `fit_data`, on new axes or on `ax`."""
    figure, axis = style.axes(ax, *SIZE)
    known = bool(np.isfinite(data["flops"]).all())
    colour = np.log10(data["flops"]) if known else None
    points = axis.scatter(
        data["predicted"], data["loss"], c=colour, s=14, cmap=style.SIZES if known else None
    )
    style.tell(points, style.told(style.about(data)))
    ends = [data["predicted"].min(), data["predicted"].max()]
    axis.plot(ends, ends, color=style.GREY, linewidth=1, zorder=0, label="observed = predicted")
    axis.set(xscale="log", yscale="log", xlabel="predicted loss", ylabel="observed loss", title=title)
    style.log_axis(axis, "x")
    style.log_axis(axis, "y")
    axis.legend(loc="upper left")
    if known:
        figure.colorbar(points, ax=axis, label="log10 FLOPs")
    return figure


def plot_residuals(fitted: Fit, ax: Axes | None = None) -> Figure:
    """Draw log(observed / predicted) in percent against compute: a shape here is a wrong law."""
    return draw_residuals(fit_data(fitted), _title(fitted), ax)


def draw_residuals(data: pd.DataFrame, title: str, ax: Axes | None = None) -> Figure:
    """Draw the residuals of `fit_data`, on new axes or on `ax`."""
    figure, axis = style.axes(ax, *SIZE)
    known = bool(np.isfinite(data["flops"]).all())
    shade = np.log10(data["params"]) if "params" in data else None
    points = axis.scatter(
        data["flops" if known else "predicted"],
        data["percent"],
        s=14,
        c=shade,
        cmap=None if shade is None else style.SIZES,
    )
    style.tell(points, style.told(style.about(data)))
    axis.axhline(0.0, color=style.GREY, linewidth=1)
    spread = np.median(np.abs(data["percent"])) * 1.4826
    label = f"± {spread:.2g}%: a standard deviation, from the median size"
    axis.axhspan(-spread, spread, color=style.FAINT, alpha=0.6, zorder=0, label=label)
    axis.legend(**BELOW)
    axis.set(
        xscale="log",
        xlabel="FLOPs" if known else "predicted loss",
        ylabel="residual, % of loss",
        title=title,
    )
    style.log_axis(axis, "x")
    if shade is not None:
        figure.colorbar(points, ax=axis, label="log10 params")
    return figure


def profile_data(fitted: Fit, names: Sequence[str]) -> pd.DataFrame:
    """Make the table of `draw_profile`: of each parameter the `ratio` of the objective to its least by `value`, and
    the values of the resamples within that range; `series` is objective, fit or resample."""
    parts = []
    for name in names:
        found = profile(fitted, name)
        ratio = found.objective / fitted.value
        parts.append(pd.DataFrame({"series": "objective", "value": found.values, "ratio": ratio}))
        parts.append(pd.DataFrame({"series": "fit", "value": [fitted.params[name]], "ratio": 1.0}))
        draws = fitted.draws[:, fitted.form.names.index(name)] if len(fitted.draws) > 1 else np.zeros(0)
        inside = draws[(draws >= found.values[0]) & (draws <= found.values[-1])]
        parts.append(pd.DataFrame({"series": "resample", "value": inside}))
        for part in parts[-3:]:
            part.insert(0, "parameter", name)
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def plot_profile(fitted: Fit, names: Sequence[str], ax: Any = None) -> Figure:
    """Draw the objective with each of `names` held at a value, all else fitted again, and its resamples."""
    return draw_profile(profile_data(fitted, names), ax)


def draw_profile(data: pd.DataFrame, ax: Any = None) -> Figure:
    """Draw `profile_data`, on new axes or on as many as it has parameters."""
    groups = list(data.groupby("parameter", sort=False))
    figure, axes = style.panels(
        ax, len(groups), lambda: style.figure(SIZE[0], SIZE[1] * 0.8).subplots(1, len(groups))
    )
    for axis, (name, rows) in zip(axes, groups, strict=True):
        line, fit, draws = (rows[rows["series"] == series] for series in ("objective", "fit", "resample"))
        axis.plot(line["value"], line["ratio"], color=style.BLUE, label="objective")
        axis.axvline(fit["value"].iloc[0], color=style.GREY, linewidth=1, label="the fit")
        if len(draws):
            beside = axis.twinx()
            beside.hist(draws["value"], bins=25, color=style.ORANGE, alpha=0.35)
            beside.set_yticks([])
            # An empty patch, for the legend belongs to the axis of the objective.
            axis.fill_between([], [], color=style.ORANGE, alpha=0.35, label="its resamples")
        axis.set(xlabel=name, title=f"profile of {name}")
    axes[0].set_ylabel("objective / least objective")
    handles, labels = axes[0].get_legend_handles_labels()
    if ax is None:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def contours_data(fitted: Fit) -> pd.DataFrame:
    """Make the table of `draw_contours`: the law's loss on a grid, the runs, and the path of least loss for its
    compute under the cost that `cost` names, where there is one; `series` is grid, run or path."""
    observations = fitted.observations
    params, tokens = observations.x["params"], observations.x["tokens"]
    n = np.geomspace(params.min() / 2, params.max() * 4, GRID)
    d = np.geomspace(tokens.min() / 2, tokens.max() * 4, GRID)
    grid = pd.DataFrame({"series": "grid", "params": np.repeat(n, GRID), "tokens": np.tile(d, GRID)})
    parts = [
        grid.assign(loss=fitted.predict(grid)),
        style.about(fit_data(fitted)).drop(columns="flops").assign(series="run"),
    ]
    if np.isfinite(observations.flops).all():
        cost = cost_model(observations)
        budgets = np.geomspace(observations.flops.min(), 10 * observations.flops.max(), 40)
        with contextlib.suppress(UserError):
            best, rule = split(fitted, cost, budgets)
            said = f"least loss for its compute, C =\n{cost.source}{rule}"
            path = pd.DataFrame({"series": "path", "params": best["params"], "tokens": best["tokens"]})
            parts.append(path.assign(cost=said, loss=fitted.predict(path)))
    return pd.concat(parts, ignore_index=True)


def plot_contours(fitted: Fit, ax: Axes | None = None) -> Figure:
    """Draw contours of L(N, D), the runs, and the compute-optimal path under the table's cost."""
    return draw_contours(contours_data(fitted), _title(fitted), ax)


def draw_contours(data: pd.DataFrame, title: str, ax: Axes | None = None) -> Figure:
    """Draw `contours_data`, on new axes or on `ax`."""
    figure, axis = style.axes(ax, *SIZE)
    runs, path = (data[data["series"] == series] for series in ("run", "path"))
    grid = data[data["series"] == "grid"].pivot(index="tokens", columns="params", values="loss")
    n, d = grid.columns.to_numpy(dtype=float), grid.index.to_numpy(dtype=float)
    lines = axis.contour(n, d, grid.to_numpy(), levels=14, linewidths=0.8, cmap=style.SIZES)
    axis.clabel(lines, fontsize=7, colors=style.INK)
    points = axis.scatter(runs["params"], runs["tokens"], s=10, color=style.INK, zorder=3, label="runs")
    style.tell(points, style.told(runs))
    if len(path):
        label = path["cost"].iloc[0]
        axis.plot(path["params"], path["tokens"], color=style.RED, linewidth=2, label=label)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="params N",
        ylabel="tokens D",
        title=title,
        xlim=(n[0], n[-1]),
        ylim=(d[0], d[-1]),
    )
    style.log_axis(axis, "x", counts=True)
    style.log_axis(axis, "y", counts=True)
    axis.legend(ncols=2, **BELOW)
    return figure


def _title(fitted: Fit) -> str:
    return f"{fitted.form.name}, {len(fitted.observations)} runs"
