"""Each objective sees what it may and no more, has a loss of its own, and is told apart by whoever compares."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale import model
from lmscale.config import DataConfig, OptimConfig, SweepConfig, TasksConfig
from lmscale.data import World, open_world, scan
from lmscale.errors import UserError
from lmscale.evaluate import make_evaluator
from lmscale.family import FamilyConfig, shape_of
from lmscale.ladder import run_specs
from lmscale.lanes import Lane
from lmscale.objective import OBJECTIVES
from lmscale.spec import written
from lmscale.stack import GENERATED
from lmscale.step import init_lane, pack_program
from lmscale.text.vocab import MASK

TASKS = TasksConfig(weight=0.3, weights={"bigram": 1.0, "parity_chain": 1.0, "copy": 1.0}, items=20)
SHAPE = shape_of(FamilyConfig(n_layer=2, n_head=2), 16, context=12, vocab_size=260)
UNLIKE = ("masked", "prefix")


def data(objective: str, **options: Any) -> DataConfig:
    return DataConfig(heldout_rows=24, objective=objective, **options)


@pytest.fixture(scope="module")
def worlds(corpora: Path) -> dict[str, World]:
    return {kind: open_world(data(kind), TASKS, corpora) for kind in OBJECTIVES}


@pytest.fixture(scope="module")
def params() -> Any:
    return model.init(SHAPE, jax.random.key(0))


def influence(kind: str, params: Any, counted: np.ndarray) -> np.ndarray:
    """Which tokens of a row move the logits of which target: bool [T, T + 1], by changing one after the other."""
    forward, logits = model.forward(SHAPE), OBJECTIVES[kind].logits
    tokens = np.random.default_rng(0).integers(97, 122, 13)
    rows = np.tile(tokens, (14, 1))
    rows[np.arange(13), np.arange(13)] += 1
    marks = jnp.asarray(np.tile(counted, (14, 1)))
    found = np.asarray(logits(forward, params, jnp.asarray(rows), marks))
    return np.abs(found[:13] - found[13]).max(axis=-1).T > 1e-6


def test_a_causal_target_sees_what_is_before_it(params: Any) -> None:
    seen = influence("causal", params, np.ones(12, bool))
    np.testing.assert_array_equal(seen, np.arange(13)[None] <= np.arange(12)[:, None])


@pytest.mark.parametrize("first", [0, 5, 11])
def test_a_prefix_is_seen_both_ways_and_no_counted_target_sees_itself(params: Any, first: int) -> None:
    seen = influence("prefix", params, np.arange(12) >= first)
    last = np.maximum(np.arange(12), first)
    np.testing.assert_array_equal(seen, np.arange(13)[None] <= last[:, None])
    assert not seen[np.arange(first, 12), np.arange(first + 1, 13)].any()


def test_a_prefix_of_one_token_is_causal(params: Any) -> None:
    tokens = jnp.asarray(np.random.default_rng(1).integers(97, 122, (3, 13)))
    forward, counted = model.forward(SHAPE), jnp.ones((3, 12), bool)
    causal, prefix = (
        OBJECTIVES[kind].logits(forward, params, tokens, counted) for kind in ("causal", "prefix")
    )
    np.testing.assert_allclose(causal, prefix, atol=1e-5)


def test_what_is_masked_is_seen_by_nobody_and_all_else_by_all(params: Any) -> None:
    counted = np.isin(np.arange(12), [2, 7, 11])
    seen = influence("masked", params, counted)
    np.testing.assert_array_equal(seen[:, 1:], np.tile(~counted, (12, 1)))
    assert not seen[:, 0].any()  # the row's first token is no target


def test_marks_are_shares_of_text_and_the_answers_of_tasks(worlds: dict[str, World]) -> None:
    plain = worlds["causal"].batches(0, 40, 3)
    for kind in UNLIKE:
        batch, again = worlds[kind].batches(0, 40, 3), worlds[kind].batches(0, 42, 1)
        np.testing.assert_array_equal(batch.tokens, plain.tokens)
        np.testing.assert_array_equal(batch.counted[2], again.counted[0])
        text = worlds[kind].component_of_row() == 0
        np.testing.assert_array_equal(batch.counted[:, ~text], plain.counted[:, ~text])
        np.testing.assert_allclose(batch.weight.sum(axis=(1, 2)), 1, atol=1e-6)
    many = np.concatenate([worlds["masked"]._text_block(0, block).counted for block in range(3)])
    assert (many.sum(axis=1) == round(0.15 * 64)).all()
    assert many.mean(axis=0).min() > 0.1 and many.mean(axis=0).max() < 0.2
    first = np.concatenate([worlds["prefix"]._text_block(0, block).counted for block in range(3)]).argmax(
        axis=1
    )
    assert first.min() == 0 and first.max() == 63 and first.mean() == pytest.approx(31.5, abs=2)
    counted = [worlds[kind].heldout_text().counted for kind in UNLIKE]
    assert not (counted[0] == counted[1]).all()
    np.testing.assert_array_equal(counted[0], worlds["masked"].heldout_text().counted)


@pytest.mark.parametrize("kind", UNLIKE)
def test_an_evaluation_counts_what_is_marked(worlds: dict[str, World], kind: str) -> None:
    """By a model that repeats its input: a hidden answer is never right, and the parts make up the text's loss."""

    def forward(params: Any, tokens: jax.Array, visible: jax.Array) -> jax.Array:
        return params * jax.nn.one_hot(tokens, 260)

    world = worlds[kind]
    (found,) = make_evaluator(world, forward)(jnp.array([5.0]))
    rows = world.heldout_text()
    inputs = rows.tokens[:, :-1] if kind == "prefix" else np.where(rows.counted, MASK, rows.tokens[:, 1:])
    right = (inputs == rows.tokens[:, 1:])[rows.counted]
    nll = np.log(np.exp(5) + 259) - 5 * right
    assert found.loss["text"] == pytest.approx(nll.mean(), rel=1e-5)
    parts = sum(value for name, value in found.loss.items() if name.startswith("text."))
    assert parts == pytest.approx(found.loss["text"], rel=1e-6)
    weighted = sum(part.weight * found.loss[part.name] for part in world.components)
    assert found.loss["total"] == pytest.approx(weighted, rel=1e-6)
    if kind == "masked":
        assert all(score["correct"] == 0 for task in found.tasks.values() for score in task.values())
    assert all(gram["kl"] is None for gram in found.ngrams.values())
    for name, task in world.families.items():
        forced = {variant.name for variant in task.variants if variant.scoring not in GENERATED}
        assert set(found.tasks[name]) == forced


@pytest.mark.slow
@pytest.mark.parametrize("kind", UNLIKE)
def test_it_learns(worlds: dict[str, World], kind: str) -> None:
    world = worlds[kind]
    shape = shape_of(FamilyConfig(n_layer=1, n_head=2), 16, context=64, vocab_size=260)
    numbers = {
        "peak_rate": 0.03,
        "weight_decay": 0.0,
        "warmup_steps": 1,
        "decay_start": 400,
        "decay_end": 401,
    }
    numbers |= {"is_cosine": 0.0, "floor": 0.0, "end_step": 400}
    lane = Lane(
        *(jnp.asarray([v], jnp.int32 if isinstance(v, int) else jnp.float32) for v in numbers.values())
    )
    state = jax.tree.map(lambda array: array[None], init_lane(shape, OptimConfig(), jnp.int32(0)))
    program = pack_program(
        shape, OptimConfig(), world.component_of_row(), len(world.components), objective=kind
    )
    losses = []
    for step in range(0, 90, 30):
        state, metrics = program(state, lane, [part[:, None] for part in world.batches(0, step, 30)], 30)
        losses.append(float(metrics.total[0]))
    assert losses[-1] < 0.75 * np.log(260) and losses[-1] < losses[0]


def test_an_objective_is_a_science_of_its_own(worlds: dict[str, World], corpora: Path) -> None:
    manifests = {kind: world.manifest for kind, world in worlds.items()}
    assert len({manifest.content_hash for manifest in manifests.values()}) == 3
    assert len({manifest.text_key for manifest in manifests.values()}) == 1
    more = scan(data("masked", mask_share=0.3), TASKS, corpora)
    assert more.content_hash != manifests["masked"].content_hash
    assert scan(data("causal", mask_share=0.3), TASKS, corpora) == manifests["causal"]
    for kind, manifest in manifests.items():
        config = SweepConfig(name="x", dial=(8,), seed=(0,), data=data(kind), tasks=TASKS)
        said = written(run_specs(config, manifest)[0])["data"]
        assert said.get("objective", "causal") == kind
        assert ("objective" in said) == (kind != "causal")


def test_an_objective_that_cannot_be_is_one_line() -> None:
    with pytest.raises(UserError, match=r"data\.objective=mask: no such objective; did you mean masked\?"):
        DataConfig(objective="mask")
    with pytest.raises(UserError, match=r"data\.mask_share=1\.0: must lie between"):
        dataclasses.replace(DataConfig(), objective="masked", mask_share=1.0)
    with pytest.raises(
        UserError, match=r"data\.objective=prefix: it must be causal where data\.markov_order"
    ):
        DataConfig(objective="prefix", markov_order=3)
