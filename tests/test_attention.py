"""Causal attention with a gradient of its own: a plain loop in float64, and JAX's own with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale.attention import BLOCK, causal

LENGTHS = (1, BLOCK, 2 * BLOCK + 22)


def parts(length: int) -> list[jax.Array]:
    made = np.random.default_rng(length).normal(size=(4, 2, length, 3, 4))
    return [jnp.asarray(part, np.float32) for part in made]


@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_the_plain_loop(length: int) -> None:
    q, k, v, _ = parts(length)
    exact = [np.asarray(part, np.float64) for part in (q, k, v)]
    out = np.zeros(q.shape)
    for row, at, head in np.ndindex(*q.shape[:3]):
        scores = exact[1][row, : at + 1, head] @ exact[0][row, at, head]
        weights = np.exp(scores - scores.max())
        out[row, at, head] = weights / weights.sum() @ exact[2][row, : at + 1, head]
    np.testing.assert_allclose(jax.jit(causal)(q, k, v), out, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("length", LENGTHS)
def test_its_gradient_is_that_of_jaxs_attention(length: int) -> None:
    q, k, v, direction = parts(length)

    def theirs(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        return jnp.sum(mixed * direction)

    def ours(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(causal(q, k, v) * direction)

    mine, others = (jax.jit(jax.grad(loss, (0, 1, 2)))(q, k, v) for loss in (ours, theirs))
    for one, other in zip(mine, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_large_scores_stay_finite() -> None:
    q, k, v, _ = parts(BLOCK + 1)
    value, gradient = jax.jit(jax.value_and_grad(lambda q: jnp.sum(causal(100 * q, k, v))))(q)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_lanes_are_each_alone() -> None:
    q, k, v, _ = parts(8)
    lanes = jax.jit(jax.vmap(causal))(*(jnp.stack([part, 2 * part]) for part in (q, k, v)))
    np.testing.assert_allclose(lanes[0], causal(q, k, v), rtol=1e-6)
    np.testing.assert_allclose(lanes[1], causal(2 * q, 2 * k, 2 * v), rtol=1e-6)
