"""The pictures: written as files, drawn for odd tables too, labels that say what they should."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_curves import CURVES, scores
from made_ladder import TASKS, write_ladder
from matplotlib.figure import Figure
from mute import mute

from analysis import emergence, fit, load_table
from analysis.cli import main
from analysis.detection.noise import level_and_error
from analysis.figures import ladder, style, task_data, tasks
from analysis.figures.forecast import loss_compute, loss_compute_data
from analysis.figures.growing import loss_curves
from analysis.figures.law import plot_contours, plot_fit, plot_residuals
from analysis.forecasting.forecast import extrapolate
from analysis.report import findings as module
from analysis.report.findings import findings
from analysis.report.pictures import pictures
from analysis.report.source import Source
from analysis.tables.finished import finished_rows


def test_every_picture_is_written_as_svg_and_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24, 32), seeds=(0,), diverge=[(32, 0)])
    assert main(["plots", str(folder)]) == 0
    said = capsys.readouterr().out.split()
    assert {Path(line).parent for line in said} == {folder / "report" / "figures"}
    names = ["loss_compute", "next_budgets", "residuals", "components", "text_classes", "tasks", "twins"]
    endings = ("svg", "png", "csv", "json")
    assert [Path(line).name for line in said] == [f"{n}.{end}" for n in names for end in endings]
    for line in said:
        start = Path(line).read_bytes()[:200]
        assert {".svg": b"<?xml", ".png": b"\x89PNG", ".csv": b",", ".json": b"[{"}[
            Path(line).suffix
        ] in start


def test_every_point_of_every_picture_tells_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "extrapolate", functools.partial(extrapolate, bootstrap=20))
    monkeypatch.setattr(module, "emergence", functools.partial(emergence, draws=200))
    folder = write_ladder(tmp_path / "made", widths=(16, 24, 32), seeds=(0,), diverge=[(32, 0)])
    told = findings(load_table(folder), Source(str(folder)))
    scored = emergence(scores({name: CURVES[name] for name in ("smooth_line", "emergent_step")}), draws=200)
    rows = told.rows.assign(ngram_bigram=2.0, kl_bigram=0.5)
    ngrams = ladder.ngrams(ladder.ngrams_data(rows, ["bigram"]), "loss", "size")
    law = fit(told.rows, "chinchilla", bootstrap=0)
    growing = told.rows.assign(series="evaluated")
    with style.styled():
        drawn = {picture.name: picture.figure for picture in pictures(told)}
        assert {"loss_compute", "next_budgets", "residuals", "components", "tasks", "twins"} <= set(drawn)
        drawn |= {"ngrams": ngrams, "emergence": tasks.plot(scored), "fit": plot_fit(law)}
        drawn |= {"law_residuals": plot_residuals(law), "contours": plot_contours(law)}
        drawn |= {"growing": loss_curves(growing)}
        assert {name: found for name, figure in drawn.items() if (found := mute(figure))} == {}
    # One model has one size in all pictures of a page.
    sizes = set(told.rows["params"])
    for picture in pictures(told):
        seen = picture.data.get("size", picture.data.get("params")).dropna()
        seen = seen[picture.data["series"].isin(["run", "seed"])] if "series" in picture.data else seen
        assert set(seen) <= sizes, picture.name


def test_the_folder_to_write_in_is_checked_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16,), seeds=(0,))
    (tmp_path / "file").write_text("")
    assert main(["plots", str(folder), "--out", str(tmp_path / "file" / "x")]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_picture_is_the_same_bytes_twice() -> None:
    def drawn() -> bytes:
        with style.styled():
            fig = style.figure(3, 2)
            ax = fig.subplots()
            ax.plot([1, 10, 100], [3, 2, 1], "o-")
            style.log_axis(ax, "x")
            return style.svg(fig)

    assert drawn() == drawn()


@given(st.floats(1e-6, 1e25), st.floats(1.0, 1e12), st.integers(3, 9))
@settings(max_examples=200, deadline=None)
def test_a_log_axis_has_some_ticks_and_never_too_many(low: float, ratio: float, most: int) -> None:
    ax = Figure().subplots()
    ax.set_xscale("log")
    ax.set_xlim(low, low * ratio * 1.01)
    style.log_axis(ax, "x", most=most)
    ticks = ax.get_xticks()
    assert 1 <= len(ticks) <= most
    assert np.all((ticks >= low * 0.99) & (ticks <= low * ratio * 1.03))


@pytest.mark.parametrize(
    ("value", "said"),
    [(14544, "14.5k"), (460416, "460k"), (999_990, "1M"), (2.4e7, "24M"), (5e12, "5T"), (12, "12"), (0, "0")],
)
def test_counts_for_people(value: float, said: str) -> None:
    assert style.count(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(6.4e13, "6.4×10¹³"), (1e12, "10¹²"), (9.99e11, "10¹²"), (2e-3, "2×10⁻³"), (0.0, "0")]
)
def test_powers_for_people(value: float, said: str) -> None:
    assert style.power(value) == said


@given(st.text(max_size=60), st.integers(3, 40))
def test_a_clipped_name_fits_and_keeps_both_ends(name: str, most: int) -> None:
    shown = style.clipped(name, most)
    assert len(shown) <= most and (shown == name or len(name) > most == len(shown))
    if shown != name:
        first, last = name[: most // 2], name[-((most - 1) // 2) :]
        assert shown == f"{first}…{last}"


def test_curves_show_the_longest_horizon_of_every_seed(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 32), seeds=(0, 1))
    rows, _ = finished_rows(load_table(folder, kind="tasks"), longest=True)
    variants = sum(len(t.variants) for t in TASKS.values())
    assert len(rows) == 2 * 2 * variants
    assert (rows.tokens == rows.groupby("size").tokens.transform("max")).all()
    runs = finished_rows(load_table(folder, where="final"), longest=True)[0]
    assert len(runs) == 4


def test_the_least_possible_loss_of_a_component_is_drawn(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 32), seeds=(0,))
    for path in folder.glob("*/spec.json"):
        spec = json.loads(path.read_text())
        spec["tasks"]["copy"]["floor"], spec["tasks"]["facts"]["floor"] = 0.25, None
        path.write_text(json.dumps(spec))
    rows = finished_rows(load_table(folder, where="final"), longest=True)[0]
    data = ladder.components_data(rows, ["copy", "facts"])
    fig = ladder.components(data, "loss (nats per byte)", "parameters")
    levels = [[float(line.get_ydata()[0]) for line in ax.lines if line.get_ls() == "--"] for ax in fig.axes]
    assert levels == [[0.25], []]


def test_names_of_components_are_whole() -> None:
    names = ["text.identifier_repeated", "text.comment_word", "averyveryverylongname"]
    rows = pd.DataFrame({"run_id": ["a", "b"], "params": [1e5, 1e6], "tokens": 1e7, "loss": [2.0, 1.5]})
    rows = rows.assign(**{f"loss_{name}": 1.0 for name in names})
    with style.styled():
        figure = ladder.components(ladder.components_data(rows, names), "loss", "size")
    assert [ax.get_title().replace("\n", "") for ax in figure.axes] == names


def test_lost_runs_are_crosses_where_they_stopped(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 32), seeds=(0,), diverge=[(32, 0)])
    found = findings(load_table(folder), Source(str(folder)))
    fig = next(picture.figure for picture in pictures(found) if picture.name == "loss_compute")
    crosses = [drawn for drawn in fig.axes[0].collections if "diverged" in str(drawn.get_urls())]
    lost = found.table[found.table.outcome == "diverged"].groupby("run_id").flops.max()
    drawn = np.concatenate([np.asarray(cross.get_offsets())[:, 0] for cross in crosses])
    assert len(lost) and np.isin(lost.to_numpy(), drawn).all()
    assert all(name in str(cross.get_urls()) for cross in crosses for name in lost.index)
    assert "diverged or failed" in [text.get_text() for legend in fig.legends for text in legend.get_texts()]


@pytest.mark.parametrize("highest", [2.3, 9.0, 400.0])
def test_the_name_of_the_lowest_run_is_clear_of_the_axis(highest: float) -> None:
    rows = pd.DataFrame({"params": [1e6, 1e7, 3.2e8], "loss": [highest, (1.3 * highest) ** 0.5, 1.3]})
    rows = rows.assign(tokens=2e7, flops=6 * rows.params * 2e7, seed=0, run_id=["a", "b", "c"])
    with style.styled():
        figure = loss_compute(loss_compute_data(rows, rows.iloc[:0], None, None), "6ND", "loss")
        figure.draw_without_rendering()
        ax = figure.axes[0]
        named = {text.get_text(): text.get_window_extent() for text in ax.texts}
        assert named["N = 320M"].y0 > ax.bbox.y0 + 2


def test_the_names_of_ngrams_are_clear_of_their_lines() -> None:
    rows = pd.DataFrame({"run_id": ["a", "b"], "params": [1e5, 1e6], "tokens": 1e7, "loss": [2.0, 1.5]})
    data = ladder.ngrams_data(rows.assign(ngram_unigram=3.0, kl_unigram=[0.5, 0.7]), ["unigram"])
    with style.styled():
        figure = ladder.ngrams(data, "loss", "size")
        figure.draw_without_rendering()
        (name,) = figure.axes[0].texts
        level = figure.axes[0].transData.transform((1e6, 3.0))[1]
        assert level < name.get_window_extent().y0 - 1 < level + 5


def test_no_caveat_of_a_task_is_cut_from_its_picture() -> None:
    found = emergence(scores({"a": CURVES["smooth_line"]}), draws=200)
    said = "u-shaped (expected saturated), under its shortcut, one seed, underpowered, seeds part"
    with style.styled():
        figure = tasks.score_page(task_data.small_curves_data(found).assign(said=said), "size")
        assert said in [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]


def test_twins_are_variants_of_a_task_and_tasks_with_a_common_stem(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 32), seeds=(0,))
    rows, _ = finished_rows(load_table(folder, kind="tasks"), longest=True)
    renamed = rows.assign(task=rows.task.mask((rows.variant == "chain"), "parity_chain"))
    assert task_data.find_twins(rows) == [
        [("facts", "frequent"), ("facts", "rare")],
        [("parity", "direct"), ("parity", "chain")],
    ]
    assert [("parity", "direct"), ("parity_chain", "chain")] in task_data.find_twins(renamed)


def test_the_band_that_is_drawn_is_the_error_that_was_judged() -> None:
    parts = [
        scores({"jump": CURVES["emergent_step"], "line": CURVES["smooth_line"]}, 200, seed=s, scatter=0.04)
        for s in range(3)
    ]
    table = pd.concat([part.assign(seed=s) for s, part in enumerate(parts)], ignore_index=True)
    wrong = table.assign(metric="error_rate", correct=table["total"] - table["correct"])
    for found in (emergence(table, draws=100), emergence(wrong, draws=100)):
        fig = tasks.plot(found)
        for ax, verdict in zip(fig.axes, sorted(found.tasks, key=lambda v: v.label), strict=True):
            band = (
                next(c for c in ax.collections if len(c.get_paths()[0].vertices) > 6).get_paths()[0].vertices
            )
            mean, error = level_and_error(verdict.curve, verdict.scatter)
            drawn = verdict.curve.shift + verdict.curve.scale * mean
            assert verdict.scatter > 0
            assert band[:, 1].max() == pytest.approx((drawn + 2 * error).max())
            assert band[:, 1].min() == pytest.approx((drawn - 2 * error).min())
            widest = [np.ptp(band[np.isclose(band[:, 0], size), 1]) for size in verdict.curve.size]
            assert widest == pytest.approx(4 * error)


def test_report_and_verb_draw_tasks_with_the_same_strokes(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24, 32, 48), seeds=(0, 1))
    table = load_table(folder, kind="tasks")
    found = emergence(table, draws=100)
    rows, _ = finished_rows(table, longest=True)
    report = tasks.score_page(task_data.accuracy_data(rows, task_data.by_curve(found)), "parameters")
    verb = tasks.plot(found)

    def lines(fig: Figure) -> dict[str, list[list[float]]]:
        return {
            ax.get_title(loc="left").split("\n")[0].split("/")[0].split(":")[0]: sorted(
                np.asarray(line.get_ydata(), float).tolist() for line in ax.lines
            )
            for ax in fig.axes
            if "facts" not in ax.get_title(loc="left") and "parity" not in ax.get_title(loc="left")
        }

    assert lines(report) == lines(verb) and len(lines(report)) == len(TASKS) - 2


@given(st.text("ab_./:- ", min_size=1, max_size=70))
def test_a_wrapped_name_fits_two_lines(name: str) -> None:
    shown = tasks._wrapped(name, 24)
    assert len(shown.split("\n")) <= 2 and all(len(line) <= 24 for line in shown.split("\n"))
    assert "…" in shown or shown.replace("\n", "") == name


def test_an_answer_draws_itself_and_is_a_frame() -> None:
    found = emergence(scores({"<b>": CURVES["emergent_step"], "line": CURVES["smooth_line"]}, 300), draws=100)
    assert len(found.plot().axes) == 2
    frame = found.to_frame()
    assert frame[["task", "class"]].to_numpy().tolist() == [["<b>", "emergent"], ["line", "smooth"]]
    assert frame["threshold"].notna().tolist() == [True, False]
    page = found._repr_html_()
    assert "&lt;b&gt;" in page and "<b>" not in page and "one run a size" in page
