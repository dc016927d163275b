"""The trained model that a finished run keeps: whole, its own, there before the run is finished; and taken away."""

import dataclasses
import doctest
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import composed, sweep_here

import lmscale
from lmscale import export, harness, kept, plan, programs, sweep, train, worker
from lmscale.average import average_of
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.device import Device
from lmscale.errors import UserError
from lmscale.family import parameters
from lmscale.jsonfiles import canonical, write_json
from lmscale.shape import Parameter, Shape
from lmscale.spec import RunSpec, spec_of
from lmscale.step import state_template
from lmscale.text import bpe, tokenizer
from lmscale.text.vocab import START
from lmscale.trained import params_of
from lmscale.typed import build
from lmscale.vocabulary import SPECIALS, tokenizer_of

GOLDEN = Path(__file__).parent / "golden"
TINY = (
    "name=cpu",
    "seed=[0,1]",
    "tasks=none",
    "family.n_layer=1",
    "schedule=cosine",
    "horizon={tokens: 2e4, dial: 8, multiples: [1.0]}",
    "evaluation={first_tokens: 1e4, per_doubling: 1, average: ema}",
    "data.heldout_rows=8",
    "data.context=32",
    "pack={lanes: 2, device: cpu, steps: 4, keep: all}",
)


def here(values: dict[str, Any], folder: Path, fault: str = "") -> int:
    """The sweep in this process, which keeps its cores and has no compilation cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
        patch.setattr(worker, "take_core", lambda *_: None)
        patch.setattr(train, "configure_jax", lambda cache: None)
        return sweep_here(values, folder, fault)


@pytest.fixture(scope="module")
def values(corpora: Path) -> dict[str, Any]:
    return composed(*TINY, f"corpora={corpora}")


@pytest.fixture(scope="module")
def runs(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs, the lanes of one pack."""
    folder = tmp_path_factory.mktemp("kept") / "runs"
    assert here(values, folder) == 0
    (execution,) = {path.read_text() for path in folder.glob("cpu/*/execution.json")}
    return [folder / "cpu" / run_id for run_id in json.loads(execution)["lanes"]]


def spec(run: Path) -> RunSpec:
    return spec_of(json.loads((run / "spec.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [False, True])
def test_what_is_kept_scores_as_the_run_did_at_its_end(
    runs: list[Path], values: dict[str, Any], averaged: bool
) -> None:
    """Each lane's file is of its run: evaluated again, it gives the last record to the last bit."""
    world = worker._world(
        canonical({name: values[name] for name in ("data", "tasks")}), Path(values["corpora"])
    )
    params = [params_of(run, spec(run), averaged) for run in runs]
    evaluator = programs.evaluator_of(world, spec(runs[0]).shape, "float32", None)
    scores = evaluator(jax.tree.map(lambda *arrays: np.stack(arrays), *params))
    for run, score in zip(runs, scores, strict=True):
        last = json.loads((run / "records.jsonl").read_text().splitlines()[-1])
        assert score.loss == (last["average"] if averaged else last)["loss"]


@pytest.mark.slow
def test_all_of_a_state_is_what_a_step_reads(runs: list[Path]) -> None:
    run = spec(runs[1])
    template = state_template(run.shape, run.optim, average_of(run.evaluation))
    expected = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(template._replace(params=()))
    }
    found = kept.read(runs[1] / kept.STATE, run)
    assert {name: array.shape for name, array in found.items()} == expected
    assert found["step"] == run.horizon_steps


@pytest.mark.slow
def test_the_plan_counts_the_bytes_that_are_kept(runs: list[Path]) -> None:
    run = spec(runs[0])
    size = {
        name: sum(array.nbytes for array in kept.read(runs[0] / name, run).values())
        for name in (kept.MODEL, kept.AVERAGE, kept.STATE)
    }
    assert kept.kept_bytes(run, "params") == size[kept.MODEL] + size[kept.AVERAGE]
    uncounted = sum(
        array.nbytes
        for name, array in kept.read(runs[0] / kept.STATE, run).items()
        if name.startswith(("guard", "step", "average.number", "optimiser")) and array.size <= 128
    )
    assert 0 <= sum(size.values()) - kept.kept_bytes(run, "all") <= uncounted
    assert kept.kept_bytes(run, "none") == 0


def test_keeping_is_no_science_and_no_execution(values: dict[str, Any]) -> None:
    ids = []
    for keep in ("params", "all", "none"):
        config = build(SweepConfig, {**values, "pack": {**values["pack"], "keep": keep}})
        made = plan.make_plan([config], [draft_manifest(config.data, config.tasks)], "cpu")
        ids.append((list(made.runs), [pack.pack_id for pack in made.packs]))
    assert ids[0] == ids[1] == ids[2]


@pytest.mark.slow
@pytest.mark.parametrize("at", ["model.written", "model.renamed:4", "json.synced:7"])
def test_a_run_that_ended_amid_keeping_is_finished_again(
    runs: list[Path], values: dict[str, Any], tmp_path: Path, at: str
) -> None:
    """Where the disk fills amid the writes of its end a run has no outcome, and started again it has every byte."""
    with pytest.raises(UserError, match="the disk is full"):
        here(values, tmp_path, f"{at}=ENOSPC")
    ended = {path.parent.name for path in tmp_path.glob("cpu/*/outcome.json")}
    assert len(ended) < 2
    for run_id in ended:
        assert {kept.MODEL, kept.AVERAGE, kept.STATE} < {
            p.name for p in (tmp_path / "cpu" / run_id).iterdir()
        }
    assert here(values, tmp_path) == 0
    for run in runs:
        for name in (kept.MODEL, kept.AVERAGE, kept.STATE, "records.jsonl", "outcome.json"):
            assert (tmp_path / "cpu" / run.name / name).read_bytes() == (run / name).read_bytes()
    said = json.loads((tmp_path / "cpu" / runs[1].name / "provenance.json").read_text())
    assert said["claim"] == 2 and [before["claim"] for before in said["before"]] == [1]


@pytest.mark.slow
def test_provenance_says_what_trained_a_run(runs: list[Path]) -> None:
    said = json.loads((runs[0] / "provenance.json").read_text())
    (claim,) = (json.loads(p.read_text()) for p in runs[0].parent.glob("packs/*/claims/000001.json"))
    assert said["overrides"] == ["seed=[0]"] and said["device_kind"] == "cpu"
    assert said["host"] == claim["holder"]["host"] and said["at"] == claim["at"]
    assert said["versions"]["jax"] == jax.__version__ and said["versions"]["python"].startswith("3.")
    assert {"version", "commit", "job"} < said.keys()


@pytest.mark.slow
def test_a_model_loads_as_the_docstring_says(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs[0].parents[2])
    example = doctest.DocTestFinder().find(lmscale.load, "load")[0]
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(failed=0, attempted=6)
    assert lmscale.load(runs[0].name).config == spec(runs[0])
    with pytest.raises(UserError, match="RUN=none: no such folder, and no run of this id"):
        lmscale.load("none")


@pytest.mark.parametrize("mlp", ["dense", "swiglu", "experts"])
def test_names_of_arrays_go_there_and_back(mlp: str) -> None:
    shape = Shape(2, 8, 2, 4, 32, 64, 260, mlp, "layer", "learned", n_expert=4, top_k=2)
    leaves = jax.tree_util.tree_leaves_with_path(parameters(shape), lambda leaf: isinstance(leaf, Parameter))
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    assert kept.nested(named) == parameters(shape)


def changed(run: Path, folder: Path, **shape: Any) -> Path:
    """A copy of a run with other words in its spec."""
    copy = folder / "exp" / run.name
    shutil.copytree(run, copy)
    said = json.loads((run / "spec.json").read_text())
    write_json(copy / "spec.json", {**said, "shape": {**said["shape"], **shape}})
    return copy


def without(run: Path, folder: Path, *names: str) -> Path:
    copy = changed(run, folder)
    for name in names:
        (copy / name).unlink()
    return copy


def old(run: Path, folder: Path) -> Path:
    """As a version before this one left it."""
    return without(run, folder, kept.MODEL, kept.AVERAGE, kept.STATE, "provenance.json")


def damaged(run: Path, folder: Path) -> Path:
    path = changed(run, folder) / kept.MODEL
    path.write_bytes(path.read_bytes()[:-4])
    return path.parent


def foreign(run: Path, folder: Path) -> Path:
    other = next(path for path in run.parent.glob(f"*/{kept.MODEL}") if path.parent != run)
    return Path(shutil.copy(other, changed(run, folder))).parent


def diverged(run: Path, folder: Path) -> Path:
    copy = changed(run, folder)
    write_json(copy / "outcome.json", {"outcome": "diverged", "reason": "its last loss is not finite"})
    return copy


BAD: list[tuple[Callable[[Path, Path], Any], str]] = [
    (lambda run, folder: "0123456789ab", "no such folder, and no run of this id in"),
    (lambda run, folder: run.parent, "not the folder of a run, it has no spec.json; give one of its 2 runs"),
    (lambda run, folder: folder, "it has no spec.json; give a run's folder"),
    (lambda run, folder: without(run, folder, "outcome.json"), "the run is not finished; start its sweep again"),
    (diverged, "the run diverged (its last loss is not finite); it has no model"),
    (lambda run, folder: old(run, folder), "this run was trained before models were kept; remove its folder"),
    (lambda run, folder: without(run, folder, kept.MODEL), "this run was trained with pack.keep=none"),
    (damaged, "model.safetensors: damaged ("),
    (foreign, "put the run's own file back"),
    (lambda run, folder: changed(run, folder, positions="alibi"), "transformers has no architecture that"),
    (lambda run, folder: changed(run, folder, vocab_size=512), "its tokenizer does not fit: 260 tokens, where"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("make", "said"), BAD)
def test_what_cannot_be_exported_is_one_line(
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path, Path], Any],
    said: str,
) -> None:
    out = tmp_path / "out"
    assert export.main([str(make(runs[0], tmp_path)), "--out", str(out), "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("lmscale: ")
    assert not out.exists()


@pytest.mark.slow
def test_an_export_is_found_by_its_id_and_overwrites_nothing(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [runs[0].name, "--out", str(tmp_path / "out"), "--runs", str(runs[0].parents[1])]
    assert export.main(command) == 0 and "ApertusForCausalLM" in capsys.readouterr().out
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "spec.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"provenance.json"}
    assert export.main(command) == 2
    assert "name a folder that is new or empty" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bytes_tokenizer(runs: list[Path]) -> Any:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no ids to compare")
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_of(runs[0], spec(runs[0]))))


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(st.text())
def test_a_byte_is_a_token(bytes_tokenizer: Any, text: str) -> None:
    assert bytes_tokenizer.encode(text).ids == list(text.encode())
    assert bytes_tokenizer.decode(bytes_tokenizer.encode(text).ids) == text


@pytest.mark.slow
def test_specials_have_their_numbers(bytes_tokenizer: Any) -> None:
    for number, name in SPECIALS.items():
        assert bytes_tokenizer.encode(f"a{name}b").ids == [97, number, 98]


def exported(folder: Path, made: Any, name: str = "") -> tuple[Any, np.ndarray]:
    """What is exported of a corpus's tokenizer, and our numbers of its tokens as the corpus has them."""
    import tokenizers

    text, run = folder / "corpora" / "text-1", folder / "exp" / "run"
    for path in (text, run, folder / "exp" / "packs" / "p"):
        path.mkdir(parents=True)
    made.save(str(text / "tokenizer.json"))
    name = name or f"json-{hashlib.sha256((text / 'tokenizer.json').read_bytes()).hexdigest()[:16]}"
    write_json(run / "execution.json", {"pack_id": "p"})
    write_json(folder / "exp" / "packs" / "p" / "pack.json", {"text": "text-1", "corpora": str(folder)})
    found = tokenizer.vocabulary(tokenizer.load(text / "tokenizer.json"))
    golden = spec(min(GOLDEN.iterdir()))
    shape = dataclasses.replace(golden.shape, vocab_size=len(found.texts))
    asked = dataclasses.replace(golden, shape=shape, data={**golden.data, "tokenizer": name})
    with pytest.raises(UserError, match="no such file, the tokenizer of the corpus; name the folder of"):
        tokenizer_of(run, asked)
    wrong = dataclasses.replace(asked, data={**golden.data, "tokenizer": "json-0123456789abcdef"})
    with pytest.raises(UserError, match="the tokenizer does not fit, it is json-"):
        tokenizer_of(run, wrong, folder / "corpora")
    told = tokenizer_of(run, asked, folder / "corpora")
    return tokenizers.Tokenizer.from_str(json.dumps(told)), found.number


@pytest.fixture(scope="module")
def of_bpe(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, np.ndarray]:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: no ids to compare")
    made = bpe.train_vocabulary([Path(__file__).read_text(), "größer ≥ kleiner, größer 😀" * 9], 400)
    return made, *exported(tmp_path_factory.mktemp("bpe"), made, "bpe")


@settings(deadline=None, max_examples=50)
@given(st.text() | st.sampled_from(["größer", "def test_a", "  import", "😀 größer ≥"]))
def test_merges_have_the_numbers_of_training(of_bpe: tuple[Any, Any, np.ndarray], text: str) -> None:
    made, renumbered, number = of_bpe
    ids = renumbered.encode(text).ids
    assert ids == number[np.array(made.encode(text).ids, int)].tolist()
    assert renumbered.decode(ids) == text
    assert renumbered.encode("<|start|>").ids == [START]


def test_a_tokenizer_of_one_s_own_has_the_numbers_of_training(tmp_path: Path) -> None:
    """Whatever its kind; where its numbers are an order, no file can have ours, and that is one line."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no ids to compare")
    words = {"[UNK]": 0, "<|endoftext|>": 1, "the": 2, "cat": 3, "##s": 4, "sat": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["[UNK]", "<|endoftext|>"])
    renumbered, number = exported(tmp_path / "words", made)
    ids = made.encode("the cats sat on").ids
    assert ids == [2, 3, 4, 5, 0]
    assert renumbered.encode("the cats sat on").ids == number[ids].tolist()
    ordered = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0), ("the", -1.0)], 0, False))
    with pytest.raises(UserError, match=r"kind Unigram numbers tokens by their order.*lmscale\.load"):
        exported(tmp_path / "ordered", ordered)


@pytest.mark.slow
def test_a_harness_s_samples_become_counts_or_a_mean(runs: list[Path]) -> None:
    """What is no share is named and left out; a guess among three options is right once in three."""
    samples = [
        {
            "filter": "none",
            "metrics": ["acc", "f", "ppl"],
            "acc": right,
            "f": f,
            "ppl": 7.0,
            "arguments": [0] * 3,
        }
        for right, f in ((1.0, 0.25), (0.0, 0.75), (1, 0.5))
    ]
    found = {"samples": {"quiz": samples}, "configs": {"quiz": {"output_type": "multiple_choice"}}}
    (acc, share), left_out = harness.rows(spec(runs[0]), found)
    assert (acc["metric"], acc["correct"], acc["total"], acc["chance"]) == ("acc", 2, 3, pytest.approx(1 / 3))
    assert (share["metric"], share["score"]) == ("f", 0.5) and share["chance"] is None
    assert share["stderr"] == pytest.approx(0.25 / 3**0.5)
    assert acc["size"] == sum(spec(runs[0]).params[group] for group in ("attention", "mlp", "norm"))
    assert left_out == ["quiz: ppl is not a share of right answers"]


@pytest.mark.slow
def test_only_finished_runs_are_scored(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    experiment = without(runs[0], tmp_path, "outcome.json").parent
    command = ["--tasks", "quiz", "--out", str(tmp_path / "scores.csv")]
    assert harness.main([str(experiment), *command]) == 2
    assert "the run is not finished" in capsys.readouterr().err
    changed(runs[1], tmp_path)
    assert harness.rungs(experiment)[0] == [experiment / runs[1].name]
    assert "the run is not finished" in harness.rungs(experiment)[1][0]
    assert harness.main([str(tmp_path), *command]) == 2
    assert "no run stands there; give an experiment's folder" in capsys.readouterr().err
