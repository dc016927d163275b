"""The loss: cross-entropy a target, the z-loss, then weighted means. Nats throughout."""

import jax
import jax.numpy as jnp


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Compute the cross-entropy of each target in nats: logits [..., V] float32, targets [...] -> [...]."""
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def z_losses(logits: jax.Array) -> jax.Array:
    """Compute (ln Z)^2 of each position, which pulls the softmax's normaliser to 1 (Chowdhery et al. 2022, PaLM,
    section 5): logits [..., V] -> [...]."""
    return jnp.square(jax.nn.logsumexp(logits, axis=-1))


def component_losses(losses: jax.Array, counted: jax.Array, component_of_row: jax.Array, n: int) -> jax.Array:
    """Average the loss of each component over its counted targets: [B, T] twice and [B] -> [n]."""
    one_hot = jax.nn.one_hot(component_of_row, n, axis=0)
    sums = one_hot @ (losses * counted).sum(axis=-1)
    return sums / jnp.maximum(one_hot @ counted.sum(axis=-1).astype(jnp.float32), 1.0)
