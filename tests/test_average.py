"""Averaged weights: by recomputation, without a trace in training, and in the records after a kill."""

import json
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_ladder import write_ladder
from test_restart import Place

from analysis import load_table
from lmscale import checkpoint, restore
from lmscale.average import AverageConfig, average_of, averages, start, take
from lmscale.config import EvaluationConfig
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.lanes import Lane
from lmscale.optim import OPTIMISERS, OptimConfig
from lmscale.step import State, init_lane, pack_program, state_template

SHAPE = shape_of(FamilyConfig(n_layer=1, n_head=1), 8, context=8, vocab_size=16)
LANE = Lane(jnp.float32(0.01), jnp.float32(0), *map(jnp.int32, (0, 90, 91, 0)), jnp.float32(0), jnp.int32(90))
STEPS, SKIPPED = 9, 4  # the fifth step is poisoned


def trained(average: AverageConfig) -> list[State]:
    """The state after each step of one lane."""
    program = pack_program(SHAPE, OptimConfig(), np.zeros(2, int), 1, average=average)
    state = jax.jit(jax.vmap(lambda seed: init_lane(SHAPE, OptimConfig(), seed, average)))(jnp.arange(1))
    lanes = jax.tree.map(lambda value: value[None], LANE)
    rng, states = np.random.default_rng(0), []
    for step in range(STEPS):
        counted = np.ones((1, 1, 2, 8), bool)
        weight = counted * np.float32(np.nan if step == SKIPPED else 1 / 16)
        state, _ = program(state, lanes, (rng.integers(0, 16, (1, 1, 2, 9)), counted, weight), np.int32(1))
        states.append(jax.tree.map(np.asarray, state))
    return states


@pytest.mark.slow
def test_an_average_in_training_is_that_of_the_weights_after_each_step_and_training_is_what_it_was() -> None:
    config = AverageConfig("ema", decay=0.7)
    states, plain = trained(config), trained(AverageConfig())
    for one, other in zip(states, plain, strict=True):
        for ours, theirs in zip(jax.tree.leaves(one[:4]), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    taken = [state.params for step, state in enumerate(states) if step != SKIPPED]
    weights = 0.7 ** np.arange(len(taken))[::-1]
    expected = jax.tree.map(lambda *arrays: np.average(arrays, axis=0, weights=weights), *taken)
    found = averages(config)(states[-1].average, states[-1].params)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.floats(-3, 3, width=32), max_size=8), last=st.integers(1, 3), every=st.integers(1, 3)
)
def test_the_last_are_the_last_and_before_the_first_the_weights_are_the_average(
    values: list[float], last: int, every: int
) -> None:
    config = AverageConfig("last", last=last, every=every)
    memory = start(config, jnp.zeros(()))
    for step, value in enumerate(values):
        memory = take(config, memory, jnp.float32(value), jnp.int32(step))
    kept = values[every - 1 :: every][-last:]
    lanes = jax.tree.map(lambda array: array[None], memory)
    found = averages(config)(lanes, jnp.full(1, 7.0))
    assert float(found[0]) == pytest.approx(np.mean(kept) if kept else 7.0, abs=1e-6)


def test_what_an_average_is_made_with_is_read_from_a_spec_of_any_age() -> None:
    assert average_of({"first_tokens": 1e5}) == AverageConfig()
    assert average_of({"average": "ema"}) == AverageConfig("ema", 0.999)
    assert average_of({"average": "last", "average_last": 3}) == AverageConfig("last", last=3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"average": "emma"}, ["evaluation.average=emma", "did you mean ema?"]),
        ({"average": "ema", "average_decay": 1.0}, ["evaluation.average_decay=1.0", "between 0 and"]),
        ({"average": "ema", "average_last": 3}, ["evaluation.average_last=3", "ema does not read it"]),
        ({"average_every": 3}, ["evaluation.average_every=3", "average=None does not read it"]),
    ],
)
def test_what_an_average_cannot_take_is_one_line(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        EvaluationConfig(**values)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_the_table_has_the_averaged_loss_beside_the_weights_own(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16,), seeds=(0,))
    for path in folder.glob("*/records.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{**line, "average": {"loss": {"text": line["loss"]["text"] - 0.1}}} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = load_table(folder)
    np.testing.assert_allclose(table["loss_average"], table["loss"] - 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_state_that_was_saved_goes_on_as_the_one_that_was_not(tmp_path: Path, kind: str) -> None:
    """Every optimiser's memory, and an average's, through a checkpoint's file, bit for bit."""
    optim, average = OptimConfig(kind), AverageConfig("last", last=2, every=2)
    program = pack_program(SHAPE, optim, np.zeros(2, int), 1, average=average)
    state = jax.jit(jax.vmap(lambda seed: init_lane(SHAPE, optim, seed, average)))(jnp.arange(1))
    lanes = jax.tree.map(lambda value: value[None], LANE)
    counted = np.ones((3, 1, 2, 8), bool)
    tokens = np.random.default_rng(0).integers(0, 16, (3, 1, 2, 9))
    batches = (tokens, counted, counted * np.float32(1 / 16))
    state, _ = program(state, lanes, batches, np.int32(3))
    checkpoint.save(tmp_path, 3, restore.to_arrays(state), {})
    found = checkpoint.load(tmp_path, {})
    assert found is not None
    saved = restore.from_arrays(state_template(SHAPE, optim, average), 1, found.arrays)
    whole, _ = program(state, lanes, batches, np.int32(3))
    again, _ = program(saved, lanes, batches, np.int32(3))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_killed_run_with_an_average_ends_with_the_same_bytes(tmp_path: Path, corpora: Path) -> None:
    overrides = ("optim=lion", "transfer=mup", "tasks=none", "optim.z_loss=1e-4", "evaluation.average=ema")
    whole = Place(tmp_path / "whole", corpora)
    ended = whole.run(*overrides)
    assert ended.returncode == 0, ended.stderr
    killed = Place(tmp_path / "killed", corpora, whole.runs / ".xla")
    assert killed.run(*overrides, fault="train.stepped:5=kill").returncode == -signal.SIGKILL
    assert killed.run(*overrides).returncode == 0
    assert killed.content() == whole.content()
    texts = [path.read_text() for path in whole.experiment.glob("*/records.jsonl")]
    records = [json.loads(line) for text in texts for line in text.splitlines()]
    assert records and all(set(record["average"]) == {"loss", "tasks"} for record in records)
    assert any(record["average"]["loss"] != record["loss"] for record in records)
