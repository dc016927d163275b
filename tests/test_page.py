"""The page that is sent on: three sentences that say no number without its warning, points that tell their run."""

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.errors import Code, Warn
from analysis.figures import ladder, style
from analysis.forecasting.forecast import Prediction, extrapolate
from analysis.report import findings, html, opening
from analysis.report.drawing import inline
from analysis.report.findings import Findings, Ladders, Law, StepBack
from analysis.report.source import Source

# FLOPs a second of the made runs.
SPEED = 2.5e12


def runs() -> pd.DataFrame:
    """Fifteen runs of a known law with a little noise, and how long they took."""
    rng = np.random.default_rng(3)
    rows = [
        (n, d, 1.7 + 400 / n**0.34 + 410 / d**0.28)
        for n in (1e6, 3e6, 1e7, 3e7, 1e8)
        for d in (2e7, 1e8, 5e8)
    ]
    table = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    table["loss"] *= np.exp(rng.normal(0, 0.003, len(table)))
    table["flops"] = 6 * table.params * table.tokens
    return table.assign(run_id=[f"r{i}" for i in range(len(table))], seconds=table.flops / SPEED)


@pytest.fixture(scope="module")
def found() -> Findings:
    """Return the findings of these runs, from 20 resamples a fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "extrapolate", functools.partial(extrapolate, bootstrap=20))
        patch.setattr(findings, "along_tokens", lambda rows: [])
        patch.setattr(findings, "_steps_back", lambda *_: ())
        return findings.findings(runs(), Source("runs.csv"))


def residuals(rows: pd.DataFrame, off: float = 1.0, unused: int = 0, noise: float | None = None) -> Figure:
    """Draw the residuals of a law that is `off` by a factor; it left out every `unused`-th run."""
    used = np.arange(len(rows)) % unused > 0 if unused else np.ones(len(rows), dtype=bool)
    return ladder.residuals(ladder.residuals_data(rows, rows.loss.to_numpy() * off, used, noise))


def sentences(*each: Findings) -> tuple[list[str], list[str]]:
    """The three sentences, and what not to believe."""
    told = Ladders(each, (), None)
    return [sentence for _, _, sentence in opening.opening(told)], opening.doubts(told)


def with_law(found: Findings, warnings: Sequence[Warn] = (), back: Sequence[StepBack] = ()) -> Findings:
    assert isinstance(found.law, Law)
    forecast = replace(found.law.forecast, warnings=tuple(warnings))
    return replace(found, law=replace(found.law, forecast=forecast, back=tuple(back)))


def test_the_page_opens_with_what_was_forecast_and_what_came(found: Findings) -> None:
    held, target = found.held_out, found.target
    assert not isinstance(held, str) and target is not None
    (first, _, _), _ = sentences(replace(found, held_out=replace(held, warnings=())))
    p = held.prediction
    assert f"to reach a loss of {p.loss:.3f} (90% interval {p.lower:.3f} to {p.upper:.3f})" in first
    assert f"from {held.used.sum()} runs with at most 1/30 of its compute" in first
    assert f"it reached {target.measured:.3f}, inside the interval" in first
    assert first.endswith("one test says that a step of 30 times in compute can be borne.")


def test_a_forecast_that_missed_bears_nothing(found: Findings) -> None:
    held, target = found.held_out, found.target
    assert not isinstance(held, str) and target is not None
    missed = replace(found, target=replace(target, losses=(9.0,)), held_out=replace(held, warnings=()))
    (first, _, _), _ = sentences(missed)
    assert "it reached 9.000, outside the interval" in first and "can bear no decision by this law" in first


@pytest.mark.parametrize("code", [code for code in Code if code.grave])
def test_no_number_of_a_grave_warning_is_said_without_it(found: Findings, code: Code) -> None:
    held = found.held_out
    assert not isinstance(held, str)
    warned = (Warn(code, "the reason"),)
    spoilt = replace(with_law(found, warned), held_out=replace(held, warnings=warned))
    (first, second, _), doubts = sentences(spoilt)
    assert (
        f"grave warning ({code})" in first and "can bear no decision" in first and "can be borne" not in first
    )
    assert f"grave warning ({code})" in second and "decide nothing" in second
    # The gravest come first.
    assert all(f"the reason ({code})" in doubt for doubt in doubts[:2])


def test_larger_budgets_have_the_wider_of_two_intervals_and_their_hours(found: Findings) -> None:
    assert isinstance(found.law, Law) and found.target is not None
    p = found.law.next[0]
    wide = StepBack(3.0, 9, Prediction(1e8, 5e8, 3e17, 2.0, 1.28, 3.14, 0.9, 3.0))
    steps = [wide, StepBack(10.0, 4, "too few rows"), StepBack(30.0, 4, "too few rows")]
    (_, second, _), doubts = sentences(with_law(found, back=steps))
    # -36% to +57%, as the same step backwards had, and not the law's few percent.
    assert f"{p.loss:.3f} ({0.64 * p.loss:.3f} to {1.57 * p.loss:.3f})" in second
    top = float(found.rows.flops.max())
    hours = [f"{ratio * top / SPEED / 3600:.2g}" for ratio in (3, 10, 30)]
    assert f"for about {hours[0]}, {hours[1]} and {hours[2]} device-hours" in second
    assert any("bear a step of no distance at all" in doubt for doubt in doubts), (
        "it missed what was measured"
    )
    untimed = replace(found, rows=found.rows.drop(columns="seconds"))
    assert "no timings" in sentences(untimed)[0][1] and "hours (" not in sentences(untimed)[0][1]


def test_a_step_that_missed_is_not_to_be_believed(found: Findings) -> None:
    away = Prediction(1e8, 5e8, 3e17, 9.0, 8.9, 9.1, 0.9, 3.0)
    _, doubts = sentences(with_law(found, back=[StepBack(ratio, 9, away) for ratio in (3.0, 10.0, 30.0)]))
    assert any("bear a step of no distance at all" in doubt for doubt in doubts)
    assert any("missed what was measured at 3, 10 and 30 times" in doubt for doubt in doubts)


def test_a_ladder_that_can_say_nothing_leaves_the_word_to_another(found: Findings) -> None:
    mute = replace(found, part="a", target=None, held_out="too small.", law="too small.")
    (first, second, third), _ = sentences(mute, replace(found, part="b"))
    assert first.endswith("(ladder b).") and second.endswith("(ladder b).")
    assert third.startswith("No abilities: ")
    assert sentences(mute)[0][0] == "No forecast of a loss: too small (ladder a)."


def test_every_point_of_a_picture_tells_its_own_run() -> None:
    """The words of a point lie where its run is: the numbers in them are those of its place."""
    rows = runs()
    with style.styled():
        figure = residuals(rows, off=1.01, unused=4)
        figure.set_dpi(72)
        drawn = style.svg(figure).decode()
    used = figure.axes[0].collections[0]
    height = figure.bbox.height
    points = re.findall(
        r'<g class="told"><title>([^<]*)</title>\s*<g [^>]*>\s*<use [^>]*?x="([\d.]+)" y="([\d.]+)"', drawn
    )
    filled = rows[np.arange(len(rows)) % 4 > 0]
    places = figure.axes[0].transData.transform(np.asarray(used.get_offsets()))
    for i, (name, run) in enumerate(zip(filled.run_id, filled.itertuples(), strict=True)):
        words, x, y = points[i]
        assert words.startswith(f"{name}: ") and f"loss {run.loss:.4g}" in words
        assert (float(x), height - float(y)) == pytest.approx(tuple(places[i]), abs=0.01)
    # Of both panels, the crosses too.
    assert drawn.count('<g class="told">') == 2 * len(rows)
    assert "<a " not in drawn


def test_what_a_point_tells_is_escaped() -> None:
    rows = runs().assign(run_id="<b>&\"'")
    with style.styled():
        drawn = inline(figure := residuals(rows), style.svg(figure).decode(), "one", 'a "finding" & <more>')
    assert "<b>" not in drawn and drawn.count("<title>&lt;b&gt;&amp;") == 2 * len(rows)
    assert 'aria-label="a &#34;finding&#34; &amp; &lt;more&gt;"' in drawn


def test_figures_of_one_page_share_no_mark() -> None:
    rows = runs()
    with style.styled():
        figure = residuals(rows, noise=0.01)
        drawn = [inline(figure, style.svg(figure).decode(), name, "") for name in ("one", "two")]
    marks = re.findall(r'\bid="([^"]*)"', "".join(drawn))
    assert len(marks) == len(set(marks)) > 100
    for name, text in zip(("one", "two"), drawn, strict=True):
        named = set(re.findall(r'\bid="([^"]*)"', text))
        assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) <= named
        assert text.count("<use href=") == 2, f"a panel each, of {name}"


def test_entries_of_a_legend_are_cut_where_they_were_drawn(tmp_path: Path) -> None:
    with style.styled():
        figure = style.figure(style.WIDTH, 2)
        figure.subplots().plot([1, 2], label="one")
        figure.axes[0].plot([2, 1], label="another")
        figure.legend(loc="outside lower center", ncols=2)
        # The PNG is of other dots per inch.
        svg, *_ = style.write(figure, pd.DataFrame({"x": [1]}), tmp_path, "drawn")
        drawn = inline(figure, svg.read_text(), "drawn", "")
    boxes = re.findall(r'viewBox="(\S+) (\S+) (\S+) (\S+)"><use href="#drawn-legend"', drawn)
    words = re.findall(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>(one|another)</text>', drawn)
    assert [word for _, _, word in words] == ["one", "another"]
    for (x, y, _), box in zip(words, boxes, strict=True):
        left, top, width, height = map(float, box)
        assert left < float(x) < left + width and top < float(y) < top + height


def test_the_page_is_as_dark_as_its_figures() -> None:
    css = str(html._source("page.css"))
    papers = re.findall(r"--paper: (#\w+)", css)
    # Light, dark, printed.
    assert papers == ["#fff", style.DARK[style.PAPER].lower(), "#fff"]


@pytest.mark.parametrize(
    ("cell", "right"),
    [
        ("1.58k", True),
        ("6.1×10¹⁰", True),
        ("10¹³", True),
        ("2.217 to 2.234", True),
        ("-2.6% to +3.8%", True),
        ("48.3k (22.6k to 88.7k)", True),
        ("3.4927e+06", True),
        ("-", True),
        ("2 done", False),
        ("0.73, 38.6k", False),
        ("e08f434bbd6b", False),
    ],
)
def test_numbers_are_set_to_the_right(cell: str, right: bool) -> None:
    assert ('<td class="n"' in html.table(["a"], [[cell], ["1"]])) == right


def test_what_a_table_says_is_escaped_and_markup_is_not() -> None:
    harm = "<script>alert(1)</script>"
    made = html.joined(
        html.table([harm], [[harm]]), html.paragraph(harm), html.bullets([harm]), html.box("warn", harm)
    )
    assert "<script>" not in made and made.count("&lt;script&gt;") == 6
    assert html.folded(harm, made).count("&lt;script&gt;") == 7


def test_sizes_are_counted_one_way_on_a_page(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text("{}")
    folder = Source(str(tmp_path))
    assert folder.size_name == "parameters, embeddings included" and folder.counts_embeddings
    other = Source(str(tmp_path), columns="params=params_nonembedding")
    assert other.size_name == "parameters without embeddings" and not other.counts_embeddings
    assert Source("a.csv", columns="params=N").size_name == "parameters (N)"
