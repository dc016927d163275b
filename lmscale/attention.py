"""Causal attention for a CPU, in float32, with a gradient of its own.

Axes: B rows, T positions of queries, S positions of keys, H heads, K channels of a head.
"""

import jax
import jax.numpy as jnp

BLOCK = 64  # queries at a time: a block sees no key behind its last query, so those scores are not made


def causal(q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array) -> jax.Array:
    """Attend from each position to those up to it, S = T, by scores q k as they are: [B, T, H, K].

    The numbers of `jax.nn.dot_product_attention`, to rounding. On a CPU it is faster: the sum over keys in the
    gradient of softmax is made as one over channels, sum_S p dp = sum_K o do (Dao et al. 2022, appendix B.2), and
    the outputs are divided by the sum of exponentials, not the exponentials.
    """
    starts = range(0, q_BTHK.shape[1], BLOCK)
    parts = [
        _block(q_BTHK[:, at : at + BLOCK], k_BSHK[:, : at + BLOCK], v_BSHK[:, : at + BLOCK]) for at in starts
    ]
    return jnp.concatenate(parts, axis=1)


@jax.custom_vjp
@jax.named_scope("scores")
def _block(q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array) -> jax.Array:
    """Attend from the last T of S positions."""
    return _forward(q_BTHK, k_BSHK, v_BSHK)[0]


@jax.named_scope("scores")
def _forward(
    q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    scores_BHTS = jnp.einsum("BTHK,BSHK->BHTS", q_BTHK, k_BSHK)
    queries, keys = scores_BHTS.shape[-2:]
    seen_TS = jnp.arange(keys) <= jnp.arange(keys - queries, keys)[:, None]
    scores_BHTS = jnp.where(seen_TS, scores_BHTS, -jnp.inf)
    e_BHTS = jnp.exp(scores_BHTS - scores_BHTS.max(axis=-1, keepdims=True))
    share_BTH1 = 1 / e_BHTS.sum(axis=-1).swapaxes(1, 2)[..., None]
    o_BTHK = jnp.einsum("BHTS,BSHK->BTHK", e_BHTS, v_BSHK) * share_BTH1
    return o_BTHK, (q_BTHK, k_BSHK, v_BSHK, e_BHTS, share_BTH1, o_BTHK)


@jax.named_scope("scores")
def _backward(kept: tuple[jax.Array, ...], do_BTHK: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q_BTHK, k_BSHK, v_BSHK, e_BHTS, share_BTH1, o_BTHK = kept
    do_BTHK = do_BTHK * share_BTH1
    dv_BSHK = jnp.einsum("BHTS,BTHK->BSHK", e_BHTS, do_BTHK)
    dp_BHTS = jnp.einsum("BTHK,BSHK->BHTS", do_BTHK, v_BSHK)
    mean_BHT1 = jnp.sum(o_BTHK * do_BTHK, axis=-1).swapaxes(1, 2)[..., None]
    ds_BHTS = e_BHTS * (dp_BHTS - mean_BHT1)
    dq_BTHK = jnp.einsum("BHTS,BSHK->BTHK", ds_BHTS, k_BSHK)
    return dq_BTHK, jnp.einsum("BHTS,BTHK->BSHK", ds_BHTS, q_BTHK), dv_BSHK


_block.defvjp(_forward, _backward)
