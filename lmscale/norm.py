"""The kinds of norm: the arrays of each and its forward pass. `family.norm` selects one for all norms of a network.

A new kind is two functions and an entry of `NORMS`. A plan imports this, so jax is imported where a forward pass
is traced and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmscale.shape import Parameter

if TYPE_CHECKING:
    import jax

EPSILON = 1e-6  # added to the mean square


@dataclass(frozen=True)
class Norm:
    """One kind.

    parameters: the arrays of a norm of this width, by name. forward: (arrays by name, x [..., width]) ->
    [..., width] in the type of x, computed in float32.
    """

    parameters: Callable[[int], dict[str, Parameter]]
    forward: Callable[[Mapping[str, jax.Array], jax.Array], jax.Array]


def rms_parameters(width: int) -> dict[str, Parameter]:
    """List the gain."""
    return {"gain": Parameter("norm", (width,))}


def rms_forward(arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """Divide by the root mean square (Zhang & Sennrich 2019)."""
    import jax
    import jax.numpy as jnp

    x32 = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + EPSILON)
    return (x32 * scale * arrays["gain"]).astype(x.dtype)


def layer_parameters(width: int) -> dict[str, Parameter]:
    """List the gain and the bias."""
    return {"gain": Parameter("norm", (width,)), "bias": Parameter("norm", (width,), 0.0)}


def layer_forward(arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """Subtract the mean, divide by the standard deviation (Ba et al. 2016)."""
    import jax
    import jax.numpy as jnp

    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
    return (centred * scale * arrays["gain"] + arrays["bias"]).astype(x.dtype)


NORMS: dict[str, Norm] = {
    "rms": Norm(rms_parameters, rms_forward),
    "layer": Norm(layer_parameters, layer_forward),
}
