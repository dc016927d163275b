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


def test_a_log_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = project()[3]
    log = tmp_path / "a.log"
    log.write_text(nanogpt(run, upto=4000))
    one_line(log, "no run has finished: a stands at step 4000 of 8000 (max_iters)", capsys)
    log.write_text(NANOGPT.format(steps=9))
    one_line(log, "no step of nanoGPT", capsys, "--source", "nano_log")
    log.write_text("step 5: train loss 3.2, val loss 3.3\n")
    one_line(log, "params cannot be known", capsys)
