"""A mixture draws each source's share of the text rows from (seed, step) alone, and measures each source apart."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale.config import DataConfig, SweepConfig, TasksConfig
from lmscale.data import World, open_world, scan
from lmscale.data.world import BLOCK, rows_of_sources
from lmscale.errors import UserError
from lmscale.evaluate import make_evaluator
from lmscale.ladder import run_specs
from lmscale.spec import written
from lmscale.text.recipe import QualityConfig

NO_TASKS = TasksConfig(weight=0)
LETTERS = {"a": "abcdefgh", "b": "mnopqrst", "c": "uvwxyz"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Three sources, each of letters of its own; what b and c share is one document of b."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    sources = {}
    for name, letters in LETTERS.items():
        texts = [" ".join(rng.choice(list(letters), 200)) for _ in range(60 if name == "a" else 25)]
        texts += ["m m m " * 60] * (name != "a")
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        sources[name] = (str(path),)
    return DataConfig(
        kind="mixture", mixture={"c": 0.1, "a": 0.3, "b": 0.6}, sources=sources, context=32, heldout_rows=64,
        heldout_share=0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(mixed: DataConfig, corpora: Path) -> World:
    return open_world(mixed, NO_TASKS, corpora)


def source_of(tokens: np.ndarray) -> list[set[str]]:
    """The sources whose letters stand in each row."""
    name_of = {ord(letter): name for name, letters in LETTERS.items() for letter in letters}
    return [{name_of[token] for token in row.tolist() if token in name_of} for row in tokens]


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1 / 3, 1 / 3, 1 / 3), (0.002, 0.998), (1.0,), (0.1,) * 10])
def test_a_blocks_rows_are_shared_by_weight(weights: tuple[float, ...]) -> None:
    rows = rows_of_sources({f"s{at}": weight for at, weight in enumerate(weights)})
    assert sum(rows.values()) == BLOCK
    for at, weight in enumerate(weights):
        assert abs(rows[f"s{at}"] - weight * BLOCK) < 1 and rows[f"s{at}"] > 0


def test_a_row_is_of_one_source_and_each_has_its_share(world: World) -> None:
    sources = [source_of(world._text_block(5, block).tokens) for block in range(3)]
    assert all(len(found) == 1 for block in sources for found in block)
    for block in sources:
        counts = {name: sum(found == {name} for found in block) for name in LETTERS}
        assert counts == rows_of_sources(world.data.mixture) == {"a": 154, "b": 307, "c": 51}
    # neighbours are not in the order of the sources
    assert sum(one != other for one, other in zip(sources[0], sources[0][1:], strict=False)) > 150


def test_a_source_is_drawn_without_replacement_before_it_is_seen_again(world: World) -> None:
    tokens = world.manifest.sources["segments"]["a"]
    windows = (tokens - 1) // world.context - 1
    blocks = [world._text_block(1, block).tokens for block in range(6)]
    rows = [
        bytes(row[:-1].astype(np.uint8)) for row in np.concatenate(blocks) if source_of(row[None])[0] == {"a"}
    ]
    assert 0 < windows < len(rows)
    assert len(set(rows[:windows])) == windows
    assert set(rows[windows : 2 * windows]) != set(rows[:windows])


def test_a_step_does_not_depend_on_what_was_asked_before(
    world: World, mixed: DataConfig, corpora: Path
) -> None:
    other = open_world(mixed, NO_TASKS, corpora)
    many = other.batches(3, 80, 10)
    for step in (89, 80, 85):
        np.testing.assert_array_equal(world.batches(3, step, 1).tokens[0], many.tokens[step - 80])
    assert not np.array_equal(world.batches(4, 80, 1).tokens, many.tokens[:1])


def test_other_weights_are_another_science_on_the_same_text(mixed: DataConfig, corpora: Path) -> None:
    other = dataclasses.replace(mixed, mixture={"a": 0.8, "b": 0.1, "c": 0.1})
    manifests = [scan(data, NO_TASKS, corpora) for data in (mixed, other)]
    assert manifests[0].text_key == manifests[1].text_key
    assert manifests[0].heldout == manifests[1].heldout != {}
    assert manifests[0].content_hash != manifests[1].content_hash
    assert manifests[0].sources["ngrams"] != manifests[1].sources["ngrams"]
    turned = dataclasses.replace(mixed, mixture=dict(sorted(mixed.mixture.items())))
    assert scan(turned, NO_TASKS, corpora) == manifests[0]
    ids = []
    for data, manifest in zip((mixed, other), manifests, strict=True):
        specs = run_specs(SweepConfig(name="x", dial=(8,), seed=(0,), data=data), manifest)
        ids.append({spec.run_id for spec in specs})
        said = written(specs[0])["data"]
        assert said["name"] == "mixture" and said["heldout_hash"] == manifest.heldout["heldout_hash"]
    assert not ids[0] & ids[1]
    assert "  60.0% of the text rows from b: " in "\n".join(manifests[0].summary())


def test_a_document_of_two_sources_is_one_of_the_first(world: World) -> None:
    assert world.manifest.sources["duplicates"] == 1
    folder = world.folder
    text = (folder / "train.bin").read_bytes() + (folder / "heldout.bin").read_bytes()
    assert text.count(b"m m m " * 60) == 1
    ends = np.cumsum(list(world.manifest.sources["segments"].values()))
    train = np.asarray(world._train)
    assert ends[-1] == len(train) == world.manifest.unique_tokens
    for part, name in zip(np.split(train, ends[:-1]), "abc", strict=True):
        assert source_of(part[None])[0] == {name}


def test_the_loss_on_each_source_is_measured_and_they_make_up_the_whole(world: World) -> None:
    """A model that gives every letter a loss of its own, so that the means are known."""
    loss_of = np.linspace(1, 3, world.vocab_size)

    def forward(params: Any, tokens: jax.Array) -> jax.Array:
        return jnp.broadcast_to(-params[0] * jnp.asarray(loss_of, jnp.float32), (*tokens.shape, len(loss_of)))

    (found,) = make_evaluator(world, forward)((jnp.ones(1),))
    targets = world.heldout_text().tokens[:, 1:]
    norm = np.log(np.exp(-loss_of).sum())
    masks = world.heldout_sources()
    assert sum(mask.astype(int) for mask in masks.values()).min() == 1
    for name, mask in masks.items():
        letters = {chr(token) for token in set(targets[mask].tolist()) - {0, 32}}
        assert letters and letters <= set(LETTERS[name])
        assert found.sources[name] == pytest.approx(float((loss_of[targets] + norm)[mask].mean()), rel=1e-5)
    whole = sum(found.sources[name] * mask.mean() for name, mask in masks.items())
    assert whole == pytest.approx(found.loss["text"], rel=1e-6)


def test_a_mixture_can_be_cleaned(mixed: DataConfig, corpora: Path) -> None:
    asked = QualityConfig(good="a", keep=0.9)
    manifest = scan(dataclasses.replace(mixed, clean=("quality",), quality=asked), NO_TASKS, corpora)
    plain = scan(mixed, NO_TASKS, corpora)
    assert manifest.heldout == plain.heldout
    tokens, before = manifest.sources["segments"], plain.sources["segments"]
    assert tokens["a"] == before["a"] and tokens["b"] + tokens["c"] < before["b"] + before["c"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixture": {}}, r"data\.mixture=\{\}: it must be sources and their shares"),
        ({"mixture": {"a": 0.5, "b": 0.4}}, r"data\.mixture=.*the weights sum to 0\.9; they must sum to 1"),
        ({"mixture": {"a": 0.5, "d": 0.5}}, r"data\.mixture=d: no such source"),
        ({"mixture": {"a": 1.2, "b": -0.2}}, r"data\.mixture\.b=-0\.2: must be at least"),
        ({"mixture": {"a": 0.9999, "b": 0.0001}}, r"data\.mixture\.b=0\.0001: must be at least 0\.002"),
        ({"kind": "stdlib"}, r"data\.kind=stdlib: it must be mixture"),
        ({"unique_tokens": 10_000}, r"data\.unique_tokens=10000: it must be null for a mixture"),
        ({"most_bytes": 10_000}, r"data\.most_bytes=10000: it must be null for a mixture"),
    ],
)
def test_a_mixture_that_cannot_be_is_one_line(mixed: DataConfig, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        dataclasses.replace(mixed, **options)
    assert "\n" not in str(caught.value)


def test_a_source_with_nothing_of_its_own_is_named(mixed: DataConfig, corpora: Path) -> None:
    twice = dataclasses.replace(
        mixed, mixture={"a": 0.5, "d": 0.5}, sources={"a": mixed.sources["a"], "d": mixed.sources["a"]}
    )
    with pytest.raises(UserError, match=r"the source d has 0 tokens.*needed"):
        scan(twice, NO_TASKS, corpora)
