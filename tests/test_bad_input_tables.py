"""Tables and options that a person may get wrong: each is one line that says what and where, and exit 2."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main


def ladder(**changes: object) -> pd.DataFrame:
    """A table that fits; `changes` replace columns, or remove them with None."""
    n, d = np.meshgrid(np.geomspace(1e5, 1e8, 6), np.geomspace(1e7, 1e9, 4))
    loss = 1.7 + 400 / n**0.34 + 410 / d**0.28
    table = pd.DataFrame({"params": n.ravel(), "tokens": d.ravel(), "loss": loss.ravel()})
    table = table.assign(**{name: value for name, value in changes.items() if value is not None})
    return table.drop(columns=[name for name, value in changes.items() if value is None])


def scores(**changes: object) -> pd.DataFrame:
    """A table that `emergence` reads."""
    size = np.repeat(np.geomspace(1e4, 1e7, 8), 3)
    table = pd.DataFrame({"task": "copy", "size": size, "correct": 5, "total": 50, "seed": [0, 1, 2] * 8})
    table = table.assign(**{name: value for name, value in changes.items() if value is not None})
    return table.drop(columns=[name for name, value in changes.items() if value is None])


FIT = ["fit", "--bootstrap", "0"]
HARM = "__import__('os').mkdir('harm')"

# what is wrong: (the table or the file's content, its name, the command, further options, what is said)
CASES = {
    "an empty file": (b"", "t.csv", FIT, [], ["t.csv", "empty"]),
    "a header alone": (b"params,tokens,loss\n", "t.csv", FIT, [], ["t.csv", "no rows"]),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "t.csv", FIT, [], ["t.csv", "cannot be read"]),
    "a text called parquet": (b"params,tokens\n1,2\n", "t.parquet", FIT, [], ["not a Parquet file"]),
    "half a parquet": (b"PAR1" + bytes(40), "t.parquet", FIT, [], ["t.parquet", "cannot be read"]),
    "a pickle called csv": (b"\x80\x04cos\nmkdir\n(S'harm'\ntR.", "t.csv", FIT, [], ["t.csv"]),
    "ragged rows": (b"params,tokens,loss\n1,2,3\n1,2,3,4,5\n", "t.csv", FIT, [], ["t.csv", "line 3"]),
    "no loss": (ladder(loss=None), "t.csv", FIT, [], ["column", "loss"]),
    "no params": (ladder(params=None, N=1e6), "t.csv", FIT, [], ["column", "params"]),
    "a word for a number": (ladder(loss="low"), "t.csv", FIT, [], ["loss", "low"]),
    "a word among the numbers": (ladder(loss=[2.5] * 23 + ["oops"]), "t.csv", FIT, [], ["loss", "oops"]),
    "losses below zero": (ladder(loss=-1.0), "t.csv", FIT, [], ["loss", "-1"]),
    "no parameters": (ladder(params=0.0), "t.csv", FIT, [], ["params", "0"]),
    "nothing but holes": (ladder(loss=np.nan), "t.csv", FIT, [], ["loss"]),
    "infinite tokens": (ladder(tokens=np.inf), "t.csv", FIT, [], ["tokens", "inf"]),
    "two rows": (ladder().head(2), "t.csv", FIT, [], ["2"]),
    "a column to rename that is not there": (ladder(), "t.csv", FIT, ["--columns", "params=Nn"], ["'Nn'"]),
    "a renaming without =": (ladder(), "t.csv", FIT, ["--columns", "params"], ["NAME=COLUMN"]),
    "a column named twice": (ladder(), "t.csv", FIT, ["--columns", "loss=loss,loss=params"], ["twice"]),
    "a filter of an unknown column": (ladder(), "t.csv", FIT, ["--where", "flop < 3"], ["'flop'"]),
    "a filter that keeps nothing": (
        ladder(),
        "t.csv",
        FIT,
        ["--where", "loss < 0"],
        ["keeps none"],
    ),
    "a filter that is no expression": (ladder(), "t.csv", FIT, ["--where", "loss <"], ["not an expression"]),
    "a filter that runs code": (ladder(), "t.csv", FIT, ["--where", HARM], ["not understood"]),
    "a filter with an attribute": (ladder(), "t.csv", FIT, ["--where", "loss.__class__"], ["loss.__class__"]),
    "a power that would never end": (ladder(), "t.csv", FIT, ["--where", "9**9**9**9 < loss"], ["--where"]),
    "an unknown form": (ladder(), "t.csv", FIT, ["--form", "chinchila"], ["chinchila", "chinchilla"]),
    "a form that is code": (ladder(), "t.csv", FIT, ["--form", HARM], ["form"]),
    "an unknown loss": (ladder(), "t.csv", FIT, ["--loss", "hubr"], ["hubr", "huber"]),
    "a negative delta": (ladder(), "t.csv", FIT, ["--delta", "-1"], ["delta", "-1"]),
    "a level of two": (ladder(), "t.csv", FIT, ["--level", "2"], ["level", "2"]),
    "fewer than no resamples": (ladder(), "t.csv", ["fit"], ["--bootstrap", "-3"], ["bootstrap", "-3"]),
    "resamples in words": (ladder(), "t.csv", ["fit"], ["--bootstrap", "many"], ["--bootstrap", "many"]),
    "a group that is not there": (ladder(), "t.csv", FIT, ["--group", "trunk"], ["trunk"]),
    "an unknown option": (ladder(), "t.csv", FIT, ["--boot", "3", "--colour", "red"], ["--colour"]),
    "an answer for no folder": (ladder(), "t.csv", FIT, ["--json", "absent/fit.json"], ["absent"]),
    "a budget below zero": (ladder(), "t.csv", ["extrapolate"], ["--budget", "-1"], ["budget", "-1"]),
    "a point without tokens": (ladder(), "t.csv", ["extrapolate"], ["--at", "params=1e9"], ["tokens"]),
    "targets that are not there": (
        ladder(),
        "t.csv",
        ["extrapolate"],
        ["--targets", "absent.csv"],
        ["absent.csv"],
    ),
    "scores without a size": (scores(size=None), "t.csv", ["emergence"], [], ["size"]),
    "scores without a score": (scores(correct=None), "t.csv", ["emergence"], [], ["correct"]),
    "more right than asked": (scores(correct=60), "t.csv", ["emergence"], [], ["correct", "60"]),
    "fewer than none right": (scores(correct=-1), "t.csv", ["emergence"], [], ["correct", "-1"]),
    "a size of nothing": (scores(size=0), "t.csv", ["emergence"], [], ["size"]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_wrong_is_said_in_one_line(
    case: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    content, name, command, options, said = case
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    else:
        content.to_csv(name, index=False)
    assert main([command[0], name, *command[1:], *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("analysis: ") and err.count("\n") == 1
    assert [part for part in said if part not in err] == []
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing written, nothing run


@pytest.mark.parametrize("arguments", [[], ["fit"], ["fti", "t.csv"], ["fit", "absent.csv"], ["fit", "."]])
def test_a_command_that_cannot_start(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_tables_above_are_good_without_their_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    ladder().to_csv("t.csv", index=False)
    assert main([*FIT[:1], "t.csv", *FIT[1:]]) == 0
