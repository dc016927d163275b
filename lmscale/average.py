"""Averaged weights, as a second model that is evaluated beside the first: training does not see it.

A new kind is an entry of `AVERAGES`; `evaluation.average` selects it. What it remembers is part of a lane's state,
and so of its checkpoint. A plan imports this, so jax is imported where a step is traced and not before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class AverageConfig:
    """The fields `average...` of `EvaluationConfig`, short; their defaults are here. kind: None where it is off."""

    kind: str | None = None
    decay: float = 0.999
    last: int = 5
    every: int = 20


NO_AVERAGE = AverageConfig()


class Average(NamedTuple):
    """One kind, of one lane. reads: the fields of `EvaluationConfig`. memory: (config, shape of an array) -> the
    shape of what it remembers of it, which a plan counts.

    start: (config, params) -> memory. take: (config, memory, params after a step, number of that step from 1) ->
    memory. read: (config, memory, params) -> the averaged params; before anything was taken the params themselves.
    """

    reads: tuple[str, ...]
    memory: Callable[[AverageConfig, tuple[int, ...]], tuple[int, ...]]
    start: Callable[[AverageConfig, Any], Any]
    take: Callable[[AverageConfig, Any, Any, jax.Array], Any]
    read: Callable[[AverageConfig, Any, Any], Any]


class Taken(NamedTuple):
    """number: of those that were taken. kept: their sum, weighted, or the last of them."""

    number: jax.Array
    kept: Any


def ema_start(config: AverageConfig, params: Any) -> Taken:
    import jax
    import jax.numpy as jnp

    return Taken(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))


def ema_take(config: AverageConfig, memory: Taken, params: Any, step: jax.Array) -> Taken:
    """Weigh what was by `decay` and the new by the rest."""
    import jax

    mixed = jax.tree.map(lambda old, new: config.decay * old + (1 - config.decay) * new, memory.kept, params)
    return Taken(memory.number + 1, mixed)


def ema_read(config: AverageConfig, memory: Taken, params: Any) -> Any:
    """Divide by the sum of the weights, as Adam does (Kingma & Ba 2015): no trace of a start is left."""
    import jax
    import jax.numpy as jnp

    weight = 1 - config.decay ** memory.number.astype(jnp.float32)
    return jax.tree.map(
        lambda kept, now: jnp.where(memory.number > 0, kept / jnp.maximum(weight, 1e-30), now),
        memory.kept,
        params,
    )


def last_start(config: AverageConfig, params: Any) -> Taken:
    import jax
    import jax.numpy as jnp

    ring = jax.tree.map(lambda array: jnp.zeros((config.last, *array.shape), array.dtype), params)
    return Taken(jnp.zeros((), jnp.int32), ring)


def last_take(config: AverageConfig, memory: Taken, params: Any, step: jax.Array) -> Taken:
    """Put every `every`-th step's in the place of the oldest."""
    import jax
    import jax.numpy as jnp

    due, place = step % config.every == 0, memory.number % config.last
    ring = jax.tree.map(
        lambda kept, new: kept.at[place].set(jnp.where(due, new, kept[place])), memory.kept, params
    )
    return Taken(memory.number + due, ring)


def last_read(config: AverageConfig, memory: Taken, params: Any) -> Any:
    """Average those that are there, alike."""
    import jax
    import jax.numpy as jnp

    filled = jnp.minimum(memory.number, config.last)
    return jax.tree.map(
        lambda kept, now: jnp.where(filled > 0, kept.sum(axis=0) / jnp.maximum(filled, 1), now),
        memory.kept,
        params,
    )


# ema: Polyak & Juditsky 1992, exponentially weighted. last: the last k checkpoints (Kaddour 2022, LAWA).
AVERAGES: dict[str, Average] = {
    "ema": Average(("average_decay",), lambda config, shape: shape, ema_start, ema_take, ema_read),
    "last": Average(
        ("average_last", "average_every"),
        lambda config, shape: (config.last, *shape),
        last_start,
        last_take,
        last_read,
    ),
}


def average_of(evaluation: Mapping[str, Any]) -> AverageConfig:
    """Collect what a spec's evaluation says of averages; what it does not say is at its default."""
    said = {name.removeprefix("average_"): value for name, value in evaluation.items() if "average_" in name}
    return AverageConfig(evaluation.get("average"), **said)


def start(config: AverageConfig, params: Any) -> Any:
    """Make the memory of a lane at step 0; none where it is off."""
    return AVERAGES[config.kind].start(config, params) if config.kind else ()


def take(config: AverageConfig, memory: Any, params: Any, step: jax.Array) -> Any:
    """Take the params after `step` (from 0) into the memory."""
    return AVERAGES[config.kind].take(config, memory, params, step + 1) if config.kind else ()


@functools.lru_cache(maxsize=4)
def averages(config: AverageConfig) -> Callable[[Any, Any], Any]:
    """Make (memory, params), both with a leading lane axis -> averaged params, as one program."""
    import jax

    from lmscale.lanes import over_lanes

    assert config.kind
    return jax.jit(over_lanes(functools.partial(AVERAGES[config.kind].read, config)))
