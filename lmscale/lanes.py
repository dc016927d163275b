"""Lanes: the runs of a pack, each with traced numbers of its own, moved by one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Lane(NamedTuple):
    """The numbers of one run that the step reads: all traced, so that lanes may differ."""

    peak_rate: jax.Array
    weight_decay: jax.Array
    warmup_steps: jax.Array
    decay_start: jax.Array  # the step at which the rate begins to fall; beyond `end_step` for a trunk
    decay_end: jax.Array  # the step at which the rate would reach its floor
    fall: jax.Array  # how: the place of the kind among `schedule.SCHEDULES`
    floor: jax.Array  # the last rate as a share of the peak
    end_step: jax.Array  # the first step that is not taken


def over_lanes(one: Callable[..., Any]) -> Callable[..., Any]:
    """Map `one` over the lanes of its arguments (leading axis): vmapped. A lane alone goes without the axis: a
    product with a batch axis of one costs a CPU an eighth of the step (docs/log.md)."""

    def lanes(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] > 1:
            return jax.vmap(one)(*arguments)
        alone = one(*jax.tree.map(lambda array: array[0], arguments))
        return jax.tree.map(lambda array: array[None], alone)

    return lanes


@functools.partial(jax.jit, donate_argnums=0)
def in_lane(state: Any, one: Any, lane: jax.Array) -> Any:
    """Put the state of one lane, whose arrays have a lane axis of one, in a lane of a state, which is donated."""
    return jax.tree.map(
        lambda array, part: jax.lax.dynamic_update_slice_in_dim(array, part, lane, axis=0), state, one
    )


@jax.jit
def of_lane(state: Any, lane: jax.Array) -> Any:
    """Take the state of one lane out of a state, whose arrays then have no lane axis."""
    return jax.tree.map(
        lambda array: jax.lax.dynamic_index_in_dim(array, lane, axis=0, keepdims=False), state
    )
