"""The loss: cross-entropy a target, the z-loss, then weighted means. Nats throughout."""

import jax
import jax.numpy as jnp

from lmscale.product import product

LARGE = 4096  # the vocabulary from which on a step holds CHUNK logits at a time, and not all of them
CHUNK = 2**26  # 256 MB of float32; of many small chunks an accelerator would wait for their launches


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Compute the cross-entropy of each target in nats: logits [..., V] float32, targets [...] -> [...]."""
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def z_losses(logits: jax.Array) -> jax.Array:
    """Compute (ln Z)^2 of each position, which pulls the softmax's normaliser to 1 (Chowdhery et al. 2022, PaLM,
    section 5): logits [..., V] -> [...]."""
    return jnp.square(jax.nn.logsumexp(logits, axis=-1))


def chunked_losses(
    hidden: jax.Array, unembedding: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Compute `token_losses` and `z_losses` of hidden [..., D] times unembedding [D, V], CHUNK logits at a time.

    The backward pass makes each chunk's logits again, a fourth product beside three; the gradient of the
    unembedding is added up in its own type, float32.
    """
    vocabulary, count = unembedding.shape[1], targets.size
    chunks = -(-count * vocabulary // CHUNK)
    height = -(-count // chunks)

    def chunked(array: jax.Array, width: tuple[int, ...]) -> jax.Array:
        flat = array.reshape(count, *width)
        fill = [(0, chunks * height - count)] + [(0, 0)] * len(width)
        return jnp.pad(flat, fill).reshape(chunks, height, *width)

    @jax.checkpoint
    def losses(rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        logits = product(rows[0], unembedding.astype(hidden.dtype)).astype(jnp.float32)
        return token_losses(logits, rows[1]), z_losses(logits)

    found = jax.lax.map(losses, (chunked(hidden, hidden.shape[-1:]), chunked(targets, ())))
    token, z = (array.reshape(-1)[:count].reshape(targets.shape) for array in found)
    return token, z


def component_losses(losses: jax.Array, counted: jax.Array, component_of_row: jax.Array, n: int) -> jax.Array:
    """Average the loss of each component over its counted targets: [B, T] twice and [B] -> [n]."""
    one_hot = jax.nn.one_hot(component_of_row, n, axis=0)
    sums = one_hot @ (losses * counted).sum(axis=-1)
    return sums / jnp.maximum(one_hot @ counted.sum(axis=-1).astype(jnp.float32), 1.0)
