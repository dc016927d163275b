"""Cleaning finds what was planted, says what it removed, and never touches the held-out text."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmscale.config import DataConfig, TasksConfig
from lmscale.data import Manifest, open_world, scan
from lmscale.errors import UserError
from lmscale.peek import peek
from lmscale.text import near_copies, quality
from lmscale.text.recipe import QualityConfig
from lmscale.text.words import runs, words

NO_TASKS = TasksConfig(weight=0)


def vocabulary(seed: int, count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array(
        ["".join(rng.choice(list("abcdefghijklmnopqrst"), rng.integers(3, 9))) for _ in range(count)]
    )


def prose(rng: np.random.Generator, known: np.ndarray, length: int) -> list[str]:
    """Words by Zipf's law."""
    weight = 1 / np.arange(1, len(known) + 1)
    return list(rng.choice(known, length, p=weight / weight.sum()))


def plain_shingles(text: str) -> set[tuple[str, ...]]:
    """What near_copies compares, by sets of words themselves."""
    found = re.findall(r"[a-z0-9_]+", text.lower())
    return {tuple(found[at : at + 5]) for at in range(max(1, len(found) - 4))} if found else set()


def similarity(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / len(one | other)


@pytest.fixture(scope="module")
def planted() -> list[str]:
    """60 documents of their own and 110 edits of some of them, from a word to a third of the words changed."""
    rng, known = np.random.default_rng(1), vocabulary(0)
    own = [prose(rng, known, int(rng.integers(60, 400))) for _ in range(60)]
    texts = [" ".join(text) for text in own]
    for number in range(110):
        edited = list(own[number % 40])
        for at in rng.integers(
            len(edited), size=1 + int(len(edited) * rng.choice([0, 0.01, 0.03, 0.1, 0.3]))
        ):
            edited[at] = str(rng.choice(known))
        texts.append(" ".join(edited))
    return [texts[at] for at in rng.permutation(len(texts))]


def test_words_and_runs_are_those_of_the_text() -> None:
    text = "One two_2, THREE!\n(four)  five--six"
    assert [words(word.encode())[0] for word in re.findall(r"\w+", text)] == list(words(text.encode()))
    np.testing.assert_array_equal(words(b"One TWO"), words(b"one two"))
    assert len(set(words(text.encode()))) == 6
    # scripts without blanks have words
    assert len(words("水は低き".encode())) == 4
    assert len(words(b" ...\n")) == len(runs(words(b""), 5)) == 0
    five = runs(words(text.encode()), 5)
    assert len(five) == 2 and five[0] == runs(words(b"one two_2 three four five"), 5)[0]
    assert len(runs(words(b"one two"), 5)) == 1 and runs(words(b"one two"), 2) != runs(words(b"two one"), 2)


def test_a_signature_estimates_the_exact_similarity(planted: list[str]) -> None:
    """Independent estimates of known similarities, with the error of a share of 128 (Broder 1997)."""
    rng = np.random.default_rng(3)
    for truth in (0.1, 0.5, 0.8, 0.95):
        errors = []
        for _ in range(60):
            both = round(800 * truth / (1 + truth))
            drawn = rng.integers(2**63, size=800 - both, dtype=np.uint64)
            one, other = np.unique(drawn[:400]), np.unique(drawn[400 - both :])
            same = near_copies.signature(one) == near_copies.signature(other)
            exact = near_copies.jaccard(one, other)
            assert exact == pytest.approx(truth, abs=0.002)
            errors.append(same.mean() - exact)
        sigma = np.sqrt(truth * (1 - truth) / near_copies.HASHES)
        assert abs(np.mean(errors)) < 4 * sigma / np.sqrt(60)
        assert np.std(errors) == pytest.approx(sigma, rel=0.35)
    for one_text, other_text in itertools.pairwise(planted[:40]):
        exact = near_copies.jaccard(*(near_copies.shingles(t.encode()) for t in (one_text, other_text)))
        assert exact == similarity(plain_shingles(one_text), plain_shingles(other_text))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_let_a_pair_at_the_threshold_pass(threshold: float) -> None:
    bands, rows = near_copies.bands_of(threshold)
    assert bands * rows <= near_copies.HASHES
    assert 1 - (1 - threshold**rows) ** bands >= near_copies.RECALL
    assert 1 - (1 - (threshold / 2) ** rows) ** bands < 0.8


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_planted_near_copies_are_found_and_nothing_else(
    planted: list[str], threshold: float, tmp_path: Path
) -> None:
    """Against all pairs of sets of words, compared in plain Python: precision 1, recall .97 or more."""
    heldout = 15

    def read() -> Any:
        return ((at, text.encode(), at < heldout) for at, text in enumerate(planted))

    found = near_copies.near_copies(read, threshold, tmp_path)
    sets = [plain_shingles(text) for text in planted]
    expected: set[int] = set()
    for at in range(heldout, len(sets)):
        if any(similarity(sets[at], sets[b]) >= threshold for b in range(at) if b not in expected):
            expected.add(at)
    assert len(expected) > 40
    assert len(found.keys() & expected) >= 0.97 * len(expected)
    for at, copy in found.items():
        assert at >= heldout and copy.of < at and copy.of not in found
        assert copy.of_heldout == (copy.of < heldout)
        assert copy.similarity == similarity(sets[at], sets[copy.of]) >= threshold
    assert not list(tmp_path.iterdir())


def test_texts_without_words_are_no_copies(tmp_path: Path) -> None:
    texts = [b"...", b"!!!", b"- - -"]
    assert not near_copies.near_copies(lambda: ((i, t, False) for i, t in enumerate(texts)), 0.8, tmp_path)


def written(folder: Path, texts: list[str], name: str) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Good and bad documents by the same number of bytes, in two vocabularies that share half their words."""
    folder = tmp_path_factory.mktemp("dirty")
    rng, shared = np.random.default_rng(2), vocabulary(0, 200)
    known = {
        name: np.concatenate([shared, vocabulary(seed, 200)]) for seed, name in enumerate(("good", "bad"), 1)
    }
    for words_of in known.values():
        rng.shuffle(words_of)
    texts = {
        name: [f"{name[0]} " + " ".join(prose(rng, words_of, 120)) for _ in range(500)]
        for name, words_of in known.items()
    }
    mixed = texts["good"][:300] + texts["bad"][:300]
    sources = {name: (written(folder, found[300:], name),) for name, found in texts.items()}
    return DataConfig(
        kind="text",
        files=(written(folder, [mixed[at] for at in rng.permutation(600)], "mixed"),),
        heldout_rows=8,
        sources=sources,
    )


def cleaned(data: DataConfig, *steps: str, **options: Any) -> DataConfig:
    asked = QualityConfig(**{"good": "good", "raw": "bad", **options})
    return dataclasses.replace(data, clean=steps, quality=asked)


def training_texts(manifest: Manifest, corpora: Path) -> list[str]:
    return (corpora / manifest.text_key / "train.bin").read_text().split("\0")[:-1]


@pytest.mark.parametrize("raw", ["bad", None])
def test_planted_bad_documents_are_removed(dirty: DataConfig, raw: str | None, corpora: Path) -> None:
    manifest = scan(cleaned(dirty, "quality", raw=raw), NO_TASKS, corpora)
    kept = [text[0] for text in training_texts(manifest, corpora)]
    report = manifest.sources["clean"]["steps"]["quality"]
    # half of the bytes are good: what is kept is them, but for a few at the border
    assert kept.count("g") >= 0.97 * len(kept) > 0.97 * 250
    assert report["auc"] > (0.97 if raw else 0.7)
    assert report["examples"] >= 150


def test_the_classifier_is_a_logistic_one_and_the_same_everywhere(dirty: DataConfig) -> None:
    """It reaches the accuracy of an independent fit by scipy, and its weights are whole numbers of a known hash."""
    from scipy.optimize import minimize

    texts = {
        name: [
            json.loads(line)["text"].encode()
            for line in Path(dirty.sources[name][0]).read_text().splitlines()
        ]
        for name in ("good", "bad")
    }
    fitted = quality.train(texts["good"][:150], texts["bad"][:150])
    again = quality.train(texts["good"][:150], texts["bad"][:150])
    assert fitted.sha256 == again.sha256 and fitted.weights.dtype == np.int64
    rows = [np.unique(words(t), return_counts=True) for name in ("good", "bad") for t in texts[name]]
    known = np.unique(np.concatenate([row[0] for row in rows]))
    x = np.zeros((400, len(known)))
    for at, (word, times) in enumerate(rows):
        x[at, np.searchsorted(known, word)] = times / times.sum()
    y = np.repeat([1.0, 0.0], 200)
    learnt = np.arange(400) % 200 < 150

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        score = x[learnt] @ weights
        gradient = x[learnt].T @ (1 / (1 + np.exp(-score)) - y[learnt]) + 1e-3 * weights
        return float(
            np.logaddexp(0, -np.where(y[learnt] > 0, 1, -1) * score).sum() + 5e-4 * weights @ weights
        ), gradient

    best = minimize(loss, np.zeros(len(known)), jac=True, method="L-BFGS-B").x
    unseen = [texts[name][at] for name in ("good", "bad") for at in range(150, 200)]
    ours = np.array([fitted.score(text) for text in unseen]) > 0
    theirs = x[~learnt] @ best > 0
    right = [float((found == (y[~learnt] > 0)).mean()) for found in (ours, theirs)]
    assert right[0] >= right[1] - 0.03 and right[1] > 0.9


def test_a_sample_is_that_of_the_lowest_places_in_any_order() -> None:
    documents = [(bytes([place] * 16), bytes([place]) * 10) for place in range(50)]
    chosen = quality.sample(documents, most=95)
    assert chosen == quality.sample(documents[::-1], most=95) == [text for _, text in documents[:9]]
    assert quality.sample([(b"a" * 16, b"x" * 100)], most=10) == [b"x" * 100]


def test_recipes_share_the_heldout_text_and_the_manifest_adds_up(
    dirty: DataConfig, planted: list[str], tmp_path: Path, corpora: Path
) -> None:
    lines = Path(dirty.files[0]).read_text().splitlines()
    path = written(tmp_path, planted + [json.loads(line)["text"] for line in lines], "both")
    raw = dataclasses.replace(dirty, files=(path,))
    recipes = [("dedup",), ("quality",), ("quality", "dedup"), ("dedup", "quality")]
    plain = scan(raw, NO_TASKS, corpora)
    manifests = [scan(cleaned(raw, *steps, keep=0.6), NO_TASKS, corpora) for steps in recipes]
    heldout = (corpora / plain.text_key / "heldout.bin").read_bytes()
    before = set(training_texts(plain, corpora))
    for manifest in manifests:
        assert (corpora / manifest.text_key / "heldout.bin").read_bytes() == heldout
        assert manifest.heldout == plain.heldout and manifest.content_hash != plain.content_hash
        report = manifest.sources["clean"]
        texts = training_texts(manifest, corpora)
        assert set(texts) < before and len(set(texts)) == len(texts)
        assert report["before"] == {"documents": len(before), "bytes": sum(map(len, before))}
        assert report["after"] == {"documents": len(texts), "bytes": sum(map(len, texts))}
        for field in ("documents", "bytes"):
            removed = sum(part[field] for part in report["removed"].values())
            assert report["before"][field] == report["after"][field] + removed
        assert manifest.sources["train"]["documents"] == len(texts)
        # nothing that is nearly held-out text is trained on
        if "dedup" in report["steps"]:
            tested = [plain_shingles(text) for text in heldout.decode().split("\0")[:-1]]
            sets = [plain_shingles(text) for text in texts]
            assert max(similarity(one, other) for one in sets for other in tested) < 0.8
            assert report["removed"]["near_copy_of_heldout"]["documents"] > 0
        said = "\n".join(manifest.summary())
        assert f"{len(texts):,} of {len(before):,} training documents stay" in said
    # the steps in another order are another recipe
    assert len({manifest.content_hash for manifest in manifests}) == 4
    world = open_world(cleaned(raw, "quality", "dedup", keep=0.6), NO_TASKS, corpora)
    shown = peek(world)
    for sample in world.manifest.sources["clean"]["samples"]:
        assert sample["text"][:30] in shown and f"{sample['bytes']:,} bytes, {sample['reason']}" in shown
    assert re.search(r"near_copy: \d+% of both.jsonl: line \d+\)", shown) and "quality: score -" in shown


CODE = """
import json, sys
from pathlib import Path
from lmscale.config import DataConfig, TasksConfig
from lmscale.data import scan
from lmscale.typed import build
data = build(DataConfig, json.loads(sys.argv[1]))
manifest = scan(data, TasksConfig(weight=0), Path(sys.argv[2]))
print(json.dumps([manifest.content_hash, manifest.sources["clean"]]))
"""


def test_another_process_removes_the_same_whatever_the_order_of_the_files(
    dirty: DataConfig, tmp_path: Path, corpora: Path
) -> None:
    """Hashes of strings differ from process to process; the order of records is no part of a corpus."""
    data = cleaned(dirty, "quality", "dedup")
    here = scan(data, NO_TASKS, corpora)
    lines = Path(dirty.files[0]).read_text().splitlines()
    turned = written(tmp_path, [json.loads(line)["text"] for line in lines[::-1]], "turned")
    there = dataclasses.replace(data, files=(turned,))
    command = [sys.executable, "-c", CODE, json.dumps(dataclasses.asdict(there)), str(tmp_path / "corpora")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    said = here.sources["clean"]
    assert found[0] == here.content_hash
    assert {k: found[1][k] for k in ("steps", "before", "removed", "after")} == {
        k: said[k] for k in ("steps", "before", "removed", "after")
    }


def test_a_field_that_no_step_uses_makes_no_other_corpus(dirty: DataConfig, corpora: Path) -> None:
    raw = scan(dirty, NO_TASKS, corpora)
    assert scan(dataclasses.replace(dirty, dedup_threshold=0.5), NO_TASKS, corpora) == raw
    assert "clean" not in raw.sources and "segments" not in raw.sources


@pytest.mark.parametrize(
    ("options", "words_of_it"),
    [
        ({"clean": ("quality", "polish")}, r"data\.clean=.*polish is no step; there are quality, dedup"),
        ({"clean": ("dedup", "dedup")}, r"data\.clean=.*a step stands twice"),
        ({"clean": ("quality",)}, r"data\.quality\.good=None: .* needs a source of good text"),
        (
            {"clean": ("quality",), "quality": QualityConfig(good="stdlb")},
            r"data\.quality\.good=stdlb: no such source; .*did you mean stdlib",
        ),
        (
            {"clean": ("quality",), "quality": QualityConfig(good="stdlib", raw="stdlib")},
            r"data\.quality\.raw=stdlib: it is data\.quality\.good as well",
        ),
        ({"clean": ("dedup",), "dedup_threshold": 1.0}, r"data\.dedup_threshold=1\.0: must lie between"),
        ({"sources": {"stdlib": ("a.txt",)}}, r"data\.sources\.stdlib: a source is named"),
        ({"sources": {"mine": ()}}, r"data\.sources\.mine=\[\]: give its files"),
        ({"markov_order": 3, "clean": ("dedup",)}, r"data\.markov_order=3: it must be null"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(options: dict[str, Any], words_of_it: str) -> None:
    with pytest.raises(UserError, match=words_of_it) as caught:
        DataConfig(**options)
    assert "\n" not in str(caught.value)


def test_what_removes_everything_is_one_line(dirty: DataConfig, corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data\.clean=\['quality'\]: all \d+ training documents were removed"
    ):
        scan(cleaned(dirty, "quality", keep=1e-6), NO_TASKS, corpora)
    silent = dataclasses.replace(
        dirty, sources={**dirty.sources, "good": (written(tmp_path, ["..."] * 9, "dots"),)}
    )
    with pytest.raises(UserError, match=r"data\.quality\.good=good: no two documents with words"):
        scan(cleaned(silent, "quality"), NO_TASKS, corpora)
    with pytest.raises(UserError, match=r"data\.quality\.keep=0.*must lie between"):
        QualityConfig(keep=0.0)
    absent = dataclasses.replace(dirty, sources={**dirty.sources, "good": (str(tmp_path / "none.txt"),)})
    with pytest.raises(UserError, match="no such file"):
        scan(cleaned(absent, "quality"), NO_TASKS, corpora)
