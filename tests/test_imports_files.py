"""Trainers' states and logs, harnesses' results, databases: each on an export as it is written, and damaged."""

import json
import random
import re
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_project import Made, project, write_chart, write_runs

from analysis import UserError, emergence, load_table
from analysis.cli import main

# Written by Trainer of transformers 5.24 and lm-evaluation-harness 0.4.13 (test_imports_real.py writes new ones).
REAL = Path(__file__).parent / "imports"


def one_line(path: Path, line: str, capsys: pytest.CaptureFixture, *options: str) -> None:
    assert main(["import", str(path), *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and line in err, err


# --- Hugging Face's Trainer


def weights(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file's header without its arrays."""
    header = json.dumps({name: {"dtype": "F32", "shape": shape} for name, shape in shapes.items()}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    """Two runs of Trainer, the second without its count of tokens, each with a checkpoint half-way."""
    shapes = {
        "gpt2": {"transformer.wte.weight": [64, 16], "transformer.wpe.weight": [16, 16], "all else": [6592]},
        "llama": {"model.embed_tokens.weight": [64, 16], "lm_head.weight": [64, 16], "all else": [5456]},
    }
    for name in ("gpt2", "llama"):
        folder = tmp_path / "out" / name
        folder.mkdir(parents=True)
        shutil.copy(REAL / f"hf_{name}_state.json", folder / "trainer_state.json")
        shutil.copy(REAL / f"hf_{name}_config.json", folder / "config.json")
        weights(folder / "model.safetensors", shapes[name])
        state = json.loads((folder / "trainer_state.json").read_text())
        half = {**state, "global_step": 10, "log_history": state["log_history"][:4]}
        (folder / "checkpoint-10").mkdir()
        (folder / "checkpoint-10" / "trainer_state.json").write_text(json.dumps(half))
    return tmp_path / "out"


def test_a_folder_of_trainer_runs(trainer: Path) -> None:
    table = load_table(trainer)
    ends = table[table["final"]].set_index("run_id")
    # 20 steps of 4 sequences of 16: by the Trainer's count, and by its FLOPs over 6 x parameters.
    assert ends["tokens"].to_dict() == {"gpt2": 1280.0, "llama": 1280.0}
    assert ends["params"].to_dict() == {"gpt2": 7872.0, "llama": 7504.0}
    assert ends["params_nonembedding"].to_dict() == {"gpt2": 6592.0, "llama": 5456.0}
    assert ends.loc["llama", "loss"] == 4.160383224487305
    assert "took eval_loss for loss: the last of each run" in table.attrs["took"]


def test_without_weights_the_shape_says_the_parameters(trainer: Path) -> None:
    (trainer / "gpt2" / "model.safetensors").unlink()
    table = load_table(trainer / "gpt2")
    assert table["params"].iloc[0] == 7872 and table["params_nonembedding"].iloc[0] == 6592


def test_a_trainer_state_that_is_damaged(trainer: Path, capsys: pytest.CaptureFixture) -> None:
    state = trainer / "gpt2" / "trainer_state.json"
    text = state.read_text()
    state.write_text(text[:1500])
    one_line(state, "not whole JSON", capsys)
    state.write_text(json.dumps({**json.loads(text), "log_history": []}))
    one_line(state, "nothing has been logged", capsys)
    state.write_text(text)
    one_line(trainer / "gpt2" / "checkpoint-10", "no run has finished: gpt2 stands at step 10 of 20", capsys)
    (trainer / "gpt2" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    one_line(trainer / "gpt2", "model.safetensors: not whole", capsys)


# --- text logs

NANOGPT = """\
Overriding config with config/train_tiny.py:
# small
max_iters = {steps} # all of it
Overriding: learning_rate = 0.0006
tokens per iteration will be: 491,520
Initializing a new model from scratch
number of parameters: 29.94M
num decayed parameter tensors: 26, with 30,031,872 parameters
num non-decayed parameter tensors: 13, with 4,992 parameters
using fused AdamW: True
"""
NANOCHAT = """\
Vocab size: 65,536
Model config:
{
  "sequence_len": 2048,
  "n_layer": 4
}
Parameter counts:
wte                     : 16,777,216
transformer_matrices    : 3,145,728
total                   : 36,700,160
Estimated FLOPs per token: 1.230000e+08
Using user-provided number of iterations: 40
Total batch size 524,288 => gradient accumulation steps: 1
Step 00000 | Validation bpb: 3.200000
step 00000/00040 (0.00%) | loss: 11.090000 | lrm: 0.03 | dt: 77.27ms | tok/sec: 13,448 | bf16_mfu: 2.57
step 00020/00040 (50.00%) | loss: 7.100000 | lrm: 1.00 | dt: 77.27ms | tok/sec: 13,448 | bf16_mfu: 2.57
Step 00040 | Validation bpb: 1.724700
Peak memory usage: 11095.37MiB
Total training time: 0.19m
Minimum validation bpb: 1.724700
"""


def nanogpt(run: Made, upto: int | None = None) -> str:
    lines = [NANOGPT.format(steps=run.config["max_iters"])]
    for step, loss in run.curve.items():
        if upto is None or step <= upto:
            lines.append(f"step {step}: train loss {loss - 0.01:.4f}, val loss {loss:.4f}\n")
            lines.append(f"iter {step}: loss {loss + 0.02:.4f}, time 49.94ms, mfu 9.22%\n")
    return "".join(lines)


def test_logs_of_nanogpt(tmp_path: Path) -> None:
    runs = project()[:6]
    for run in runs:
        (tmp_path / run.name).mkdir()
        (tmp_path / run.name / "train.log").write_text(nanogpt(run))
    table = load_table(tmp_path)
    ends = table[table["final"]].set_index("run_id")
    assert ends["loss"].to_dict() == {run.name: round(run.curve[max(run.curve)], 4) for run in runs}
    assert ends["tokens"].tolist() == [run.tokens for run in sorted(runs, key=lambda run: run.name)]
    # The optimiser's exact count, not the 29.94M of the line above.
    assert set(ends["params"]) == {30_036_864.0} and set(ends["learning_rate"]) == {0.0006}


def test_a_log_in_which_a_run_was_started_again(tmp_path: Path) -> None:
    run = project()[1]
    (tmp_path / "a.log").write_text(
        nanogpt(run, upto=1200) + nanogpt(run).replace("step 200:", "step 999999x:")
    )
    table = load_table(tmp_path / "a.log")
    assert table["step"].tolist() == list(run.curve)
    assert any(
        "5 rows of val/loss were written again by a restart" in said for said in table.attrs["problems"]
    )


def test_a_log_of_nanochat(tmp_path: Path) -> None:
    (tmp_path / "d4.log").write_text(NANOCHAT)
    table = load_table(tmp_path / "d4.log")
    assert table["loss"].tolist() == [3.2, 1.7247] and table["final"].tolist() == [False, True]
    assert table["tokens"].tolist() == [0, 40 * 524288] and table["flops"].iloc[1] == 40 * 524288 * 1.23e8
    assert table["params"].iloc[0] == 36_700_160 and table["params_nonembedding"].iloc[0] == 3_145_728
    assert "took val/bpb (bits) for loss: the last of each run" in table.attrs["took"]
    assert any("passed over train/loss_smoothed" in said for said in table.attrs["took"])


def test_a_log_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = project()[3]
    log = tmp_path / "a.log"
    log.write_text(nanogpt(run, upto=4000))
    one_line(log, "no run has finished: a stands at step 4000 of 8000 (max_iters)", capsys)
    log.write_text(NANOGPT.format(steps=9))
    one_line(log, "no step of nanoGPT", capsys, "--source", "nano_log")
    log.write_text("step 5: train loss 3.2, val loss 3.3\n")
    one_line(log, "params cannot be known", capsys)


# --- harnesses


def harness(folder: Path, sizes: tuple[int, ...] = (10_000_000, 100_000_000, 10**9, 10**10)) -> Path:
    """The real results, as if models of several sizes had been evaluated; samples beside the first."""
    found = json.loads((REAL / "lm_eval_results.json").read_text())
    for i, size in enumerate(sizes):
        name = f"lab__model-{size // 1_000_000}m"
        (folder / name).mkdir(parents=True)
        scores = {**found["results"]["mini_add"], "acc,none": 0.25 + 0.2 * i, "acc_stderr,none": 0.01}
        config = {**found["config"], "model_num_parameters": size}
        made = {
            **found,
            "results": {"mini_add": scores},
            "config": config,
            "model_name": name.replace("__", "/"),
        }
        (folder / name / "results_2026-11-28T07-05-26.926917.json").write_text(json.dumps(made))
        shutil.copy(
            REAL / "lm_eval_samples.jsonl",
            folder / name / "samples_mini_add_2026-11-28T07-05-26.926917.jsonl",
        )
    return folder


def test_results_of_the_harness_are_a_table_that_emergence_reads(tmp_path: Path) -> None:
    table = load_table(harness(tmp_path / "out"), kind="tasks")
    acc = table[table["metric"] == "acc"]
    assert sorted(acc["size"]) == [1e7, 1e8, 1e9, 1e10]
    assert set(acc["total"]) == {30} and set(acc["chance"]) == {0.25} and set(acc["stderr"]) == {0.01}
    assert set(table["variant"]) == {"0_shot"} and set(table["metric"]) == {"acc", "acc_norm"}
    found = emergence(table, draws=200)
    assert {task.curve.metric: task.label for task in found.tasks}["acc"] == "smooth"


def test_the_real_results_ask_for_their_sizes(tmp_path: Path) -> None:
    path = tmp_path / "results_1.json"
    found = json.loads((REAL / "lm_eval_results.json").read_text())
    path.write_text(json.dumps({**found, "model_name": "EleutherAI/pythia-160m"}))
    table = load_table(path, kind="tasks")
    assert table["score"].tolist() == [11 / 30, 11 / 30] and "size" not in table
    assert "--columns size=size_in_name" in table.attrs["problems"][0]
    assert load_table(path, kind="tasks", columns="size=size_in_name")["size"].tolist() == [160e6, 160e6]


def test_a_later_evaluation_counts(tmp_path: Path) -> None:
    harness(tmp_path, (10_000_000,))
    first = next(tmp_path.rglob("results_*.json"))
    found = json.loads(first.read_text())
    found["results"]["mini_add"]["acc,none"] = 0.9
    first.with_name("results_2027.json").write_text(json.dumps({**found, "date": found["date"] + 1}))
    table = load_table(tmp_path)
    assert table.loc[table["metric"] == "acc", "score"].tolist() == [0.9]
    assert "2 scores were evaluated again later: the last counts" in table.attrs["problems"]


def test_harness_results_that_are_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    harness(tmp_path, (10_000_000,))
    path, samples = next(tmp_path.rglob("results_*.json")), next(tmp_path.rglob("samples_*.jsonl"))
    text = path.read_text()
    samples.write_text(samples.read_text()[:-300])
    one_line(tmp_path, "line 3: not whole JSON", capsys)
    samples.unlink()
    path.write_text(text[: len(text) // 2])
    one_line(path, "not whole JSON", capsys, "--source", "lm_eval")
    path.write_text(text.replace('"acc,none": 0.25', '"acc,none": [0.25]'))
    one_line(path, "mini_add: acc,none is [0.25], not a number", capsys)


def big_bench(folder: Path, size: int, score: float) -> Path:
    """A score file with the fields of BIG-bench's ModelData and ScoreData."""
    found = {
        "task": {"name": "navigate", "description": "."},
        "model": {
            "model_family": "GPT",
            "model_name": f"gpt-{size}",
            "total_params": 2 * size,
            "non_embedding_params": size,
            "flop_matched_non_embedding_params": size,
        },
        "scores": [
            {
                "score_dict": {"multiple_choice_grade": score, "normalized_aggregate_score": 3.0},
                "preferred_score": "multiple_choice_grade",
                "subtask_description": "navigate",
                "low_score": 0.5,
                "high_score": 1.0,
                "number_of_shots": 3,
            },
            {
                "score_dict": {"normalized_aggregate_score": 3.0},
                "preferred_score": "normalized_aggregate_score",
            },
        ],
    }
    path = folder / "navigate" / "results" / f"scores_gpt-{size}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    (folder / "navigate" / "task.json").write_text(json.dumps({"examples": [{}] * 1000}))
    return path


def test_score_files_of_big_bench(tmp_path: Path) -> None:
    for size, score in ((10**7, 0.5), (10**8, 0.52), (10**9, 0.55), (10**10, 0.8)):
        big_bench(tmp_path, size, score)
    table = load_table(tmp_path, kind="tasks").sort_values("size")
    assert table["size"].tolist() == [1e7, 1e8, 1e9, 1e10] and table["score"].tolist() == [
        0.5,
        0.52,
        0.55,
        0.8,
    ]
    assert (
        set(table["chance"]) == {0.5}
        and set(table["total"]) == {1000}
        and set(table["variant"]) == {"3_shot"}
    )
    assert len(emergence(table, draws=200).tasks) == 1


def test_score_files_that_are_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = big_bench(tmp_path, 10**7, 0.5)
    text = path.read_text()
    path.write_text(text[:-100])
    one_line(path, "not whole JSON", capsys)
    path.write_text(text.replace("10000000", "0").replace("20000000", "0"))
    one_line(path, "no size to stand over", capsys)
    path.write_text(text.replace('"multiple_choice_grade": 0.5', '"multiple_choice_grade": null'))
    one_line(path, "multiple_choice_grade is None, not a number", capsys)


# --- databases and folders of histories

ROWS = [(f"r{i}", 1e6 * 2**i, 1e8 * 3**i, 3.0 - 0.1 * i) for i in range(6)]


def database(path: Path, tables: tuple[str, ...] = ("ladder",)) -> Path:
    with sqlite3.connect(path) as file:
        for name in tables:
            file.execute(f"CREATE TABLE {name} (run_id TEXT, params REAL, tokens REAL, loss REAL)")
            file.executemany(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", ROWS)
    file.close()
    return path


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


def histories(folder: Path, kind: str = "jsonl") -> Path:
    for run in project()[:4]:
        (folder / run.name).mkdir(parents=True)
        (folder / run.name / "config.json").write_text(json.dumps({"model": dict(run.config)}))
        rows = [{"step": step, "val/loss": loss, "lr": 0.1} for step, loss in run.curve.items()]
        path = folder / run.name / f"metrics.{kind}"
        if kind == "csv":
            pd.DataFrame(rows).to_csv(path, index=False)
        else:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


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


def test_runs_of_one_name_stay_apart(tmp_path: Path) -> None:
    for seed in ("seed_0", "seed_1"):
        histories(tmp_path / seed)
    table = load_table(tmp_path)
    first = project()[0].name
    assert table["run_id"].nunique() == 8 and {first, f"{first}#2"} <= set(table["run_id"])


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


# --- what is none of these


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
    tmp_path: Path, trainer: Path, capsys: pytest.CaptureFixture
) -> None:
    """Cut, bytes changed, numbers replaced, lines taken out: no damage may end in a traceback."""
    write_chart(tmp_path / "c.csv", project()[:3])
    write_runs(tmp_path / "r.csv", project()[:3])
    (tmp_path / "a.log").write_text(nanogpt(project()[0]))
    (tmp_path / "b.log").write_text(NANOCHAT)
    harness(tmp_path / "lm", (10**7,))
    exports = [tmp_path / name for name in ("c.csv", "r.csv", "a.log", "b.log")]
    exports += [next((tmp_path / "lm").rglob("results_*.json")), big_bench(tmp_path, 10**7, 0.5)]
    exports += [database(tmp_path / "a.db"), trainer / "llama" / "trainer_state.json"]
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
