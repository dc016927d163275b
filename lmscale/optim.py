"""The optimisers, as optax chains in which every number that differs between lanes is traced.

A new one is an entry of `OPTIMISERS`; `optim.kind` selects it. Rates and decays come from `transfer`, the rate's
course from `schedule`. A plan imports this, so jax and optax are imported where a step is traced and not before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lmscale.schedule import learning_rate
from lmscale.typed import among, between, positive

if TYPE_CHECKING:
    import jax
    import optax

    from lmscale.lanes import Lane

BELOW_ONE, LEAST = 1 - 2.0**-24, 1.2e-38  # beyond them float32 has 1 and 0
DECAYED = ("attention", "mlp", "unembedding")  # matrices that act on the stream; not look-ups, not gains


@dataclass(frozen=True)
class OptimConfig:
    """kind: an entry of `OPTIMISERS`. Rate and weight decay come from the transfer rules; gradients are clipped by
    their global norm. b1, b2: decay of the moments; eps: added to the root of the second.
    """

    kind: str = "adamw"
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    clip_norm: float = 1.0

    renamed: ClassVar = {"name": "kind"}

    def __post_init__(self) -> None:
        among("optim.kind", self.kind, OPTIMISERS)
        between("optim.b1", self.b1, 0, BELOW_ONE)
        between("optim.b2", self.b2, 0, BELOW_ONE)
        between("optim.eps", self.eps, LEAST, 1e30)
        positive("optim.clip_norm", self.clip_norm)


# (config, the pytree of the parameters' groups) -> from clipped gradients to a direction, before rate and decay.
Direction = Callable[[OptimConfig, Any], "optax.GradientTransformation"]


def adamw(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Make Adam's direction (Kingma & Ba 2015); with the decay of `update`, AdamW (Loshchilov & Hutter 2019)."""
    import optax

    return optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)


OPTIMISERS: dict[str, Direction] = {"adamw": adamw}


def direction(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Make the part of the chain that remembers: its state is what a checkpoint holds of the optimiser."""
    return OPTIMISERS[config.kind](config, groups)


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
    """Make one update: clip by the global norm, take the direction, add the decay, go by the rate.

    groups: the pytree of parameters with each array's group in its place. norm: the gradient's global norm. Returns
    params and state.
    """
    import jax
    import jax.numpy as jnp
    import optax

    decayed = jax.tree.map(lambda group: group in DECAYED, groups)
    # optax.clip_by_global_norm computes the norm once more, which the guard has done, and rounds otherwise
    clip = jnp.minimum(1.0, config.clip_norm / (norm + 1e-12))
    chain = optax.chain(
        optax.scale(clip),
        direction(config, groups),
        optax.add_decayed_weights(lane.weight_decay, decayed),
        optax.scale(-learning_rate(lane, step)),
    )
    none = optax.EmptyState()
    move, (_, state, _, _) = chain.update(gradient, (none, state, optax.MaskedState(none), none), params)
    return optax.apply_updates(params, move), state
