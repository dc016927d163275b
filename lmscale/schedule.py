"""The learning-rate schedules: the one file that decides a rate over steps."""

import jax
import jax.numpy as jnp

from lmscale.lanes import Lane


def learning_rate(lane: Lane, step: jax.Array) -> jax.Array:
    """The rate of `step` (from 0): linear warm-up, then constant, then the fall.

    Cosine: Loshchilov & Hutter 2017, eq. 5. Warm-up-stable-decay with a linear fall: Hu et al. 2024 (MiniCPM),
    Hägele et al. 2024.
    """
    warm = jnp.minimum(1.0, (step + 1) / jnp.maximum(lane.warmup_steps, 1))
    done = jnp.clip((step - lane.decay_start) / jnp.maximum(lane.decay_end - lane.decay_start, 1), 0.0, 1.0)
    fall = jnp.where(lane.cosine > 0, 0.5 * (1 + jnp.cos(jnp.pi * done)), 1 - done)
    return lane.peak_rate * warm * (lane.floor + (1 - lane.floor) * fall)
