"""The report of anybody's table: what it leaves out and says so, whose units it prints, and no traceback."""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_ladder import write_ladder
from markupsafe import Markup

from analysis import UserError, load_table
from analysis.cli import main
from analysis.errors import Code, Status, Warn
from analysis.figures import forecast as forecast_figure
from analysis.figures import law as law_figures
from analysis.figures import style
from analysis.fitting.fit import fit
from analysis.forecasting.forecast import Forecast, Prediction, extrapolate
from analysis.forecasting.target import Target, choose_target, law_rows
from analysis.report import answer, findings, laws, page
from analysis.report.noise import seed_noise
from analysis.report.page import report
from analysis.report.source import Source
from analysis.report.units import units_of

DAY = date(2026, 11, 27)


def plain(sizes: tuple[float, ...] = (1e6, 3e6, 1e7, 3e7, 1e8)) -> pd.DataFrame:
    """A dozen runs of a known law, a little noise, and nothing but the three columns."""
    rng = np.random.default_rng(3)
    rows = [(n, d, 1.7 + 400 / n**0.34 + 410 / d**0.28) for n in sizes for d in (2e7, 1e8, 5e8)]
    table = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    return table.assign(loss=table.loss * np.exp(rng.normal(0, 0.003, len(table))))


def words(path: Path) -> str:
    """The page as a person reads it."""
    html = path.read_text(encoding="utf-8")
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


@functools.cache
def _known() -> Forecast:
    """A real forecast, fitted once."""
    return extrapolate(plain(), budgets=[1e18], form="chinchilla", regime="all", bootstrap=20)


@pytest.fixture
def one_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every law is the one of `plain`: these tests are about the page, and a fit takes most of its time."""

    def quick(table: pd.DataFrame, *, budgets: Any = (), targets: Any = None, **_: Any) -> Forecast:
        if len(table) < 6 or table["params"].nunique() < 2 or table["loss"].nunique() < 2:
            raise UserError("too few rows for a law")
        split = pd.DataFrame({"params": np.sqrt(budgets), "tokens": np.sqrt(budgets) / 6, "flops": budgets})
        asked = split if targets is None else targets
        points = zip(asked.params, asked.tokens, asked.flops, _known().fit.predict(asked), strict=True)
        said = [
            Prediction(n, d, c, loss, 0.9 * loss, 1.1 * loss, 0.9, c / table.flops.max())
            for n, d, c, loss in points
        ]
        return replace(_known(), predictions=tuple(said))

    def unclassified(*_: Any, **__: Any) -> Any:
        raise UserError("no class is asked for here")

    monkeypatch.setattr(findings, "extrapolate", quick)
    monkeypatch.setattr(findings, "emergence", unclassified)
    # Figures are made and not printed: the slow run of all spoilt columns prints them.
    monkeypatch.setattr(page.style, "write", lambda *_: [Path(os.devnull)])
    monkeypatch.setattr(page, "inline", lambda *_: Markup())


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("tokens", 0, "tokens is zero or negative"),
        ("flops", 0, "flops is zero or negative"),
        ("flops", None, "flops is missing"),
        ("loss", np.nan, "loss is missing"),
        ("loss", np.inf, "loss is infinite or above 1e+60"),
        ("params", -1, "params is zero or negative"),
        ("params", 1e306, "params is infinite or above 1e+60"),
    ],
)
def test_a_row_that_no_law_can_use_is_left_out_and_named(column: str, value: float, reason: str) -> None:
    table = plain()
    if reason.startswith("flops") and column == "flops":
        table["flops"] = 6 * table.params * table.tokens
    table[column] = table[column].astype(float)
    table.loc[4, column] = value
    kept = law_rows(table)
    assert [(left.reason, left.rows) for left in kept.left_out] == [(reason, (4,))]
    assert len(kept.rows) == len(table) - 1
    target = choose_target(table)
    assert target is not None and target.params == 1e8


def test_evaluations_before_the_first_step_and_diverged_runs_are_said_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As trackers export it: a run_id, an evaluation at step 0, infinite and missing losses, holes, two losses."""
    monkeypatch.setattr(findings, "extrapolate", functools.partial(extrapolate, bootstrap=20))
    table = plain()
    table.insert(0, "run_id", [f"x{i:03d}" for i in range(len(table))])
    table["params_nonembedding"] = table.params * 0.8
    table["flops"] = 6 * table.params * table.tokens
    table["loss_c4"], table["loss_code"] = table.loss, table.loss * 0.7
    table = table.astype({"tokens": float})
    table.loc[0, "tokens"], table.loc[4, "loss"], table.loc[5, "loss"] = 0, np.inf, np.nan
    table.loc[7, "flops"], table.loc[8, "flops"] = 0, np.nan
    path = tmp_path / "tracked.csv"
    table.to_csv(path, index=False)
    found = tmp_path / "found.json"
    assert main(["report", str(path), "--out", str(tmp_path), "--json", str(found)]) == 0
    said = capsys.readouterr().out
    for run in ("x000", "x004", "x005", "x007", "x008"):
        assert run in said
    text = words(tmp_path / "index.html")
    for reason in ("tokens is zero or negative", "loss is infinite", "loss is missing", "flops is missing"):
        assert reason in said and reason in text
    assert "5 of 15 rows" in text
    assert sum(left["count"] for left in json.loads(found.read_text())["rows_left_out"]) == 5
    # Nobody said in what units the loss is, and a column run_id makes no folder of runs.
    assert "nats" not in text and "loss, in the table's units" in text
    assert "the table's own columns loss_*" in text


def test_plots_print_no_unit_that_a_table_did_not_state(tmp_path: Path) -> None:
    table = plain().assign(run_id="a", bits=1.0)
    assert units_of(table, Source(str(tmp_path / "runs.csv"))).axis == "loss, in the table's units"
    renamed = Source("runs.csv", columns="params=N,loss=bits_per_byte")
    assert units_of(table, renamed).axis == "bits_per_byte (the table's column)"
    assert units_of(table, renamed).after == ""


@pytest.mark.parametrize(("vocabulary", "unit"), [(260, "nats per byte"), (1024, "nats per token")])
def test_a_vocabulary_of_tokens_is_not_called_bytes(tmp_path: Path, vocabulary: int, unit: str) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24), seeds=(0,), evaluations=1)
    for path in folder.glob("*/spec.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": vocabulary}))
    units = units_of(load_table(folder), Source(str(folder)))
    assert units.axis == f"text loss ({unit})"
    assert units.after == f" {unit}"


def test_equal_runs_without_a_seed_are_not_called_seeds() -> None:
    table = pd.concat([plain().assign(lr=rate) for rate in (1e-4, 2e-4, 4e-4)], ignore_index=True)
    target = choose_target(table)
    assert target is not None
    assert target.seeds == ()
    assert "seed" not in answer._measured_from(target).replace("no column tells them apart as seeds", "")
    assert seed_noise(table.assign(seed=0)) is None


def test_a_mixture_of_experts_is_cut_by_its_active_compute() -> None:
    table = plain().assign(params_active=lambda t: t.params / 16)
    target = choose_target(table)
    assert target is not None
    assert target.flops == pytest.approx(6 * 1e8 / 16 * 5e8)


def test_the_report_is_of_one_science_and_says_so(tmp_path: Path, one_fit: None) -> None:
    folder = write_ladder(
        tmp_path / "made", widths=(16, 24, 32, 64, 128), seeds=(0,), trunks=False, evaluations=1
    )
    for path in folder.glob("run-0[23]*/spec.json"):
        spec = json.loads(path.read_text())
        spec["data"]["content_hash"] = "f" * 16
        path.write_text(json.dumps(spec))
    found = findings.findings(load_table(folder), Source(str(folder)))
    assert len(found.rows) == 9
    assert "2 sciences among 15 finished runs" in found.science
    assert sum(len(left.rows) for left in found.left_out) == 6
    assert any("2 sciences" in sentence for sentence in answer.headline(found))


@pytest.mark.parametrize("name", ["runs.json", "runs.jsonl", "runs.tsv"])
def test_a_table_of_another_kind_keeps_its_name_in_commands(tmp_path: Path, name: str, one_fit: None) -> None:
    table, path = plain().rename(columns={"params": "N"}), tmp_path / name
    {
        "runs.json": lambda: table.to_json(path, orient="records"),
        "runs.jsonl": lambda: table.to_json(path, orient="records", lines=True),
        "runs.tsv": lambda: table.to_csv(path, sep="\t", index=False),
    }[name]()
    out = tmp_path / "my report"
    argv = ["report", str(path), "--columns", "params=N", "--where", "tokens > 1e6", "--out", str(out)]
    assert main(argv) == 0
    text = words(out / "index.html")
    asked = f"plots {path} --columns params=N --where 'tokens > 1e6' --out '{out}'"
    assert f"python -m analysis {asked} # loss_compute.svg" in text
    assert f"lmscale: {name}" in (out / "index.html").read_text()


def test_commands_keep_every_option() -> None:
    source = Source("a b.csv", "params=N", "D > 1", "arch", "out dir")
    assert source.command("plots", out=True) == (
        "python -m analysis plots 'a b.csv' --columns params=N --where 'D > 1' --same arch --out 'out dir'"
    )
    assert "--out" not in source.command("extrapolate")


def _prediction(loss: float, low: float, high: float, flops: float = 3e18, **more: float) -> Prediction:
    wanted = {"params": 1e8, "tokens": 1e9, **more}
    return Prediction(flops=flops, loss=loss, lower=low, upper=high, level=0.9, flops_ratio=3.0, **wanted)


@pytest.fixture(scope="module")
def law() -> tuple[findings.Findings, findings.Law]:
    """Return findings of a plain table, from 20 resamples a fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "extrapolate", functools.partial(extrapolate, bootstrap=20))
        patch.setattr(findings, "along_tokens", lambda rows: [])
        found = findings.findings(plain(), Source("runs.csv"))
    assert not isinstance(found.law, str)
    return found, found.law


def _next(found: findings.Findings) -> str:
    section = laws.next_section(found, {})
    assert section is not None
    return unescape(section.inner)


def test_a_grave_warning_takes_the_advice_back(law: tuple[findings.Findings, findings.Law]) -> None:
    found, made = law
    warned = (Warn(Code.POOR_FIT, "the residuals follow a curve"),)
    forecast = replace(made.forecast, warnings=warned)
    spoilt = replace(made, forecast=forecast)
    text = _next(replace(found, law=spoilt))
    assert "No advice: the law of all runs carries a grave warning (poor_fit)" in text
    assert Code.POOR_FIT.sentence in text
    assert Status.UNTRUSTED.sentence in text


def test_the_hold_out_of_the_same_step_stands_beside_the_budget(
    law: tuple[findings.Findings, findings.Law],
) -> None:
    found, made = law
    assert [step.ratio for step in made.back] == list(findings.RATIOS)
    assert not isinstance(found.held_out, str)
    assert made.back[-1].prediction == found.held_out.prediction
    wide = findings.StepBack(30.0, 8, _prediction(2.0, 1.28, 3.14))
    worse = replace(made, back=(*made.back[:2], wide))
    text = _next(replace(found, law=worse))
    assert "-36.0% to +57.0%" in text
    assert "times as wide as the law's own interval" in text


def test_more_than_four_passes_over_the_text_are_warned_of(
    law: tuple[findings.Findings, findings.Law],
) -> None:
    found, made = law
    most = max(p.tokens or 0.0 for p in made.next)
    for unique, warned in ((most / 14, True), (most, False)):
        rows = found.rows.assign(unique_tokens=unique)
        text = _next(replace(found, rows=rows))
        assert ("The best D repeats the text" in text) == warned
        assert "passes over the text" in text
    assert "passes over the text" not in _next(found)


def test_an_interval_of_one_value_is_said_in_words() -> None:
    assert "no interval" in laws._interval(0.0, 0.0)
    assert laws._interval(1.0, 2.0) == "1 to 2"


@pytest.mark.parametrize(("lower", "upper"), [(1.97, 2.05), (1.28, 3.14), (0.0, np.inf)])
def test_the_target_is_drawn_larger_than_in_the_main_panel(lower: float, upper: float) -> None:
    rows = plain().assign(flops=lambda t: 6 * t.params * t.tokens)
    target = Target(1e8, 5e8, 3e17, (2.0, 2.02), ("0", "1"), rows.iloc[:5])
    below = (rows["flops"] <= 1e16).to_numpy()
    held = forecast_figure.HeldOutLaw(((30.0, _prediction(2.01, lower, upper, 3e17)),), below, below, {})
    data = forecast_figure.loss_compute_data(rows, rows.iloc[:0], target, held)
    fig = forecast_figure.loss_compute(data, "6ND", "loss")
    fig.canvas.draw()
    main_panel, near = fig.axes[:2]
    heights = [
        np.log(ax.get_ylim()[1] / ax.get_ylim()[0]) / ax.get_window_extent().height for ax in fig.axes[:2]
    ]
    assert heights[1] < heights[0] / 1.5
    assert "magnified" in near.get_title()
    assert (f"{lower:.4g} to {upper:.4g}" in near.get_xlabel()) == (upper > 3)
    assert main_panel.get_ylim()[0] > 1.0


def test_drawing_leaves_a_notebooks_backend_alone() -> None:
    modules = "law, ladder, forecast, style"
    code = (
        "import matplotlib; matplotlib.use('svg')\n"
        f"import sys\nfrom analysis.figures import {modules}\nimport analysis.verbs.report, analysis.verbs.plots\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'\n"
        "print(matplotlib.get_backend())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "svg"


def test_a_law_is_drawn_on_given_axes(tmp_path: Path) -> None:
    fitted = fit(plain(), form="chinchilla", bootstrap=0)
    figure = style.figure(9, 3)
    axes = figure.subplots(1, 3)
    drawn = (law_figures.plot_fit, law_figures.plot_residuals, law_figures.plot_contours)
    for plot, ax in zip(drawn, axes, strict=True):
        assert plot(fitted, ax=ax) is figure
        assert ax.has_data()
    alone = law_figures.plot_fit(fitted)
    assert alone is not figure and alone.axes


def _tracked() -> pd.DataFrame:
    """A table with every column that the report may look at."""
    table = plain().assign(
        flops=lambda t: 6 * t.params * t.tokens, seed=0, outcome="done", final=True, kind="run"
    )
    table = table.assign(run_id=[f"r{i}" for i in table.index], params_nonembedding=table.params * 0.8)
    table = table.assign(loss_c4=table.loss, loss_code=table.loss * 0.7, unique_tokens=1e8, reason=None)
    return table.assign(learning_rate=1e-3, horizon_tokens=table.tokens, params_active=table.params / 2)


BAD: dict[str, Any] = {"zero": 0, "nan": np.nan, "inf": np.inf, "minus": -1, "text": "x", "huge": 1e300}


def _mangled(how: str, column: str) -> pd.DataFrame:
    """The tracked table with one column dropped, filled with one thing, or spoilt here and there."""
    table = _tracked()
    if how == "dropped":
        return table.drop(columns=column)
    if how == "as text":
        return table.assign(**{column: table[column].astype(str)})
    if how == "as objects":
        return table.assign(**{column: table[column].astype(object)})
    if how == "constant":
        return table.assign(**{column: table[column].iloc[0]})
    everywhere, what = how.split()
    if everywhere == "all":
        return table.assign(**{column: BAD[what]})
    table[column] = table[column].astype(object)
    table.loc[table.index[::3], column] = BAD[what]
    return table


HOW = ["dropped", "as text", "as objects", "constant", *(f"{n} {w}" for n in ("all", "some") for w in BAD)]
# Of every way and every column one, so that the default run meets each of them; the slow run has a seventh of all
# pairs.
COLUMNS = list(_tracked().columns)
PAIRS = [(how, column) for how in HOW for column in COLUMNS][::7]
FAST = [(how, COLUMNS[i % len(COLUMNS)]) for i, how in enumerate(HOW)]


def _reported_or_refused(table: pd.DataFrame, folder: Path, written: bool) -> None:
    """A page, or one line, of a file that was `written` and read or of the frame as it is."""
    path = folder / "t.csv"
    table.to_csv(path, index=False)
    try:
        report(load_table(path) if written else table, Source(str(path)), folder, DAY)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(("how", "column"), FAST)
def test_a_spoilt_column_is_a_page_or_one_line(tmp_path: Path, how: str, column: str, one_fit: None) -> None:
    _reported_or_refused(_mangled(how, column), tmp_path, written=HOW.index(how) % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "column"), PAIRS)
def test_any_spoilt_column_is_a_page_or_one_line(
    tmp_path: Path, how: str, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "extrapolate", functools.partial(extrapolate, bootstrap=20))
    _reported_or_refused(_mangled(how, column), tmp_path, written=PAIRS.index((how, column)) % 2 == 0)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_a_few_rows_are_a_page(tmp_path: Path, rows: int, one_fit: None) -> None:
    report(plain().iloc[-rows:], Source("few.csv"), tmp_path, DAY)
    with contextlib.suppress(UserError):
        report(_tracked().iloc[:rows], Source("few.csv"), tmp_path, DAY)


@pytest.mark.parametrize(
    "columns", [["run_id"], ["seed", "kind"], ["outcome", "reason", "vocab_size", "skipped_steps"]]
)
def test_a_run_folder_without_some_of_its_columns_is_a_page(
    tmp_path: Path, columns: list[str], one_fit: None
) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24), seeds=(0,), evaluations=2, diverge=[(24, 0)])
    report(load_table(folder).drop(columns=columns), Source(str(folder)), tmp_path, DAY)
