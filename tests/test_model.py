"""The network: causal, shaped as counted, its attention as in a slow loop."""

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import model
from lmscale.family import FamilyConfig, shape_of
from lmscale.loss import component_losses, token_losses

SHAPE = shape_of(FamilyConfig(n_head=2), 16, context=12, vocab_size=20)


def test_a_later_token_never_changes_an_earlier_logit() -> None:
    params = jax.jit(lambda key: model.init(SHAPE, key))(jax.random.key(1))
    forward = jax.jit(model.forward(SHAPE))
    tokens = jax.random.randint(jax.random.key(2), (3, 12), 0, 20)
    changed = tokens.at[:, 7].add(1) % 20
    before, after = forward(params, tokens), forward(params, changed)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert not np.allclose(before[:, 7:], after[:, 7:])


def test_attention_is_softmax_of_normed_rotated_products() -> None:
    x = jax.random.normal(jax.random.key(3), (1, 12, 16))
    layer = model.Attention(SHAPE, jnp.float32)
    params = layer.init(jax.random.key(4), x)["params"]
    ours, _ = layer.apply({"params": params}, x)
    qkv = np.asarray(x @ params["qkv"]).reshape(12, 3, SHAPE.n_head, SHAPE.d_head)

    def rotated(vectors: np.ndarray) -> np.ndarray:  # by complex multiplication
        normed = vectors / np.sqrt((vectors**2).mean(-1, keepdims=True) + 1e-6)
        half = SHAPE.d_head // 2
        turn = np.exp(1j * np.arange(12)[:, None] * 10_000.0 ** (-np.arange(half) / half))[:, None]
        z = (normed[..., :half] + 1j * normed[..., half:]) * turn
        return np.concatenate([z.real, z.imag], -1)

    q, k, v = rotated(qkv[:, 0]), rotated(qkv[:, 1]), qkv[:, 2]
    mixed = np.zeros((12, SHAPE.n_head, SHAPE.d_head))
    for head in range(SHAPE.n_head):
        for t in range(12):
            scores = np.exp(q[t, head] @ k[: t + 1, head].T / np.sqrt(SHAPE.d_head))
            mixed[t, head] = scores @ v[: t + 1, head] / scores.sum()
    np.testing.assert_allclose(ours[0], mixed.reshape(12, 16) @ params["out"], atol=2e-5)


def test_the_loss_is_the_negative_log_softmax_and_means_go_by_component() -> None:
    logits = jax.random.normal(jax.random.key(5), (4, 3, 20))
    targets = jax.random.randint(jax.random.key(6), (4, 3), 0, 20)
    losses = token_losses(logits, targets)
    expected = -np.log(np.take_along_axis(np.asarray(jax.nn.softmax(logits)), targets[..., None], -1)[..., 0])
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    counted = jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    means = component_losses(losses, counted, jnp.array([0, 0, 1, 2]), 3)
    np.testing.assert_allclose(means[0], np.asarray(losses)[[0, 0, 1], [0, 1, 0]].mean(), rtol=1e-6)
    np.testing.assert_allclose(means[1:], [np.asarray(losses)[2].mean(), 0], rtol=1e-6)
