"""What a model is asked about a row: each kind's marks on text and its forward pass beside each other.

A row's counted targets say all: `masked` hides them, `prefix` shows both ways what stands before the first of them.
Target t is always token t + 1 of the row. A plan imports this, so jax is imported where a pass is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from lmscale.text.vocab import MASK, PAD

if TYPE_CHECKING:
    import jax

CAUSAL = "causal"


@dataclass(frozen=True)
class Objective:
    """One kind.

    counted: (windows of text R, targets of each T, share to hide, random numbers) -> which count, bool [R, T].
    logits: (forward, params, tokens [B, T + 1], counted [B, T]) -> what `forward` gives, logits of the targets
    [B, T, V] first.
    """

    counted: Callable[[int, int, float, Generator], np.ndarray]
    logits: Callable[[Callable[..., Any], Any, jax.Array, jax.Array], Any]


def _every(rows: int, context: int, share: float, rng: Generator) -> np.ndarray:
    return np.ones((rows, context), bool)


def _after_a_prefix(rows: int, context: int, share: float, rng: Generator) -> np.ndarray:
    return np.arange(context) >= rng.integers(context, size=(rows, 1))


def _some(rows: int, context: int, share: float, rng: Generator) -> np.ndarray:
    """The same number in each row, at least one, anywhere."""
    order = rng.random((rows, context)).argsort(axis=1).argsort(axis=1)
    return order < max(1, round(share * context))


def _causal(forward: Callable[..., Any], params: Any, tokens: jax.Array, counted: jax.Array) -> Any:
    """Each position sees those before it."""
    return forward(params, tokens[:, :-1])


def _prefix(forward: Callable[..., Any], params: Any, tokens: jax.Array, counted: jax.Array) -> Any:
    """Positions up to that which predicts the first counted target see each other (Raffel et al. 2020, fig. 4)."""
    import jax.numpy as jnp

    place = jnp.arange(counted.shape[1])
    first = jnp.argmax(counted, axis=1)[:, None, None]
    visible = (place[None, None, :] <= place[None, :, None]) | (place[None, None, :] <= first)
    return forward(params, tokens[:, :-1], visible[:, None])


def _masked(forward: Callable[..., Any], params: Any, tokens: jax.Array, counted: jax.Array) -> Any:
    """Counted targets are hidden, all as MASK (Wettig et al. 2023, section 5), and the whole row is seen."""
    import jax.numpy as jnp

    shown = jnp.where(counted, MASK, tokens[:, 1:])
    return forward(params, shown, (shown != PAD)[:, None, None, :])


OBJECTIVES = {
    CAUSAL: Objective(_every, _causal),
    "masked": Objective(_some, _masked),
    "prefix": Objective(_after_a_prefix, _prefix),
}
