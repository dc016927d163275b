"""Exports as trainers, harnesses and databases write them, for the tests that read and damage them."""

import json
import shutil
import sqlite3
import struct
from pathlib import Path

import pandas as pd
import pytest
from made_project import Made, project

from analysis.cli import main

# Written by Trainer of transformers 5.24 and lm-evaluation-harness 0.4.13 (test_imports_real.py writes new ones).
REAL = Path(__file__).parent / "imports"


def one_line(path: Path, line: str, capsys: pytest.CaptureFixture, *options: str) -> None:
    assert main(["import", str(path), *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and line in err, err


def weights(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file's header without its arrays."""
    header = json.dumps({name: {"dtype": "F32", "shape": shape} for name, shape in shapes.items()}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def trainer_runs(path: Path) -> Path:
    """Two runs of Trainer, the second without its count of tokens, each with a checkpoint half-way."""
    shapes = {
        "gpt2": {"transformer.wte.weight": [64, 16], "transformer.wpe.weight": [16, 16], "all else": [6592]},
        "llama": {"model.embed_tokens.weight": [64, 16], "lm_head.weight": [64, 16], "all else": [5456]},
    }
    for name in ("gpt2", "llama"):
        folder = path / name
        folder.mkdir(parents=True)
        shutil.copy(REAL / f"hf_{name}_state.json", folder / "trainer_state.json")
        shutil.copy(REAL / f"hf_{name}_config.json", folder / "config.json")
        weights(folder / "model.safetensors", shapes[name])
        state = json.loads((folder / "trainer_state.json").read_text())
        half = {**state, "global_step": 10, "log_history": state["log_history"][:4]}
        (folder / "checkpoint-10").mkdir()
        (folder / "checkpoint-10" / "trainer_state.json").write_text(json.dumps(half))
    return path


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


ROWS = [(f"r{i}", 1e6 * 2**i, 1e8 * 3**i, 3.0 - 0.1 * i) for i in range(6)]


def database(path: Path, tables: tuple[str, ...] = ("ladder",)) -> Path:
    with sqlite3.connect(path) as file:
        for name in tables:
            file.execute(f"CREATE TABLE {name} (run_id TEXT, params REAL, tokens REAL, loss REAL)")
            file.executemany(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", ROWS)
    file.close()
    return path


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
