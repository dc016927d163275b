"""Write the parts of the page: the macros of a template that escapes every text, as functions with types.

What is Markup is markup already; any other text is escaped, so nothing that a table says can become a tag.
"""

import base64
import functools
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from analysis.figures import style

# What is set to the right in a table: numbers, ranges of them, and their absence.
_NUMBER = r"[-+−]?\d[\d.,]*(e[-+]?\d+)?(×10[⁻⁰¹²³⁴-⁹]+)?[⁻⁰¹²³⁴-⁹]*[%×kMBT]?"
_NUMERIC = re.compile(rf"(({_NUMBER})( to {_NUMBER})?|-|)( \({_NUMBER} to {_NUMBER}\))?")


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading that can be linked to and folded; `parts` stand under smaller ones."""

    title: str
    inner: Markup
    parts: tuple["Section", ...] = ()


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("analysis.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["anchor"] = anchor
    return made


def _part(name: str, *content: Any) -> Markup:
    module: Any = _environment().get_template("parts.html.j2").module
    return Markup(getattr(module, name)(*content))


def joined(*inner: Markup) -> Markup:
    """Put markup together; what is none is escaped."""
    return Markup("\n").join(part for part in inner if part)


def number(value: object, digits: int = 3) -> str:
    """Write `digits` significant digits; a dash for what is no finite number."""
    return f"{value:.{digits}g}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def paragraph(*sentences: str, kind: str = "") -> Markup:
    """Write sentences as a paragraph; without any, nothing."""
    said = " ".join(s for s in sentences if s)
    return _part("paragraph", said, kind) if said else Markup()


def box(kind: str, *paragraphs: str) -> Markup:
    """Frame an answer or a warning."""
    return _part("box", kind, [p for p in paragraphs if p])


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], ids: Sequence[str] = (), name: str = ""
) -> Markup:
    """Write a table, columns of numbers set to the right; `ids` mark its rows, `name` is its caption."""
    cells = [[str(cell) for cell in row] for row in rows]
    numeric = [
        bool(cells) and all(_NUMERIC.fullmatch(row[i]) for row in cells) and any(row[i] for row in cells)
        for i in range(len(header))
    ]
    return _part("table", header, cells, numeric, ids, name)


def bullets(items: Iterable[str]) -> Markup:
    """Write a list."""
    return _part("bullets", list(items))


def codes(lines: Iterable[tuple[str, str]]) -> Markup:
    """List command lines, each with what it is for."""
    return _part("codes", list(lines))


def caveat_rows(kind: str, status: str, rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Frame a status and its warnings: each a word, its sentence, and in small print what the word means."""
    return _part("caveats", kind, status, list(rows))


def picture(drawn: Markup, shows: str, command: str) -> Markup:
    """Hold a figure with its caption, and the command that draws it."""
    return _part("picture", drawn, shows, command)


def folded(title: str, *inner: Markup, mark: str = "") -> Markup:
    """Hide details until they are opened; `mark` is their id."""
    return _part("folded", title, joined(*inner), mark)


def document(
    title: str,
    heading: str,
    about: Sequence[str],
    opening: Sequence[tuple[str, str, str]],
    doubts: Sequence[str],
    answers: Markup,
    sections: Sequence[Section],
    written: date,
) -> str:
    """Write the page. `opening` are its first sentences: a word, where more of it stands, and the sentence.

    The policy makes a browser refuse every address and every script but the page's own, should any slip in.
    """
    environment = _environment()
    script = _source("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        title=title,
        heading=heading,
        about=about,
        opening=opening,
        doubts=doubts,
        answers=answers,
        sections=sections,
        written=f"{written:%-d %B %Y}",
        style=stylesheet(),
        script=script,
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'",
    )


def stylesheet() -> Markup:
    """Return the look of a page and of its figures."""
    return _source("page.css") + Markup(style.DARK_RULES)


def _source(name: str) -> Markup:
    """Return a file of the templates' folder as it is."""
    environment = _environment()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def anchor(title: str) -> str:
    """Return the mark that links to a heading."""
    return "".join(c if c.isalnum() else "-" for c in title.lower())
