"""Answers in a notebook and at a prompt: frames, short HTML, given axes, Python's words, examples that run."""

import ast
import contextlib
import dataclasses
import doctest
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_curves import CURVES, scores
from made_ladder import write_ladder
from matplotlib.figure import Figure

import analysis
from analysis import emergence, extrapolate, fit, load_table
from analysis.curves.curves import Curves
from analysis.errors import UserError, as_command, in_python
from analysis.figures.law import fit_data, plot_contours, plot_residuals
from analysis.fitting.options import FitOptions
from analysis.forecasting.promise import promise
from analysis.forecasting.score import Verification
from analysis.shown import MOST_LINES, MOST_ROWS

# What makes each answer has the example.
MADE_BY = {
    "Citation": "cite",
    "Comparison": "compare",
    "Curves": "curves",
    "Design": "design",
    "Emergence": "emergence",
    "Fit": "fit",
    "Forecast": "extrapolate",
    "IsoFlop": "isoflop",
    "Ranking": "compare_all",
    "Request": "forecast",
    "Tuning": "tune",
    "Verification": "verify",
}
SLOW = ("compare", "compare_all", "curves", "extrapolate", "forecast", "fit_shared")
NO_EXAMPLE = ("UserError", "Warn")


def runs() -> pd.DataFrame:
    rows = [(n, d, 1.7 + 400 / n**0.34 + 410 / d**0.28) for n in (1e6, 4e6, 2e7) for d in (2e7, 1e8, 6e8)]
    return pd.DataFrame(rows, columns=["params", "tokens", "loss"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in sorted(set(analysis.__all__) - {*MADE_BY, *NO_EXAMPLE})
    ],
)
def test_a_public_name_has_an_example_that_runs(name: str) -> None:
    found = getattr(analysis, name)
    space = dict(vars(importlib.import_module(found.__module__)))
    # What a docstring names among its arguments is there.
    words = (inspect.getdoc(found) or "").partition(">>>")[0]
    missing = [
        p for p in inspect.signature(found).parameters if p not in words and p not in ("table", "source")
    ]
    assert not missing
    (case,) = doctest.DocTestFinder(recurse=False).find(found, name, globs=space)
    assert case.examples
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    said: list[str] = []
    doctest.DocTestRunner(optionflags=flags, verbose=False).run(case, out=said.append)
    assert not said, "".join(said)


def test_every_answer_is_a_frame_and_short_html() -> None:
    for name in MADE_BY:
        answer = getattr(analysis, name)
        assert name == "Request" or {"to_frame", "_repr_html_", "summary"} <= set(dir(answer)), name
    fitted = fit(runs(), bootstrap=20)
    assert len(repr(fitted)) < 200 and fitted.to_frame().index.tolist() == ["E", "A", "B", "alpha", "beta"]
    many = [scores({f"<b>{i}": CURVES["smooth_line"] for i in range(MOST_ROWS + 9)}, 40)]
    found = emergence(pd.concat(many), draws=50)
    page = found._repr_html_()
    assert "<b>" not in page and page.count("<tr") <= MOST_ROWS + 4 and page.count("<br>") <= MOST_LINES
    assert "more lines" in page and len(repr(found)) < 100


def test_pictures_go_on_given_axes() -> None:
    fitted = fit(runs(), bootstrap=20)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert fitted.plot(ax=left) is figure and plot_residuals(fitted, ax=right) is figure
    assert left.get_xlabel() == "predicted loss" and len(left.collections) == 1
    part = Figure().subfigures(1, 2)[0]
    assert plot_contours(fitted, ax=part.subplots()) is part.figure
    found = emergence(scores({"a": CURVES["emergent_step"], "b": CURVES["smooth_line"]}, 100), draws=50)
    own = Figure()
    assert found.plot(ax=own.subplots(1, 2)) is own and own.axes[0].lines
    with pytest.raises(UserError, match="ax: 1 given, and this picture has 2 plots"):
        found.plot(ax=Figure().subplots())
    for answer in (Curves, Verification):
        assert "ax" in inspect.signature(answer.plot).parameters


def test_what_is_written_of_a_fit_is_what_is_drawn() -> None:
    fitted = fit(runs(), bootstrap=20)
    data = fit_data(fitted)
    figure = Figure()
    axis = figure.subplots()
    fitted.plot(ax=axis)
    drawn = pd.DataFrame(axis.collections[0].get_offsets(), columns=["predicted", "loss"])
    pd.testing.assert_frame_equal(drawn, data[["predicted", "loss"]])
    assert data["loss"].tolist() == runs()["loss"].tolist()


def test_a_fit_is_taken_and_not_made_again() -> None:
    fitted = fit(runs(), bootstrap=20)
    assert extrapolate(fitted, at=[{"params": 1e8, "tokens": 2e9}]).fit is fitted


def test_tasks_are_asked_for_in_one_line(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24), seeds=(0,), evaluations=1)
    with pytest.raises(UserError) as said:
        emergence(load_table(folder))
    assert str(said.value) == (
        f'{folder}: this is its table of runs; tasks are read with load_table("{folder}", kind="tasks")'
    )


@pytest.mark.parametrize(
    ("command", "python"),
    [
        (
            "rename one with --columns params=COLUMN (there are N)",
            'rename one with columns="params=COLUMN" (there are N)',
        ),
        ("--where 'flops < 1': keeps none of the 9 rows", "where='flops < 1': keeps none of the 9 rows"),
        (
            "budgets = [-1.0] (--budget): give FLOPs, e.g. --budget 1e21",
            "budgets = [-1.0]: give FLOPs, e.g. budgets=1e21",
        ),
        ("give budgets (--budget FLOPS), at (--at params=...) or none", "give budgets, at or none"),
        ('try form="auto" (--form), or leave out rows', 'try form="auto", or leave out rows'),
        ("give both, --at params=1e9,tokens=NUMBER", 'give both, at={"params": 1e9, "tokens": NUMBER}'),
        ("--loss-at median: write last", "loss_at median: write last"),
        ("choose one with `import --source KIND`", "choose one with source_kind=KIND"),
        ("nothing of the kind: 3 -- 4", "nothing of the kind: 3 -- 4"),
    ],
)
def test_a_notebook_is_advised_in_python(command: str, python: str) -> None:
    assert in_python(command) == python
    assert UserError(command)._render_traceback_() == [f"UserError: {python}"]
    assert str(UserError(command)) == python
    with as_command():
        assert str(UserError(command)) == command


def test_every_option_that_a_message_names_is_an_argument() -> None:
    """Of the messages that Python can meet: those outside of the commands, and of the files that these write."""
    arguments = {field.name for field in dataclasses.fields(FitOptions)} | {
        *inspect.signature(promise).parameters
    }
    for name in analysis.__all__:
        with contextlib.suppress(ValueError):  # an exception has no signature
            arguments |= set(inspect.signature(getattr(analysis, name)).parameters)
    root = Path(analysis.__file__).parent
    apart = {"cli.py", "__main__.py", "verbs", "watch", "report", "figures"}
    named = set()
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] in apart:
            continue
        tree = ast.parse(path.read_text())
        for node in (
            n for raised in ast.walk(tree) if isinstance(raised, ast.Raise) for n in ast.walk(raised)
        ):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                named |= {
                    (found[1], in_python(found[0]))
                    for found in re.finditer(r"(?<!\()--([a-z][\w-]*)", ast.unparse(node))
                }
    assert len(named) > 10
    assert {argument for _, argument in named} <= arguments, named


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (lambda t: fit(t.drop(columns="params")), 'columns="params=COLUMN"'),
        (lambda t: fit(t, floor="known"), "floor_value"),
        (lambda t: fit(t, group="nothing"), "group = nothing: no such column"),
        (lambda t: extrapolate(t), "nothing to predict: give budgets, at or targets"),
        (lambda t: extrapolate(t, budgets=[-1.0], bootstrap=20), "give positive FLOPs, e.g. budgets=1e21"),
        (lambda t: analysis.isoflop(t, method="parametrix"), "method = "),
        (
            lambda t: analysis.design(t, t, at={"params": 1e9}, budget=1e18),
            'at={"params": NUMBER, "tokens": NUMBER}',
        ),
        (lambda t: analysis.compare(t, t, targets=[-1.0]), "e.g. targets=1e21"),
        (lambda t: analysis.tune(t), 'columns="learning_rate=COLUMN"'),
        (lambda t: analysis.curves(t, schedule={"x": 1}), 'schedule={"x": 1}: no such column'),
    ],
)
def test_a_script_that_is_wrong_is_told_arguments(wrong: Callable[[pd.DataFrame], Any], advice: str) -> None:
    with pytest.raises(UserError) as said:
        wrong(runs())
    assert advice in str(said.value) and "--" not in str(said.value), str(said.value)
