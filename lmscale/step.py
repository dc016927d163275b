"""One training step of a pack: every lane its own model, data, rate, schedule and end, in one program.

Array axes: L lanes, S steps of a dispatch, B rows, T positions; a lane's own arrays have no L.
Guard: a step whose loss or gradient norm is not finite, or lies more than six standard deviations above the
mean of the last 128, changes nothing but its count. All of it happens on the device, lane by lane.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lmscale import model
from lmscale.average import NO_AVERAGE, AverageConfig, start, take
from lmscale.experts import balance_loss, rebalanced
from lmscale.guard import PATIENCE, WINDOW, Guard, remember, spikes
from lmscale.lanes import Lane, over_lanes
from lmscale.loss import component_losses, token_losses, z_losses
from lmscale.objective import CAUSAL, OBJECTIVES
from lmscale.optim import OptimConfig, direction, update
from lmscale.parametrisation import fitted, rate_factors
from lmscale.placement import Placement
from lmscale.shape import Shape


class State(NamedTuple):
    """Everything a lane carries from step to step; in a pack every array has a leading lane axis. average: what
    `average` keeps, no array where it is off."""

    params: Any
    optimiser: Any
    guard: Guard
    step: jax.Array
    average: Any = ()


class Metrics(NamedTuple):
    """The report of a step, a lane: losses in nats; `total` with its z-loss, which no component has."""

    total: jax.Array
    components: jax.Array
    gradient_norm: jax.Array
    skipped_in_row: jax.Array


def init_lane(
    shape: Shape, optim: OptimConfig, seed: jax.Array, average: AverageConfig = NO_AVERAGE
) -> State:
    """Make a lane at step 0. The seed alone decides its parameters."""
    return state_at_start(shape, optim, model.init(shape, jax.random.key(seed)), average)


def state_at_start(
    shape: Shape, optim: OptimConfig, params: Any, average: AverageConfig = NO_AVERAGE
) -> State:
    """Make the state at step 0 of a lane with these parameters."""
    memory = direction(optim, model.groups(shape)).init(params)
    zeros = jnp.zeros(WINDOW, jnp.float32)
    zero = jnp.zeros((), jnp.int32)
    return State(params, memory, Guard(zeros, zeros, zero, zero, zero), zero, start(average, params))


def lane_step(
    shape: Shape,
    optim: OptimConfig,
    component_of_row: Any,
    n_components: int,
    dtype: Any,
    average: AverageConfig = NO_AVERAGE,
    objective: str = CAUSAL,
    whole: Callable[[Any], Any] = lambda params: params,
    kept: Callable[[Any], Any] = lambda params: params,
) -> Callable[..., tuple[State, Metrics]]:
    """Make a lane's step: (state, lane, tokens [B, T+1], counted [B, T], weight [B, T]) -> (state, metrics).
    whole, kept: gather parameters that several devices have between them, and hold them in their parts."""
    forward = model.routed(shape, dtype)
    groups, factors, fit = model.groups(shape), rate_factors(shape, optim), fitted(shape, optim)

    def loss_of(params: Any, tokens: jax.Array, counted: jax.Array, weight: jax.Array) -> Any:
        tokens = tokens.astype(jnp.int32)
        logits, routings = OBJECTIVES[objective].logits(forward, whole(params), tokens, counted)
        losses = token_losses(logits, tokens[:, 1:])
        total = jnp.sum(losses * weight)
        if optim.z_loss:
            total += optim.z_loss * jnp.sum(z_losses(logits) * weight)
        if shape.balance_loss:
            total += balance_loss(shape, routings)
        return total, (component_losses(losses, counted, component_of_row, n_components), routings)

    def step(
        state: State, lane: Lane, tokens: jax.Array, counted: jax.Array, weight: jax.Array
    ) -> tuple[State, Metrics]:
        state = state._replace(params=kept(state.params))
        (total, (components, routings)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, tokens, counted, weight
        )
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
        guard = state.guard
        active = (state.step < lane.end_step) & (guard.skipped_in_row < PATIENCE)
        sound = jnp.isfinite(total) & jnp.isfinite(norm)
        sound &= ~spikes(guard.losses, guard.seen, total) & ~spikes(guard.norms, guard.seen, norm)
        good, bad = active & sound, active & ~sound
        moved = update(fit, groups, lane, state.step, state.params, gradient, norm, state.optimiser, factors)
        if shape.balance_bias:
            moved = rebalanced(shape, moved[0], routings), moved[1]
        taken = take(average, state.average, moved[0], state.step)
        params, optimiser, taken = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (*moved, taken),
            (state.params, state.optimiser, state.average),
        )
        guard = remember(guard, good, bad, total, norm)
        metrics = Metrics(total, components, norm, guard.skipped_in_row)
        return State(kept(params), optimiser, guard, state.step + active, taken), metrics

    return step


def pack_program(
    shape: Shape,
    optim: OptimConfig,
    component_of_row: Any,
    n_components: int,
    dtype: Any = jnp.float32,
    average: AverageConfig = NO_AVERAGE,
    objective: str = CAUSAL,
    placement: Placement | None = None,
) -> Callable[..., tuple[State, Metrics]]:
    """Make several steps of every lane in one dispatch, compiled once whatever the lanes' numbers.

    (state [L, ...], lanes [L], batches with leading [S, L], count <= S) -> (state, the last step's metrics).
    The state is donated. `count` is traced: a dispatch may end early, at an evaluation or a lane's end.
    placement: on several devices.
    """
    parts = (placement.whole, placement.kept) if placement else ()
    lanes_step = over_lanes(
        lane_step(shape, optim, component_of_row, n_components, dtype, average, objective, *parts)
    )

    def run(state: State, lanes: Lane, batches: tuple[jax.Array, ...], count: jax.Array) -> Any:
        n_lanes = lanes.end_step.shape[0]

        def body(index: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            batch = [jax.lax.dynamic_index_in_dim(part, index, keepdims=False) for part in batches]
            return lanes_step(carry[0], lanes, *batch)

        zeros = jnp.zeros(n_lanes)
        nothing = Metrics(zeros, jnp.zeros((n_lanes, n_components)), zeros, jnp.zeros(n_lanes, jnp.int32))
        return jax.lax.fori_loop(0, count, body, (state, nothing))

    if placement:
        return placement.program(run, state_template(shape, optim, average))
    return jax.jit(run, donate_argnums=0)


def state_template(shape: Shape, optim: OptimConfig, average: AverageConfig = NO_AVERAGE) -> State:
    """Make the tree of a lane's state with each array's shape and type in its place."""
    start = functools.partial(state_at_start, shape, optim, average=average)
    template: State = jax.eval_shape(start, model.shapes(shape))
    return template
