"""The parametrisations: what a network's forward pass, its start and its arrays' rates take from width and depth,
so that one peak rate serves all rungs. `transfer.kind` selects one; all its other kinds are of `standard`.

mup: Yang et al. 2022 (Tensor Programs V, table 8). completep: Dey et al. 2025 (table 1, alpha = 1), which is mup by
width and scales each block by one over the depth besides. Both are `standard` at the base, up to the place where a
multiplier stands: so the rate that was tuned at a rung of the base's width and depth is the rate of all.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from lmscale.errors import UserError
from lmscale.family import parameters
from lmscale.optim import OPTIMISERS, OptimConfig, role
from lmscale.shape import Parameter, Shape

if TYPE_CHECKING:
    import jax

STANDARD = "standard"
PARAMETRISATIONS = ("mup", "completep")
BASE_WIDTH, BASE_LAYERS, BASE_HEAD = 32, 2, 8


class Multipliers(NamedTuple):
    """What the forward pass is multiplied with. output: the logits. residual: what each block adds to the stream.
    attention: the scores, where they are not divided by the root of d_head (None)."""

    output: float = 1.0
    residual: float = 1.0
    attention: float | None = None


def parametrised(shape: Shape, kind: str) -> Shape:
    """Give a shape the parametrisation of a `transfer.kind`."""
    return dataclasses.replace(shape, parametrisation=kind) if kind in PARAMETRISATIONS else shape


def multipliers(shape: Shape) -> Multipliers:
    """Compute the multipliers of a shape, 1 at the base. Scores fall with d_head and not with its root: trained
    queries and keys are aligned."""
    if shape.parametrisation == STANDARD:
        return Multipliers()
    residual = BASE_LAYERS / shape.n_layer if shape.parametrisation == "completep" else 1.0
    return Multipliers(BASE_WIDTH / shape.d_model, residual, BASE_HEAD**0.5 / shape.d_head)


def times(x: jax.Array, multiplier: float) -> jax.Array:
    """Multiply, where there is anything to multiply: `standard` computes what it did."""
    return x if multiplier == 1 else x * multiplier


def started(shape: Shape, params: Any) -> Any:
    """Bring fresh parameters of the standard start to a shape's own.

    Look-ups and the way to the logits start as they do at the base's width. Hidden matrices start by their fan-in
    already. With completep nothing starts smaller by depth, which the residual multiplier sees to.
    """
    if shape.parametrisation == STANDARD:
        return params
    import jax

    deeper = parameters(dataclasses.replace(shape, n_layer=4 * shape.n_layer))

    def factor(array: Parameter, deep: Parameter) -> float:
        if role(array.group, len(array.shape)) in ("lookup", "readout"):
            return (shape.d_model / BASE_WIDTH) ** 0.5
        if shape.parametrisation == "mup" or not array.std or not deep.std:
            return 1.0
        falls = math.log(array.std / deep.std, 4)  # std ~ n_layer^-falls: 1/2 of ways out, else 0
        return (shape.n_layer / BASE_LAYERS) ** falls

    factors = _paired(factor, parameters(shape), deeper)
    return jax.tree.map(lambda array, by: array * by, params, factors)


def _paired(what: Any, one: Any, other: Any) -> Any:
    """Nested as `one`; of `other` what `one` has."""
    if isinstance(one, Parameter):
        return what(one, other)
    return {name: _paired(what, inner, other[name]) for name, inner in one.items()}


def rate_factors(shape: Shape, optim: OptimConfig) -> Any:
    """Compute what each array's rate is of the peak rate: nested as the parameters; None where it is 1 for all.

    From the exponents that the optimiser's entry states by role, (base width / width)^exponent.
    """
    entry = OPTIMISERS[optim.kind]
    exponents = entry.standard if shape.parametrisation == STANDARD else entry.mup
    if not exponents:
        return None
    narrower = BASE_WIDTH / shape.d_model

    def factor(array: Parameter, _: Parameter) -> float:
        return narrower ** exponents.get(role(array.group, len(array.shape)), 0.0)

    return _paired(factor, parameters(shape), parameters(shape))


def checked(shape: Shape, optim: OptimConfig) -> OptimConfig:
    """Return an optimiser as it is; UserError where its rates under the shape's parametrisation are not known."""
    known = [
        kind
        for kind, entry in OPTIMISERS.items()
        if entry.mup is not None and (entry.any_scale or shape.parametrisation != "completep")
    ]
    if shape.parametrisation != STANDARD and optim.kind not in known:
        raise UserError(
            f"optim.kind={optim.kind}: its rates under transfer.kind={shape.parametrisation} are not known, those "
            f"of {', '.join(known)} are; or give transfer.kind=inverse_width or constant"
        )
    return optim


def fitted(shape: Shape, optim: OptimConfig) -> OptimConfig:
    """Fit an optimiser to a shape: Adam's eps falls as gradients do, by width and by depth (Dey et al. 2025,
    table 1; there by width alone for look-ups and logits)."""
    if shape.parametrisation == STANDARD or "eps" not in OPTIMISERS[optim.kind].reads:
        return optim
    scales = multipliers(shape)
    return dataclasses.replace(optim, eps=optim.eps * scales.output * scales.residual)
