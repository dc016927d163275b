"""Say which points of a picture tell nothing to the pointer and the keyboard."""

from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from analysis.figures import style


def mute(figure: Figure) -> list[str]:
    """List the points of a picture that a browser cannot tell: each by its panel and kind."""
    found, told = [], 0
    for number, ax in enumerate(ax for ax in figure.axes if ax.get_visible()):
        for drawn in ax.collections:
            if isinstance(drawn, PathCollection) and (points := len(drawn.get_offsets())):
                said = [url for url in drawn.get_urls() if url and url.startswith("told:")]
                told += points
                if len(said) != points or any(len(words) < 12 or "nan" in words for words in said):
                    found.append(f"panel {number}: {points} points, {said[:1]}")
        for line in ax.lines:
            # The ends of an error bar are markers too.
            if line.get_marker() not in ("None", "_", "|"):
                told += 1
                if not str(line.get_url()).startswith("told:"):
                    found.append(f"panel {number}: a line with marks {line.get_marker()}")
    if not found and style.svg(figure).count(b'<g class="told">') < told:
        found.append("not in the SVG")
    return found
