"""Runs on text with a tokenizer of one's own and on token files, from the files to a model that is taken away."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from launching import composed, sweep_here
from made_tokens import TEXTS, prepare, write_cache, write_text, write_tokenizers

import lmscale
from analysis import load_table
from lmscale import sweep, train, worker
from lmscale.device import Device
from lmscale.errors import UserError
from lmscale.export import export

pytestmark = pytest.mark.slow

ONE = (
    "tasks=none",
    "family.n_layer=1",
    "schedule=cosine",
    "horizon={tokens: 2e4, dial: 8, multiples: [1.0]}",
    "evaluation={first_tokens: 5e3, per_doubling: 1}",
    "data.context=32",
    "pack={device: cpu, steps: 4, checkpoint_seconds: 0.01}",
)


def text(folder: Path, made: Path) -> list[str]:
    return [f"data.files=[{write_text(folder)}]", f"data.tokenizer={made / 'gpt.json'}"]


def nanogpt(folder: Path, made: Path) -> list[str]:
    for name, texts in (("train.bin", TEXTS[20:]), ("val.bin", TEXTS[:20])):
        prepare(folder / name, made / "gpt.json", texts)
    return [f"data.files=[{folder}/train.bin,{folder}/val.bin]", f"data.tokenizer={made / 'gpt.json'}"]


def levanter(folder: Path, made: Path) -> list[str]:
    ids = prepare(folder / "all.bin", made / "gpt.json")
    end = ids[-1]
    rows = np.split(ids, np.flatnonzero(ids == end) + 1)[:-1]
    return [f"data.files=[{write_cache(folder / 'cache', [row[:-1] for row in rows])}]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizers(tmp_path_factory.mktemp("tokenizers"))


@pytest.mark.parametrize("kind", [text, nanogpt, levanter])
def test_a_run_is_trained_to_its_end_resumed_and_exported(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path, Path], list[str]]
) -> None:
    data = "text" if kind is text else "tokens"
    values = composed(*ONE, f"data={data}", *kind(tmp_path, made), f"corpora={tmp_path / 'corpora'}")
    # in this process, which keeps its cores and has no compilation cache
    monkeypatch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
    monkeypatch.setattr(worker, "take_core", lambda *_: None)
    monkeypatch.setattr(train, "configure_jax", lambda cache: None)
    assert sweep_here(values, tmp_path / "whole") == 0
    (run,) = (path.parent for path in (tmp_path / "whole").glob("*/*/outcome.json"))
    # a crash in the middle, after which the sweep goes on by itself
    assert sweep_here(values, tmp_path / "again", "train.stepped:9=crash") == 0
    again = tmp_path / "again" / run.parent.name / run.name
    assert [claim["claim"] for claim in json.loads((again / "provenance.json").read_text())["before"]] == [1]
    for name in ("spec.json", "records.jsonl", "model.safetensors"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    said = json.loads((run / "spec.json").read_text())["data"]
    table = load_table(tmp_path / "whole" / run.parent.name)
    assert table["loss_text"].between(0.5, 6.5).all()
    if kind is levanter:
        assert said["tokenizer"] == "unknown" and "bytes_per_token" not in said
        with pytest.raises(UserError, match="token files that came without a tokenizer") as caught:
            export(run, tmp_path / "model")
        assert "\n" not in str(caught.value)
        return
    torch = pytest.importorskip("torch", reason="torch is not installed: no logits of transformers")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    assert said["tokenizer"].startswith("json-") and 2 < said["bytes_per_token"] < 6
    export(run, tmp_path / "model")
    taken = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = taken(TEXTS[3])["input_ids"]
    assert taken.decode(ids) == TEXTS[3]
    (tokens,) = (tmp_path / "corpora").glob("text-*/train.bin")
    seen = (
        np.fromfile(tokens, np.uint16).tobytes()
        + np.fromfile(tokens.with_name("heldout.bin"), np.uint16).tobytes()
    )
    assert np.array([*ids, 0], np.uint16).tobytes() in seen  # the numbers that the model was trained on
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    prompt = np.array([ids[:20]])
    theirs = model(torch.tensor(prompt)).logits.detach().numpy()
    np.testing.assert_allclose(theirs, lmscale.load(str(run)).logits(prompt), atol=1e-4)
