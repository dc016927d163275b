"""Draw one fitted law: the fit, its residuals, profiles of its parameters, contours of L(N, D)."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import UserError
from analysis.figures import style
from analysis.fitting.profile import profile
from analysis.fitting.result import Fit
from analysis.forecasting.cost import cost_model, split

SIZE = (6.4, 4.2)
# A legend below the axes covers no run and no label of a contour.
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}


def write_law_plots(fitted: Fit, folder: str | Path) -> list[Path]:
    """Write fit.png, residuals.png, profile.png and, for a law of params and tokens, contours.png."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--plots {folder}: no such folder")
    with style.styled():
        figures = {"fit": plot_fit(fitted), "residuals": plot_residuals(fitted)}
        names = [n for n in ("alpha", "beta", "b", "k", "E") if n in fitted.params]
        if fitted.form.structure is not None and names:
            figures["profile"] = plot_profile(fitted, names[:2])
        if set(fitted.form.columns) == {"params", "tokens"}:
            figures["contours"] = plot_contours(fitted)
        paths = []
        for name, figure in figures.items():
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=110, metadata={"Software": None})
    return paths


def plot_fit(fitted: Fit, ax: Axes | None = None) -> Figure:
    """Draw observed against predicted loss, on the line where they are equal."""
    figure, axis = style.axes(ax, *SIZE)
    predicted = fitted.predict(fitted.observations.x)
    known = bool(np.isfinite(fitted.observations.flops).all())
    colour = np.log10(fitted.observations.flops) if known else None
    points = axis.scatter(
        predicted, fitted.observations.loss, c=colour, s=14, cmap=style.SIZES if known else None
    )
    ends = [predicted.min(), predicted.max()]
    axis.plot(ends, ends, color=style.GREY, linewidth=1, zorder=0, label="observed = predicted")
    axis.set(
        xscale="log", yscale="log", xlabel="predicted loss", ylabel="observed loss", title=_title(fitted)
    )
    style.log_axis(axis, "x")
    style.log_axis(axis, "y")
    axis.legend(loc="upper left")
    if known:
        figure.colorbar(points, ax=axis, label="log10 FLOPs")
    return figure


def plot_residuals(fitted: Fit, ax: Axes | None = None) -> Figure:
    """Draw log(observed / predicted) in percent against compute: a shape here is a wrong law."""
    figure, axis = style.axes(ax, *SIZE)
    residual = 100 * fitted.residuals()
    known = np.isfinite(fitted.observations.flops).all()
    x = fitted.observations.flops if known else fitted.predict(fitted.observations.x)
    colour = fitted.observations.x.get("params")
    shade = None if colour is None else np.log10(colour)
    points = axis.scatter(x, residual, s=14, c=shade, cmap=None if shade is None else style.SIZES)
    axis.axhline(0.0, color=style.GREY, linewidth=1)
    spread = 100 * np.median(np.abs(fitted.residuals())) * 1.4826
    label = f"± {spread:.2g}%: a standard deviation, from the median size"
    axis.axhspan(-spread, spread, color=style.FAINT, alpha=0.6, zorder=0, label=label)
    axis.legend(**BELOW)
    axis.set(
        xscale="log",
        xlabel="FLOPs" if known else "predicted loss",
        ylabel="residual, % of loss",
        title=_title(fitted),
    )
    style.log_axis(axis, "x")
    if colour is not None:
        figure.colorbar(points, ax=axis, label="log10 params")
    return figure


def plot_profile(fitted: Fit, names: list[str]) -> Figure:
    """Draw the objective with each of `names` held at a value, all else fitted again, and its resamples."""
    figure = style.figure(SIZE[0], SIZE[1] * 0.8)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        found = profile(fitted, name)
        axis.plot(found.values, found.objective / fitted.value, color=style.BLUE, label="objective")
        axis.axvline(fitted.params[name], color=style.GREY, linewidth=1, label="the fit")
        if len(fitted.draws) > 1:
            beside = axis.twinx()
            draws = fitted.draws[:, fitted.form.names.index(name)]
            inside = draws[(draws >= found.values[0]) & (draws <= found.values[-1])]
            beside.hist(inside, bins=25, color=style.ORANGE, alpha=0.35)
            beside.set_yticks([])
            # An empty patch, for the legend belongs to the axis of the objective.
            axis.fill_between([], [], color=style.ORANGE, alpha=0.35, label="its resamples")
        axis.set(xlabel=name, title=f"profile of {name}")
    axes[0].set_ylabel("objective / least objective")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def plot_contours(fitted: Fit, ax: Axes | None = None) -> Figure:
    """Draw contours of L(N, D), the runs, and the compute-optimal path under the table's cost."""
    figure, axis = style.axes(ax, *SIZE)
    observations = fitted.observations
    params, tokens = observations.x["params"], observations.x["tokens"]
    n = np.geomspace(params.min() / 2, params.max() * 4, 120)
    d = np.geomspace(tokens.min() / 2, tokens.max() * 4, 120)
    loss = fitted.form.predict(fitted.params, {"params": n[:, None], "tokens": d[None, :]})
    lines = axis.contour(n, d, loss.T, levels=14, linewidths=0.8, cmap=style.SIZES)
    axis.clabel(lines, fontsize=7)
    axis.scatter(params, tokens, s=10, color=style.INK, zorder=3, label="runs")
    _path(axis, fitted)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="params N",
        ylabel="tokens D",
        title=_title(fitted),
        xlim=(n[0], n[-1]),
        ylim=(d[0], d[-1]),
    )
    style.log_axis(axis, "x", counts=True)
    style.log_axis(axis, "y", counts=True)
    axis.legend(ncols=2, **BELOW)
    return figure


def _path(axis: Axes, fitted: Fit) -> None:
    """Draw the best split of each budget, where the law and the table's cost have one."""
    observations = fitted.observations
    cost = cost_model(observations)
    if not np.isfinite(observations.flops).all():
        return
    budgets = np.geomspace(observations.flops.min(), 10 * observations.flops.max(), 40)
    with contextlib.suppress(UserError):
        best, rule = split(fitted, cost, budgets)
        label = f"least loss for its compute, C =\n{cost.source}{rule}"
        axis.plot(best["params"], best["tokens"], color=style.RED, linewidth=2, label=label)


def _title(fitted: Fit) -> str:
    return f"{fitted.form.name}, {len(fitted.observations)} runs"
