"""A text of known entropy: its floor is the truth, its sample is a walk of its chain, and its runs say so."""

import itertools
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmscale.config import DataConfig, SweepConfig, TasksConfig
from lmscale.data import scan
from lmscale.errors import UserError
from lmscale.ladder import run_specs
from lmscale.spec import spec_of, written
from lmscale.text import markov
from lmscale.text.documents import documents
from lmscale.text.known_entropy import CHAIN

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ate",
    "that",
    "hat",
    "so",
    "man",
    "had",
    "to",
    "ten",
)


def text_of(size: int, seed: int = 0) -> bytes:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size // 4)).encode()[:size]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def transitions(text: bytes, order: int) -> dict[bytes, Counter[int]]:
    """Count what follows each context, one after the other, in the circle."""
    found: dict[bytes, Counter[int]] = defaultdict(Counter)
    circle = text + text[:order]
    for at in range(len(text)):
        found[circle[at : at + order]][circle[at + order]] += 1
    return found


def stationary(found: dict[bytes, Counter[int]]) -> dict[bytes, float]:
    """Solve for the stationary distribution, without use of the circle."""
    names = {context: number for number, context in enumerate(found)}
    matrix = np.zeros((len(names), len(names)))
    for context, after in found.items():
        for byte, count in after.items():
            matrix[names[context], names[context[1:] + bytes([byte])]] = count / after.total()
    balance = np.vstack([matrix.T - np.eye(len(names)), np.ones(len(names))])
    share = np.linalg.lstsq(balance, np.append(np.zeros(len(names)), 1), rcond=None)[0]
    return {context: float(share[number]) for context, number in names.items()}


def test_a_chain_with_a_closed_form() -> None:
    """After b comes a, after a one or the other alike: 2/3 of the bytes are a, so the entropy rate is 2/3 ln 2."""
    chain = markov.count_text([b"aab"], 1)
    assert markov.entropies(chain) == pytest.approx([2 / 3 * math.log(2)])
    assert markov.floor_of(markov.entropies(chain), 64) == pytest.approx(2 / 3 * math.log(2))
    fair = markov.count_text(
        [b"0001011100"[:8]], 3
    )  # de Bruijn's: each of three bits is as likely as the other
    assert markov.entropies(fair)[:2] == pytest.approx([math.log(2)] * 2)
    assert markov.entropies(fair)[2] == pytest.approx(0, abs=1e-12)
    assert markov.floor_of(markov.entropies(fair), 32) == pytest.approx(2 * math.log(2) / 32)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_entropies_are_those_of_the_stationary_chain(order: int) -> None:
    text = text_of(2000)
    found = transitions(text, order)
    share = stationary(found)
    expected = []
    for given in range(1, order + 1):  # p(next | the last `given` bytes), from the chain alone
        joint: Counter[tuple[bytes, int]] = Counter()
        for context, after in found.items():
            for byte, count in after.items():
                joint[context[order - given :], byte] += share[context] * count / after.total()  # type: ignore[assignment]
        context_share: Counter[bytes] = Counter()
        for (context, _), p in joint.items():
            context_share[context] += p
        expected.append(-sum(p * math.log(p / context_share[context]) for (context, _), p in joint.items()))
    chain = markov.count_text([text], order)
    assert markov.entropies(chain) == pytest.approx(expected, rel=1e-6)
    assert markov.floor_of(markov.entropies(chain), 40) == pytest.approx(
        (sum(expected[:-1]) + (41 - order) * expected[-1]) / 40, rel=1e-6
    )


def test_a_text_in_pieces_is_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(3000)
    whole = markov.count_text([text], 4)
    monkeypatch.setattr(markov, "PIECE", 64)
    pieces = markov.count_text([text[at : at + 37] for at in range(0, len(text), 37)], 4)
    assert np.array_equal(whole.code, pieces.code) and np.array_equal(whole.count, pieces.count)
    assert whole.count.sum() == len(text)
    assert dict(zip(whole.code.tolist(), whole.count.tolist(), strict=True)) == {
        int.from_bytes(context + bytes([byte])): count
        for context, after in transitions(text, 4).items()
        for byte, count in after.items()
    }


@pytest.mark.parametrize(("order", "lanes", "length"), [(1, 8, 16), (3, 32, 32), (5, 16, 8)])
def test_a_sample_is_one_walk(monkeypatch: pytest.MonkeyPatch, order: int, lanes: int, length: int) -> None:
    """Stretches that are walked side by side give the bytes of a walk of one byte after the other."""
    text = text_of(5000)
    monkeypatch.setattr(markov, "LANES", lanes)
    monkeypatch.setattr(markov, "LENGTH", length)
    got = np.concatenate(list(markov.sample(markov.count_text([text], order), 3000, rng()))).tobytes()
    found, numbers = transitions(text, order), rng()
    starts = sorted(found)
    place = int(numbers.integers(len(text)))
    ends = list(itertools.accumulate(found[context].total() for context in starts))
    walk = bytearray(starts[next(i for i, end in enumerate(ends) if place < end)])
    for number in numbers.random(3000 - order).tolist():
        after = found[bytes(walk[-order:])]
        left = int(number * after.total())
        for byte in sorted(after):
            left -= after[byte]
            if left < 0:
                walk.append(byte)
                break
    assert got == bytes(walk)


def test_the_floor_is_what_the_best_model_loses() -> None:
    chain = markov.count_text([text_of(20_000)], 3)
    drawn = np.concatenate(list(markov.sample(chain, 33 * 12_000, rng(1))))
    losses = markov.window_losses(chain, drawn.reshape(-1, 33)).mean(axis=1)
    error = losses.std() / math.sqrt(len(losses))
    floor = markov.floor_of(markov.entropies(chain), 32)
    assert error < 0.003 and abs(losses.mean() - floor) < 4 * error
    # and no less: windows of 8 have a higher one, by the targets that see less
    assert markov.floor_of(markov.entropies(chain), 8) > floor + 5 * error


def test_a_window_is_scored_by_what_it_shows() -> None:
    """The best guess at each target is the chain's, averaged over all that may stand before the window."""
    text = text_of(600)
    found = transitions(text, 3)
    windows = np.frombuffer(text[:480], np.uint8).reshape(-1, 8)
    losses = markov.window_losses(markov.count_text([text], 3), windows)
    share = stationary(found)
    for window, row in zip(windows[:20], losses, strict=False):
        for at in range(1, 8):
            shown = window[max(0, at - 3) : at].tobytes()
            fits = [context for context in found if context.endswith(shown)]
            p = sum(share[c] * found[c][window[at]] / found[c].total() for c in fits)
            assert row[at - 1] == pytest.approx(-math.log(p / sum(share[c] for c in fits)), rel=1e-5)


def own(folder: Path, **options: Any) -> DataConfig:
    (folder / "a.txt").write_bytes(text_of(60_000))
    given = {"kind": "text", "files": (str(folder / "a.txt"),), "markov_order": 3, "sampled_bytes": 200_000}
    return DataConfig(**{**given, "heldout_rows": 300, **options})


def test_manifest_and_spec_carry_the_floor(tmp_path: Path) -> None:
    data = own(tmp_path)
    manifest = scan(data, TasksConfig(), tmp_path / "corpora")
    assert manifest.unique_tokens == 190_000 and manifest.heldout_tokens == 10_000
    chain = markov.count_text([(document.data or b"") + b"\0" for document in documents(data)], 3)
    assert manifest.floor["floor"] == pytest.approx(markov.floor_of(markov.entropies(chain), 64))
    assert manifest.floor["floor_heldout"] == pytest.approx(manifest.floor["floor"], rel=0.03)
    assert f"no loss below {manifest.floor['floor']:.4f}" in manifest.summary()[1]
    config = SweepConfig(name="x", dial=(8,), seed=(0,), data=data)
    spec = run_specs(config, manifest)[-1]
    assert spec.data["name"] == "known_entropy"
    assert {name: written(spec)["data"][name] for name in manifest.floor} == manifest.floor
    assert spec_of(json.loads(json.dumps(written(spec)))).run_id == spec.run_id
    with np.load(tmp_path / "corpora" / manifest.text_key / CHAIN) as kept:
        assert kept["count"].sum() == chain.count.sum()


def test_another_seed_is_another_sample_of_one_source(tmp_path: Path) -> None:
    found = [scan(own(tmp_path, seed=seed), TasksConfig(), tmp_path / "corpora") for seed in (0, 1)]
    assert found[0].floor["floor"] == found[1].floor["floor"]
    assert found[0].floor["floor_heldout"] != found[1].floor["floor_heldout"]
    assert found[0].content_hash != found[1].content_hash
    folder = tmp_path / "corpora" / found[0].text_key
    train, heldout = ((folder / f"{split}.bin").read_bytes() for split in ("train", "heldout"))
    assert train[:100] != heldout[:100]


def test_real_text_has_no_floor(tmp_path: Path) -> None:
    manifest = scan(own(tmp_path, markov_order=None), TasksConfig(), tmp_path / "corpora")
    assert manifest.floor == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"markov_order": 0}, r"data\.markov_order=0: it must be from 1 to 7"),
        ({"markov_order": 8}, r"data\.markov_order=8: it must be from 1 to 7"),
        ({"tokenizer": "bpe"}, r"data\.tokenizer=bpe: it must be bytes where data\.markov_order is set"),
        ({"sampled_bytes": 100}, r"data\.sampled_bytes=100: it must be at least 260"),
    ],
)
def test_what_cannot_be_sampled_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        own(tmp_path, **options)
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(UserError, match=r"data\.markov_order=3: the text is empty"):
        scan(own(tmp_path, files=(str(tmp_path / "empty.jsonl"),)), TasksConfig(), tmp_path / "corpora")
