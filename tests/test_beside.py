"""What lies beside the page: answers and pictures' data as CSV and JSON, what a paper must state; the colours."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_ladder import LAW, write_ladder

from analysis import fit, load_table
from analysis.cli import main
from analysis.figures import style
from analysis.figures.ladder import components, components_data, residuals
from analysis.laws.bibliography import PAPERS, bibtex
from analysis.laws.catalogue import FORMS
from analysis.report.cite import citation
from analysis.report.source import Source
from analysis.tables.finished import finished_rows

MADE: dict[str, Any] = {"widths": (16, 24, 32, 128), "seeds": (0,), "evaluations": 2}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_ladder(
        tmp_path_factory.mktemp("made") / "runs", widths=(16, 24, 32, 128), seeds=(0,), evaluations=2
    )
    assert main(["report", str(folder)]) == 0
    return folder / "report"


@pytest.mark.slow
def test_every_answer_and_picture_lies_beside_the_page(reported: Path) -> None:
    answers = {path.name for path in (reported / "answers").iterdir()}
    names = ("runs", "left_out", "held_out", "fit", "extrapolate", "emergence", "cite")
    assert answers == {f"{name}.{end}" for name in names for end in ("csv", "json")} | {"cite.txt"}
    fitted = pd.read_csv(reported / "answers" / "fit.csv").set_index("parameter")["value"]
    said = json.loads((reported / "answers" / "fit.json").read_text())
    assert fitted.to_dict() == pytest.approx(said["params"])
    drawn = {
        path.stem: {p.suffix for p in path.parent.glob(f"{path.stem}.*")}
        for path in (reported / "figures").iterdir()
    }
    assert {"loss_compute", "next_budgets", "residuals", "components", "tasks", "twins"} <= set(drawn)
    assert all(endings == {".svg", ".png", ".csv", ".json"} for endings in drawn.values())


@pytest.mark.slow
def test_csv_and_json_hold_what_was_drawn(reported: Path) -> None:
    for path in (reported / "figures").glob("*.csv"):
        table = pd.read_csv(path)
        rows = pd.DataFrame(json.loads(path.with_suffix(".json").read_text()))
        assert list(rows.columns) == list(table.columns) and len(rows) == len(table) > 0
        for name in table.select_dtypes("number").columns:
            assert pd.to_numeric(rows[name]).to_numpy() == pytest.approx(table[name].to_numpy(), nan_ok=True)
    for name in ("loss_compute", "next_budgets", "residuals", "components"):
        # A title also says what the page does: the points of a picture are the runs of its table.
        told = re.findall(r"<title>([^:<]*): ", (reported / "figures" / f"{name}.svg").read_text())
        data = pd.read_csv(reported / "figures" / f"{name}.csv")
        times = 2 if name == "residuals" else 1
        assert sorted(told) == sorted(data["run_id"].dropna().tolist() * times)
    data = pd.read_csv(reported / "figures" / "residuals.csv")
    figure = residuals(data)
    offsets = figure.axes[0].collections[0].get_offsets()
    assert sorted(offsets[:, 1].tolist()) == sorted(data[data["used"]]["percent"].tolist())
    assert data["percent"].tolist() == pytest.approx((100 * (data["loss"] / data["fitted"] - 1)).tolist())
    runs = pd.read_csv(reported / "answers" / "runs.csv")
    assert data["loss"].tolist() == pytest.approx(runs["loss"].tolist())


@pytest.mark.slow
def test_an_svg_has_its_text_as_text_and_a_dark_twin(reported: Path) -> None:
    drawn = (reported / "figures" / "loss_compute.svg").read_text()
    assert re.search(r"<text[^>]*>training compute C \(FLOPs", drawn) and "DejaVu Sans" in drawn
    assert "prefers-color-scheme:dark" in drawn and style.DARK[style.PAPER] in drawn
    assert len(drawn) < 80_000


@pytest.mark.slow
def test_a_paper_is_told_what_to_state(reported: Path) -> None:
    said = json.loads((reported / "answers" / "cite.json").read_text())
    assert said["counts"]["C"].startswith("exact count") and said["loss"] == "text loss (nats per byte)"
    assert said["law"]["form"] == "chinchilla" and said["objective"]["delta"] == 1e-3
    assert said["search"]["starts_polished"] >= said["search"]["at_the_optimum"] >= 1
    assert said["resamples"]["count"] > 0 and said["rolling_error_of_hold_outs"].keys() == {"chinchilla"}
    assert {"python", "numpy", "scipy"} <= said["analysed_with"].keys()
    assert said["trained_with"] == {"cpu, jax 0.0": len(list(reported.parent.glob("*/execution.json")))}
    text = (reported / "answers" / "cite.txt").read_text()
    assert "floor: free" in text and text.rstrip().endswith("}") and "eprint = {2203.15556}" in text


def test_a_prior_and_a_floor_are_stated_with_their_source() -> None:
    rows = [(n, d, LAW["E"] + 90 / n**0.5 + 2500 / d**0.5) for n in (1e4, 4e4, 2e5) for d in (1e6, 5e6, 3e7)]
    table = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    floor = {"floor": "prior", "floor_value": 1.2, "floor_error": 0.1, "floor_source": "entropy of the text"}
    fitted = fit(table, "chinchilla6", k="prior", bootstrap=20, **floor)
    said = citation(fitted, table, Source("")).summary()
    assert "prior, 1.2 ± 0.1 (entropy of the text)" in said and "published fits of the outer power" in said
    assert "kaplan2020" in said and "hoffmann2022" in said and "a table in memory" in said


def test_every_law_has_its_bibtex() -> None:
    assert all("@misc{" in bibtex(form.reference) for form in FORMS.values())
    numbers = {number for form in FORMS.values() for number in re.findall(r"\d{4}\.\d{5}", form.reference)}
    assert numbers <= {number for _, _, number in PAPERS.values()}
    assert bibtex("mine, unpublished") == ""


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_marks_and_text_have_enough_contrast_on_white_and_on_dark() -> None:
    dark = style.DARK[style.PAPER]
    sizes = ["#" + "".join(f"{round(255 * c):02x}" for c in style.SIZES(i / 50)[:3]) for i in range(51)]
    marks = (style.BLUE, style.ORANGE, style.GREEN, style.RED, style.PURPLE, style.GREY, *sizes)
    for mark in marks:
        assert contrast(mark, style.PAPER) >= 3 and contrast(mark, dark) >= 3, mark
    for light, twin in style.DARK_TEXT.items():
        assert contrast(light, style.PAPER) >= 4.5 and contrast(twin, dark) >= 4.5, light


@pytest.mark.slow
def test_text_is_written_in_colours_that_turn(reported: Path) -> None:
    allowed = {colour.lower() for colour in style.DARK_TEXT}
    for path in (reported / "figures").glob("*.svg"):
        for text in re.findall(r"<text[^>]*>", path.read_text()):
            fill = re.search(r"fill: (#\w+)", text)
            assert fill and fill[1] in allowed, (path.name, text)


def test_a_picture_of_components_has_every_floor(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24), seeds=(0,), evaluations=1)
    rows = finished_rows(load_table(folder, where="final"), longest=True)[0].assign(floor_copy=0.2)
    data = components_data(rows, ["copy", "facts"])
    assert data[data["series"] == "floor"][["component", "loss"]].to_numpy().tolist() == [["copy", 0.2]]
    buffer = io.BytesIO(style.svg(components(data, "loss (nats)", "parameters")))
    assert b"copy" in buffer.getvalue()
