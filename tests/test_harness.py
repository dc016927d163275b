"""The lm-evaluation-harness scores a kept rung as our own evaluation did, item for item."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from launching import composed, sweep_here

from lmscale import harness, sweep, train, worker
from lmscale.device import Device
from lmscale.export import export
from lmscale.jsonfiles import canonical
from lmscale.text.vocab import START
from lmscale.trained import finished
from lmscale.vocabulary import SPECIALS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the harness and what it imports
]

FRUIT = {
    "name": "fruit",
    "description": "Name the fruit.",
    "preferred_score": "multiple_choice_grade",
    "append_choices_to_input": False,
    "examples": [
        {
            "input": f"number {i}",
            "target_scores": {f"{i * 7 % 13} is": 1, f"{i % 5} was": 0, "self" * (i % 3 + 1): 0},
        }
        for i in range(20)
    ],
}
OWN = ("copy", "parity")
YAML = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
doc_to_text: text
target_delimiter: ""
num_fewshot: 0
output_type: {kind}
{more}
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module")
def ladder(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Two rungs, trained with tasks and evaluated on one more of BIG-bench's kind."""
    folder = tmp_path_factory.mktemp("ladder")
    (folder / "task.json").write_text(json.dumps(FRUIT))
    os.environ |= {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    values = composed(
        *("name=two", "dial=[8,16]", "seed=[0]", "family.n_layer=1", "schedule=cosine"),
        *("horizon.tokens=2e4", f"tasks.path={folder}/task.json", f"corpora={corpora}", "pack.device=cpu"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
        patch.setattr(worker, "take_core", lambda *_: None)
        patch.setattr(train, "configure_jax", lambda cache: None)
        assert sweep_here(values, folder / "runs") == 0
    return values, folder / "runs" / "two"


def write(folder: Path, name: str, kind: str, more: str, items: list[dict[str, Any]]) -> None:
    """A task of the harness's, whose items stand in a file."""
    file = folder / f"{name}.json"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / f"{name}.yaml").write_text(YAML.format(name=name, file=file, kind=kind, more=more))


@pytest.fixture(scope="module")
def tasks(ladder: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our items as the harness reads them: a prompt is all that stands before an answer in its row."""
    values, _ = ladder
    folder = tmp_path_factory.mktemp("tasks")
    world = worker._world(
        canonical({name: values[name] for name in ("data", "tasks")}), Path(values["corpora"])
    )
    for name in OWN:
        rows = world.items(name, "direct").rows
        items = []
        for item in range(rows.item.max() + 1):
            row, places = np.nonzero(rows.item == item)
            line, first = rows.tokens[row[0]], places[0]
            text = bytes(line[1 : first + 1].astype(np.uint8)).decode()
            answer = bytes(line[places + 1].astype(np.uint8)).decode()
            items.append({"text": SPECIALS[START] + text, "answer": answer})
        write(folder, name, "loglikelihood", "doc_to_target: answer", items)
    items = []
    for example in FRUIT["examples"]:
        options = list(example["target_scores"])
        items.append({"text": f"\nQ: {example['input']}\nA: ", "options": options, "right": 0})
    more = "doc_to_choice: options\ndoc_to_target: right"
    write(folder, "fruit", "multiple_choice", more, items)
    return folder


def ours(run: Path, task: str, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Which items are right, and the nats of the right answer, as our evaluation wrote them at the run's end."""
    with np.load(run / "items.npz") as items:
        return items[f"{task}/{variant}/correct"], items[f"{task}/{variant}/nll"]


def test_every_item_is_scored_as_our_evaluation_does(ladder: tuple[Any, Path], tasks: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: nothing to compare with")
    run = max(harness.rungs(ladder[1])[0], key=lambda path: finished(path).dial)
    found = harness.score(run, [*OWN, "fruit"], tasks)["samples"]
    for task in OWN:
        correct, nll = ours(run, task, "direct")
        assert [sample["acc"] for sample in found[task]] == correct.tolist()
        theirs = [-sample["filtered_resps"][0][0] for sample in found[task]]
        np.testing.assert_allclose(theirs, nll, rtol=1e-5)
        assert 0 < correct.sum() < len(correct) or task == "copy"
    correct, nll = ours(run, "fruit", "0_shot")
    assert [sample["acc"] for sample in found["fruit"]] == correct.tolist() and 0 < correct.sum() < 20
    theirs = [-sample["filtered_resps"][0][0] for sample in found["fruit"]]
    np.testing.assert_allclose(theirs, nll, rtol=1e-5)


def test_an_exported_rung_scores_alike_in_the_harness_s_own_model(
    ladder: tuple[Any, Path], tasks: Path, tmp_path: Path
) -> None:
    """Weights, config and tokenizer together: transformers computes what our evaluation wrote."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed: nothing to compare with")
    pytest.importorskip("accelerate", reason="lm_eval[hf] is not installed: no exported model is run")
    run = harness.rungs(ladder[1])[0][0]
    export(run, tmp_path / "out")
    found = lm_eval.simple_evaluate(
        "hf",
        {"pretrained": str(tmp_path / "out"), "dtype": "float32"},
        tasks=list(OWN),
        task_manager=lm_eval.tasks.TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        batch_size=16,
        bootstrap_iters=0,
    )["samples"]
    for task in OWN:
        correct, nll = ours(run, task, "direct")
        assert [sample["acc"] for sample in found[task]] == correct.tolist()
        np.testing.assert_allclose([-s["filtered_resps"][0][0] for s in found[task]], nll, rtol=1e-4)


def test_the_ladder_becomes_a_table_that_emergence_reads(
    ladder: tuple[Any, Path], tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: nothing to compare with")
    from analysis.detection.scores import read_scores
    from analysis.tables.load import load_table

    out = tmp_path / "scores.csv"
    command = [str(ladder[1]), "--include-path", str(tasks), "--out", str(out), "--tasks"]
    assert harness.main([*command, "parity,fruit"]) == 0
    table = pd.read_csv(out)
    for row in table.itertuples():
        variant = "0_shot" if row.task == "fruit" else "direct"
        correct, _ = ours(ladder[1] / row.run_id, row.task, variant)
        assert (row.correct, row.total, row.size) == (correct.sum(), len(correct), row.size)
    assert table["size"].nunique() == 2 and table[table.task == "fruit"].chance.eq(1 / 3).all()
    curves = read_scores(load_table(str(out), "tasks")).curves
    assert {curve.task for curve in curves} == {"parity", "fruit"}
    capsys.readouterr()
    assert harness.main([*command, "nothing"]) == 2
    assert capsys.readouterr().err.endswith("nothing: no such task; there are copy, fruit, parity\n")


def test_texts_are_continued_and_scored_whole(ladder: tuple[Any, Path]) -> None:
    """Greedy text is the likeliest at each place, and a whole text's score is the sum over its windows."""
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: nothing to compare with")
    from types import SimpleNamespace

    import jax

    from lmscale.harness_model import LmscaleLM
    from lmscale.trained import load_run
    from lmscale.vocabulary import tokenizer_of

    run = harness.rungs(ladder[1])[0][0]
    trained = load_run(run)
    model = LmscaleLM(trained, tokenizers.Tokenizer.from_str(json.dumps(tokenizer_of(run, trained.config))))

    def asked(*arguments: Any) -> list[Any]:
        return [SimpleNamespace(args=arguments)]

    (written,) = model.generate_until(asked("def f(", {"until": ["zzz"], "max_gen_toks": 12}))
    ((_, greedy),) = model.loglikelihood(asked("def f(", written))
    assert greedy and 0 < len(written) <= 12
    (stopped,) = model.generate_until(asked("def f(", {"until": [written[3]], "max_gen_toks": 12}))
    assert stopped == written[: written.index(written[3])]
    text = "for number in range(10): print(number)  # " * 5
    assert 193 < len(text) < 257
    ids = np.frombuffer(b"\0" + text.encode(), np.uint8)
    expected = 0.0
    for end in [65, 129, 193, len(ids)]:  # the last window sees a whole context, and what is new in it counts
        window, new = ids[end - 65 : end], min(64, end - 193 if end > 193 else 64)
        log_p = np.asarray(jax.nn.log_softmax(trained.logits(window[None, :-1])[0]))
        expected += log_p[np.arange(64), window[1:]][-new:].sum(dtype=float)
    assert model.loglikelihood_rolling(asked(text)) == [pytest.approx(expected, rel=1e-5)]
