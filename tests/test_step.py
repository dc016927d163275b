"""One step against optax, lanes against the same model alone, and the guard lane by lane."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lmscale import model
from lmscale.config import OptimConfig
from lmscale.family import FamilyConfig, shape_of
from lmscale.guard import PATIENCE, WINDOW
from lmscale.lanes import Lane
from lmscale.loss import token_losses
from lmscale.optim import DECAYED
from lmscale.schedule import learning_rate
from lmscale.step import State, init_lane, pack_program

SHAPE = shape_of(FamilyConfig(n_layer=1, n_head=1), 8, context=8, vocab_size=16)
OPTIM = OptimConfig()
ROWS = np.array([0, 0, 1])
PROGRAM = pack_program(SHAPE, OPTIM, ROWS, 2)


def lane(**changes: float) -> Lane:
    numbers: dict[str, float] = {
        "peak_rate": 0.01,
        "weight_decay": 0.1,
        "warmup_steps": 4,
        "decay_start": 10,
        "decay_end": 20,
        "fall": 0,
        "floor": 0.0,
        "end_step": 1000,
    }
    numbers |= changes
    floats = ("peak_rate", "weight_decay", "floor")
    return Lane(**{k: jnp.float32(v) if k in floats else jnp.int32(v) for k, v in numbers.items()})


def lanes(*items: Lane) -> Lane:
    return jax.tree.map(lambda *values: jnp.stack(values), *items)


def states(*seeds: int) -> State:
    return jax.vmap(lambda seed: init_lane(SHAPE, OPTIM, seed))(jnp.asarray(seeds))


def batches(steps: int, n_lanes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 16, (steps, n_lanes, 3, 9)).astype(np.uint16)
    counted = np.ones((steps, n_lanes, 3, 8), bool)
    weight = np.broadcast_to(np.array([0.35, 0.35, 0.3])[:, None] / 8, counted.shape).astype(np.float32)
    return tokens, counted, weight


def leaves(state: State, index: int) -> list[np.ndarray]:
    return [np.asarray(leaf[index]) for leaf in jax.tree.leaves(state)]


def test_an_update_is_optaxs_adamw_after_clipping() -> None:
    data = batches(3, 1)
    state, _ = PROGRAM(states(0), lanes(lane()), data, 3)
    groups = model.groups(SHAPE)
    decayed = jax.tree.map(lambda group: group in DECAYED, groups)
    rates = jnp.asarray([float(learning_rate(lane(), jnp.int32(t))) for t in range(3)])
    reference = optax.chain(
        optax.clip_by_global_norm(OPTIM.clip_norm),
        optax.adamw(lambda t: rates[t], OPTIM.b1, OPTIM.b2, OPTIM.eps, weight_decay=0.1, mask=decayed),
    )
    params = jax.jit(lambda key: model.init(SHAPE, key))(jax.random.key(0))
    memory = reference.init(params)
    forward = model.forward(SHAPE)

    def loss(p: Any, tokens: np.ndarray, weight: np.ndarray) -> jax.Array:
        tokens = jnp.asarray(tokens, jnp.int32)
        return jnp.sum(token_losses(forward(p, tokens[:, :-1]), tokens[:, 1:]) * weight)

    @jax.jit
    def step(p: Any, memory: Any, tokens: np.ndarray, weight: np.ndarray) -> Any:
        updates, memory = reference.update(jax.grad(loss)(p, tokens, weight), memory, p)
        return optax.apply_updates(p, updates), memory

    for t in range(3):
        params, memory = step(params, memory, data[0][t, 0], data[2][t, 0])
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=2e-6)


def test_schedules_are_optaxs() -> None:
    steps = np.arange(20)
    cosine = lane(fall=1, warmup_steps=4, decay_start=4, decay_end=20, floor=0.1)
    ours = [float(learning_rate(cosine, jnp.int32(t))) for t in steps[4:]]
    theirs = optax.cosine_decay_schedule(0.01, 16, alpha=0.1)
    np.testing.assert_allclose(ours, [float(theirs(t)) for t in range(16)], rtol=1e-5)
    stable = [float(learning_rate(lane(), jnp.int32(t))) for t in steps]
    np.testing.assert_allclose(stable[:4], [0.0025, 0.005, 0.0075, 0.01], rtol=1e-6)
    np.testing.assert_allclose(stable[4:11], 0.01, rtol=1e-6)
    np.testing.assert_allclose(stable[10:], 0.01 * (20 - steps[10:]) / 10, rtol=1e-5)


@pytest.mark.slow
def test_a_lane_is_the_same_model_alone_and_ends_where_it_should() -> None:
    mixed = [lane(peak_rate=0.02, end_step=3), lane(), lane(peak_rate=0.005, end_step=5)]
    data = batches(8, 3)
    together, _ = PROGRAM(states(1, 2, 3), lanes(*mixed), data, 8)
    assert together.step.tolist() == [3, 8, 5]
    for index, numbers in enumerate(mixed):
        own = tuple(part[:, index : index + 1] for part in data)
        alone, _ = PROGRAM(states(index + 1), lanes(numbers), own, 8)
        for packed, solo in zip(leaves(together, index), leaves(alone, 0), strict=True):
            np.testing.assert_allclose(packed, solo, atol=1e-5)


@pytest.mark.slow
def test_dispatches_of_any_length_give_the_same_bits() -> None:
    data = batches(8, 2)
    numbers = lanes(lane(), lane(peak_rate=0.003))
    whole, _ = PROGRAM(states(1, 2), numbers, data, 8)
    pieces = states(1, 2)
    for begin, count in ((0, 3), (3, 1), (4, 4)):
        shifted = tuple(np.roll(part, -begin, axis=0) for part in data)
        pieces, _ = PROGRAM(pieces, numbers, shifted, count)
    for index in range(2):
        for one, other in zip(leaves(whole, index), leaves(pieces, index), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_skipped_in_its_lane_alone(poison: float) -> None:
    data = batches(4, 2)
    weight = data[2].copy()
    weight[2, 0] = poison
    hurt, _ = PROGRAM(states(1, 2), lanes(lane(), lane()), (data[0], data[1], weight), 4)
    clean, _ = PROGRAM(states(1, 2), lanes(lane(), lane()), data, 4)
    assert hurt.guard.skipped.tolist() == [1, 0]
    assert hurt.step.tolist() == [4, 4]
    for one, other in zip(leaves(hurt, 1), leaves(clean, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.isfinite(leaf).all() for leaf in leaves(hurt, 0))


def test_a_spike_is_skipped_once_the_window_is_full_and_a_lane_that_keeps_failing_stops() -> None:
    steps = WINDOW + PATIENCE + 6
    data = batches(steps, 1)
    weight = data[2].copy()
    weight[WINDOW + 2] *= 50  # one spike
    weight[WINDOW + 5 :] = np.nan  # and then nothing sound any more
    state, metrics = PROGRAM(
        states(1), lanes(lane(decay_start=500, decay_end=600)), (*data[:2], weight), steps
    )
    assert state.guard.skipped.tolist() == [1 + PATIENCE]
    assert metrics.skipped_in_row.tolist() == [PATIENCE]
    assert state.step.tolist() == [WINDOW + 5 + PATIENCE]
