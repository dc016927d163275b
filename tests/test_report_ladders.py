"""The report of several ladders in one folder: an answer each, registered forecasts first, the floor checked."""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from made_ladder import BATCH_TOKENS, LAW, param_groups, text_loss, write_ladder
from mute import mute

from analysis import load_table
from analysis.cli import main
from analysis.figures import style
from analysis.report.findings import Ladders, ladders
from analysis.report.kept import kept_forecasts
from analysis.report.page import report, summary, to_json
from analysis.report.pictures import every_picture
from analysis.report.source import Source

# A ladder of several parts takes half a minute to make and to read.
pytestmark = pytest.mark.slow
TOP = sum(param_groups(128).values())
TOKENS = round(2.4e7 / BATCH_TOKENS) * BATCH_TOKENS
CUTS = (10.0, 30.0)


def part(folder: Path, name: str, *, floor: float | None, tasks: bool, **shape: object) -> list[str]:
    """Add a made ladder to `folder` as a part of another science; its runs."""
    made = write_ladder(folder / ".made", **shape)  # type: ignore[arg-type]
    for run in sorted(made.iterdir()):
        spec = json.loads((run / "spec.json").read_text())
        spec["trunk"] = spec["trunk"] and f"{name}-{spec['trunk']}"
        spec["data"] |= {"content_hash": name, **({} if floor is None else {"floor_heldout": floor})}
        if not tasks:
            spec["tasks"] = {}
            spec["data"]["components"] = [{"name": "text", "weight": 1.0, "rows": 1, "counted": 64}]
            records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
            for record in records:
                text = record["loss"]["text"]
                record |= {"tasks": {}, "loss": {"total": text, "text": text}}
            (run / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (run / "spec.json").write_text(json.dumps(spec))
        run.rename(folder / f"{name}-{run.name}")
    made.rmdir()
    file = folder / "parts.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    runs = [path.name for path in folder.glob(f"{name}-*")]
    file.write_text(json.dumps(before | dict.fromkeys(runs, name)))
    return runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ladders of a law, one with a known floor and its target trained after its forecasts, and one of tasks."""
    runs = tmp_path_factory.mktemp("runs") / "made"
    runs.mkdir()
    small = {"widths": (16, 24, 32, 48), "seeds": (0, 1, 2), "evaluations": 1}
    part(runs, "known", floor=LAW["E"], tasks=False, **small)
    part(runs, "text", floor=None, tasks=False, **small)
    part(
        runs,
        "tasks",
        floor=None,
        tasks=True,
        widths=(16, 32, 64, 128),
        seeds=(0,),
        horizons=(1.0,),
        trunks=False,
    )
    for name, params in (("known", TOP), ("text", 4 * TOP)):
        for cut in CUTS:
            asked = ["--at", f"params={params},tokens={TOKENS}", "--cut", str(cut), "--bootstrap", "60"]
            assert main(["forecast", str(runs), "--where", f"part == '{name}'", *asked]) == 0
    part(
        runs,
        "known",
        floor=LAW["E"],
        tasks=False,
        widths=(128,),
        seeds=(0, 1),
        horizons=(1.0,),
        evaluations=1,
    )
    return runs


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[str, Ladders, Path]:
    (folder / "report").mkdir()
    path, told = report(load_table(folder), Source(str(folder)), folder / "report", date(2026, 11, 27))
    return path.read_text(encoding="utf-8"), told, path


@pytest.fixture(scope="module")
def promises(folder: Path) -> dict[float, dict]:
    """What the files of the known ladder's forecasts hold, by cut."""
    found = [json.loads(path.read_text()) for path in (folder / "forecasts").glob("*.json")]
    return {one["data"]["cut"]: one for one in found if one["targets"][0]["params"] == TOP}


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", markup).split())


def boxes(page: str) -> Iterator[str]:
    yield from (words(box) for box in re.findall(r'<div class="answer">(.*?)</div>', page))


def test_each_ladder_has_one_answer_and_those_with_forecasts_come_first(
    written: tuple[str, Ladders, Path],
) -> None:
    page, told, _ = written
    assert [found.part for found in told.each] == ["known", "text", "tasks"]
    known, text, tasks = boxes(page)
    assert (
        known.startswith("known: What is")
        and text.startswith("text: What is")
        and tasks.startswith("tasks: ")
    )
    assert "told from runs of at most 1/10 and 1/30 of its compute?" in known
    assert text.count("not measured yet") == 3 and "Measured" not in text
    assert tasks.count("Tasks: ") == 1 and "Forecast" not in tasks


def test_what_was_registered_is_the_answer_and_nothing_is_held_out_again(
    written: tuple[str, Ladders, Path], promises: dict[float, dict]
) -> None:
    page, told, _ = written
    known = told.each[0]
    assert known.target is not None and isinstance(known.held_out, str)
    truth = text_loss(TOP, TOKENS)
    for one in known.kept:
        said = promises[one.cut or 0]["targets"][0]
        low, high = said["intervals"]["0.9"]
        assert (one.prediction.loss, one.prediction.lower, one.prediction.upper) == (said["loss"], low, high)
        assert one.prediction.loss == pytest.approx(truth, rel=0.05)
        inside = sum(low <= loss <= high for loss in known.target.losses)
        error = abs(100 * (said["loss"] / (sum(known.target.losses) / 2) - 1))
        sentence = next(boxes(page)).split(f"From runs of at most 1/{one.cut:g} of its compute: ")[1]
        assert sentence.startswith(f"{said['loss']:.4f} nats per byte, 90% interval {low:.4f} to {high:.4f}")
        assert f"; {error:.2f}% too " in sentence and f", {inside} of 2 runs inside; registered" in sentence
    assert "The rule, stated beforehand" not in words(page)
    assert "The law behind the forecast from C/30, fitted again" in words(page)


def test_the_law_behind_a_forecast_is_the_one_that_was_registered(written: tuple[str, Ladders, Path]) -> None:
    """Its rows are found by their hashes and no others are used; its lines reach the target."""
    known = written[1].each[0]
    for one in known.kept:
        assert one.fitted is not None and one.used is not None and one.cut and one.prediction.flops
        assert (known.rows["flops"][one.used] <= 1.005 * one.prediction.flops / one.cut).all()
        assert len(one.fitted.observations) == one.used.sum() == len(one.content["data"]["rows"])
    flops, loss = known.lines[float(TOP)]
    assert flops.max() >= known.kept[0].prediction.flops and loss.min() > LAW["E"]


def test_the_floor_is_checked_where_it_is_known(written: tuple[str, Ladders, Path]) -> None:
    page, told, _ = written
    known, text, _ = told.each
    assert known.true_floor == LAW["E"] and text.true_floor is None
    said = words(page)
    assert said.count("The true floor of this text is 1.2000 nats per byte.") == 2
    assert not isinstance(known.law, str)
    for name, fit in (
        ("law of all runs", known.law.forecast.fit),
        ("forecast from C/10", known.kept[0].fitted),
    ):
        assert fit is not None
        low, high = fit.conf_int(0.9)["E"]
        where = "inside" if low <= 1.2 <= high else "outside"
        found = f"{fit.params['E']:.4f} [90% interval {low:.4f} to {high:.4f}]: {where}."
        assert f"The {name} found E = {found}" in said
    assert (
        said.count("nats of it: The true floor") == 1 and "with E -0.1 (" in said and "with E +0.1 (" in said
    )


def test_every_registered_forecast_is_in_the_table(written: tuple[str, Ladders, Path]) -> None:
    page, told, _ = written
    table = page.split('<h2 id="forecasts">')[1].split("</table>")[0]
    rows = [words(row) for row in table.split("<tr>")[2:]]
    assert [row.split()[0] for row in rows].count("known") == 4, "a row a run of the target"
    assert sum("not measured yet" in row for row in rows) == 2
    assert told.verified is not None
    for score in told.verified.scores:
        assert any(
            f"{score.id} " in row and f" {score.measured:.4f} {100 * score.error:+.2f}%" in row
            for row in rows
        )
    assert "Of 2 registered forecasts that were measured" in words(page)


def test_the_ladder_of_tasks_has_its_tasks_and_no_law(written: tuple[str, Ladders, Path]) -> None:
    page, told, _ = written
    tasks = told.each[2]
    assert tasks.target is None and isinstance(tasks.law, str) and not isinstance(tasks.classes, str)
    section = page.split('<h2 id="ladder-tasks">')[1]
    headings = re.findall(r'<h3 id="ladder-tasks-[^"]*">(.*?)</h3>', section)
    assert "Tasks" in headings and not {"The fit", "The next decision", "Residuals"} & set(headings)


def test_every_anchor_is_there_once(written: tuple[str, Ladders, Path]) -> None:
    anchors = re.findall(r' id="([^"]*)"', written[0])
    assert len(anchors) == len(set(anchors)) > 15
    assert set(re.findall(r'href="#([^"]*)"', written[0])) <= set(anchors)
    assert len(written[0]) < 3e6


def test_the_pictures_have_the_name_of_their_ladder_and_both_intervals(
    written: tuple[str, Ladders, Path],
) -> None:
    with style.styled():
        drawn = {shown.name: shown for shown in every_picture(written[1])}
    assert {"known_loss_compute", "text_loss_compute", "tasks_tasks", "calibration"} <= set(drawn)
    assert "tasks_residuals" not in drawn
    assert {name: found for name, shown in drawn.items() if (found := mute(shown.figure))} == {}
    figure = drawn["known_loss_compute"].figure
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"forecast from C/10", "forecast from C/30", "measured target"} <= set(labels)
    assert all(f"plots {written[1].each[0].source.path}  # {name}.svg" in written[0] for name in drawn)


def test_the_numbers_are_by_part(written: tuple[str, Ladders, Path], promises: dict[float, dict]) -> None:
    _, told, path = written
    answer = to_json(told, path)
    assert list(answer["parts"]) == ["known", "text", "tasks"]
    known = answer["parts"]["known"]
    assert [one["cut"] for one in known["forecasts"]] == list(CUTS)
    assert {one["standing"] for one in known["forecasts"]} == {"registered"}
    assert known["target"]["prediction"]["loss"] == promises[30.0]["targets"][0]["loss"]
    assert answer["parts"]["text"]["target"]["measured"] == []
    assert answer["parts"]["tasks"]["target"] is None
    json.dumps(answer, allow_nan=False)
    said = summary(told, path).splitlines()
    assert sum(line.startswith(("known: ", "text: ", "tasks: ")) for line in said) == 3
    assert said[-1] == f"Report: {path}"


@pytest.mark.slow
def test_a_part_alone_has_its_forecasts_too(folder: Path) -> None:
    where = "part == 'known'"
    (found,) = ladders(load_table(folder, where=where), Source(str(folder), where=where)).each
    assert found.part == "" and [one.cut for one in found.kept] == list(CUTS)
    assert {one.scores[0].standing for one in found.kept} == {"registered"}


def test_a_forecast_that_was_edited_is_marked(folder: Path, promises: dict[float, dict]) -> None:
    path = folder / "forecasts" / f"{promises[10.0]['id']}.json"
    before = path.read_text()
    try:
        path.write_text(before.replace('"loss"', '"loss" ', 1))
        kept, verified = kept_forecasts(Source(str(folder)))
    finally:
        path.write_text(before)
    assert verified is not None and "was edited after it was registered" in " ".join(verified.notes)
    standings = {one.id: one.scores[0].standing for one in kept if one.scores}
    assert standings[promises[10.0]["id"]] == "changed" and standings[promises[30.0]["id"]] == "registered"


@pytest.mark.parametrize("recipe", [{"froms": "auto"}, {"level": 7}, [3]])
def test_a_recipe_that_was_edited_stops_no_report(
    folder: Path, promises: dict[float, dict], recipe: object
) -> None:
    path = folder / "forecasts" / f"{promises[10.0]['id']}.json"
    before = path.read_text()
    content = json.loads(before) | {"recipe": recipe}
    try:
        path.write_text(json.dumps(content))
        told = ladders(load_table(folder), Source(str(folder)))
    finally:
        path.write_text(before)
    assert told.verified is not None and "was edited" in " ".join(told.verified.notes)
    assert promises[10.0]["id"] not in {one.id for one in told.kept}


def test_a_ladder_is_told_in_the_columns_and_by_the_recipe_of_its_forecast(
    folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(folder, runs, ignore=shutil.ignore_patterns("forecasts", "report", "text-*", "tasks-*"))
    table = load_table(runs)
    top = table[table["params"].eq(TOP) & table["kind"].ne("trunk")].iloc[-1]
    asked = ["--run", str(top["run_id"]), "--cut", "10", "--bootstrap", "60", "--form", "auto"]
    assert main(["forecast", str(runs), "--columns", "params=params_nonembedding", *asked]) == 0
    (found,) = ladders(load_table(runs), Source(str(runs))).each
    assert found.recipe.form == "auto" and found.source.columns == "params=params_nonembedding"
    assert found.target is not None and found.target.params == top["params_nonembedding"] < TOP
    assert found.target.losses == tuple(
        found.rows["loss"][found.rows["params"].eq(top["params_nonembedding"])]
    )
    (kept,) = found.kept
    assert kept.used is not None and 0 < kept.used.sum() < len(found.rows)
    assert set(found.lines) >= set(found.rows["params"][kept.used])
    flops, losses = found.lines[found.target.params]
    assert np.interp(found.target.flops, flops, losses) == pytest.approx(kept.prediction.loss, rel=1e-3)
