"""Put a figure into the page as SVG: letters and points stay parts of the page, and a phone shows panel by panel.

matplotlib lays a figure out once, for the width of a page. On a narrow screen its letters would be five pixels
high; so each axes is shown again by itself (`<use>` of its group, no copy), and so is each entry of the legend.
"""

import re

from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import Bbox

from analysis.figures import style
from analysis.report import html

# SVG's own unit, so that what matplotlib measures is what is written.
_DPI = 72
# Panels up to this part of a page's width stand side by side on a phone.
_SMALL = 0.3


def inline(figure: Figure, text: str, name: str, shows: str) -> Markup:
    """Return the figure, drawn as the SVG document `text` (`style.svg`), as elements whose marks begin with `name`;
    `shows` is the alternative text."""
    figure.set_dpi(_DPI)
    if figure.legends:
        # A PNG was written at other dots per inch, and a legend's entries stay where they were drawn last.
        figure.draw_without_rendering()
    axes = [ax for ax in figure.axes if ax.get_visible()]
    width, height = figure.bbox.width, figure.bbox.height
    # The prologue, the metadata, and the rules that stand once in the page; marks are unlike in every figure.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"^.*?<svg[^>]*>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    # Letters are alike in all figures.
    share = 100 * min(figure.get_figwidth() / style.WIDTH, 1.0)
    about = f'role="img" aria-label="{escape(shows)}"'
    keys = [_crop(f"{name}-legend", box, height) for legend in figure.legends for box in _entries(legend)]
    panels = []
    for number, ax in enumerate(axes):
        box = ax.get_tightbbox()
        if box is not None:
            panels.append(_crop(f"{name}-axes-{number}", box, height, small=bool(box.width < _SMALL * width)))
    across, up = figure.get_supxlabel(), figure.get_supylabel()
    said = [figure.get_suptitle(), f"Up: {up}. Across: {across}." if across and up else ""]
    return html.joined(
        Markup(
            f'<svg class="whole" style="width:{share:.0f}%" viewBox="0 0 {width:g} {height:g}" {about}>{text}'
        ),
        Markup(f'<div class="panels" {about}>'),
        *(html.paragraph(line) for line in said if line),
        Markup('<div class="key">{}</div>').format(html.joined(*keys)) if keys else Markup(),
        *panels,
        Markup("</div>"),
    )


def _entries(legend: Legend) -> list[Bbox]:
    """The places of a legend's entries, mark and word together."""
    found = []
    for mark, word in zip(legend.legend_handles, legend.get_texts(), strict=True):
        if mark is not None:
            found.append(Bbox.union([mark.get_window_extent(), word.get_window_extent()]))
    return found


def _crop(part: str, box: Bbox, height: float, small: bool | None = None) -> Markup:
    """Show a part of a figure of this height again, cut to its box (points from the bottom, as matplotlib counts).

    A panel takes the width that it is given, a legend's entry (`small` is None) that of the page's letters.
    """
    x, y, w, h = box.x0 - 1, height - box.y1 - 1, box.width + 2, box.height + 2
    look = f'width="{1.2 * w:.0f}" height="{1.2 * h:.0f}"' if small is None else f'class="{"small" * small}"'
    return Markup(f'<svg {look} viewBox="{x:.1f} {y:.1f} {w:.1f} {h:.1f}"><use href="#{part}"/></svg>')
