"""Exports of W&B: charts, the table of runs, a folder of both; right, or one line."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_project import Made, project, write_chart, write_runs

from analysis import UserError, fit, load_table
from analysis.cli import main


@pytest.fixture(scope="module")
def runs() -> list[Made]:
    return project()


@pytest.fixture
def folder(tmp_path: Path, runs: list[Made]) -> Path:
    (tmp_path / "wandb").mkdir()
    write_chart(tmp_path / "wandb" / "wandb_export_chart.csv", runs)
    write_runs(tmp_path / "wandb" / "wandb_export_runs.csv", runs)
    return tmp_path / "wandb"


def ends(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["final"]].set_index("run_id")


def test_a_project_of_charts_and_runs(folder: Path, runs: list[Made]) -> None:
    table = load_table(folder)
    found = ends(table)
    assert found.index.tolist() == [run.name for run in runs]
    assert found["params"].tolist() == [run.params for run in runs]
    assert found["tokens"].tolist() == [run.tokens for run in runs]
    assert found["loss"].tolist() == [run.curve[max(run.curve)] for run in runs]
    assert set(found["seed"]) == {1337}
    assert len(table) == sum(len(run.curve) for run in runs)
    assert "took the shape of a GPT-2 for params" in table.attrs["took"]
    assert (
        "took iter x gradient_accumulation_steps x batch_size x block_size for tokens" in table.attrs["took"]
    )


def test_the_table_of_runs_alone(folder: Path, runs: list[Made]) -> None:
    found = ends(load_table(folder / "wandb_export_runs.csv"))
    assert found["tokens"].tolist() == [run.tokens for run in runs]
    assert found["loss"].tolist() == [run.curve[max(run.curve)] for run in runs]


def test_a_chart_alone_asks_for_what_it_lacks(folder: Path, runs: list[Made]) -> None:
    chart = folder / "wandb_export_chart.csv"
    with pytest.raises(UserError, match=r"params cannot be known .* say columns="):
        load_table(chart)
    table = load_table(chart, columns="params=1e6,tokens=step*491520")
    assert ends(table)["tokens"].tolist() == [run.tokens for run in runs]
    assert any("do not say whether they finished" in said for said in table.attrs["problems"])


def test_import_then_fit_is_fit(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Through each kind of file a fit reads the same numbers to the last bit, and finds the law behind them."""
    straight = load_table(folder)
    names = ["run_id", "params", "tokens", "loss", "final", "outcome", "learning_rate", "step"]
    for name in ("runs.parquet", "runs.csv", "runs.jsonl"):
        assert main(["import", str(folder), "--out", str(tmp_path / name)]) == 0
        table = load_table(tmp_path / name).reset_index(drop=True)
        pd.testing.assert_frame_equal(table[names], straight[names], check_exact=True, check_dtype=False)
    said = capsys.readouterr().out
    assert (
        "240 rows of 24 runs, 24 of them ends" in said
        and "took val/loss for loss: the last of each run" in said
    )
    found = fit(straight, bootstrap=0).params
    assert found["alpha"] == pytest.approx(0.35, abs=0.02) and found["E"] == pytest.approx(1.8, abs=0.1)


def test_the_answer_as_json(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["import", str(folder), "--json", "-", "--loss-at", "min"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 240 and found["runs"] == found["final_rows"] == 24 and found["out"] is None
    assert "took val/loss for loss: the least of each run" in found["took"]


def test_the_other_verbs_say_what_was_taken(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        main(["fit", str(folder / "wandb_export_runs.csv"), "--bootstrap", "0", "--form", "power_const"]) == 0
    )
    assert "analysis: note: took val/loss for loss: the last of each run" in capsys.readouterr().err


def test_a_table_of_runs_has_the_columns_that_its_page_shows(tmp_path: Path, runs: list[Made]) -> None:
    """The state may be hidden; runs of one name are several runs."""
    shown = pd.read_csv(write_runs(tmp_path / "r.csv", runs))
    shown = shown.drop(columns=["State", "User", "Sweep"]).assign(ID=range(24), Name=["baseline"] * 24)
    shown.to_csv(tmp_path / "r.csv", index=False)
    table = load_table(tmp_path / "r.csv")
    assert table["run_id"].tolist() == ["baseline", *(f"baseline#{i}" for i in range(2, 25))]
    assert table["final"].all() and table["tokens"].tolist() == [run.tokens for run in runs]


def test_a_chart_over_a_count_that_is_called_after_time(tmp_path: Path, runs: list[Made]) -> None:
    path = write_chart(tmp_path / "c.csv", runs[:2], x="train/num_timesteps")
    assert len(load_table(path, columns="params=1e6,tokens=step*10")) == 20


def test_unfinished_runs_are_marked(tmp_path: Path, runs: list[Made]) -> None:
    states = ["finished"] * 20 + ["running", "crashed", "failed", "killed"]
    path = write_runs(tmp_path / "r.csv", runs, states)
    table = load_table(path)
    assert table["final"].tolist() == [True] * 20 + [False] * 4
    assert any("without a final row: 4 of 24 runs" in said for said in table.attrs["problems"])


def test_groups_of_the_tracker_are_kept(tmp_path: Path, runs: list[Made]) -> None:
    named = [f"g{i % 6}" for i in range(24)]
    assert load_table(write_runs(tmp_path / "r.csv", runs, Group=named))["group"].tolist() == named
    alike = ["one"] * 24
    assert "group" not in load_table(write_runs(tmp_path / "s.csv", runs, Group=alike)).columns


def test_points_that_are_means_are_said(tmp_path: Path, runs: list[Made]) -> None:
    path = write_chart(tmp_path / "c.csv", runs[:2])
    table = pd.read_csv(path)
    table.iloc[3, 2] -= 0.1
    table.to_csv(path, index=False)
    said = load_table(path, columns="params=1e6,tokens=step*10").attrs["problems"]
    assert any("points that are means of several" in problem for problem in said)


def damaged(folder: Path, how: str, runs: list[Made]) -> Path:
    path = write_chart(folder / "c.csv", runs[:3])
    text = path.read_text()
    if how == "cut in a line":
        path.write_text(text.replace('"', "")[:-50])
    elif how == "a word":
        path.write_text(text.replace(repr(runs[0].curve[max(runs[0].curve)]), "diverged"))
    elif how == "over time":
        write_chart(path, runs[:3], x="Relative Time (Process)")
    elif how == "no rows":
        path.write_text(text.partition("\n")[0] + "\n")
    elif how == "two of one name":
        write_chart(path, [runs[0], runs[0]])
    elif how == "no loss":
        write_chart(path, runs[:3], metric="accuracy")
    elif how == "an odd state":
        path = write_runs(folder / "r.csv", runs[:3], ["done", "finished", "finished"])
    elif how == "half-trained":
        path = write_runs(folder / "r.csv", runs[:3], ["running"] * 3)
    return path


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("cut in a line", "the last line ends in the middle"),
        ("a word", r"val/loss is 'diverged', not a number"),
        ("over time", "drawn over Relative Time"),
        ("no rows", "the export has no rows"),
        ("two of one name", "give the runs names of their own"),
        ("no loss", "no metric is a loss by its name; there are accuracy"),
        ("an odd state", "State is 'done'"),
        ("half-trained", "no run has finished: gpt-l4-d128-1000 stands at step 1000 of 1000"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, runs: list[Made], how: str, line: str, capsys: pytest.CaptureFixture
) -> None:
    path = damaged(tmp_path, how, runs)
    assert (
        main(
            ["import", str(path), "--columns", "params=1e6,tokens=step*10", "--out", str(tmp_path / "o.csv")]
        )
        == 2
    )
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and line in err and not (tmp_path / "o.csv").exists()


@pytest.mark.slow
def test_two_hundred_thousand_rows_in_ten_seconds(tmp_path: Path) -> None:
    """Of processor time: what a machine that does nothing else would take."""
    runs = project(points=8334, scale=10)
    for start in range(0, 24, 6):
        write_chart(tmp_path / f"chart{start}.csv", runs[start : start + 6])
    write_runs(tmp_path / "runs.csv", runs)
    began = time.process_time()
    table = load_table(tmp_path)
    found = fit(table, bootstrap=0)
    spent = time.process_time() - began
    print(f"{spent:.2f} s of processor time for {len(table):,} rows")
    assert len(table) == 200_016 and np.isfinite(found.params["E"])
    assert spent < 10.0, f"{spent:.1f} s"


def test_runs_that_a_chart_does_not_show_have_their_last_values(tmp_path: Path, runs: list[Made]) -> None:
    write_chart(tmp_path / "chart.csv", runs[:10])
    write_runs(tmp_path / "runs.csv", runs)
    table = load_table(tmp_path)
    assert ends(table)["loss"].to_dict() == {run.name: run.curve[max(run.curve)] for run in runs}
    assert len(table) == 10 * 10 + 14


def test_last_values_of_the_table_stand_below_the_curves(tmp_path: Path, runs: list[Made]) -> None:
    """A count of tokens that no chart shows is that of the end; before it, its share of the steps."""
    write_chart(tmp_path / "chart.csv", runs)
    given = {"train/num_tokens": [3 * run.tokens for run in runs], "train/loss": [2.0] * 24}
    write_runs(tmp_path / "runs.csv", runs, **given)
    table = load_table(tmp_path)
    first = table[table["run_id"] == runs[0].name]
    assert first["tokens"].tolist() == pytest.approx([3 * step * 480 * 1024 for step in runs[0].curve])
    assert set(load_table(tmp_path, columns="loss=train/loss")["loss"]) == {2.0}


def test_the_example_project_is_the_one_of_its_script_and_of_its_law() -> None:
    folder = Path(__file__).resolve().parents[1] / "examples" / "data"
    script = folder / "make_wandb_project.py"
    space: dict[str, object] = {"__file__": str(script), "__name__": "made"}
    exec(script.read_text(), space)
    for name, made in space["tables"]().items():  # type: ignore[operator]
        kept = pd.read_csv(folder / "wandb_project" / f"{name}.csv", keep_default_na=False)
        text = made.astype(object).where(made.notna(), "").astype(str)
        assert (kept.astype(str) == text).mean(axis=None) > 0.9, name
    table = load_table(folder / "wandb_project")
    assert table["final"].sum() == 24 and len(table) == 244
    assert "1 of 26 runs left out: run test-setup: it has no val/loss" in table.attrs["problems"]
