"""Exports that the real libraries write in the test: Hugging Face Trainer, lm-evaluation-harness, and shapes."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import load_table
from analysis.sources.models import params_of

pytestmark = [
    pytest.mark.slow,
    # The libraries warn of each other.
    pytest.mark.filterwarnings("default"),
]


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed: its exports are not made anew")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


def test_shapes_have_the_parameters_that_transformers_counts() -> None:
    torch, transformers = library("torch"), library("transformers")
    plain = {"hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4}
    grouped = {**plain, "num_key_value_heads": 2, "vocab_size": 99}
    for config in (
        transformers.GPT2Config(n_layer=3, n_embd=48, n_head=4, vocab_size=99, n_positions=32),
        transformers.GPT2Config(n_layer=3, n_embd=48, n_head=4, vocab_size=99, n_positions=32, n_inner=100),
        transformers.LlamaConfig(**grouped),
        transformers.LlamaConfig(**grouped, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
        transformers.LlamaConfig(**grouped, head_dim=16),
        transformers.MistralConfig(**grouped),
        transformers.Qwen2Config(**grouped),
        transformers.GPTNeoXConfig(**plain, vocab_size=99),
    ):
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        found = params_of(json.loads(config.to_json_string(use_diff=False)))
        head = model.get_output_embeddings().weight
        tied = head is model.get_input_embeddings().weight or config.tie_word_embeddings
        tables = sum(
            p.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()
        )
        total = sum(p.numel() for p in set(model.parameters())) - (
            head.numel() if tied and head is not model.get_input_embeddings().weight else 0
        )
        assert found is not None and found[0] == total, config.model_type
        assert found[1] == total - tables - (0 if tied else head.numel()), config.model_type


def test_trainer_runs_that_were_trained_here(tmp_path: Path) -> None:
    torch, transformers = library("torch"), library("transformers")
    library("accelerate")

    class Data(torch.utils.data.Dataset):  # type: ignore[name-defined,misc]
        def __len__(self) -> int:
            return 32

        def __getitem__(self, i: int) -> dict[str, Any]:
            row = torch.randint(0, 64, (16,), generator=torch.Generator().manual_seed(i))
            return {"input_ids": row, "labels": row}

    for width, count in ((16, True), (32, False)):
        config = transformers.GPT2Config(n_layer=1, n_embd=width, n_head=2, vocab_size=64, n_positions=16)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / f"w{width}"),
            max_steps=8,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            eval_strategy="steps",
            eval_steps=4,
            save_steps=4,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            include_num_input_tokens_seen="all" if count else "no",
        )
        model = transformers.GPT2LMHeadModel(config)
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Data(), eval_dataset=Data())
        trainer.train()
        table = load_table(tmp_path / f"w{width}")
        last = table.iloc[-1]
        assert last["final"] and last["step"] == 8 and last["tokens"] == 8 * 2 * 4 * 16
        assert last["params"] == sum(p.numel() for p in set(model.parameters()))
        assert last["loss"] == pytest.approx(trainer.evaluate()["eval_loss"], rel=1e-6)
    assert load_table(tmp_path)["run_id"].unique().tolist() == ["w16", "w32"]


def test_results_that_the_harness_wrote_here(tmp_path: Path) -> None:
    lm_eval = library("lm_eval")
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    questions = [
        {"q": f"{a}+{b}=", "c": [str(a + b + i) for i in range(4)], "gold": 0}
        for a in range(4)
        for b in range(5)
    ]
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    task = ConfigurableTask(
        config={
            "task": "add",
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(tmp_path / "q.jsonl")},
                "cache_dir": str(tmp_path / "cache"),
            },
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_choice": "{{c}}",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    found = simple_evaluate(model="dummy", tasks=[task], log_samples=True, evaluation_tracker=tracker)
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    tracker.save_results_samples(task_name="add", samples=samples["add"])
    table = load_table(tmp_path / "out", kind="tasks")
    row = table[table["metric"] == "acc"].iloc[0]
    assert row["total"] == 20 and row["chance"] == 0.25 and row["task"] == "add", lm_eval.__version__
    assert row["score"] == sum(sample["acc"] for sample in samples["add"]) / 20
    assert row["stderr"] == pytest.approx((row["score"] * (1 - row["score"]) / 19) ** 0.5)
