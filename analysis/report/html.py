"""Write the parts of an HTML page in one file: escaped text, tables, figures. No scripts, nothing from outside."""

import html
import math
import re
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --faint: #666; --paper: #fff; --line: #ddd; --code: #f4f4f4;
        --answer: #f2f7fb; --warn: #fdf6e7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --faint: #a8a8a8; --paper: #16181b; --line: #3a3d42; --code: #25282c;
          --answer: #1b2834; --warn: #2f2817; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 62rem; padding: 1.5rem 1.25rem 4rem; }
a { color: inherit; }
nav { font-size: .86rem; margin: .6rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p, ul { margin: .6rem 0; max-width: 48rem; }
.small { color: var(--faint); font-size: .86rem; }
.answer { border-left: 5px solid #0072B2; background: var(--answer); padding: .7rem 1rem; margin: 1rem 0;
          max-width: 47rem; font-size: 1.06rem; }
.answer p { margin: .35rem 0; }
.good { color: var(--faint); font-size: .86rem; }
.warn { border-left: 5px solid #E69F00; background: var(--warn); padding: .45rem 1rem; margin: .8rem 0;
        max-width: 47rem; }
.warn p { margin: .2rem 0; }
figure { margin: 1rem 0 1.4rem; }
.scroll img { height: auto; min-width: 30rem; background: #fff; }
figcaption { font-size: .88rem; color: var(--faint); max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0; }
th, td { padding: .22rem .7rem .22rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid #999; font-weight: 600; white-space: normal; vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
td.wide { white-space: normal; min-width: 4.5rem; }
code { font: .88em ui-monospace, monospace; background: var(--code); padding: .05em .3em;
       overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media print { .scroll { overflow: visible; } td, th { white-space: normal; } nav { display: none; } }
"""


def text(value: object) -> str:
    """Escape anything as text that cannot become markup."""
    return html.escape(str(value), quote=True)


def number(value: object, digits: int = 3) -> str:
    """Write `digits` significant digits; a dash for what is no finite number."""
    return f"{value:.{digits}g}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def paragraph(*sentences: str, kind: str = "") -> str:
    """Write sentences as a paragraph, escaped."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{text(' '.join(s for s in sentences if s))}</p>"


def box(kind: str, *paragraphs: str) -> str:
    """Frame an answer or a warning; its paragraphs are escaped here."""
    return f'<div class="{kind}">' + "".join(paragraph(p) for p in paragraphs if p) + "</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], wide: Sequence[int] = ()) -> str:
    """Write a table; columns whose number is in `wide` may break their lines."""
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
    """Write a list, escaped."""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def caveat_rows(kind: str, status: str, rows: Iterable[tuple[str, str, str]]) -> str:
    """Frame a status and its warnings: each a word, its sentence, and in small print what the word means."""
    said = "".join(
        f'<p><strong>{text(word)}</strong>: {text(message)} <span class="small">({text(meaning)})</span></p>'
        for word, message, meaning in rows
    )
    return f'<div class="{kind}"><p>{text(status)}</p>{said}</div>'


def picture(uri: str, shows: str, command: str, width: float = 1.0) -> str:
    """Hold a figure in the page with its caption, which is its alternative text, and the command that draws it.

    `width` is its share of the page's, so that letters are alike in all figures.
    """
    return (
        f'<figure><div class="scroll"><img style="width:{100 * min(width, 1.0):.0f}%" src="{text(uri)}" '
        f'alt="{text(shows)}"></div>'
        f'<figcaption>{text(shows)} <span class="small">Again: <code>{text(command)}</code></span></figcaption>'
        "</figure>"
    )


def folded(title: str, *inner: str) -> str:
    """Hide details until they are opened; `inner` is markup."""
    return f"<details><summary>{text(title)}</summary>{''.join(inner)}</details>"


def section(title: str, *inner: str) -> str:
    """Write a heading that can be linked to, and its markup."""
    return f'<h2 id="{_anchor(title)}">{text(title)}</h2>\n' + "\n".join(part for part in inner if part)


def contents(sections: Iterable[str]) -> str:
    """Link to the headings that `section` wrote."""
    found = [name for markup in sections for name in re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', markup)]
    return "<nav>" + " ".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading in found) + "</nav>"


def within(title: str, *inner: str) -> str:
    """Write a section whose parts are sections: their headings one level lower, their anchors after its own."""
    mark = _anchor(title)
    lower = (
        re.sub(r'<h2 id="([^"]*)">(.*?)</h2>', rf'<h3 id="{mark}-\1">\2</h3>', part) for part in inner if part
    )
    return section(title, *lower)


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def document(title: str, *inner: str) -> str:
    """Write the page; the policy makes a browser refuse scripts and addresses, should any slip in."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(inner)
        + "\n</body></html>\n"
    )
