"""One step against optax, lanes against the same model alone, the guard lane by lane, logits in chunks, cuDNN's
attention as it is lowered."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lmscale import loss, model, step
from lmscale.config import OptimConfig
from lmscale.family import FamilyConfig, shape_of
from lmscale.guard import PATIENCE, WINDOW
from lmscale.lanes import Lane
from lmscale.loss import chunked_losses, token_losses, z_losses
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

    def total(p: Any, tokens: np.ndarray, weight: np.ndarray) -> jax.Array:
        tokens = jnp.asarray(tokens, jnp.int32)
        return jnp.sum(token_losses(forward(p, tokens[:, :-1]), tokens[:, 1:]) * weight)

    @jax.jit
    def taken(p: Any, memory: Any, tokens: np.ndarray, weight: np.ndarray) -> Any:
        updates, memory = reference.update(jax.grad(total)(p, tokens, weight), memory, p)
        return optax.apply_updates(p, updates), memory

    for t in range(3):
        params, memory = taken(params, memory, data[0][t, 0], data[2][t, 0])
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


@pytest.mark.parametrize("chunk", [1, 7, 1000])  # logits of one, of seven and of all 24 targets
def test_losses_in_chunks_are_those_of_all_logits(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk * 11)
    rng = np.random.default_rng(0)
    hidden, matrix, weight = (rng.standard_normal(s, np.float32) for s in ((3, 8, 5), (5, 11), (2, 3, 8)))
    targets = jnp.asarray(rng.integers(0, 11, (3, 8)))

    def chunked(h: jax.Array, w: jax.Array) -> jax.Array:
        return sum((part * weight[i]).sum() for i, part in enumerate(chunked_losses(h, w, targets)))

    def whole(h: jax.Array, w: jax.Array) -> jax.Array:
        return (token_losses(h @ w, targets) * weight[0] + z_losses(h @ w) * weight[1]).sum()

    ours, theirs = (jax.value_and_grad(f, argnums=(0, 1))(hidden, matrix) for f in (chunked, whole))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_logits_in_chunks_take_less_memory() -> None:
    """4,096 targets of 65,536 tokens: 1 GB of logits, of which a quarter stands at a time."""
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((4096, 8), (8, 65536))]
    targets = jnp.zeros(4096, jnp.int32)

    def temporary(losses: Any) -> int:
        gradient = jax.jit(jax.grad(lambda h, w: losses(h, w).sum(), argnums=(0, 1)))
        return int(gradient.lower(*shapes).compile().memory_analysis().temp_size_in_bytes)

    assert temporary(lambda h, w: token_losses(h @ w, targets)) > 2**30
    assert temporary(lambda h, w: chunked_losses(h, w, targets)[0]) < 0.75 * 2**30


@pytest.mark.slow
def test_a_large_vocabulary_trains_alike_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data, numbers = batches(4, 2), lanes(lane(), lane(peak_rate=0.003))
    whole, _ = PROGRAM(states(1, 2), numbers, data, 4)
    monkeypatch.setattr(step, "LARGE", 16)
    monkeypatch.setattr(loss, "CHUNK", 5 * 16)
    chunks, metrics = pack_program(SHAPE, OPTIM, ROWS, 2)(states(1, 2), numbers, data, 4)
    assert np.isfinite(metrics.total).all()
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(chunks), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_cudnns_attention_has_the_lanes_in_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is lowered for a GPU, which needs none: three lanes of four rows are twelve, in each direction."""
    kernels = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(kernels, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(kernels, "check_compute_capability", lambda *_: True)
    shape = shape_of(FamilyConfig(n_head=2), 128, context=64, vocab_size=260)
    program = pack_program(shape, OPTIM, np.zeros(4, int), 1, jnp.bfloat16, kernel="cudnn")
    seeds = jax.eval_shape(jax.vmap(lambda seed: init_lane(shape, OPTIM, seed)), jnp.arange(3))
    tokens = np.zeros((1, 3, 4, 65), np.uint16)
    data = tokens, np.ones((1, 3, 4, 64), bool), np.ones((1, 3, 4, 64), np.float32)
    traced = program.trace(seeds, lanes(lane(), lane(), lane()), data, np.int32(1))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    calls = re.findall(r"custom_call @__cudnn\$fmha\w*\(.*", text)
    assert len(calls) == 4 and all("tensor<12x64x2x64xbf16>" in call for call in calls), calls
