"""Scores and losses against what is known beforehand, and against a plain recomputation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale.data import DataConfig, TasksConfig, World, open_world
from lmscale.evaluate import make_evaluator, stack_rows
from lmscale.tasks import BUILDERS

ALL = TasksConfig(weight=0.3, weights={name: 1 + i / 7 for i, name in enumerate(BUILDERS)}, items=40)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(DataConfig(heldout_rows=32), ALL, tmp_path_factory.mktemp("corpus"))


def table(params: Any, tokens: jax.Array) -> jax.Array:
    """A bigram model: logits depend on the last token alone."""
    return params[tokens]


def test_losses_equal_a_plain_recomputation_lane_by_lane(world: World) -> None:
    params = np.random.default_rng(0).normal(size=(3, 260, 260)).astype(np.float32)
    evaluations = make_evaluator(world, table, chunk_rows=48)(jnp.asarray(params))
    stack = stack_rows(world)
    for lane, evaluation in enumerate(evaluations):
        logits = params[lane].astype(np.float64)
        nll = np.log(np.exp(logits).sum(axis=1))[stack.tokens[:, :-1]]
        nll = nll - logits[stack.tokens[:, :-1], stack.tokens[:, 1:]]
        begin = 0
        for block in stack.blocks:
            rows = slice(begin, begin := begin + len(block.rows.tokens))
            if block.component:
                expected = nll[rows][block.rows.counted].mean()
                assert evaluation.loss[block.component] == pytest.approx(expected, rel=1e-6)
        together = sum(c.weight * evaluation.loss[c.name] for c in world.components)
        assert evaluation.loss["total"] == pytest.approx(together, rel=1e-9)


def test_an_oracle_scores_everything_and_an_untrained_model_nothing(world: World) -> None:
    def oracle(params: Any, tokens: jax.Array) -> jax.Array:
        # knows the next byte because it is in the row; the last target of a row is never an answer
        return params * jax.nn.one_hot(jnp.roll(tokens, -1, axis=1), 260)

    evaluator = make_evaluator(world, oracle)
    perfect, untrained = evaluator(jnp.array([30.0, 0.0]))
    for name, variants in perfect.tasks.items():
        assert list(variants) == list(world.tasks[name]["variants"])
        for variant, score in variants.items():
            assert score["n"] >= 40
            assert score["correct"] == score["n"], (name, variant)
            assert score["byte_accuracy"] == 1
            assert score["nll"] < 1e-4
            blank = untrained.tasks[name][variant]
            assert blank["correct"] == 0 and blank["byte_accuracy"] == 0
            choices = len(world.families[name].choices)
            if choices:
                assert score["brier"] == pytest.approx(0, abs=1e-9)
                assert blank["brier"] == pytest.approx(1 - 1 / choices, rel=1e-6)
            else:
                assert score["brier"] is None
    assert untrained.loss["total"] == pytest.approx(np.log(260), rel=1e-6)


def test_items_agree_with_the_scores_made_of_them(world: World) -> None:
    params = jnp.asarray(np.random.default_rng(1).normal(size=(1, 260, 260)), jnp.float32)
    (evaluation,) = make_evaluator(world, table)(params)
    for name, variants in evaluation.tasks.items():
        for variant, score in variants.items():
            item = {
                key: evaluation.items[f"{name}/{variant}/{key}"]
                for key in ("correct", "nll", "matched_bytes", "answer_bytes")
            }
            assert len(item["correct"]) == score["n"]
            assert item["correct"].sum() == score["correct"]
            assert item["nll"].mean() == pytest.approx(score["nll"], rel=1e-5)
            assert item["matched_bytes"].sum() / item["answer_bytes"].sum() == pytest.approx(
                score["byte_accuracy"]
            )
            assert (item["matched_bytes"] <= item["answer_bytes"]).all()


def test_evaluating_twice_gives_the_same_bytes(world: World) -> None:
    params = jnp.asarray(np.random.default_rng(2).normal(size=(2, 260, 260)), jnp.float32)
    evaluator = make_evaluator(world, table)
    first, second = evaluator(params), evaluator(params)
    assert [e.loss for e in first] == [e.loss for e in second]
    assert [e.tasks for e in first] == [e.tasks for e in second]


def test_the_program_is_compiled_once(world: World) -> None:
    evaluator = make_evaluator(world, table)
    params = jnp.zeros((1, 260, 260))
    evaluator(params)
    evaluator(params + 1)
    assert evaluator._program._cache_size() == 1
