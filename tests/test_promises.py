"""Forecasts as promises: registered once, chained, scored by their CRPS, and told apart where they do not stand."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_laws import CHINCHILLA, made
from made_ladder import write_ladder
from mute import mute
from scipy.stats import norm

from analysis.cli import main
from analysis.errors import UserError
from analysis.figures.calibration import plot_calibration, write_calibration
from analysis.forecasting import registry
from analysis.forecasting.forecast import extrapolate
from analysis.forecasting.promise import PROBABILITIES, Request, promise
from analysis.forecasting.score import Score, Verification, binomial, crps
from analysis.laws.catalogue import get_form
from analysis.tables.load import load_table

FAST = {"bootstrap": 60}
AT = {"params": 4e10, "tokens": 8e11}
TRUTH = float(get_form("chinchilla").predict(CHINCHILLA, {k: np.array([v]) for k, v in AT.items()})[0])
CONTENT = {"targets": [], "data": {"rows": []}}


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Thirty runs of a known law, none near the target."""
    path = tmp_path / "table.csv"
    made("chinchilla", 30, noise=0.003)[["params", "tokens", "flops", "loss"]].to_csv(path, index=False)
    return path


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture takes longer than what it shows."""
    monkeypatch.setattr("analysis.figures.calibration.write_calibration", lambda *given: [])


def analysis(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(word) for word in argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(word) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def forecast(capsys: pytest.CaptureFixture[str], table: Path, *options: object) -> dict:
    return json.loads(analysis(capsys, "forecast", table, "--bootstrap", "60", "--json", "-", *options))


def verified(capsys: pytest.CaptureFixture[str], table: Path, *options: object) -> dict:
    return json.loads(analysis(capsys, "verify", table, "--json", "-", *options))


def at(**changes: float) -> str:
    return ",".join(f"{name}={value}" for name, value in (AT | changes).items())


def measure(csv: Path, loss: float, **columns: object) -> Path:
    """The table with one more row: the target's."""
    table = pd.read_csv(csv)
    flops = 6 * AT["params"] * AT["tokens"]
    row = pd.DataFrame([{**AT, "flops": flops, "loss": loss, **columns}])
    pd.concat([table, row]).to_csv(csv, index=False)
    return csv


# --- the score


@pytest.mark.parametrize("measured", [0.3, 1.9, 2.0, 2.4])
def test_the_crps_of_normal_members_is_that_of_the_normal(measured: float) -> None:
    """Against the closed form of Gneiting and Raftery 2007, eq. 21; and against the definition, an integral."""
    z = (measured - 2.0) / 0.1
    closed = 0.1 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    fine = norm.ppf((np.arange(20_000) + 0.5) / 20_000, 2.0, 0.1)
    assert crps(fine, measured) == pytest.approx(closed, rel=1e-3)
    members = norm.ppf(PROBABILITIES, 2.0, 0.1)
    grid = np.linspace(0, 4, 400_001)
    steps = np.mean(members[:, None] <= grid[None, ::100], axis=0)
    integral = np.trapezoid((steps - (grid[::100] >= measured)) ** 2, grid[::100])
    assert crps(members, measured) == pytest.approx(integral, abs=2e-3)
    assert crps(members, measured) == pytest.approx(closed, abs=1e-3)


def test_the_binomial_interval_is_that_of_clopper_and_pearson() -> None:
    assert binomial(10, 10, 0.95) == pytest.approx((0.6915, 1.0), abs=1e-4)  # .025^(1/10)
    assert binomial(0, 10, 0.95) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert binomial(9, 10, 0.95) == pytest.approx((0.5550, 0.9975), abs=1e-4)  # their table


# --- what is promised


def test_a_promise_is_the_extrapolation_of_the_same_rows() -> None:
    table = made("chinchilla", 30, noise=0.003)
    said = promise(table, Request(at=AT), **FAST)
    (target,) = said["targets"]
    for level in (0.5, 0.9):
        own = extrapolate(table, at=[AT], form="chinchilla", regime="all", level=level, **FAST).predictions[0]
        assert target["intervals"][f"{level:g}"] == pytest.approx([own.lower, own.upper], rel=1e-3)
        assert target["loss"] == pytest.approx(own.loss, rel=1e-6)
    assert np.all(np.diff(target["quantiles"]) >= 0) and len(target["quantiles"]) == len(PROBABILITIES)
    assert target["intervals"]["0.9"][0] <= TRUTH <= target["intervals"]["0.9"][1]
    assert said["flops_ratio"] == pytest.approx(6 * 4e10 * 8e11 / table["flops"].max())
    assert said["floor"]["kind"] == "free" and said["form"] == "chinchilla"
    assert abs(said["floor"]["value"] - CHINCHILLA["E"]) < 0.1
    assert [moved["shift"] for moved in said["sensitivity"]] == [-0.1, 0.1]
    assert said["data"]["has_target"] is False and len(said["data"]["rows"]) == 30


def test_a_cut_uses_the_runs_below_it_alone() -> None:
    table = made("chinchilla", 60, noise=0.003)
    flops = 6 * 1e10 * 2e11
    point = {"params": 1e10, "tokens": 2e11}
    below = table[table["flops"] <= flops / 30]
    cut = promise(table, Request(at=point), cut=30.0, **FAST)
    alone = promise(below, Request(at=point), **FAST)
    assert cut["targets"][0]["loss"] == alone["targets"][0]["loss"]
    assert cut["data_hash"] == alone["data_hash"]


# --- the register


def test_a_forecast_is_registered_once_and_the_log_chains(tmp_path: Path) -> None:
    first, before = registry.register(tmp_path, CONTENT)
    assert not before
    again, before = registry.register(tmp_path, CONTENT)
    assert before and again == first
    second, _ = registry.register(tmp_path, {**CONTENT, "form": "other"})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [first["id"], second["id"]]
    assert lines[0]["previous"] == "" and len(lines[1]["previous"]) == 64
    assert [one.altered for one in registry.registered(tmp_path)] == ["", ""]


def test_a_kill_between_a_file_and_its_line_costs_nothing(tmp_path: Path) -> None:
    made, _ = registry.register(tmp_path, CONTENT)
    (tmp_path / "log.jsonl").unlink()
    again, before = registry.register(tmp_path, CONTENT)
    assert not before and again == made
    assert [one.altered for one in registry.registered(tmp_path)] == [""]
    (tmp_path / "log.jsonl").unlink()
    path = tmp_path / f"{made['id']}.json"
    path.write_text(path.read_text().replace('"rows": []', '"rows": ["x"]'))
    with pytest.raises(UserError, match="altered before it was logged"):
        registry.register(tmp_path, CONTENT)


def test_two_who_register_at_once_add_two_lines(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=registry.register, args=(tmp_path, {**CONTENT, "form": str(n)}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = registry.registered(tmp_path)
    assert len(found) == 8 and not any(one.altered for one in found)


def _edit_file(folder: Path, ids: list[str]) -> None:
    path = folder / f"{ids[0]}.json"
    path.write_text(path.read_text().replace('"form": "0"', '"form": "9"'))


def _edit_line(folder: Path, ids: list[str]) -> None:
    path = folder / "log.jsonl"
    path.write_text(path.read_text().replace('"registered_at": "2', '"registered_at": "1', 1))


def _remove_line(folder: Path, ids: list[str]) -> None:
    path = folder / "log.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def _damage(folder: Path, ids: list[str]) -> None:
    (folder / f"{ids[0]}.json").write_text('{"id": ')


def _delete(folder: Path, ids: list[str]) -> None:
    (folder / f"{ids[0]}.json").unlink()


@pytest.mark.parametrize("alter", [_edit_file, _edit_line, _remove_line, _damage, _delete])
def test_whatever_is_altered_shows(tmp_path: Path, alter: Callable[[Path, list[str]], None]) -> None:
    ids = [registry.register(tmp_path, {**CONTENT, "form": str(n)})[0]["id"] for n in range(2)]
    alter(tmp_path, ids)
    found = {one.id: one.altered for one in registry.registered(tmp_path)}
    assert found[ids[0]]


def test_nothing_is_registered_on_top_of_an_altered_log(tmp_path: Path) -> None:
    ids = [registry.register(tmp_path, {**CONTENT, "form": str(n)})[0]["id"] for n in range(2)]
    _edit_line(tmp_path, ids)
    with pytest.raises(UserError, match=r"log.jsonl: line 2 does not follow"):
        registry.register(tmp_path, CONTENT)


# --- tables


def test_a_table_is_forecast_then_verified(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = forecast(capsys, csv, "--at", at())
    assert forecast(capsys, csv, "--at", at()) == said
    assert verified(capsys, csv)["pending"] == [said["id"]]
    found = verified(capsys, measure(csv, TRUTH))
    (score,) = found["scores"]
    assert score["standing"] == "registered" and score["inside"]["0.9"]
    assert score["why"] == "when its run began is not known"
    assert score["error"] == pytest.approx(said["targets"][0]["loss"] / TRUTH - 1)
    assert score["crps"] == pytest.approx(crps(np.array(said["targets"][0]["quantiles"]), TRUTH))
    assert found["calibration"]["registered"]["n"] == 1 and found["calibration"]["late"]["n"] == 0


def test_what_is_drawn_lies_where_it_is_no_forecast(tmp_path: Path) -> None:
    """As JSON too, which the next `verify` would read."""
    score = made_score(0.4, "registered")
    paths = write_calibration(Verification((score,), (), ()), tmp_path)
    assert {path.suffix for path in paths} == {".svg", ".png", ".csv", ".json"}
    assert all(path.is_file() for path in paths) and list(tmp_path.glob("*.*")) == []


def test_the_picture_shows_each_standing_with_dots_or_a_histogram() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 40):
        scores = [made_score(float(pit), "registered") for pit in rng.random(n)] + [made_score(0.1, "late")]
        left, right = plot_calibration(Verification(tuple(scores), (), ())).axes
        labels = [text.get_text() for text in left.get_legend().get_texts()]
        assert labels == [f"registered ({n})", "late (1)"]
        dots = sum(len(drawn.get_offsets()) for drawn in right.collections)
        assert bool(right.patches) and (dots == n + 1) == (n == 3)
        assert mute(left.figure) == []
        if n == 3:
            said = [words for drawn in right.collections for words in drawn.get_urls() if words]
            assert said[-1] == (
                "told:a: late forecast of 1M parameters, 20M tokens, loss 2, measured 2, error +0.00%"
            )


def made_score(pit: float, standing: str) -> Score:
    inside = {"0.5": bool(abs(pit - 0.5) < 0.25), "0.9": bool(abs(pit - 0.5) < 0.45)}
    target = {"params": 1e6, "tokens": 2e7}
    return Score("a", target, "r", 2.0, 2.0, 0.0, inside, 0.1, pit, standing, "", {}, (), True)


def test_calibration_counts_by_standing() -> None:
    scores = [made_score(pit, "registered") for pit in (0.01, 0.3, 0.5, 0.9)]
    found = Verification((*scores, made_score(0.5, "late")), (), ()).calibration()
    assert found["registered"]["n"] == 4 and found["late"]["n"] == 1 and found["changed"]["n"] == 0
    assert [found["registered"]["inside"][key]["count"] for key in ("0.5", "0.9")] == [2, 3]
    assert found["registered"]["inside"]["0.9"]["interval"] == list(binomial(3, 4))
    assert found["changed"]["mean_crps"] is None


def test_a_target_far_outside_is_outside(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forecast(capsys, csv, "--at", at())
    (score,) = verified(capsys, measure(csv, 1.2 * TRUTH))["scores"]
    assert score["inside"] == {"0.5": False, "0.9": False} and score["pit"] == 1.0
    assert score["crps"] == pytest.approx(0.2 * TRUTH, rel=0.1)


def test_measured_runs_may_stand_in_a_table_of_their_own(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(capsys, csv, "--at", at())
    other = tmp_path / "measured.csv"
    pd.DataFrame([{**AT, "loss": TRUTH}]).to_csv(other, index=False)
    (score,) = verified(capsys, other, "--forecasts", csv.parent / "forecasts")["scores"]
    assert score["standing"] == "registered"
    csv.unlink()  # the data that it was made of
    (score,) = verified(capsys, other, "--forecasts", csv.parent / "forecasts")["scores"]
    assert score["standing"] == "changed" and "30 of the 30 rows" in score["why"]


def test_new_rows_are_no_matter_and_a_changed_one_is(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forecast(capsys, csv, "--at", at())
    table = pd.read_csv(measure(csv, TRUTH))
    more = pd.concat([table, table.iloc[:3].assign(loss=lambda rows: rows["loss"] * 1.001)])
    more.sample(frac=1.0, random_state=0).to_csv(csv, index=False)
    assert verified(capsys, csv)["scores"][0]["standing"] == "registered"
    table.loc[4, "loss"] *= 1.0001
    table.to_csv(csv, index=False)
    (score,) = verified(capsys, csv)["scores"]
    assert score["standing"] == "changed" and "1 of the 30 rows" in score["why"]


@pytest.mark.parametrize(
    ("began", "standing"), [("2001-01-01T00:00:00Z", "late"), ("2999-01-01", "registered")]
)
def test_a_column_may_say_when_a_run_began(
    csv: Path, began: str, standing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(capsys, csv, "--at", at())
    assert verified(capsys, measure(csv, TRUTH, began_at=began))["scores"][0]["standing"] == standing


def test_a_forecast_of_what_the_table_had_is_late(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = forecast(capsys, measure(csv, TRUTH), "--at", at(), "--cut", 5)
    assert said["flops_ratio"] >= 5
    (score,) = verified(capsys, csv)["scores"]
    assert score["standing"] == "late" and "had the target already" in score["why"]


def test_a_forecast_that_was_edited_counts_apart(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = forecast(capsys, csv, "--at", at())
    path = csv.parent / "forecasts" / f"{said['id']}.json"
    path.write_text(path.read_text().replace(f'"loss": {said["targets"][0]["loss"]}', f'"loss": {TRUTH}'))
    found = verified(capsys, measure(csv, TRUTH))
    assert found["scores"][0]["standing"] == "changed" and "edited" in found["scores"][0]["why"]
    assert found["calibration"]["registered"]["n"] == 0
    path.write_text('{"id": "x"}')
    found = verified(capsys, csv)
    assert not found["scores"] and len(found["notes"]) == 2


def test_a_budget_is_met_by_a_run_of_its_compute_near_its_size(
    csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (target,) = forecast(capsys, csv, "--budget", 3e22)["targets"]
    assert target["flops"] == pytest.approx(3e22)
    near = {"params": 1.1 * target["params"], "tokens": target["tokens"] / 1.1, "flops": 3.01e22}
    table = pd.concat([pd.read_csv(csv), pd.DataFrame([{**near, "loss": target["loss"]}])])
    table.to_csv(csv, index=False)
    assert len(verified(capsys, csv)["scores"]) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--at", "params=1e9,tokens=1e9"), "inside the data"),
        (("--at", "params=1e5,tokens=1e6"), "lies below the data"),
        (("--at", "params=4e10,tokens=8e11", "--cut", "1e12"), "no run with 1/1e+12 of its compute"),
        (("--at", "params=4e10"), "a target needs tokens"),
        (("--at", "params=4e10,tokens=-3"), "a target needs tokens, a positive number"),
        (("--budget", "1e10"), "smaller than the smallest run"),
        (("--budget", "1e19"), "inside the data"),
        (("--rung", "128"), "rungs are of run folders"),
        (("--rung", "large"), "write DIAL or DIAL,TOKENS"),
        (("--at", "params=4e10,tokens=8e11", "--cut", "0.1"), "--cut 0.1: a factor of compute, at least 1"),
        ((), "one of the arguments --at --rung --run --budget is required"),
    ],
)
def test_a_wish_that_cannot_be_is_one_line_and_writes_nothing(
    csv: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "forecast", csv, *options)
    assert not (csv.parent / "forecasts").exists()


def test_a_folder_without_forecasts_or_runs_is_named(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no column 'loss'" in refused(capsys, "verify", csv, "--columns", "other=loss")
    assert "no forecast is registered there" in refused(capsys, "verify", csv)
    (tmp_path / "empty").mkdir()
    assert "no runs in this folder" in refused(capsys, "forecast", tmp_path / "empty", "--rung", 8)
    (tmp_path / "file").touch()
    said = refused(capsys, "forecast", csv, "--at", at(), "--out", tmp_path / "file")
    assert "cannot be kept there" in said


# --- run folders


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """A text ladder whose top rung is planned and not trained."""
    folder = write_ladder(tmp_path / "runs", widths=(16, 24, 32, 48, 64, 96), seeds=(0, 1))
    for run in folder.glob("*-096-*"):
        (run / "hidden").mkdir()
        for name in ("records.jsonl", "outcome.json", "items.npz"):
            (run / name).rename(run / "hidden" / name)
    for run in folder.glob("*/spec.json"):
        spec = json.loads(run.read_text())
        spec["data"]["components"] = [{"name": "text", "weight": 1.0, "rows": 1, "counted": 64}]
        run.write_text(json.dumps(spec))
    for records in [*folder.glob("*/records.jsonl"), *folder.glob("*/hidden/records.jsonl")]:
        lines = [json.loads(line) for line in records.read_text().splitlines()]
        for line in lines:
            line["loss"] = {"total": line["loss"]["text"], "text": line["loss"]["text"]}
            line["tasks"] = {"copy": line["tasks"]["copy"]}
        records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def train(folder: Path, began: str) -> None:
    """Train the top rung: its files come back, and the ledger says when it began."""
    (folder / "frozen").mkdir(exist_ok=True)
    lanes = []
    for run in folder.glob("*-096-*"):
        lanes.append(run.name)
        for hidden in (run / "hidden").iterdir():
            hidden.rename(run / hidden.name)
    entry = {"pack_id": "p", "execution": {"lanes": lanes}, "frozen_at": began}
    (folder / "frozen" / "000001.json").write_text(json.dumps(entry))


def test_a_planned_rung_is_forecast_and_scored_when_it_is_trained(
    ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = forecast(capsys, ladder, "--rung", 96)
    assert forecast(capsys, ladder, "--rung", 96, "--where", "tokens > 5e6")["data_hash"] != said["data_hash"]
    (target,) = said["targets"]
    assert target["run_id"] == "run-096-0-1" and target["dial"] == 96
    assert target["components"]["total"]["loss"] == target["components"]["text"]["loss"] == target["loss"]
    assert target["tasks"][0]["accuracy"] is None and "it jumps" in target["tasks"][0]["reason"]
    assert len(verified(capsys, ladder)["pending"]) == 2
    train(ladder, "2999-01-01T00:00:00+00:00")
    found = verified(capsys, ladder)
    assert [score["run"] for score in found["scores"]] == ["run-096-0-1", "run-096-1-1"] * 2
    assert {(score["standing"], score["why"]) for score in found["scores"]} == {("registered", "")}
    low, high = target["intervals"]["0.9"]
    for score in found["scores"][:2]:
        assert score["inside"]["0.9"] == (low <= score["measured"] <= high) and abs(score["error"]) < 0.02
    assert (
        found["calibration"]["registered"]["n"] == 2
    )  # the two seeds of a target share its forecast's error
    assert found["scores"][0]["tasks"][0]["measured"] > 0.5
    assert found["scores"][0]["components"]["total"]["error"] == found["scores"][0]["error"]


def test_a_rung_is_found_again_whichever_parameters_the_law_counts(
    ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = forecast(capsys, ladder, "--rung", 96, "--columns", "params=params_nonembedding")
    train(ladder, "2999-01-01T00:00:00+00:00")
    table = load_table(ladder)
    rung = table[table["dial"].eq(96)].iloc[0]
    assert said["targets"][0]["params"] == rung["params_nonembedding"] < rung["params"]
    scores = verified(capsys, ladder)["scores"]
    assert [(score["run"], score["standing"]) for score in scores] == [
        ("run-096-0-1", "registered"),
        ("run-096-1-1", "registered"),
    ]


def test_a_rung_that_had_begun_is_late_and_an_edited_record_is_a_change(
    ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(capsys, ladder, "--rung", 96)
    train(ladder, "2020-01-01T00:00:00+00:00")
    assert {score["standing"] for score in verified(capsys, ladder)["scores"]} == {"late"}
    path = ladder / "run-048-0-1" / "records.jsonl"
    *lines, last = path.read_text().splitlines()
    record = json.loads(last)
    record["tasks"]["copy"]["direct"]["correct"] += 1
    path.write_text("\n".join([*lines, json.dumps(record)]) + "\n")
    scores = verified(capsys, ladder)["scores"]
    assert {score["standing"] for score in scores} == {"changed"} and "1 of the" in scores[0]["why"]


def test_a_rung_that_is_not_planned_is_one_line(ladder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not planned in this folder, which has 16, 24" in refused(capsys, "forecast", ladder, "--rung", 80)
    said = refused(capsys, "forecast", ladder, "--rung", "96,5e6")
    assert "no run of 5,000,000 tokens is planned there, and the trunk saves no state for one" in said
    assert "no such run is planned" in refused(capsys, "forecast", ladder, "--run", "trunk-096-0")
