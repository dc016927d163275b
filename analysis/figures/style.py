"""Hold what the pictures share: size, colours for every eye and background, seeds' dots, log axes, files.

The colour of a seed's dot is decided here: SEED_DOT for the runs of one curve, `size_colours` where a picture shows
several model sizes. Figures are made without pyplot, so that drawing changes no global state and needs no display.
"""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from analysis.errors import UserError

# After Okabe and Ito (2008) and Tol (2021), whom the colour-blind can tell apart, each darkened as far as it needs:
# every mark has a contrast of 3 to 1 or more (WCAG 2.2, 1.4.11) with PAPER and with its dark twin alike.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#BC7F00", "#009E73", "#CC3311", "#CC79A7"
PAPER, INK, GREY, FAINT = "#FFFFFF", "#222222", "#6B6B6B", "#DDDDDD"
# Text is written in these alone (4.5 to 1 on PAPER); in an SVG each turns into its twin where the page is dark.
DARK_TEXT = {INK: "#E4E4E4", GREY: "#A8A8A8", BLUE: "#5AB0E8", RED: "#FF8A6B"}
DARK = {PAPER: "#15181C", INK: "#E4E4E4", FAINT: "#3A3D42"}
# Inches across a page: figures of this width have letters of one size there.
WIDTH = 8.2
# More points than this are drawn as an image inside a figure, and of more sizes than this some are named.
MANY, MANY_SIZES = 5000, 40
# Every seed is drawn as a dot of this colour unless it belongs to a curve with a colour of its own.
SEED_DOT = BLUE
Colour = tuple[float, float, float, float]
STYLE = {
    # Verdana is as wide as DejaVu Sans: where a reader lacks the one, the other keeps the layout.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    # The same picture is the same bytes.
    "svg.hashsalt": "lmscale",
}


def figure(width: float, height: float) -> Figure:
    """Make an empty figure of the project's look, in inches, on no global list of figures."""
    return Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)


def axes(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """Return the figure of `ax` and `ax`, or a new figure of that many inches and its only axes."""
    fig, found = panels(None if ax is None else [ax], 1, lambda: figure(width, height).subplots())
    return fig, found[0]


def panels(
    given: Axes | Sequence[Axes] | None, count: int, make: Callable[[], Any]
) -> tuple[Figure, list[Axes]]:
    """Return the figure and the `count` axes to draw on: those given, or those that `make` makes.

    UserError where another number is given.
    """
    chosen = make() if given is None else given
    found = cast(list[Axes], np.ravel(np.asarray(chosen, dtype=object)).tolist())
    if len(found) != count:
        raise UserError(
            f"ax: {len(found)} given, and this picture has {count} plots: plt.subplots(1, {count})[1]"
        )
    # Of axes on a part of a figure, `figure` is the part, and the part's the whole.
    whole = found[0].figure
    return (whole if isinstance(whole, Figure) else whole.figure), found


def svg(fig: Figure) -> bytes:
    """Return the figure as an SVG document: text as text, and dark where the reader prefers it so.

    A viewer that knows no media queries shows the light colours. What is told of a point (`tell`) is its title,
    which a browser shows under the pointer. Panels are the groups axes-0, axes-1, ..., and legends `legend`.
    """
    for number, ax in enumerate(ax for ax in fig.axes if ax.get_visible()):
        ax.set_gid(f"axes-{number}")
    for legend in fig.legends:
        legend.set_gid("legend")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = _TOLD.sub(rb'<g class="told"><title>\1</title>\2</g>', _LONG.sub(rb"\1", buffer.getvalue()))
    return drawn.replace(b"</style>", DARK_RULES.encode() + b"</style>", 1)


def _dark_rules() -> str:
    """Write the CSS that turns a figure's ink and paper; no mark's colour has to change."""
    rules = [
        f'[style*="{what}: {light.lower()}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    ]
    # matplotlib writes no fill where text is black.
    rules += [
        f'text[style*="fill: {light.lower()}"]{{fill:{dark}!important}}' for light, dark in DARK_TEXT.items()
    ]
    return f"@media screen and (prefers-color-scheme:dark){{{''.join(rules)}}}"


DARK_RULES = _dark_rules()
# matplotlib writes a link around each point that has an address; these are no addresses.
_TOLD = re.compile(rb'<a xlink:href="told:([^"]*)"[^>]*>(.*?)</a>', re.DOTALL)
# A thousandth of a point is never seen.
_LONG = re.compile(rb"(\.\d{3})\d+(?=[ \"LQCMz\n])")


def about(rows: pd.DataFrame) -> pd.DataFrame:
    """Take from rows what a picture's table says of a run, as far as they have it; no run_id: its row."""
    if "run_id" not in rows.columns:
        rows = rows.assign(run_id=[f"row {label}" for label in rows.index])
    names = [name for name in ("run_id", "seed", "params", "tokens", "flops", "loss") if name in rows.columns]
    # A seed is a name: beside rows without one it would become 0.0.
    return rows[names].astype({name: object for name in names if name == "seed"})


def marks(rows: pd.DataFrame) -> list[Any]:
    """Return the rows as tuples with the columns' names: a mark each."""
    return list(rows.itertuples())


def tell(drawn: Collection | Line2D, words: Sequence[str]) -> None:
    """Give each point of a scatter its words, or a line the first of them, for a browser to show; a PNG has none,
    nor have very many points."""
    if not 0 < len(words) <= MANY:
        return
    if isinstance(drawn, Line2D):
        drawn.set_url(f"told:{words[0]}")
    else:
        drawn.set_urls([f"told:{said}" for said in words])


_OF_RUN: dict[str, Callable[[Any], str]] = {
    "params": lambda params: f"{count(params)} parameters",
    "tokens": lambda tokens: f"{count(tokens)} tokens",
    "compute": lambda flops: f"{power(flops)} FLOPs",
    "seed": lambda seed: f"seed {seed}",
    "loss": lambda loss: f"loss {loss:.4g}",
}


def told(rows: pd.DataFrame) -> list[str]:
    """Say of each row of a picture's table (`about`) which run it is: its name, and its size, tokens, seed and loss
    as far as they are known. Words of a point that is no run have no colon."""
    if len(rows) > MANY:
        return []
    said = []
    for row in rows.to_dict("records"):
        known = {str(name): value for name, value in row.items() if pd.notna(value)}
        if not {"params", "tokens"} & set(known) and "flops" in known:
            known["compute"] = known["flops"]
        parts = [of_run(known[name]) for name, of_run in _OF_RUN.items() if name in known]
        said.append(f"{row['run_id']}: {', '.join(parts)}")
    return said


def between(loss: float, lower: float, upper: float, level: float) -> str:
    """Say a forecast's loss and interval."""
    return f"loss {loss:.4g} ({level:.0%} interval {lower:.4g} to {upper:.4g})"


def write(fig: Figure, data: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg, .png, and what is drawn as .csv and .json, in `folder`; return their paths."""
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    paths[0].write_bytes(svg(fig))
    fig.set_layout_engine("none")  # what is laid out stays so: finding places takes longer than drawing
    fig.savefig(paths[1], format="png", metadata={"Software": None})
    return paths + write_frame(data, folder, name)


def write_frame(data: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write a table as `name`.csv and as `name`.json, a list of rows with null for what is no finite number."""
    paths = [folder / f"{name}.csv", folder / f"{name}.json"]
    data.to_csv(paths[0], index=False, float_format="%.12g")
    known = data.replace([np.inf, -np.inf], np.nan)
    known.to_json(paths[1], orient="records", lines=False, double_precision=15, indent=None)
    return paths


def styled() -> AbstractContextManager[None]:
    """Apply the look for the time of one `with`: nobody else's figures change."""
    return matplotlib.rc_context(cast(Any, STYLE))


# From violet to green, ever lighter, and never out of the range that both papers leave.
_SIZES = ("#8A4FB8", "#5B69C9", "#2B7BC0", "#1A8A9A", "#209468", "#5A9A32", "#7F9A20")
SIZES: Colormap = LinearSegmentedColormap.from_list("sizes", _SIZES)


def size_colours(sizes: Sequence[float]) -> dict[float, Colour]:
    """Give each model size a colour, dark to light, evenly in the logarithm."""
    low, high = min(sizes), max(sizes)
    norm = LogNorm(low, high) if high > low else LogNorm(low / 2, low * 2)
    return {size: SIZES(norm(size)) for size in sizes}


def seed_dots(
    ax: Axes, x: object, y: object, colour: str | Colour = SEED_DOT, words: Sequence[str] = ()
) -> None:
    """Draw a small dot for each seed, at `x` and `y` of one length; `words` tell of each."""
    tell(ax.scatter(cast(Any, x), cast(Any, y), s=8, color=colour, linewidths=0, zorder=2), words)


def points(ax: Axes, rows: pd.DataFrame, x: str, y: str, colours: dict[float, Colour], mark: str) -> None:
    """Draw one point a row, in the colour of its size (column params): "filled", "hollow" or a "cross"."""
    if rows.empty:
        return
    shades = [colours[size] for size in rows["params"]]
    look: dict[str, Any] = {
        "filled": {"marker": "o", "c": shades, "edgecolors": PAPER, "linewidths": 0.5, "zorder": 4},
        "hollow": {"marker": "o", "c": PAPER, "edgecolors": shades, "linewidths": 1.2, "zorder": 3},
        "cross": {"marker": "x", "c": shades, "linewidths": 1.4, "zorder": 3},
    }[mark]
    # A page of many points is an image of them: as shapes they would be megabytes that no browser scrolls.
    tell(ax.scatter(rows[x], rows[y], s=25, rasterized=len(rows) > MANY, **look), told(rows))


def interval_bar(
    ax: Axes, x: float, value: float, lower: float, upper: float, words: str, colour: str = RED
) -> None:
    """Draw a forecast as a diamond that tells `words`, with its interval; bounds beyond a factor of 100 are cut
    there."""
    error = [[min(value - lower, 0.99 * value)], [min(upper - value, 99.0 * value)]]
    ax.errorbar(
        [x], [value], yerr=error, fmt="none", ecolor=colour, capsize=4, capthick=1.4, lw=1.4, zorder=6
    )
    look: dict[str, Any] = {"marker": "D", "s": 30, "facecolors": PAPER, "edgecolors": colour}
    tell(ax.scatter([x], [value], linewidths=1.4, zorder=6, **look), [words])


def count(value: float) -> str:
    """Write a count for people: 14.5k, 460k, 24M."""
    if not np.isfinite(value):
        return "-"
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def power(value: float) -> str:
    """Write a large number for a sentence or a label: 6.4×10¹³."""
    if not np.isfinite(value) or value <= 0:
        return f"{value:g}"
    exponent = int(np.floor(np.log10(value)))
    mantissa = value / 10.0**exponent
    if f"{mantissa:.2g}" == "10":
        mantissa, exponent = 1.0, exponent + 1
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if f"{mantissa:.2g}" == "1" else f"{mantissa:.2g}×10{digits}"


def log_axis(ax: Axes, which: str, counts: bool = False, most: int = 7) -> None:
    """Make an axis logarithmic over its present limits with few, plain labels: 1-2-5 or finer below a decade."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    axis.set_major_locator(FixedLocator(_log_ticks(low, high, most)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    label = (
        count
        if counts
        else (power if high >= 1e5 or low < 1e-3 else lambda v: f"{v:.3g}" if v < 1000 else f"{v:.0f}")
    )
    axis.set_major_formatter(FuncFormatter(lambda v, _: label(v)))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    fine = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.4, 2.6, 2.8, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)
    half = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    for mantissas in (fine, half, (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**e for e in range(first, last + 1) for m in mantissas]
        ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
        if len(ticks) <= most:
            break
    else:
        ticks = ticks[:: -(-len(ticks) // most)]
    return ticks or [low, high]


def size_swatches(colours: dict[float, Colour]) -> list[Line2D]:
    """Make a legend's entry of each size; of many sizes, every few."""
    sizes = sorted(colours, reverse=True)
    shown = sizes if len(sizes) <= 12 else [sizes[i] for i in np.linspace(0, len(sizes) - 1, 10).astype(int)]
    return [Line2D([], [], marker="o", ls="", color=colours[size], label=count(size)) for size in shown]


def size_legend(ax: Axes, colours: dict[float, Colour], title: str) -> None:
    """Draw swatches for the sizes, right of the axes."""
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "handletextpad": 0.2}
    legend = ax.legend(handles=size_swatches(colours), title=title, **beside)
    legend.get_title().set_fontsize(8)


def clipped(name: str, most: int) -> str:
    """Shorten a name to its place. Its end is kept: variants of a task differ there."""
    left = most // 2
    return name if len(name) <= most else name[:left] + "…" + name[len(name) - (most - 1 - left) :]
