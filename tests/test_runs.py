"""The table: what is read from run folders and files, and what every kind of damage costs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_ladder import TASKS, write_ladder

from analysis import UserError, load_table


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return write_ladder(tmp_path / "made", widths=(16, 32), seeds=(0,), diverge=[(32, 0)])


def _problems(table: pd.DataFrame) -> str:
    return "\n".join(table.attrs["problems"])


def test_a_run_folder_becomes_one_row_an_evaluation_with_every_convention(experiment: Path) -> None:
    table = load_table(experiment)
    lines = sum(len(p.read_text().splitlines()) for p in experiment.glob("*/records.jsonl"))
    assert len(table) == lines
    groups = ["embedding", "unembedding", "attention", "mlp", "norm"]
    assert (table.params == table[[f"params_{g}" for g in groups]].sum(axis=1)).all()
    assert (
        table.params_nonembedding == table.params - table.params_embedding - table.params_unembedding
    ).all()
    assert (table.params_active_matmul == table.params_nonembedding + table.params_unembedding).all()
    assert np.allclose(table.flops_6nd, 6.0 * table.params * table.tokens)
    assert (table.loss == table.loss_text).all()
    classes = table[[c for c in table if c.startswith("loss_text.")]]
    assert np.allclose(classes.sum(axis=1), table.loss_text)


def test_final_marks_the_last_evaluation_of_runs_that_reached_their_horizon(experiment: Path) -> None:
    table = load_table(experiment)
    final = table[table.final]
    assert sorted(final.run_id) == sorted(
        set(table.run_id[(table.outcome == "done") & (table.kind != "trunk")])
    )
    assert (final.tokens == final.horizon_tokens).all()
    assert not table.final[table.outcome == "diverged"].any()
    branches = table[table.kind == "branch"]
    assert (branches.group.str.replace("trunk", "run") == branches.run_id.str.rsplit("-", n=1).str[0]).all()


def test_tasks_are_a_long_table(experiment: Path) -> None:
    tasks = load_table(experiment, kind="tasks")
    lines = sum(len(p.read_text().splitlines()) for p in experiment.glob("*/records.jsonl"))
    assert len(tasks) == lines * sum(len(t.variants) for t in TASKS.values())
    assert set(tasks.task) == set(TASKS)
    assert {"total", "correct", "size", "loss", "chance", "intended_class", "final"} <= set(tasks)
    assert (tasks.correct <= tasks.total).all()


def test_examples_scored_apart_have_the_chance_items_and_shortcut_of_their_variant(experiment: Path) -> None:
    for run in experiment.glob("*/spec.json"):
        spec = json.loads(run.read_text())
        spec["tasks"] = {
            "sums": {
                "chance": 0.5,
                "intended_class": "flat",
                "shortcut": 0.5,
                "variants": {
                    "chain": {
                        "chance": 0.1,
                        "different_items": 40,
                        "intended_class": "emergent",
                        "shortcut": 0.2,
                    }
                },
            }
        }
        run.write_text(json.dumps(spec))
        score = {"n": 100, "correct": 30, "nll": None, "brier": None, "byte_accuracy": None}
        file = run.with_name("records.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line["tasks"] = {"sums": dict.fromkeys(("chain", "chain_0_shot", "chain_k_shot"), score)}
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tasks = load_table(experiment, kind="tasks")
    assert set(tasks.variant) == {"chain", "chain_0_shot", "chain_k_shot"}
    assert set(tasks.chance) == {0.1}
    assert set(tasks.different_items) == {40}
    assert set(tasks.shortcut) == {0.2}
    assert set(tasks.intended_class) == {"emergent"}


def test_the_kept_table_is_the_one_that_was_read(experiment: Path) -> None:
    first = load_table(experiment)
    assert (experiment / "table.parquet").exists()
    pd.testing.assert_frame_equal(first, load_table(experiment))
    pd.testing.assert_frame_equal(first, load_table(experiment / "table.parquet"))


def test_the_table_follows_a_sweep_that_grew(experiment: Path) -> None:
    before = set(load_table(experiment).run_id)
    write_ladder(experiment, widths=(24,), seeds=(0,))
    assert {"run-024-0-1"} <= set(load_table(experiment).run_id) - before


@pytest.mark.parametrize("name", ["table.parquet", "tasks.parquet"])
def test_a_half_written_table_is_rebuilt_and_said(experiment: Path, name: str) -> None:
    whole = load_table(experiment)
    path = experiment / name
    path.write_bytes(path.read_bytes()[:-200])
    again = load_table(experiment)
    pd.testing.assert_frame_equal(whole, again)
    assert name in _problems(again)
    assert _problems(load_table(experiment)) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"step": 3, "tok', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1, 2]", "not a record"),
        (b'{"step": -1, "tokens": 1, "flops": 1, "loss": {"total": 1}}', "step is -1"),
        (b'{"step": 1, "tokens": "many", "flops": 1, "loss": {"total": 1}}', "tokens is 'many'"),
        (b'{"step": 1, "tokens": 1, "flops": Infinity, "loss": {"total": 1}}', "flops is inf"),
        (b'{"step": 1, "tokens": 1, "flops": 1, "loss": {"text": 1}}', "no total loss"),
        (b'{"step": 1, "tokens": 1, "flops": 1, "loss": {"total": "low"}}', "a loss is not a number"),
        (b'{"step": 1, "tokens": 1, "flops": 1, "loss": {"total": 1}, "tasks": {"a": 3}}', "the task scores"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_corrupt_line_costs_that_line(experiment: Path, line: bytes, said: str) -> None:
    whole = load_table(experiment)
    path = experiment / "run-016-0-1" / "records.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([line, *lines[1:]]) + b"\n")
    table = load_table(experiment)
    assert len(table) == len(whole) - 1
    assert said in _problems(table)
    assert "run-016-0-1/records.jsonl line 1" in _problems(table)
    assert said in _problems(load_table(experiment)), "said again when the kept table is used"


def test_a_line_that_was_written_twice_counts_once(experiment: Path) -> None:
    whole = load_table(experiment)
    path = experiment / "run-016-0-1" / "records.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], *lines]) + b"\n")
    table = load_table(experiment)
    assert len(table) == len(whole)
    assert "comes after step" in _problems(table)


def test_a_done_run_whose_last_line_is_lost_has_no_final_row(experiment: Path) -> None:
    path = experiment / "run-016-0-1" / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    table = load_table(experiment)
    assert not table[table.run_id == "run-016-0-1"].final.any()
    assert "the run has no final row" in _problems(table)


def test_a_total_that_is_not_the_sum_of_its_components_is_said(experiment: Path) -> None:
    path = experiment / "run-016-0-1" / "records.jsonl"
    record = json.loads(path.read_text().splitlines()[0])
    record["loss"]["total"] *= 1 + 1e-5
    path.write_text(json.dumps(record) + "\n")
    assert "weighted components differ" in _problems(load_table(experiment))


def test_a_run_that_failed_before_its_first_evaluation_is_not_dropped(experiment: Path) -> None:
    folder = experiment / "run-016-0-1"
    (folder / "records.jsonl").unlink()
    (folder / "outcome.json").write_text('{"outcome": "failed", "reason": "out of memory", "step": 0}')
    row = load_table(experiment, where="run_id == 'run-016-0-1'")
    assert row.outcome.tolist() == ["failed"]
    assert row.loss.isna().all()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"params": 3}', '{"params": {"mlp": "x"}, "data": {}}'])
def test_a_damaged_spec_costs_its_run(experiment: Path, text: str) -> None:
    (experiment / "run-016-0-1" / "spec.json").write_text(text)
    table = load_table(experiment)
    assert "run-016-0-1" not in set(table.run_id)
    assert "run-016-0-1/spec.json" in _problems(table)


def test_a_damaged_outcome_makes_a_run_unfinished(experiment: Path) -> None:
    (experiment / "run-016-0-1" / "outcome.json").write_text('{"outcome": "fine"}')
    table = load_table(experiment)
    assert set(table.outcome[table.run_id == "run-016-0-1"]) == {"unfinished"}
    assert "'fine'" in _problems(table)


def test_a_deleted_run_is_said_and_the_table_outlives_its_folders(experiment: Path, tmp_path: Path) -> None:
    whole = load_table(experiment)
    for file in (experiment / "run-016-0-1").iterdir():
        file.unlink()
    (experiment / "run-016-0-1").rmdir()
    table = load_table(experiment)
    assert "run-016-0-1" in _problems(table)
    assert len(table) < len(whole)
    alone = tmp_path / "alone"
    alone.mkdir()
    (experiment / "table.parquet").rename(alone / "table.parquet")
    assert len(load_table(alone)) == len(table)


def test_one_run_is_a_table_and_nothing_is_written_into_it(experiment: Path) -> None:
    folder = experiment / "run-016-0-1"
    before = sorted(folder.iterdir())
    assert set(load_table(folder).run_id) == {"run-016-0-1"}
    assert sorted(folder.iterdir()) == before


def test_columns_are_renamed_and_may_serve_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("N,D,L,params\n1,2,3,9\n4,5,6,9\n")
    table = load_table(path, columns="params=N, size=N,tokens=D,loss=L")
    assert table.params.tolist() == [1, 4]
    assert set(table) == {"params", "size", "tokens", "loss"}


def test_numbers_survive_csv_exactly(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    values = np.random.default_rng(0).uniform(1, 10, 500)
    pd.DataFrame({"loss": values}).to_csv(path, index=False)
    assert np.allclose(load_table(path).loss, values, rtol=1e-15, atol=0)


def test_whole_numbers_beyond_64_bits_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("flops,name,note\n12,a,7\n123456789012345678901234,b,x\n")
    table = load_table(path, where="flops > 1e20")
    assert table.flops.tolist() == [123456789012345678901234.0]
    assert load_table(path).note.tolist() == ["7", "x"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_files_of_each_kind(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"params": [1, 2], "loss": [3.5, 4.5]})
    path = tmp_path / f"t{suffix}"
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_csv(path, index=False)
    pd.testing.assert_frame_equal(load_table(path), frame, check_names=False)


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("t.csv", b"", "", "empty"),
        ("t.csv", b"a,b\n", "", "no rows"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", "", "line 3"),
        ("t.csv", b"a,b\n\xff\xfe\x00,1\n", "", "cannot be read"),
        ("t.csv.gz", b"a,b\n1,2\n", "", "cannot be read"),
        ("t.parquet", b"PAR1 and then nothing", "", "cannot be read"),
        ("t.parquet", b"a,b\n1,2\n", "", "not a Parquet file"),
        ("t.csv", b"N,D\n1,2\n", "params=n_total", "'n_total'"),
        ("t.csv", b"Params,D\n1,2\n", "size=params", "did you mean Params?"),
        ("t.csv", b"N,D\n1,2\n", "params", "NAME=COLUMN"),
        ("t.csv", b"N,D\n1,2\n", "params=N,", "NAME=COLUMN"),
        ("t.csv", b"N,D\n1,2\n", "params=N,params=D", "given twice"),
    ],
)
def test_bad_files_are_one_sentence(
    tmp_path: Path, name: str, content: bytes, columns: str, said: str
) -> None:
    path = _bytes(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        load_table(path, columns=columns)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_without_runs_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs in this folder"):
        load_table(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load_table(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="not the name of a table"):
        load_table("x" * 5000)


def test_a_folder_that_cannot_be_written_still_gives_its_table(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.tables.atomic.tempfile.mkstemp", refuse)
    table = load_table(experiment)
    assert len(table) > 0
    assert "No space left on device" in _problems(table)


def test_a_write_that_breaks_leaves_the_old_table(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_table(experiment)
    before = (experiment / "table.parquet").read_bytes()
    write_ladder(experiment, widths=(24,), seeds=(0,))

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.tables.cache.pq.write_table", refuse)
    load_table(experiment)
    assert (experiment / "table.parquet").read_bytes() == before
    assert not list(experiment.glob(".table*"))


def test_two_million_rows(tmp_path: Path) -> None:
    """Loaded and filtered whole; what it costs is in the docs, not in a test."""
    n = 2_000_000
    frame = pd.DataFrame({"params": np.arange(1, n + 1), "tokens": 3.0, "loss": 2.0})
    frame.to_parquet(tmp_path / "big.parquet")
    assert len(load_table(tmp_path / "big.parquet", where="params > 1_000_000 and loss < 3")) == n // 2
