"""The plain competent loop that ours is measured against: a jitted step, optax, batches of numpy, a step a
dispatch.

Its network is the default one as a person writes it in plain JAX, with the arrays of `lmscale.model` by their
names: `tests/test_bench.py` holds that both give the same losses. Threads are XLA's own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lmscale import model
from lmscale.family import FamilyConfig, shape_of
from lmscale.optim import OptimConfig
from lmscale.shape import Shape

READ = 50  # steps between two looks at the loss
Logits = Callable[[Any, jax.Array], jax.Array]


def norm(x: jax.Array, gain: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain


def rotary(x: jax.Array) -> jax.Array:
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half) / half)
    angle = jnp.arange(x.shape[1])[:, None] * frequency
    cos, sin = jnp.cos(angle)[:, None, :], jnp.sin(angle)[:, None, :]
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def network(shape: Shape) -> Logits:
    """Make (params, tokens [B, T]) -> logits [B, T, V] of the dense default."""

    def logits(params: Any, tokens: jax.Array) -> jax.Array:
        x = params["embedding"][tokens]
        for layer in range(shape.n_layer):
            own, mlp = params[f"attention_{layer}"], params[f"mlp_{layer}"]
            qkv = norm(x, params[f"attention_norm_{layer}"]["gain"]) @ own["qkv"]
            q, k, v = (
                part.reshape(*x.shape[:2], shape.n_head, shape.d_head) for part in jnp.split(qkv, 3, axis=-1)
            )
            q, k = rotary(norm(q, own["q_norm"]["gain"])), rotary(norm(k, own["k_norm"]["gain"]))
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.reshape(x.shape) @ own["out"]
            x = x + jax.nn.gelu(norm(x, params[f"mlp_norm_{layer}"]["gain"]) @ mlp["in"]) @ mlp["out"]
        return norm(x, params["final_norm"]["gain"]) @ params["unembedding"]

    return logits


def loop(
    dial: int, rows: int, text: np.ndarray, logits_of: Callable[[Shape], Logits]
) -> Callable[[int], int]:
    """Make steps -> tokens that were trained on, with a state that goes on."""
    shape = shape_of(FamilyConfig(), dial, context=64, vocab_size=260)
    logits, config = logits_of(shape), OptimConfig()
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            optax.warmup_cosine_decay_schedule(0.0, 0.3 / dial, 100, 100_000), config.b1, config.b2, config.eps,
            weight_decay=0.1,
        ),
    )  # fmt: skip

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(params, tokens[:, :-1]), tokens[:, 1:]
        ).mean()

    @jax.jit(donate_argnums=(0, 1))
    def step(params: Any, memory: Any, tokens: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, tokens)
        moves, memory = optimiser.update(gradient, memory, params)
        return optax.apply_updates(params, moves), memory, value

    params = jax.jit(lambda key: model.init(shape, key))(jax.random.key(0))
    kept = [params, optimiser.init(params)]
    rng = np.random.default_rng(0)

    def go(steps: int) -> int:
        for number in range(steps):
            start = rng.integers(len(text) - shape.context - 1, size=rows)
            tokens = text[start[:, None] + np.arange(shape.context + 1)].astype(np.int32)
            *kept[:], value = step(*kept, tokens)
            if number % READ == READ - 1:
                float(value)
        jax.block_until_ready(kept)
        return steps * rows * shape.context

    return go
