"""Databases, folders of histories and what is none of these; every format damaged at random."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_exports import (
    NANOCHAT,
    ROWS,
    big_bench,
    database,
    harness,
    histories,
    nanogpt,
    one_line,
    trainer_runs,
)
from made_project import project, write_chart, write_runs

from analysis import UserError, load_table
from analysis.cli import main


def test_a_table_of_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert load_table(database(tmp_path / "a.db"))["loss"].tolist() == [row[3] for row in ROWS]
    assert len(load_table(database(tmp_path / "b.db", ("other", "runs")))) == 6
    two = database(tmp_path / "c.db", ("first", "second"))
    one_line(two, "holds tables first, second; name one of them runs", capsys)
    two.write_bytes(two.read_bytes()[:5000])
    one_line(two, "SQLite cannot read it", capsys)


def test_sql_by_duckdb(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    duckdb = pytest.importorskip(
        "duckdb", reason="DuckDB is an extra and not installed: its SQL is not tested"
    )
    pd.DataFrame(ROWS, columns=["run_id", "params", "tokens", "loss"]).to_csv(
        tmp_path / "ladder.csv", index=False
    )
    query = tmp_path / "query.sql"
    query.write_text("SELECT * FROM 'ladder.csv' WHERE loss < 2.95")
    assert load_table(query)["loss"].tolist() == [row[3] for row in ROWS[1:]]
    with duckdb.connect(str(tmp_path / "all.duckdb")) as file:
        file.execute(f"CREATE TABLE given AS SELECT * FROM '{tmp_path / 'ladder.csv'}'")
    assert load_table(tmp_path / "all.duckdb")["params"].tolist() == [row[1] for row in ROWS]
    query.write_text("-- database: all.duckdb\nSELECT run_id, 2 * params AS params, tokens, loss FROM given")
    assert load_table(query)["params"].tolist() == [2 * row[1] for row in ROWS]
    for text, line in (
        ("SELECT * FROM 'nowhere.csv'", "DuckDB: IO Error"),
        ("COPY (SELECT 1) TO 'written.csv'", "one SELECT is run and nothing else"),
        ("SELECT 1; DROP TABLE x", "one SELECT is run and nothing else"),
    ):
        query.write_text(text)
        one_line(query, line, capsys)
    assert not list(tmp_path.glob("written*"))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_folder_of_histories(tmp_path: Path, kind: str) -> None:
    table = load_table(histories(tmp_path, kind))
    ends = table[table["final"]].set_index("run_id")
    for run in project()[:4]:
        assert ends.loc[run.name, ["params", "tokens", "loss"]].tolist() == [
            run.params,
            run.tokens,
            run.curve[max(run.curve)],
        ]


def test_histories_that_wandbs_interface_gave(tmp_path: Path) -> None:
    """run.history().to_csv(): an index without a name, holes where a metric was not logged, W&B's own columns."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.csv").write_text(
        ",train/loss,_runtime,_timestamp,_step,val/loss\n"
        "0,3.1,1.2,1700000000.1,0,3.2\n1,2.5,2.2,1700000001.1,100,\n2,2.1,3.2,1700000002.1,200,2.2\n"
    )
    (tmp_path / "a" / "config.json").write_text('{"n_params": 1000000, "tokens_per_step": 4096}')
    table = load_table(tmp_path)
    assert table["loss"].tolist() == [3.2, 2.2] and table["tokens"].tolist() == [0, 200 * 4096]


def test_runs_of_one_name_stay_apart(tmp_path: Path) -> None:
    for seed in ("seed_0", "seed_1"):
        histories(tmp_path / seed)
    table = load_table(tmp_path)
    first = project()[0].name
    assert table["run_id"].nunique() == 8 and {first, f"{first}#2"} <= set(table["run_id"])


def test_mlflow_runs_of_one_name_are_called_after_their_ids(tmp_path: Path) -> None:
    for key in ("1" * 32, "2" * 32):
        run = tmp_path / "mlruns" / "0" / key
        for kind, values in (
            ("metrics", {"val_loss": "1 3.0 5"}),
            ("params", {"n_params": "8", "tokens_per_step": "4"}),
        ):
            (run / kind).mkdir(parents=True)
            for name, value in values.items():
                (run / kind / name).write_text(value)
        (run / "meta.yaml").write_text("run_name: small\nstatus: 3\nlifecycle_stage: active\n")
    table = load_table(tmp_path / "mlruns")
    assert table["run_id"].tolist() == ["small-11111111", "small-22222222"]
    assert table["tokens"].tolist() == [20, 20] and table["final"].all()


def test_histories_that_are_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = histories(tmp_path / "a")
    file = folder / project()[0].name / "metrics.jsonl"
    text = file.read_text()
    file.write_text(text[:-9])
    one_line(folder, "line 10: not whole JSON", capsys)
    file.write_text(text.replace('"step": 100,', '"step": "x",'))
    one_line(folder, "step is 'x', not a number", capsys)
    file.write_text(text)
    (file.parent / "config.json").write_text('{"model":')
    one_line(folder, "config.json: not whole JSON", capsys)


def test_a_table_is_still_a_table(tmp_path: Path) -> None:
    """A lone file of rows with a step is a table of runs, as it always was."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "params": 1e6, "tokens": 1e8, "loss": 3.0}\n')
    assert load_table(path)["loss"].tolist() == [3.0]
    csv = tmp_path / "runs.csv"
    csv.write_text("Name,State,params,tokens,loss\na,b,1e6,1e8,3.0\n")
    assert load_table(csv)["Name"].tolist() == ["a"]


def test_a_folder_of_several_kinds_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = project()[0]
    (tmp_path / "a.log").write_text(nanogpt(run))
    big_bench(tmp_path, 10**7, 0.5)
    one_line(tmp_path, "files of several kinds: nano_log (a.log), big_bench", capsys)
    assert main(["import", str(tmp_path), "--source", "nano_log"]) == 0


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path.mkdir(), "no runs in this folder"),
        (
            lambda path: path.write_text("a,b\n1,2\n"),
            "--source nano_lgo: no such kind; did you mean nano_log?",
        ),
    ],
)
def test_nothing_that_is_known(
    tmp_path: Path, make: Callable[[Path], object], line: str, capsys: pytest.CaptureFixture
) -> None:
    make(tmp_path / "x")
    one_line(tmp_path / "x", line, capsys, *(["--source", "nano_lgo"] if "lgo" in line else []))


@pytest.mark.slow
def test_exports_that_are_damaged_at_random_are_read_or_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Cut, bytes changed, numbers replaced, lines taken out: no damage may end in a traceback."""
    write_chart(tmp_path / "c.csv", project()[:3])
    write_runs(tmp_path / "r.csv", project()[:3])
    (tmp_path / "a.log").write_text(nanogpt(project()[0]))
    (tmp_path / "b.log").write_text(NANOCHAT)
    harness(tmp_path / "lm", (10**7,))
    exports = [tmp_path / name for name in ("c.csv", "r.csv", "a.log", "b.log")]
    exports += [next((tmp_path / "lm").rglob("results_*.json")), big_bench(tmp_path, 10**7, 0.5)]
    exports += [database(tmp_path / "a.db"), trainer_runs(tmp_path / "out") / "llama" / "trainer_state.json"]
    rng = random.Random(0)
    for _ in range(30):
        for path in exports:
            whole = path.read_bytes()
            at = rng.randrange(len(whole))
            lines = whole.split(b"\n")
            number = rng.choice([found.span() for found in re.finditer(rb"\d+", whole)])
            path.write_bytes(
                rng.choice(
                    [
                        whole[:at],
                        whole[:at] + rng.randbytes(3) + whole[at + 3 :],
                        b"\n".join(lines[: at % len(lines)] + lines[at % len(lines) + 1 :]),
                        whole[: number[0]]
                        + rng.choice([b"null", b"x", b"[]", b"1e400", b""])
                        + whole[number[1] :],
                    ]
                )
            )
            status = main(["import", str(path)])
            err = capsys.readouterr().err
            assert status == 0 or (status == 2 and err.count("\n") == 1), err
            path.write_bytes(whole)


def test_a_control_byte_behind_other_letters_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "t.csv").write_bytes("params,größe,ř\n1,2,3\n\x01".encode())
    one_line(tmp_path / "t.csv", "line 3 holds the byte 0x01", capsys)


def test_out_says_what_it_can_write(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "d4.log").write_text(NANOCHAT)
    for name, said in (("o.xlsx", "must end in .parquet, .csv, .jsonl"), ("no/o.csv", "does not exist")):
        # Said before anything is read.
        for path in (tmp_path / "d4.log", tmp_path / "none"):
            one_line(path, said, capsys, "--out", str(tmp_path / name))
    with pytest.raises(UserError, match="no such file"):
        load_table(tmp_path / "none")
