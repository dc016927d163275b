"""The kinds of positions: what each adds to the stream, turns in queries and keys, or adds to the scores.

A new kind is an entry of `POSITIONS`; `family.positions` selects it. A plan imports this, so jax is imported where
a forward pass is traced and not before. Dimension letters are those of `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmscale.errors import UserError
from lmscale.shape import Parameter, Shape

if TYPE_CHECKING:
    import jax

BASE = 10_000.0  # of the wavelengths, rotary and sinusoidal


@dataclass(frozen=True)
class Positions:
    """One kind; what it does not do is None.

    parameters: arrays of the network, by name. added: (arrays by name, positions [T], d_model) -> [T, D] added to
    the embedded tokens. turned: (queries or keys [B, T, H, K], positions [T]) -> the same with their positions in
    them. bias: (n_head, positions of queries [T], of keys [W]) -> [H, T, W] added to the scores.
    """

    parameters: Callable[[Shape], dict[str, Parameter]] | None = None
    added: Callable[[Mapping[str, jax.Array], jax.Array, int], jax.Array] | None = None
    turned: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    bias: Callable[[int, jax.Array, jax.Array], jax.Array] | None = None


def rotary(x_BTHK: jax.Array, positions_T: jax.Array) -> jax.Array:
    """Rotate pairs of channels by an angle proportional to position (Su et al. 2021, RoFormer, eq. 34)."""
    import jax.numpy as jnp

    half = x_BTHK.shape[-1] // 2
    frequency_K = BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_TK = positions_T[:, None].astype(jnp.float32) * frequency_K
    cos, sin = jnp.cos(angle_TK)[:, None, :], jnp.sin(angle_TK)[:, None, :]
    first, second = x_BTHK[..., :half], x_BTHK[..., half:]
    rotated = jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return rotated.astype(x_BTHK.dtype)


def learned_parameters(shape: Shape) -> dict[str, Parameter]:
    """List a row for each position of the context, which starts as the tokens' rows do."""
    return {"positions": Parameter("embedding", (shape.context, shape.d_model), shape.d_model**-0.5)}


def learned(arrays: Mapping[str, jax.Array], positions_T: jax.Array, d_model: int) -> jax.Array:
    """Look the positions up (Radford et al. 2018, GPT)."""
    return arrays["positions"][positions_T]


def sinusoidal(arrays: Mapping[str, jax.Array], positions_T: jax.Array, d_model: int) -> jax.Array:
    """Make sines and cosines of wavelengths from 2 pi to 10,000 x 2 pi (Vaswani et al. 2017, section 3.5).

    There tokens are multiplied by the root of d_model; here the waves are divided by it, for the same sum but for a
    factor that the norms take out.
    """
    import jax.numpy as jnp

    channel_D = jnp.arange(d_model)
    frequency_D = BASE ** (-(channel_D // 2 * 2).astype(jnp.float32) / d_model)
    angle_TD = positions_T[:, None].astype(jnp.float32) * frequency_D
    return jnp.where(channel_D % 2, jnp.cos(angle_TD), jnp.sin(angle_TD)) * d_model**-0.5


def alibi(n_head: int, queries_T: jax.Array, keys_W: jax.Array) -> jax.Array:
    """Lower scores in proportion to the distance, by slopes 2^(-8 h / n_head) of heads h = 1, 2, ... (Press et al.
    2022, section 3)."""
    import jax.numpy as jnp

    slope_H = 2.0 ** (-8.0 * jnp.arange(1, n_head + 1) / n_head)
    distance_TW = (queries_T[:, None] - keys_W[None, :]).astype(jnp.float32)
    return -slope_H[:, None, None] * jnp.abs(distance_TW)  # both ways where a row sees what follows


# none: a causal network can count for itself (Haviv et al. 2022)
POSITIONS: dict[str, Positions] = {
    "rotary": Positions(turned=rotary),
    "learned": Positions(parameters=learned_parameters, added=learned),
    "sinusoidal": Positions(added=sinusoidal),
    "alibi": Positions(bias=alibi),
    "none": Positions(),
}


def position_parameters(shape: Shape) -> dict[str, Parameter]:
    """List the arrays of the network's positions; most kinds have none."""
    parameters = POSITIONS[shape.positions].parameters
    return parameters(shape) if parameters else {}


def check_length(shape: Shape, length: int) -> None:
    """Raise UserError for rows that are longer than the positions that the network has learned."""
    if length > shape.context and position_parameters(shape):
        raise UserError(
            f"family.positions={shape.positions}: a row has {length} tokens, and the network has positions for "
            f"data.context={shape.context}; give shorter rows, or train with a longer context or other positions"
        )
