"""The spike guard: a step that is not finite or stands far above its window changes nothing but its count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

WINDOW = 128
SIGMAS = 6.0
PATIENCE = 64  # skipped steps in a row after which a lane counts as diverged


class Guard(NamedTuple):
    """The memory that the guard of one lane has of its steps."""

    losses: jax.Array  # [WINDOW], a ring
    norms: jax.Array  # [WINDOW], a ring
    seen: jax.Array  # finite values that went into the rings
    skipped: jax.Array  # steps skipped
    skipped_in_row: jax.Array


def spikes(ring: jax.Array, seen: jax.Array, value: jax.Array) -> jax.Array:
    """Tell whether `value` stands out above the ring; never before the ring is full."""
    return (seen >= WINDOW) & (value > jnp.mean(ring) + SIGMAS * jnp.std(ring))


def remember(guard: Guard, good: jax.Array, bad: jax.Array, loss: jax.Array, norm: jax.Array) -> Guard:
    """Remember a step, and a skipped one too where its values are finite: a lasting change of level (a task that
    begins to be learned doubles the gradient's norm) is then a spike for a few steps and not for ever."""
    seen = (good | bad) & jnp.isfinite(loss) & jnp.isfinite(norm)
    at = guard.seen % WINDOW
    return Guard(
        losses=guard.losses.at[at].set(jnp.where(seen, loss, guard.losses[at])),
        norms=guard.norms.at[at].set(jnp.where(seen, norm, guard.norms[at])),
        seen=guard.seen + seen,
        skipped=guard.skipped + bad,
        skipped_in_row=jnp.where(good, 0, guard.skipped_in_row + bad),
    )
