"""How an answer shows itself at a prompt and in a notebook: shortly, with its caveats."""

import html
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows of a table and lines of caveats that a notebook shows; `summary()` has all of them.
MOST_ROWS, MOST_LINES = 30, 8


class Shown(Protocol):
    """An answer whose `repr` is the first line of its summary: with all its arrays it would be pages."""

    def summary(self) -> str:
        """Write the answer for a person."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary().partition(chr(10))[0]}>"


def as_html(headline: Sequence[str], frame: pd.DataFrame, said: Sequence[str]) -> str:
    """Write an answer as HTML: its headline, its table, the first of what has to be said besides."""
    more = len(said) - MOST_LINES
    lines = [*said[:MOST_LINES], *([f"and {more} more lines: print(answer.summary())"] if more > 0 else [])]
    above, below = ("<br>".join(html.escape(line) for line in part) for part in (headline, lines))
    table = frame.to_html(max_rows=MOST_ROWS, na_rep="", float_format=lambda v: f"{v:.6g}")
    return f"<p>{above}</p>{table}<p>{below}</p>"


def drawn(picture: str, answer: object, ax: Any) -> "Figure":
    """Draw an answer by the name of its picture in `figures`, MODULE.FUNCTION, on `ax` or on new axes.

    By its name: figures see answers and not the other way round, and matplotlib takes longer to import than most
    answers take.
    """
    module, _, name = picture.partition(".")
    figure: Figure = getattr(import_module(f"analysis.figures.{module}"), name)(answer, ax)
    return figure
