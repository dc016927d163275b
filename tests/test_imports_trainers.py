"""Trainers' states and text logs: each as it is written, and damaged."""

import json
from pathlib import Path

import pytest
from made_exports import NANOCHAT, NANOGPT, nanogpt, one_line, trainer_runs
from made_project import project

from analysis import load_table


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    return trainer_runs(tmp_path / "out")


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


def test_a_run_that_logged_nothing_is_left_out(trainer: Path, capsys: pytest.CaptureFixture) -> None:
    """As of Trainer where logging_steps is beyond its last step: a summary, or not even that."""
    state = trainer / "llama" / "trainer_state.json"
    found = json.loads(state.read_text())
    (trainer / "llama" / "checkpoint-10" / "trainer_state.json").unlink()
    for rows in ([], [row for row in found["log_history"] if "train_runtime" in row]):
        state.write_text(json.dumps({**found, "log_history": rows}))
        table = load_table(trainer)
        assert set(table["run_id"]) == {"gpt2"}
        assert "1 of 2 runs left out: run llama: it has no eval_loss" in table.attrs["problems"]
        one_line(state, "nothing has been logged", capsys)


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


def test_a_run_whose_log_ends_in_no_number_has_not_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As nanoGPT goes on after it diverges; where nothing says how many steps there were to be."""
    runs = project()[:2]
    for run in runs:
        text = "\n".join(row for row in nanogpt(run).splitlines() if "max_iters" not in row)
        (tmp_path / f"{run.name}.log").write_text(text + "\n")
    with (tmp_path / f"{runs[1].name}.log").open("a") as log:
        log.write("iter 9999: loss nan, time 49.94ms, mfu 9.22%\n")
    table = load_table(tmp_path)
    assert table.groupby("run_id")["final"].sum().to_dict() == {runs[0].name: 1, runs[1].name: 0}
    assert any("diverged: the last loss" in said for said in table.attrs["problems"])
    one_line(tmp_path / f"{runs[1].name}.log", "no run has finished", capsys)


def test_a_log_that_begins_with_its_source(tmp_path: Path) -> None:
    """modded-nanogpt prints its code first, nanochat's forks too; then lines of a loop that has more to say."""
    source = 'import torch\nprint0(f"Step {step:05d} | Validation bpb: {val_bpb:.4f}")\n' * 3000
    steps = "".join(f"step:{i}/4 train_time:{i * 96}ms step_avg:96.53ms\n" for i in range(1, 5))
    (tmp_path / "a.txt").write_text(
        f"{source}step:0/4 val_loss:10.8258 train_time:0ms step_avg:nanms\n{steps}"
        "step:4/4 val_loss:3.2780 train_time:169042ms step_avg:96.60ms\npeak memory allocated: 34460 MiB\n"
    )
    table = load_table(tmp_path / "a.txt", columns="params=124e6,tokens=step*393216")
    assert table["loss"].tolist() == [10.8258, 3.278] and table["final"].tolist() == [False, True]
    forked = NANOCHAT.replace('"n_layer": 4', '"n_layer": 4,\n  "gates": {\n    "rank": 8\n  }').replace(
        "bpb: 1.724700\nPeak",
        "bpb: 1.724700 | val_loss: 2.833243\nstep 00040/00040 (final) | loss: 2.8\nPeak",
    )
    (tmp_path / "d4.log").write_text(source + forked)
    assert load_table(tmp_path / "d4.log")["loss"].tolist() == [3.2, 1.7247]


def test_a_log_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = project()[3]
    log = tmp_path / "a.log"
    log.write_text(nanogpt(run, upto=4000))
    one_line(log, "no run has finished: a stands at step 4000 of 8000 (max_iters)", capsys)
    log.write_text(NANOGPT.format(steps=9))
    one_line(log, "no step of nanoGPT", capsys, "--source", "nano_log")
    log.write_text("step 5: train loss 3.2, val loss 3.3\n")
    one_line(log, "params cannot be known", capsys)
