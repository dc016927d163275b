"""A law is of one science: which runs of a folder, or rows of a table, may be fitted together."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_ladder import write_ladder

from analysis import UserError, emergence, fit, isoflop, load_table
from analysis.cli import main
from analysis.report.findings import findings
from analysis.report.source import Source
from analysis.tables.finished import finished_rows
from analysis.tables.science import label_sciences, largest_science

Change = Callable[[dict[str, Any]], object]


def change(folder: Path, runs: str, change: Change) -> None:
    """Rewrite the spec.json of the runs whose names match `runs`, as another sweep into the folder would."""
    for path in folder.glob(f"{runs}/spec.json"):
        spec = json.loads(path.read_text())
        change(spec)
        path.write_text(json.dumps(spec))


def second_seed(folder: Path, of: Change) -> Path:
    """A ladder of two seeds of which the second was trained by another recipe."""
    write_ladder(folder, widths=(16, 24, 32, 48), seeds=(0, 1), horizons=(1.0, 0.5))
    change(folder, "*-???-1*", of)
    return folder


# what another sweep did -> a word of the sentence that says so
OTHER: dict[str, tuple[Change, str]] = {
    "corpus": (lambda s: s["data"].update(content_hash="feed"), "data.content_hash"),
    "vocabulary": (lambda s: s.update(vocab_size=1024), "vocab_size"),
    "context": (lambda s: s.update(context=128), "context"),
    "weights": (lambda s: s["data"]["components"][0].update(weight=0.5), "data.components.text.weight"),
    "a task more": (
        lambda s: s["data"]["components"].append(
            {"name": "sort", "weight": 0.1, "rows": 1, "counted": "all"}
        ),
        "data.components.sort",
    ),
    "decay": (
        lambda s: s.update(schedule={"name": "wsd", "decay_share": 0.4}),
        "schedule.decay_share",
    ),
    "schedule": (lambda s: s.update(schedule={"kind": "cosine"}), "schedule.kind"),
    "optimiser": (lambda s: s.update(optim={"kind": "lion"}), "optim.kind"),
    "momentum": (lambda s: s.update(optim={"b2": 0.95}), "optim.b2"),
    "science version": (lambda s: s.update(science_version=2), "science_version"),
    "a new part of the network": (lambda s: s.update(model={"mlp": "swiglu"}), "model.mlp"),
    "no norm of queries and keys": (lambda s: s.update(qk_norm=False), "differ in qk_norm ("),
    "no positions": (lambda s: s.update(positions="none"), "differ in positions ("),
    "rate": (lambda s: s.update(learning_rate=3 * s["learning_rate"]), "2 of 2: learning_rate"),
    "rate by another power": (
        lambda s: s.update(learning_rate=s["learning_rate"] * s["d_model"] / 4),
        "2 of 2: learning_rate",
    ),
    "weight decay": (lambda s: s.update(weight_decay=0.1), "2 of 2: weight_decay 0.1"),
    "batch": (lambda s: s.update(batch_multiple=4), "2 of 2: batch_multiple 4"),
    "heads": (lambda s: s.update(d_head=8, n_head=2 * s["n_head"]), "2 of 2: n_head 2 and d_head 8"),
    "depth": (lambda s: s.update(n_layer=4), "2 of 2: n_layer 4"),
}


@pytest.mark.parametrize("case", OTHER.values(), ids=OTHER.keys())
def test_runs_of_two_sciences_are_told_apart(case: tuple[Change, str], tmp_path: Path) -> None:
    of, said = case
    table = load_table(second_seed(tmp_path / "runs", of))
    second = table.run_id.str.match(r".*-\d{3}-1")
    assert table.science[second].nunique() == table.science[~second].nunique() == 1
    assert set(table.science[second]) != set(table.science[~second])
    with pytest.raises(UserError) as error:
        finished_rows(table)
    for part in ("2 sciences among 16 finished runs", said, "where=\"science == '"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"where=\"part == '(text|tasks)'\""):
        finished_rows(table.assign(part=np.where(second, "tasks", "text")))
    with pytest.raises(UserError, match=r"where=\"science == '"):
        finished_rows(table.assign(part="text"))


SAME: dict[str, Change] = {
    "a label": lambda s: s["data"].update(name="my text"),
    "a new part that is off": lambda s: s.update(model={"bias": False, "gate": None}),
    "what is measured": lambda s: s.update(evaluation={"items": 500}, tasks={}),
    "another horizon": lambda s: s.update(horizon_tokens=s["horizon_tokens"] and s["horizon_tokens"] + 2048),
    "the same in other words": lambda s: s.update(
        optim={"kind": "adamw", "nesterov": False}, schedule={"kind": "wsd", "floor": 0.0}
    ),
}


@pytest.mark.parametrize("of", SAME.values(), ids=SAME.keys())
def test_what_changes_no_science_makes_none(of: Change, tmp_path: Path) -> None:
    table = load_table(second_seed(tmp_path / "runs", of))
    assert table.science.nunique() == 1
    finished_rows(table)


def test_a_rate_that_depends_on_size_and_horizon_is_one_rule(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "runs", widths=(16, 24, 48), seeds=(0, 1), trunks=False)
    change(
        folder, "run-*", lambda s: s.update(learning_rate=s["d_model"] ** -0.7 * s["horizon_tokens"] ** -0.2)
    )
    assert load_table(folder).science.nunique() == 1


def test_two_rates_are_followed_through_rungs_that_have_one(tmp_path: Path) -> None:
    """Of a rate twice as high at three rungs, the runs of a fourth rung that has one of the two."""
    folder = second_seed(tmp_path / "runs", lambda s: s.update(learning_rate=2 * s["learning_rate"]))
    for run in folder.glob("*-032-1*"):
        for file in run.iterdir():
            file.unlink()
        run.rmdir()
    finished, _ = finished_rows(load_table(folder).drop(columns="science"))
    table = load_table(folder).loc[finished.index]
    by_seed = table.groupby("seed").science.unique().map(list)
    assert len(by_seed[0]) == len(by_seed[1]) == 1 and by_seed[0] != by_seed[1]


def test_labels_depend_on_nothing_but_the_spec(tmp_path: Path) -> None:
    folder = second_seed(tmp_path / "runs", lambda s: s["data"].update(content_hash="feed"))
    specs = {p.parent.name: json.loads(p.read_text()) for p in folder.glob("*/spec.json")}
    labels, about = label_sciences(specs)
    shuffled = list(specs.items())
    random.Random(1).shuffle(shuffled)
    assert label_sciences(dict(shuffled))[0] == labels
    first = {name: spec for name, spec in specs.items() if "-0-" in name}
    assert label_sciences(first)[0] == {name: labels[name] for name in first}
    assert set(about) == set(labels.values())


def test_a_trunk_is_of_the_science_of_its_branches(tmp_path: Path) -> None:
    folder = second_seed(tmp_path / "runs", lambda s: s["data"].update(content_hash="feed"))
    change(folder, "run-*", lambda s: s.update(schedule={"decay_share": 0.2}))
    runs = load_table(folder).drop_duplicates("run_id").set_index("run_id")
    for run, trunk in runs["group"].items():
        assert runs.science[run] == runs.science[trunk]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    write_ladder(tmp_path / "runs", widths=(16, 24, 32, 48, 64), seeds=(0, 1), horizons=(1.0, 0.5))
    change(tmp_path / "runs", "*-???-1*", lambda s: s["data"].update(content_hash="feed"))
    change(tmp_path / "runs", "*-064-1*", lambda s: s["data"].update(content_hash="0000000000000000"))
    return tmp_path / "runs"


def test_no_verb_fits_a_mixture(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["fit"], ["extrapolate", "--budget", "1e15"], ["isoflop"], ["emergence"]):
        assert main([verb[0], str(mixed), *verb[1:]]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "2 sciences among 20 finished runs" in err
    table = load_table(mixed)
    for function in (fit, isoflop):
        with pytest.raises(UserError, match="2 sciences"):
            function(table)
    with pytest.raises(UserError, match="2 sciences"):
        emergence(load_table(mixed, kind="tasks"))


def test_the_choice_that_is_named_works(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", str(mixed)])
    where = capsys.readouterr().err.split('--where "')[1].split('"')[0]
    rows, _ = finished_rows(load_table(mixed, where=where))
    assert len(rows) == 12 and rows.science.nunique() == 1
    assert len(fit(load_table(mixed, where=where), "power", bootstrap=0).observations) == 12


def test_the_report_shows_the_science_with_the_most_runs_and_says_so(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: object, **options: object) -> None:
        raise UserError("not asked here")

    monkeypatch.setattr("analysis.report.findings.extrapolate", nothing)
    monkeypatch.setattr("analysis.report.findings.emergence", nothing)
    found = findings(load_table(mixed), Source(str(mixed)))
    assert len(found.rows) == 12 and found.table.science.nunique() == 1
    assert "2 sciences among 20 finished runs" in found.science and "is shown here" in found.science
    assert not isinstance(found.tasks, str) and set(found.tasks.run_id) <= set(found.table.run_id)


def test_one_science_is_left_as_it_is(tmp_path: Path) -> None:
    table = load_table(write_ladder(tmp_path / "runs", widths=(16, 24), seeds=(0, 1)))
    kept, said = largest_science(table, finished_rows(table)[0])
    assert kept is table and said == ""


def test_the_kept_table_knows_its_sciences(mixed: Path) -> None:
    first, again = load_table(mixed), load_table(mixed)
    assert first.attrs["sciences"] == again.attrs["sciences"] != {}
    alone = load_table(mixed / "table.parquet")
    with pytest.raises(UserError, match="2 sciences among 20 finished runs"):
        finished_rows(alone)


ELSEWHERE = pd.DataFrame(
    {
        "params": [1e6, 1e7, 1e8] * 4,
        "tokens": [1e8, 1e9] * 6,
        "loss": [4.0, 3.5, 3.1, 4.1] * 3,
        "lr": [0.01] * 8 + [0.02] * 4,
        "arch": ["a"] * 6 + ["b"] * 6,
        "science": ["physics", "law"] * 6,
    }
)


def test_columns_of_a_table_from_elsewhere_can_be_made_to_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    ELSEWHERE.to_csv(path, index=False)
    assert len(finished_rows(load_table(path))[0]) == 12  # its own column of that name is nobody's business
    assert main(["fit", str(path), "--same", "lr, arch"]) == 2
    err = capsys.readouterr().err
    assert "3 sciences among 12 finished rows" in err and "science == 'lr=0.01, arch=a'" in err
    table = load_table(path, same="arch", where="arch == 'a'")
    assert len(finished_rows(table)[0]) == 6
    assert main(["fit", str(path), "--same", "lr,optimiser"]) == 2
    assert "no column 'optimiser'" in capsys.readouterr().err


def test_same_may_loosen_what_a_folder_asks(mixed: Path) -> None:
    assert len(finished_rows(load_table(mixed, same="context,vocab_size"))[0]) == 20
