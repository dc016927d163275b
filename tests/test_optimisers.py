"""Every optimiser against a plain implementation in numpy, step by step; its groups, its rates by role, z-loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale import model, optim
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.lanes import Lane
from lmscale.loss import token_losses, z_losses
from lmscale.optim import OPTIMISERS, OptimConfig
from lmscale.parametrisation import rate_factors
from lmscale.step import init_lane, pack_program

Arrays = dict[str, np.ndarray]
Plain = Callable[
    [str, list[np.ndarray], np.ndarray], np.ndarray
]  # (group, gradients so far, weights) -> move
GROUPS = {"look": "embedding", "in": "mlp", "experts": "expert", "gain": "norm", "head": "unembedding"}
SHAPES = {"look": (7, 4), "in": (4, 6), "experts": (2, 6, 4), "gain": (4,), "head": (4, 7)}
RATE, DECAY, STEPS = 0.01, 0.1, 5
LANE = Lane(
    jnp.float32(RATE), jnp.float32(DECAY), *map(jnp.int32, (0, 90, 91, 0)), jnp.float32(0), jnp.int32(90)
)


def adam(
    group: str, gradients: list[np.ndarray], weights: np.ndarray, b1: float = 0.9, b2: float = 0.98
) -> Any:
    """Kingma & Ba 2015, algorithm 1, with sums in place of recurrences."""
    n = len(gradients)
    m = sum((1 - b1) * b1 ** (n - 1 - t) * g for t, g in enumerate(gradients)) / (1 - b1**n)
    v = sum((1 - b2) * b2 ** (n - 1 - t) * g**2 for t, g in enumerate(gradients)) / (1 - b2**n)
    return m / (np.sqrt(v) + 1e-8)


def lion(group: str, gradients: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Chen et al. 2023, algorithm 2."""
    momentum = np.zeros_like(weights)
    for g in gradients[:-1]:
        momentum = 0.99 * momentum + 0.01 * g
    return np.sign(0.9 * momentum + 0.1 * gradients[-1])


def muon(group: str, gradients: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Jordan et al. 2024: Nesterov momentum of an average, five quintic Newton-Schulz steps, the shape's scale."""
    if group in ("embedding", "unembedding", "norm"):
        return optim.ADAM_SHARE * adam(group, gradients, weights)
    if weights.ndim == 3:
        return np.stack([muon(group, [g[i] for g in gradients], w) for i, w in enumerate(weights)])
    n, b = len(gradients), 0.95
    m = sum((1 - b) * b ** (n - 1 - t) * g for t, g in enumerate(gradients))
    # with Adam's corrections, as optax has them
    x = b * m / (1 - b ** (n + 1)) + (1 - b) * gradients[-1] / (1 - b**n)
    x = x / np.linalg.norm(x)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x * np.sqrt(max(1, x.shape[1] / x.shape[0]))


def adafactor(group: str, gradients: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Shazeer & Stern 2018, algorithms 4 and 5: the two longest axes are factored."""
    rows = columns = full = None
    for t, g in enumerate(gradients, 1):
        beta, square = 1 - t**-0.8, g**2 + 1e-30
        if g.ndim == 1:
            full = square if full is None else beta * full + (1 - beta) * square
            continue
        long, longest = np.argsort(g.shape, kind="stable")[-2:]
        over = square.mean(axis=longest, keepdims=True), square.mean(axis=long, keepdims=True)
        rows = over[0] if rows is None else beta * rows + (1 - beta) * over[0]
        columns = over[1] if columns is None else beta * columns + (1 - beta) * over[1]
        full = rows * columns / rows.mean(axis=long, keepdims=True)
    move = gradients[-1] / np.sqrt(full)
    move = move / max(1, np.sqrt(np.mean(move**2)))
    return move * max(1e-3, np.sqrt(np.mean(weights**2)))


def sgd(group: str, gradients: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Polyak 1964."""
    return np.asarray(sum(0.9 ** (len(gradients) - 1 - t) * g for t, g in enumerate(gradients)))


PLAIN: dict[str, Plain] = {"adamw": adam, "lion": lion, "muon": muon, "adafactor": adafactor, "sgd": sgd}


def made(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) / 4 for name, shape in SHAPES.items()}


def test_every_optimiser_has_a_plain_twin() -> None:
    assert PLAIN.keys() == OPTIMISERS.keys()


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_an_optimiser_is_its_paper_s(kind: str) -> None:
    """Five steps with clipping, decay and rate, to 1e-6."""
    config = OptimConfig(kind, b2=0.99) if kind == "lion" else OptimConfig(kind)
    params: Any = made(0)
    expected = {name: array.astype(float) for name, array in params.items()}
    state = optim.direction(config, GROUPS).init(params)
    update = jax.jit(lambda *a: optim.update(config, GROUPS, LANE, *a))
    clipped: list[Arrays] = []
    for t in range(STEPS):
        gradient = made(t + 1)
        norm = np.sqrt(sum(float(np.sum(g.astype(float) ** 2)) for g in gradient.values()))
        clipped.append({name: g * min(1, 1 / norm) for name, g in gradient.items()})
        params, state = update(jnp.int32(t), params, gradient, jnp.float32(norm), state)
        for name, weights in expected.items():
            move = PLAIN[kind](GROUPS[name], [g[name].astype(float) for g in clipped], weights)
            decay = DECAY * weights if GROUPS[name] in optim.DECAYED else 0
            expected[name] = weights - RATE * (move + decay)
    for name, weights in expected.items():
        np.testing.assert_allclose(params[name], weights, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_lanes_of_several_rates_share_one_program() -> None:
    """Rates and decays are traced: each lane of a muon pack goes by its own."""
    shape = shape_of(FamilyConfig(n_layer=1, n_head=1), 8, context=8, vocab_size=16)
    config = OptimConfig("muon", z_loss=0.01)
    program = pack_program(shape, config, np.zeros(2, int), 1)
    lanes = jax.tree.map(lambda value: jnp.stack([value, value]), LANE)._replace(
        peak_rate=jnp.float32([0.01, 0.02]), weight_decay=jnp.float32([0.0, 0.5])
    )
    start = jax.jit(jax.vmap(lambda seed: init_lane(shape, config, seed)))
    tokens = np.random.default_rng(0).integers(0, 16, (1, 1, 2, 9)).repeat(2, axis=1)
    counted = np.ones((1, 2, 2, 8), bool)
    weight = counted.astype(np.float32) / 16
    before = jax.tree.map(np.asarray, start(jnp.asarray([0, 0])).params)
    after, metrics = program(start(jnp.asarray([0, 0])), lanes, (tokens, counted, weight), np.int32(1))
    moved = jax.tree.map(lambda new, old: np.asarray(new) - old, after.params, before)
    one, other = moved["embedding"]
    np.testing.assert_allclose(other, 2 * one, rtol=1e-3, atol=1e-8)
    matrix, old = moved["mlp_0"]["in"], before["mlp_0"]["in"][0]
    np.testing.assert_allclose(matrix[1], 2 * matrix[0] - 0.02 * 0.5 * old, rtol=1e-3, atol=1e-6)

    # the z-loss: what is minimised is the cross-entropy and .01 of the mean of (ln Z)^2
    def objective(params: Any) -> jax.Array:
        logits = model.forward(shape)(params, jnp.asarray(tokens[0, 0, :, :-1]))
        normaliser = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
        return jnp.mean(token_losses(logits, jnp.asarray(tokens[0, 0, :, 1:])) + 0.01 * normaliser**2)

    value, gradient = jax.jit(jax.value_and_grad(objective))(jax.tree.map(lambda array: array[0], before))
    assert float(metrics.total[0]) == pytest.approx(float(value), rel=1e-6)
    norm = np.sqrt(sum(float(jnp.sum(g * g)) for g in jax.tree.leaves(gradient)))
    assert float(metrics.gradient_norm[0]) == pytest.approx(norm, rel=1e-5)
    assert float(metrics.components[0, 0]) < float(value)


def test_the_gradient_of_the_z_loss() -> None:
    """2 ln Z softmax(logits)."""
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32) * 3
    ours = jax.grad(lambda x: jnp.sum(z_losses(x)))(jnp.asarray(logits))
    total = np.exp(logits.astype(float)).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(ours, 2 * np.log(total) * np.exp(logits) / total, rtol=1e-5)


def test_muon_s_other_arrays_go_by_adamw_s_rule() -> None:
    """Under the standard parametrisation: hidden matrices by the peak rate, the rest by one over the width."""
    shape = shape_of(FamilyConfig(n_layer=1), 128, context=8, vocab_size=16)
    factors = rate_factors(shape, OptimConfig("muon"))
    assert factors["embedding"] == factors["unembedding"] == factors["final_norm"]["gain"] == 0.25
    assert factors["attention_0"]["qkv"] == factors["mlp_0"]["out"] == 1
    assert rate_factors(shape, OptimConfig()) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "muom"}, ["optim.kind=muom", "did you mean muon?"]),
        ({"kind": "sgd", "b2": 0.9}, ["optim.b2=0.9", "optim.kind=sgd does not read it"]),
        ({"kind": "adafactor", "eps": 1e-6}, ["optim.eps=1e-06", "adafactor does not read it"]),
        ({"z_loss": -1.0}, ["optim.z_loss=-1.0", "0 or more"]),
    ],
)
def test_what_an_optimiser_cannot_take_is_one_line(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        OptimConfig(**values)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
