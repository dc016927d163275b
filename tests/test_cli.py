"""The command line: one line on stderr and exit 2 for whatever a person may get wrong."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from made_ladder import write_ladder

from analysis.cli import main
from analysis.verbs import Answer


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    rows = [
        f"{n},{d},{1.5 + 300 / n**0.35 + 400 / d**0.35}" for n in (1e6, 3e6, 1e7) for d in (1e8, 3e8, 1e9)
    ]
    path.write_text("\n".join(["N,D,loss", *rows]) + "\n")
    return path


def _refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("analysis: ")
    return err


def test_an_unknown_verb_and_missing_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert "fitt: no such verb; did you mean fit?" in _refused(capsys, "fitt", "x.csv")
    assert "VERB" in _refused(capsys)
    assert "TABLE" in _refused(capsys, "report")
    assert "--nonsense: no such option" in _refused(capsys, "report", "x.csv", "--nonsense", "3")
    assert "did you mean --columns?" in _refused(capsys, "fit", "x.csv", "--colums=params=N")
    assert "y: one word too many" in _refused(capsys, "fit", "x.csv", "y")


def test_a_missing_table_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent.csv: no such file" in _refused(capsys, "report", "absent.csv")


def test_a_folder_without_runs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no runs in this folder" in _refused(capsys, "report", str(tmp_path))


def test_unknown_columns_name_the_nearest(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean loss?" in _refused(capsys, "report", str(csv), "--columns", "loss=los")
    assert "no column 'flops'" in _refused(capsys, "report", str(csv), "--where", "flops < 3")


def test_an_empty_filter_says_what_there_was(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _refused(capsys, "report", str(csv), "--where", "N < 3")
    assert "keeps none of the 9 rows; N runs from 1e+06 to 1e+07" in said


def test_damage_is_noted_and_does_not_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 32), seeds=(0,), trunks=False)
    with (folder / "run-016-0-1" / "records.jsonl").open("a") as file:
        file.write('{"step": 9')
    assert main(["fit", str(folder), "--form", "power", "--bootstrap", "0"]) == 0
    assert "analysis: note: run-016-0-1/records.jsonl line 7: not JSON" in capsys.readouterr().err


def test_the_json_goes_where_it_is_asked(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", str(csv), "--columns", "params=N,tokens=D", "--form", "power", "--bootstrap", "0"]
    target = tmp_path / "answer.json"
    assert main([*argv, "--json", str(target)]) == 0
    assert "power" in capsys.readouterr().out
    assert main([*argv, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(target.read_text())
    said = _refused(capsys, *argv, "--json", str(tmp_path / "no" / "answer.json"))
    assert "does not exist" in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("analysis ")


def test_a_device_is_written_to_and_a_folder_is_no_file(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", str(csv), "--columns", "params=N,tokens=D", "--form", "power", "--bootstrap", "0"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main([*argv, "--json", str(pipe)]) == 0
    assert json.loads(os.read(reader, 1 << 20))["form"] == "power"
    os.close(reader)
    assert pipe.is_fifo()
    capsys.readouterr()
    assert "a folder; name a file" in _refused(capsys, *argv, "--json", str(tmp_path))


def test_what_is_no_number_is_null_in_json(
    csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Answer({"tasks": [{"loss": float("nan"), "at": (1.0, float("inf"))}]}, "text")
    monkeypatch.setattr("analysis.verbs.fit.run", lambda table, args: answer)
    assert main(["fit", str(csv), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {"tasks": [{"loss": None, "at": [1.0, None]}]}


def test_make_refuses_a_variable_that_it_does_not_know() -> None:
    root = Path(__file__).parents[1]
    # as by hand: `make test`, which may run this, tells a make below it to announce its folder
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    answer = subprocess.run(
        ["make", "sweep", "experiment=smoke"], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stdout == ""  # before anything is installed or trained
    assert "experiment: no such variable; use one of PYTHON EXPERIMENT PART RUNS ARGS BUDGET" in answer.stderr
