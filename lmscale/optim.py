"""AdamW and the learning-rate schedules, with every number that differs between lanes traced.

The rates themselves come from `transfer.py`; one compiled step serves every rate, schedule and horizon.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lmscale.config import OptimConfig
from lmscale.lanes import Lane
from lmscale.schedule import learning_rate

DECAYED = ("attention", "mlp", "unembedding")  # matrices that act on the stream; not look-ups, not gains


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
