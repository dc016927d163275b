"""The page in a browser: nothing asked for, nothing cut or on top of another, at any width, dark, on paper."""

import functools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser, browser
from made_ladder import text_loss, write_ladder
from test_report_ladders import part

from analysis import UserError, emergence, load_table
from analysis.forecasting.forecast import Forecast, Prediction, extrapolate
from analysis.report import findings
from analysis.report.page import report
from analysis.report.source import Source

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page is not looked at in a browser"),
]
WIDTHS = (1400, 800, 400)
# Of A4 with the page's margins, in CSS pixels.
PAPER = 688


def _table() -> pd.DataFrame:
    rows = [(n, d, text_loss(n, d)) for n in (1e4, 3e4, 1e5, 3e5, 1e6) for d in (1e6, 1e7, 1e8)]
    return pd.DataFrame(rows, columns=["params", "tokens", "loss"])


@functools.cache
def _law() -> Forecast:
    """The law that all made runs follow, fitted once: these tests are about pages, and fits take their time."""
    return extrapolate(_table(), budgets=[1e15], form="chinchilla", regime="all", bootstrap=20)


def _forecast(table: pd.DataFrame, *, budgets: Any = (), targets: Any = None, **_: Any) -> Forecast:
    if table["params"].nunique() < 2:
        raise UserError("one size is no law")
    split = pd.DataFrame({"params": np.sqrt(budgets) / 60, "tokens": np.sqrt(budgets) * 10, "flops": budgets})
    asked = split if targets is None else targets
    said = [
        Prediction(n, d, c, loss, 0.96 * loss, 1.05 * loss, 0.9, c / table.flops.max())
        for n, d, c, loss in zip(
            *(asked[name].tolist() for name in ("params", "tokens", "flops")),
            _law().fit.predict(asked).tolist(),
            strict=True,
        )
    ]
    return replace(_law(), predictions=tuple(said))


def _ladder(folder: Path) -> str:
    write_ladder(folder, widths=(16, 24, 48, 128), seeds=(0, 1), evaluations=1, diverge=[(48, 1)])
    return str(folder)


def _parts(folder: Path) -> str:
    small = {"widths": (16, 32, 64), "seeds": (0,), "evaluations": 1}
    folder.mkdir()
    part(folder, "text", floor=None, tasks=False, **small)
    part(folder, "tasks", floor=None, tasks=True, **small)
    return str(folder)


def _no_tasks(folder: Path) -> str:
    folder.mkdir()
    part(folder, "text", floor=None, tasks=False, widths=(16, 32, 128), seeds=(0, 1), evaluations=1)
    return str(folder)


def _no_seeds(folder: Path) -> str:
    folder.mkdir()
    _table().to_csv(folder / "runs.csv", index=False)
    return str(folder / "runs.csv")


def _nothing_fits(folder: Path) -> str:
    write_ladder(folder, widths=(16,), seeds=(0,), horizons=(1.0,), trunks=False, evaluations=1)
    return str(folder)


SHAPES = {f.__name__[1:]: f for f in (_ladder, _parts, _no_tasks, _no_seeds, _nothing_fits)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page for every shape of table."""
    written = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "extrapolate", _forecast)
        patch.setattr(findings, "emergence", functools.partial(emergence, draws=200))
        for name, make in SHAPES.items():
            folder = tmp_path_factory.mktemp(name)
            source = make(folder / "made")
            written[name], _ = report(load_table(source), Source(source), folder, date(2026, 11, 28))
    return written


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


# Boxes of words: of every text node, and of every word in a figure.
WORDS = """(() => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walk.nextNode();) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script, style, svg") || !parent.checkVisibility()) continue;
    if (parent.closest("thead")?.offsetWidth === 1) continue;  // read out only: the cells have its words
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) found.push([box, node.data.trim().slice(0, 40), parent]);
  }
  for (const svg of document.querySelectorAll("svg.whole")) {
    if (!svg.getBoundingClientRect().width) continue;
    for (const word of svg.querySelectorAll("text"))
      found.push([word.getBoundingClientRect(), word.textContent.trim(), word]);
  }
  return found.filter(([box]) => box.width > 1 && box.height > 1).sort((a, b) => a[0].top - b[0].top);
})()"""
OVERLAPS = (
    """(() => {
  const words = """
    + WORDS
    + """, found = [];
  words.forEach(([a, said, of], i) => {
    for (let j = i + 1; j < words.length && words[j][0].top < a.bottom; j++) {
      const [b, other, its] = words[j];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 3 && of !== its) found.push([said, other, Math.round(wide), Math.round(high)]);
    }
  });
  return found;
})()"""
)
# Words that reach beyond the window, or tables that are cut.
CUT = (
    """(() => {
  const beyond = """
    + WORDS
    + """.filter(([box]) => box.right > innerWidth + 1 || box.left < -1).map(word => word[1]);
  const tables = [...document.querySelectorAll(".scroll")].filter(s => s.scrollWidth > s.clientWidth + 1);
  return [...beyond, ...tables.map(table => table.innerText.slice(0, 60))];
})()"""
)
# WCAG 2.1's contrast of every text with what is behind it.
FAINT = """(() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const found = [];
  for (const e of document.body.querySelectorAll("*")) {
    const says = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!says || e.closest("svg, script") || !e.checkVisibility()) continue;
    let behind = e;
    while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const back = behind ? parse(getComputedStyle(behind).backgroundColor) : [255, 255, 255];
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(back)].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.push(e.className + " " + e.textContent.slice(0, 40));
  }
  return found;
})()"""


def _quiet(window: Browser, path: Path) -> None:
    """No request but for the page itself, and not a word on the console."""
    methods = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
    assert not [event for event in window.events if event.get("method") in methods]
    asked = [
        e["params"]["request"]["url"] for e in window.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [path.as_uri()]
    assert window.ask("performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_asked_for_cut_or_on_top_of_another(
    window: Browser, pages: dict[str, Path], shape: str
) -> None:
    for width in WIDTHS:
        window.open(pages[shape], width)
        _quiet(window, pages[shape])
        assert window.ask("document.documentElement.scrollWidth") <= width
        assert window.ask(CUT) == []
        assert window.ask(OVERLAPS) == []
        assert window.ask(FAINT) == []
        assert window.ask(BLANK) == [] and window.ask("document.querySelectorAll('p:empty').length") == 0
    window.open(pages[shape], dark=True)
    assert window.ask(FAINT) == []
    assert window.ask("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"


@pytest.mark.parametrize("shape", SHAPES)
def test_paper_holds_every_column(window: Browser, pages: dict[str, Path], shape: str) -> None:
    # Whoever reads in the dark prints on white.
    window.open(pages[shape], PAPER, media="print", dark=True)
    assert window.ask(CUT) == [] and window.ask(OVERLAPS) == []
    assert window.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not window.ask("document.querySelector('nav').checkVisibility()")
    # No heading is left behind alone by what does not break.
    kept = "summary + :is(figure, .answer, .warn), summary + .small + .answer"
    short = f"""[...document.querySelectorAll('{kept}')].filter(next => {{
        const room = getComputedStyle(next.parentElement.firstElementChild).paddingBottom;
        const start = next.parentElement.firstElementChild.getBoundingClientRect().bottom - parseFloat(room);
        return Math.min(next.getBoundingClientRect().bottom - start, 420) > parseFloat(room);
    }}).map(next => next.innerText)"""
    assert window.ask(short) == []
    # Small print is smaller than the sentences that it belongs to.
    size = "parseFloat(getComputedStyle(document.querySelector('%s')).fontSize)"
    assert [round(window.ask(size % what), 1) for what in ("body", ".about")] == [13.3, 11.5]
    assert window.pdf().startswith(b"%PDF")


# Rows that say nothing, or of which more than three lines are empty.
BLANK = """[...document.querySelectorAll("tbody tr")].filter(row => row.checkVisibility()).filter(row => {
  const said = document.createRange();
  said.selectNodeContents(row);
  const ends = [...said.getClientRects()].map(box => box.bottom);
  const words = [...row.cells].map(cell => {
    said.selectNodeContents(cell);
    return said.getBoundingClientRect().bottom;
  });
  return !row.innerText.trim() || row.getBoundingClientRect().bottom - Math.max(...words, 0) > 50 || !ends.length;
}).map(row => row.innerText.slice(0, 40))"""


def test_the_caveats_of_tasks_are_seen_at_every_width(window: Browser, pages: dict[str, Path]) -> None:
    column = "[...document.querySelectorAll('td[data-label=caveats]')].filter(c => c.textContent)"
    inside = f"{column}.map(c => c.getBoundingClientRect()).every(b => b.width > 5 && b.right <= innerWidth)"
    for width, media in [(width, "") for width in WIDTHS] + [(PAPER, "print")]:
        window.open(pages["ladder"], width, media=media)
        assert window.ask(f"{column}.length") > 3
        assert window.ask(inside)


def test_letters_in_figures_can_be_read_on_a_phone(window: Browser, pages: dict[str, Path]) -> None:
    window.open(pages["ladder"], 400)
    scale = "[...document.querySelectorAll('.panels > svg')].map(svg => svg.getScreenCTM().a)"
    # The least letters of a figure are of 7.5 points; the old page showed them with 4.6 pixels.
    assert min(window.ask(scale)) * 7.5 >= 6.8
    assert not window.ask(
        "[...document.querySelectorAll('svg.whole')].some(svg => svg.getBoundingClientRect().width)"
    )


def test_points_tell_their_run_to_mouse_and_keyboard(window: Browser, pages: dict[str, Path]) -> None:
    window.open(pages["ladder"])
    runs = set(load_table(pages["ladder"].parent / "made")["run_id"])
    figure = "document.querySelector('figure')"
    point = f"{figure}.querySelectorAll('svg.whole .told')[5]"
    window.ask(f"{figure}.scrollIntoView()")
    assert window.ask("document.getElementById('tip').hidden")
    box = window.ask(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({point}.getBoundingClientRect())")
    window.hover(*box)
    assert window.ask(f"getComputedStyle({point}.querySelector('use')).strokeWidth") == "1.5px"
    said = window.ask("document.getElementById('tip').textContent")
    assert said.split(": ")[0] in runs and ", loss " in said
    assert window.ask("document.getElementById('tip').checkVisibility()")
    window.hover(2, 2)
    assert window.ask("document.getElementById('tip').hidden")
    window.ask(f"{figure}.querySelector('svg.whole').focus()")
    told = []
    for _ in range(3):
        window.key("ArrowRight")
        told.append(window.ask("document.getElementById('tip').textContent"))
    assert len({words.split(": ")[0] for words in told}) == 3 and {w.split(": ")[0] for w in told} <= runs
    window.key("Escape")
    assert window.ask("document.getElementById('tip').hidden")


def test_a_command_breaks_between_its_words(window: Browser, pages: dict[str, Path]) -> None:
    written = re.findall(r"<code>(.*?)</code>", pages["parts"].read_text(encoding="utf-8"))
    window.open(pages["parts"], 400)
    codes = "[...document.querySelectorAll('code')]"
    assert window.ask(f"{codes}.map(code => code.textContent)") == list(map(unescape, written))
    lines = f"{codes}.flatMap(c => [...c.children]).filter(w => w.textContent.length < 25)"
    assert window.ask(f"{lines}.length") > 50
    assert window.ask(f"{lines}.filter(w => w.offsetHeight > 30).map(w => w.textContent)") == []


def test_tables_sort_by_what_their_cells_mean(window: Browser, pages: dict[str, Path]) -> None:
    window.open(pages["ladder"])
    table = "[...document.querySelectorAll('table')].find(t => t.rows[0].cells[0].textContent === 'run')"
    column = f"[...{table}.rows[0].cells].findIndex(c => c.textContent === 'D')"
    cells = f"[...{table}.tBodies[0].rows].map(r => r.cells[{column}].textContent)"
    window.ask(f"{table}.closest('details').open = true")
    before = window.ask(cells)
    window.ask(f"{table}.rows[0].cells[{column}].focus()")

    def number(cell: str) -> float:
        return float(cell[:-1]) * {"k": 1e3, "M": 1e6}[cell[-1]]

    window.key("Enter")
    assert window.ask(cells) == sorted(before, key=number)
    window.key("Enter")
    assert [number(c) for c in window.ask(cells)] == sorted(map(number, before), reverse=True)
    values = ["6.1×10¹⁰", "10¹³", "3×10⁻²", "1.58k", "-2.6% to +3.8%", "2e-05", "0.5", "-", "x"]
    read = window.ask(f"{json.dumps(values)}.map(value).map(v => v === -Infinity ? 'none' : v)")
    assert read == [pytest.approx(v) for v in (6.1e10, 1e13, 0.03, 1580, -2.6, 2e-5, 0.5)] + ["none", "x"]


def test_sections_fold_and_a_link_unfolds_what_it_leads_to(window: Browser, pages: dict[str, Path]) -> None:
    window.open(pages["parts"])
    count = "[...document.querySelectorAll('details.part')].filter(part => part.open).length"
    every = window.ask(count)
    assert every == window.ask("document.querySelectorAll('details.part').length") > 10
    window.ask("document.querySelector('nav button').click()")
    assert window.ask(count) == 0
    window.ask("document.querySelector('nav li li a').click()")
    window.ask("new Promise(done => setTimeout(done, 50))")
    assert window.ask(count) == 2, "the part and the ladder that it is in"
    window.ask("document.querySelector('nav button').click()")
    window.ask("document.querySelector('nav button').click()")
    assert window.ask(count) == every


def test_the_page_reads_whole_without_its_script(
    window: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    text = pages["ladder"].read_text(encoding="utf-8")
    (tmp_path / "plain.html").write_text(text.split("<script>")[0] + "</body></html>", encoding="utf-8")
    shutil.copy(pages["ladder"], tmp_path / "with.html")
    read = []
    for name in ("plain", "with"):
        window.open(tmp_path / f"{name}.html")
        read.append(window.ask("document.querySelector('main').innerText"))
    assert read[0] == read[1] and len(read[0]) > 5000
