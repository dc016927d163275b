"""Harnesses' results: each as it is written, and damaged."""

import json
from pathlib import Path

import pytest
from made_exports import REAL, big_bench, harness, one_line

from analysis import emergence, load_table


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


def test_results_of_harnesses_before_version_0_4(tmp_path: Path) -> None:
    """Files of any name, one number of shots for all tasks, the model and its revision in one word."""
    for size in ("70m", "1b7"):
        found = {
            "results": {
                "arc_easy": {"acc": 0.39, "acc_stderr": 0.01},
                "wsc": {"acc": 0.37, "acc_stderr": 0.05},
            },
            "versions": {"arc_easy": 0, "wsc": 0},
            "config": {
                "model": "hf-causal",
                "model_args": f"pretrained=lab/pythia-v1.1-{size},revision=step33000",
                "num_fewshot": 5,
                "no_cache": True,
                "limit": None,
            },
        }
        (tmp_path / f"{size}-5shot_step33000.json").write_text(json.dumps(found, indent=2))
    table = load_table(tmp_path, kind="tasks", columns="size=size_in_name")
    assert table["size"].tolist() == [1.7e9, 1.7e9, 70e6, 70e6] and set(table["variant"]) == {"5_shot"}
    assert set(table["step"]) == {33000} and set(table["metric"]) == {"acc"}
    assert set(table["run_id"]) == {f"lab/pythia-v1.1-{size}@step33000" for size in ("70m", "1b7")}


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
