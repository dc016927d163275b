"""The kinds of MLP that a block may have: the arrays of each, its FLOPs and its forward pass beside each other.

A new kind is three functions and an entry of `KINDS`; `family.kind` selects it. A plan imports this, so jax is
imported where a forward pass is traced and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmscale import experts
from lmscale.product import product
from lmscale.shape import Parameter, Shape

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Mlp:
    """One kind.

    parameters: the arrays of a layer, by name. flops: of one token's forward pass through a layer, matrix
    products only. forward: (arrays by name, x [..., d_model]) -> [..., d_model], all of one type; or routed:
    (shape, arrays in float32, x) -> that and what the router did. idle: the parameters of a layer that a token does
    not meet. kept: the numbers of a token that the backward pass of a layer finds again; a plan's memory is of it.
    """

    parameters: Callable[[Shape], dict[str, Parameter]]
    flops: Callable[[Shape], int]
    forward: Callable[[Mapping[str, jax.Array], jax.Array], jax.Array] | None = None
    routed: (
        Callable[[Shape, Mapping[str, jax.Array], jax.Array], tuple[jax.Array, experts.Routing]] | None
    ) = None
    idle: Callable[[Shape], int] = lambda shape: 0
    kept: Callable[[Shape], int] = lambda shape: 3 * shape.d_mlp


def dense_parameters(shape: Shape) -> dict[str, Parameter]:
    """List two matrices. The way out starts small by depth: the stream then does not grow with it (GPT-2)."""
    d, f = shape.d_model, shape.d_mlp
    return {
        "in": Parameter("mlp", (d, f), d**-0.5),
        "out": Parameter("mlp", (f, d), (f * 2 * shape.n_layer) ** -0.5),
    }


def dense_flops(shape: Shape) -> int:
    """Count two products."""
    return 2 * 2 * shape.d_model * shape.d_mlp


def dense_forward(arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """Apply them with a GELU between (tanh approximation, as GPT-2)."""
    import jax

    return product(jax.nn.gelu(product(x, arrays["in"])), arrays["out"])


def relu2_forward(arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """Apply dense's arrays with a squared ReLU between (So et al. 2021, Primer)."""
    import jax

    return product(jax.nn.relu(product(x, arrays["in"])) ** 2, arrays["out"])


def gated_width(shape: Shape) -> int:
    """Take two thirds of the dense width: three matrices of it have the parameters of two."""
    return round(2 * shape.d_mlp / 3)


def swiglu_parameters(shape: Shape) -> dict[str, Parameter]:
    """List three matrices: the gate, the way in, the way out."""
    d, f = shape.d_model, gated_width(shape)
    return {
        "gate": Parameter("mlp", (d, f), d**-0.5),
        "in": Parameter("mlp", (d, f), d**-0.5),
        "out": Parameter("mlp", (f, d), (f * 2 * shape.n_layer) ** -0.5),
    }


def swiglu_flops(shape: Shape) -> int:
    """Count three products."""
    return 3 * 2 * shape.d_model * gated_width(shape)


def swiglu_forward(arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """Multiply the way in by the SiLU of the gate (Shazeer 2020)."""
    import jax

    return product(jax.nn.silu(product(x, arrays["gate"])) * product(x, arrays["in"]), arrays["out"])


KINDS: dict[str, Mlp] = {
    "dense": Mlp(dense_parameters, dense_flops, dense_forward),
    "relu2": Mlp(dense_parameters, dense_flops, relu2_forward),
    "swiglu": Mlp(swiglu_parameters, swiglu_flops, swiglu_forward, kept=lambda shape: 3 * gated_width(shape)),
    "experts": Mlp(experts.parameters, experts.flops, routed=experts.forward, idle=experts.idle),
}
