"""Draw loss against compute: every run, the law of the small ones, and the held-out target with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.forecasting.forecast import Prediction
from analysis.forecasting.target import CUT, Target

# Of the forecasts of one target, the nearest first.
COLOURS = (style.RED, style.PURPLE, style.GREEN)


@dataclass(frozen=True)
class HeldOutLaw:
    """The law that was fitted below the cut, as it is drawn, and what was said of the target.

    `said`: each forecast with its cut (runs of at most 1/cut of the target's compute; None: all), nearest first.
    `below, used` [rows]: which rows the first might see, and which it kept. `lines`: for each model size, compute
    (FLOPs) [points] and its law's loss there.
    """

    said: tuple[tuple[float | None, Prediction], ...]
    below: np.ndarray
    used: np.ndarray
    lines: Mapping[float, tuple[np.ndarray, np.ndarray]]


def loss_compute_data(
    rows: pd.DataFrame, lost: pd.DataFrame, target: Target | None, law: HeldOutLaw | None
) -> pd.DataFrame:
    """Make the table that `loss_compute` draws: one row a mark, told apart by `series`.

    run: a finished run (positive params, flops and loss), with the `use` that the forecast made of it: used,
    unseen, or left out. lost: where a run diverged or failed. law: the law along a size. cut: the compute that a
    forecast sees. forecast: its loss, `lower`, `upper` at `level`. measured: a run of the target.
    """
    everything = np.ones(len(rows), dtype=bool)
    below, used = (law.below, law.used) if law is not None else (everything, everything)
    use = np.where(used, "used", np.where(below, "left out", "unseen"))
    parts = [style.about(rows).assign(series="run", use=use)]
    parts.append(style.about(lost).assign(series="lost"))
    for size, (flops, loss) in (law.lines if law is not None else {}).items():
        parts.append(pd.DataFrame({"series": "law", "params": size, "flops": flops, "loss": loss}))
    if target is not None:
        cuts = [cut for cut, _ in law.said if cut] if law is not None else [CUT]
        edges = [target.flops / cut for cut in cuts]
        parts.append(pd.DataFrame({"series": "cut", "flops": edges, "cut": cuts}))
    if target is not None and law is not None:
        about_target = {"params": target.params, "tokens": target.tokens, "flops": target.flops}
        said = [
            {
                "series": "forecast",
                "cut": cut,
                "loss": p.loss,
                "lower": p.lower,
                "upper": p.upper,
                "level": p.level,
            }
            for cut, p in law.said
        ]
        seeds = target.seeds or (None,) * len(target.losses)
        measured = [
            {"series": "measured", "loss": loss, "seed": seed}
            for loss, seed in zip(target.losses, seeds, strict=True)
        ]
        parts.append(pd.DataFrame([*said, *measured]).assign(**about_target))
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    columns = ["series", "use", *style.about(rows).columns, "cut", "lower", "upper", "level"]
    return data.reindex(columns=columns).astype(dict.fromkeys(["cut", "lower", "upper", "level"], float))


def loss_compute(data: pd.DataFrame, compute: str, loss_name: str, ax: Any = None) -> Figure:
    """Draw loss against training compute from `loss_compute_data`: every run and seed, the law's lines, the target.

    The narrow panel is the target on a scale of its own. `ax`: two axes where there is a forecast, else one.
    """
    of = dict(tuple(data.groupby("series")))
    rows, lost, none = of["run"], of.get("lost", data.iloc[:0]), data.iloc[:0]
    said, measured, cuts = (of.get(name, none) for name in ("forecast", "measured", "cut"))
    # The main panel is so wide that its letters can be read where a phone shows it alone.
    width, ratios = (7.4, (3, 1)) if len(said) else (5.6, (1,))
    fig, axes = style.panels(
        ax,
        len(ratios),
        lambda: style.figure(width, 4.6).subplots(1, len(ratios), squeeze=False, width_ratios=ratios),
    )
    main = axes[0]
    colours = style.size_colours(sorted(rows["params"].unique()))
    for size, line in of.get("law", none).groupby("params"):
        colour = colours.get(cast(float, size), style.GREY)
        main.plot(line["flops"], line["loss"], color=colour, lw=1.0, alpha=0.8, zorder=2)
    for mark, use in (("filled", "used"), ("cross", "left out"), ("hollow", "unseen")):
        style.points(main, rows[rows["use"] == use], "flops", "loss", colours, mark)
    top = float(rows["loss"].max()) * 1.03
    _crosses(main, lost, top)
    low, most = float(rows["loss"].min()), float(rows["flops"].max())
    _cut(main, rows, cuts)
    if len(said):
        # A bound far below every run would flatten them all; then its bar runs out of the picture.
        low = min(low, max(float(said["lower"].min()), 0.7 * low))
        _target(main, said, measured)
        most = max(most, float(said["flops"].iloc[0]))
    main.set_xlim(rows["flops"].min() / 1.6, most * 1.8)
    # Of the lowest run the name hangs above the axis.
    bottom = low * min(0.94, (low / top) ** 0.1)
    main.set_ylim(bottom, top * 1.03)
    if len(said):
        _magnified(axes[1], said, measured, np.log(top * 1.03 / bottom))
    style.log_axis(main, "x")
    style.log_axis(main, "y")
    main.set_xlabel(f"training compute C (FLOPs, {compute})")
    main.set_ylabel(loss_name)
    _size_labels(main, rows)
    handles = _key(set(rows["use"]), len(lost) > 0, [_of(cut) for cut in said["cut"]])
    if ax is None:
        fig.legend(handles=handles, loc="outside lower center", ncols=4)
    else:
        main.legend(handles=handles)
    return fig


def _cut(ax: Axes, rows: pd.DataFrame, cuts: pd.DataFrame) -> None:
    """Shade the side that each forecast sees."""
    for edge, cut in zip(cuts["flops"].tolist(), cuts["cut"].tolist(), strict=True):
        if not (rows["flops"] <= edge).any():
            continue
        ax.axvspan(rows["flops"].min() / 1.6, edge, color=style.BLUE, alpha=0.07, lw=0, zorder=0)
        ax.axvline(edge, color=style.BLUE, lw=0.8, ls=(0, (4, 3)), zorder=1)
        said = f"C ≤ target / {cut:g}"
        if len(cuts) == 1:
            said = f"the forecast sees only this side\n({said})"
        ax.annotate(
            said,
            (edge, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            va="bottom",
            # Of two lines that are near, what is written at one may not cross the other.
            rotation=0 if len(cuts) == 1 else 90,
            fontsize=8,
            color=style.BLUE,
        )


def _crosses(ax: Axes, lost: pd.DataFrame, top: float) -> None:
    """Mark runs that were lost, where they stopped; beyond the top of the axis, at the top."""
    known = lost[lost["flops"].gt(0)] if "flops" in lost.columns else lost.iloc[:0]
    if len(known):
        height = known["loss"].fillna(np.inf).clip(upper=top)
        look: dict[str, Any] = {"marker": "X", "s": 64, "color": style.RED, "edgecolors": style.PAPER}
        drawn = ax.scatter(known["flops"], height, linewidths=0.6, zorder=5, **look)
        style.tell(drawn, [f"{said}, diverged or failed" for said in style.told(known)])


def _target(ax: Axes, said: pd.DataFrame, measured: pd.DataFrame) -> None:
    for n, p in enumerate(style.marks(said)):
        # Side by side, as in the magnified panel.
        x = p.flops * 1.13 ** (n - (len(said) - 1) / 2)
        words = f"forecast from {_of(p.cut)}, {style.between(p.loss, p.lower, p.upper, p.level)}"
        style.interval_bar(ax, x, p.loss, p.lower, p.upper, words, COLOURS[n % len(COLOURS)])
    _stars(ax, measured["flops"].tolist(), measured, 81)


def _stars(ax: Axes, x: Sequence[float], measured: pd.DataFrame, size: float) -> None:
    """Draw what was measured of the target, each run a star of so many square points."""
    drawn = ax.scatter(x, measured["loss"], marker="*", s=size, color=style.INK, linewidths=0, zorder=7)
    named = style.told(measured.assign(run_id=""))
    style.tell(drawn, [f"measured target, {said.removeprefix(': ')}" for said in named])


def _magnified(ax: Axes, forecasts: pd.DataFrame, measured: pd.DataFrame, around: float) -> None:
    """Draw the target on a scale of its own, a column a forecast; `around` is the main panel's height in log loss.

    The panel shows what was predicted and measured and as much of the intervals as leaves it a magnification: a
    wider interval runs out of it, and its bounds are written.
    """
    said, losses = style.marks(forecasts), measured["loss"].tolist()
    points = [*(p.loss for p in said), *losses]
    margin = max(0.5 * (max(points) - min(points)), 0.004 * said[0].loss)
    low, high = min(points) - margin, max(points) + margin
    least = float(np.exp(-around / 4))
    for p in said:
        if p.lower > least * max(points) and p.upper < min(points) / least:
            low, high = min(low, p.lower - 0.2 * margin), max(high, p.upper + 0.2 * margin)
    gap = 0.2 if len(said) > 1 else 0.0
    edges = np.linspace(0.0, 1.0 + gap, len(said) + 1)
    for n, p in enumerate(said):
        colour, left, right = COLOURS[n % len(COLOURS)], edges[n], edges[n + 1] - gap
        ax.fill_between([left, right], max(p.lower, low), min(p.upper, high), color=colour, alpha=0.15, lw=0)
        ax.plot([left, right], [p.loss, p.loss], color=colour, lw=1.4, solid_capstyle="butt")
    reach = 0.08 if gap else 0.2
    across = np.linspace(0.5 - reach, 0.5 + reach, len(losses)) if len(losses) > 1 else [0.5]
    _stars(ax, list(across[: len(losses)]), measured, 121)
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    ax.set_ylim(low, high)
    ax.yaxis.tick_right()
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.spines["right"].set_visible(True)
    times = around / np.log(high / low) if low > 0 else 0.0
    scale = f"magnified {times:.2g}×" if times > 1.05 else "on its own scale"
    ax.set_title("\n".join([f"target, {scale}", *_errors(forecasts, losses)]), color=style.INK)
    wide = [p for p in said if p.lower < low or p.upper > high]
    beyond = "".join(f"\n{p.lower:.4g} to {p.upper:.4g}" for p in wide)
    stars = "star: measured" if len(losses) == 1 else "stars: measured, each run"
    order = "" if len(said) == 1 else "\nleft to right: " + ", ".join(_of(p.cut) for p in said)
    band = f"line: forecast{order}\nband: {said[0].level:.0%} interval{beyond}"
    ax.set_xlabel(f"{band}\n{stars}" if losses else f"{band}\nnot measured yet", fontsize=8)
    ax.tick_params(axis="y", labelsize=8)


def _errors(said: pd.DataFrame, losses: Sequence[float]) -> list[str]:
    """Say how far each forecast was off the mean of what was measured."""
    if not losses:
        return []
    off = [f"{error:+.2f}%" for error in 100 * (said["loss"] / np.mean(losses) - 1)]
    if len(off) == 1:
        return [f"forecast {off[0]}"]
    return [f"{_of(cut)}: {error}" for cut, error in zip(said["cut"], off, strict=True)]


def _of(cut: float) -> str:
    return f"C/{cut:g}" if np.isfinite(cut) else "all runs"


def _size_labels(ax: Axes, rows: pd.DataFrame) -> None:
    """Name each size left below its longest run, where that covers no run and no other name."""

    def place(flops: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """Return positions as fractions of the axes."""
        points = ax.transData.transform(np.column_stack([flops, loss]))
        return np.asarray(ax.transAxes.inverted().transform(points))

    ends = rows.loc[rows.groupby("params")["flops"].idxmax()].sort_values("params", ascending=False)
    ends = ends.iloc[:: -(-len(ends) // style.MANY_SIZES)]
    runs = place(rows["flops"].to_numpy(), rows["loss"].to_numpy())
    corners = place(ends["flops"].to_numpy(), ends["loss"].to_numpy())
    width, height = np.asarray([0.07, 0.04])
    named: list[np.ndarray] = []
    said: set[str] = set()
    for params, corner in zip(ends["params"].tolist(), corners, strict=True):
        # The name's box hangs from its corner; the run itself sits just outside of it.
        inside = (np.abs(runs[:, 0] - corner[0] + width / 2 + 0.006) < width / 2) & (
            np.abs(runs[:, 1] - corner[1] + height / 2 + 0.012) < height / 2
        )
        close = any(abs(corner[0] - x) < width and abs(corner[1] - y) < height for x, y in named)
        name = style.count(params)
        if inside.any() or close or name in said:
            continue
        said.add(name)
        ax.annotate(
            name if named else f"N = {name}",
            tuple(corner),
            xycoords="axes fraction",
            xytext=(-5, -5),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7.5,
            color=style.GREY,
        )
        named.append(corner)


def _key(uses: set[str], lost: bool, said: Sequence[str]) -> list[Line2D]:
    """List the marks that occur, with their meaning; `said` names the runs that each forecast saw."""
    grey: dict[str, Any] = {"color": style.GREY, "ls": ""}
    handles = []
    if not said:
        handles.append(Line2D([], [], marker="o", label="run", **grey))
    else:
        handles.append(Line2D([], [], marker="o", label="run the forecast used", **grey))
        if "left out" in uses:
            handles.append(Line2D([], [], marker="x", mew=1.4, label="left out: another regime", **grey))
        of = "its law, size by size" if len(said) == 1 else f"the law of {said[0]}, by size"
        handles += [
            Line2D([], [], marker="o", mfc=style.PAPER, mew=1.2, label="run it did not see", **grey),
            Line2D([], [], color=style.GREY, lw=1, label=of),
        ]
        look: dict[str, Any] = {"marker": "D", "mfc": style.PAPER, "mew": 1.4, "lw": 1.4}
        for n, name in enumerate(said):
            label = f"forecast from {name}" if len(said) > 1 else "forecast"
            handles.append(Line2D([], [], color=COLOURS[n % len(COLOURS)], label=label, **look))
        handles.append(Line2D([], [], marker="*", ms=9, color=style.INK, ls="", label="measured target"))
    if lost:
        handles.append(Line2D([], [], marker="X", ms=8, color=style.RED, ls="", label="diverged or failed"))
    return handles
