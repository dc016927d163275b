"""The programs of a pack: its step and its evaluation, made once for all packs of one shape."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from lmscale import model
from lmscale.average import AverageConfig, average_of
from lmscale.compiled import KeptFunction
from lmscale.data import World
from lmscale.evaluate import Evaluator, make_evaluator
from lmscale.lanes import Lane
from lmscale.optim import OptimConfig
from lmscale.placement import Placement, placement_of
from lmscale.plan import Pack
from lmscale.schedule import SCHEDULES, traced
from lmscale.shape import Shape
from lmscale.spec import RunSpec
from lmscale.step import Metrics, pack_program


def program_of(pack: Pack, world: World, width: int | None = None) -> KeptFunction:
    """Return the step of a pack, or of so many of its lanes."""
    spec, precision = pack.runs[0], pack.execution["precision"]
    average, placement = average_of(spec.evaluation), placement_of(pack.mesh, width or pack.width)
    kernel = pack.execution.get("attention")
    return _program(world, spec.shape, spec.optim, spec.batch_multiple, precision, average, placement, kernel)


@functools.lru_cache(maxsize=4)
def _program(
    world: World,
    shape: Shape,
    optim: OptimConfig,
    batch_multiple: int,
    precision: str,
    average: AverageConfig,
    placement: Placement | None,
    kernel: str | None = None,
) -> KeptFunction:
    """The step, made once for all the packs of one shape that a worker trains, or found on the disk."""
    rows, n_components = world.component_of_row(batch_multiple), len(world.components)
    jitted = pack_program(
        shape, optim, rows, n_components, _dtype(precision), average, world.data.objective, placement, kernel
    )
    made_from: dict[str, Any] = {
        "shape": dataclasses.asdict(shape),
        "optim": dataclasses.asdict(optim),
        "average": dataclasses.asdict(average),
        "schedules": list(SCHEDULES),
        "rows": rows.tolist(),
        "n_components": n_components,
        "objective": world.data.objective,
        "precision": precision,
        **({"attention": kernel} if kernel else {}),
    }
    leaf: Any = 0
    return KeptFunction(
        jitted,
        None if placement else made_from,
        returns=lambda state, *_: (state, Metrics(leaf, leaf, leaf, leaf)),
        shorten=lambda *arguments: (*arguments[:-1], np.int32(1)),  # with no step the body would not run
    )


@functools.lru_cache(maxsize=4)
def evaluator_of(world: World, shape: Shape, precision: str, placement: Placement | None) -> Evaluator:
    """Return the evaluation, likewise."""
    dtype = _dtype(precision)
    forward, decoder, load = (
        model.forward(shape, dtype),
        model.decoder(shape, dtype),
        model.load(shape, dtype),
    )
    return make_evaluator(world, forward, decoder, load=load, placement=placement)


def _dtype(precision: str) -> Any:
    return jnp.float32 if precision == "float32" else jnp.bfloat16


def lane_numbers(spec: RunSpec, end: int) -> Lane:
    """Collect the traced numbers of a lane."""
    numbers: dict[str, Any] = {
        "peak_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        **traced(spec.schedule, spec.horizon_steps, spec.decay_start),
        "end_step": end,
    }
    for name, value in numbers.items():
        numbers[name] = np.int32(value) if isinstance(value, int) else np.float32(value)
    return Lane(**numbers)
