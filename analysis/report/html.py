"""Small parts of an HTML page in one file: escaped text, tables, figures. No scripts, nothing from outside."""

import html
import math
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; max-width: 60rem;
       padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #ddd; }
p, ul { margin: .6rem 0; max-width: 48rem; }
.small { color: #666; font-size: .86rem; }
.answer { border-left: 5px solid #0072B2; background: #f2f7fb; padding: .7rem 1rem; margin: 1rem 0;
          max-width: 47rem; font-size: 1.06rem; }
.answer p { margin: .35rem 0; }
.good { color: #666; font-size: .86rem; }
.warn { border-left: 5px solid #E69F00; background: #fdf6e7; padding: .45rem 1rem; margin: .8rem 0;
        max-width: 47rem; }
.warn p { margin: .2rem 0; }
figure { margin: 1rem 0 1.4rem; }
figure img { width: 100%; height: auto; }
figcaption { font-size: .88rem; color: #444; max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0; }
th, td { padding: .22rem .7rem .22rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid #999; font-weight: 600; }
td { border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums; }
td.wide { white-space: normal; min-width: 16rem; }
code { font: .88em ui-monospace, monospace; background: #f4f4f4; padding: .05em .3em; }
summary { cursor: pointer; }
"""


def text(value: object) -> str:
    """Anything as text that cannot become markup."""
    return html.escape(str(value), quote=True)


def number(value: object, digits: int = 3) -> str:
    """`digits` significant digits; a dash for what is no finite number."""
    return f"{value:.{digits}g}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def paragraph(*sentences: str, kind: str = "") -> str:
    """Sentences as a paragraph, escaped."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{text(' '.join(s for s in sentences if s))}</p>"


def box(kind: str, *paragraphs: str) -> str:
    """A framed answer or warning; its paragraphs are escaped here."""
    return f'<div class="{kind}">' + "".join(paragraph(p) for p in paragraphs if p) + "</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], wide: Sequence[int] = ()) -> str:
    """A table; columns whose number is in `wide` may break their lines."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    body = []
    for row in rows:
        cells = (
            f'<td class="wide">{text(cell)}</td>' if i in wide else f"<td>{text(cell)}</td>"
            for i, cell in enumerate(row)
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def bullets(items: Iterable[str]) -> str:
    """A list, escaped."""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def picture(uri: str, shows: str, command: str) -> str:
    """A figure held in the page, its caption (and alternative text), and the command that draws it again."""
    return (
        f'<figure><img src="{text(uri)}" alt="{text(shows)}">'
        f'<figcaption>{text(shows)} <span class="small">Again: <code>{text(command)}</code></span></figcaption>'
        "</figure>"
    )


def folded(title: str, *inner: str) -> str:
    """Details that are closed at first; `inner` is markup."""
    return f"<details><summary>{text(title)}</summary>{''.join(inner)}</details>"


def section(title: str, *inner: str) -> str:
    """A heading and its markup."""
    return f"<h2>{text(title)}</h2>\n" + "\n".join(part for part in inner if part)


def document(title: str, *inner: str) -> str:
    """The page; the policy makes a browser refuse scripts and addresses, should any slip in."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(inner)
        + "\n</body></html>\n"
    )
