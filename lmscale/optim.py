"""AdamW and the learning-rate schedules, with every number that differs between lanes traced.

The rates themselves come from `transfer.py`; one compiled step serves every rate, schedule and horizon.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lmscale.config import OptimConfig

DECAYED = ("attention", "mlp", "unembedding")  # matrices that act on the stream; not look-ups, not gains


class Lane(NamedTuple):
    """The numbers of one run that the step reads: all traced, so that lanes may differ."""

    peak_rate: jax.Array
    weight_decay: jax.Array
    warmup_steps: jax.Array
    decay_start: jax.Array  # the step at which the rate begins to fall; beyond `end_step` for a trunk
    decay_end: jax.Array  # the step at which the rate would reach its floor
    cosine: jax.Array  # 1.0: half a cosine; 0.0: a straight line
    floor: jax.Array  # the last rate as a share of the peak
    end_step: jax.Array  # the first step that is not taken


def learning_rate(lane: Lane, step: jax.Array) -> jax.Array:
    """The rate of `step` (from 0): linear warm-up, then constant, then the fall.

    Cosine: Loshchilov & Hutter 2017, eq. 5. Warm-up-stable-decay with a linear fall: Hu et al. 2024 (MiniCPM),
    Hägele et al. 2024.
    """
    warm = jnp.minimum(1.0, (step + 1) / jnp.maximum(lane.warmup_steps, 1))
    done = jnp.clip((step - lane.decay_start) / jnp.maximum(lane.decay_end - lane.decay_start, 1), 0.0, 1.0)
    fall = jnp.where(lane.cosine > 0, 0.5 * (1 + jnp.cos(jnp.pi * done)), 1 - done)
    return lane.peak_rate * warm * (lane.floor + (1 - lane.floor) * fall)


def adam(config: OptimConfig) -> optax.GradientTransformation:
    """Adam's direction (Kingma & Ba 2015); the rate, the clipping and the decay are applied in `update`."""
    return optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)


def update(
    config: OptimConfig,
    groups: Any,
    lane: Lane,
    step: jax.Array,
    params: Any,
    gradient: Any,
    norm: jax.Array,
    state: Any,
) -> tuple[Any, Any]:
    """One AdamW update (Loshchilov & Hutter 2019) after clipping by the global norm: (params, state)."""
    clip = jnp.minimum(1.0, config.clip_norm / (norm + 1e-12))
    direction, state = adam(config).update(jax.tree.map(lambda g: g * clip, gradient), state, params)
    rate = learning_rate(lane, step)

    def moved(param: jax.Array, move: jax.Array, group: str) -> jax.Array:
        decay = lane.weight_decay * param if group in DECAYED else 0.0
        return param - rate * (move + decay)

    return jax.tree.map(moved, params, direction, groups), state
