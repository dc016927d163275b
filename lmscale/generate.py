"""Answers written by the model itself, a byte at a time: greedy or sampled, many questions at once.

The decoder (a cache of keys and values, or whole forward passes) is the model's; scoring is on the answer
that follows whatever chain was written.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale.lanes import over_lanes
from lmscale.model import Decoder
from lmscale.placement import Placement
from lmscale.scoring import Score, as_lengths, summarise
from lmscale.tasks.rows import Rows

END = ord("\n")
SPARE = 4  # bytes a chain may be longer than the longest true one


def full_forward(forward: Callable[[Any, jax.Array], jax.Array]) -> Decoder:
    """Make a decoder without a cache: a whole forward pass for each token. The yardstick for one with."""

    def start(params: Any, rows: int, length: int) -> jax.Array:
        return jnp.zeros((rows, length), jnp.int32)

    def step(params: Any, cache: jax.Array, tokens: jax.Array, position: jax.Array) -> Any:
        cache = cache.at[:, position].set(tokens)
        return forward(params, cache)[:, position], cache

    return Decoder(start, step)


def generate(
    decoder: Decoder, params: Any, given: jax.Array, known: jax.Array, temperature: float, key: jax.Array
) -> jax.Array:
    """Go on from the first `known` [R] tokens of each row of `given` [R, W]: int32 [R, W], prompts included.

    temperature 0 is greedy; above it, tokens are sampled from the model's distribution at that temperature.
    """
    rows, width = given.shape

    def step(carry: tuple[jax.Array, Any], position: jax.Array) -> tuple[tuple[jax.Array, Any], jax.Array]:
        tokens, cache = carry
        logits, cache = decoder.step(params, cache, tokens, position)
        if temperature:
            noise = jax.random.gumbel(jax.random.fold_in(key, position), logits.shape)
            logits = logits / temperature + noise
        written = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        tokens = jnp.where(position + 1 < known, given[:, position + 1], written)
        return (tokens, cache), tokens

    first = (given[:, 0], decoder.start(params, rows, width))
    _, written = jax.lax.scan(step, first, jnp.arange(width - 1))
    return jnp.concatenate([given[:, :1], written.T], axis=1)


Generation = Callable[[Any], list[tuple[Score, dict[str, np.ndarray]]]]


def make_generation(
    rows: Rows, decoder: Decoder, temperature: float, seed: int, placement: Placement | None = None
) -> Generation:
    """Make a function from params (leading lane axis) to a score and items for each lane.

    rows: one question a row, whose last counted stretch is chain and answer. What the model writes up to the
    end of the line is right when it ends with the answer, whatever stands before.
    """
    scored = rows.item >= 0
    target = rows.tokens[:, 1:]
    counted_from = _last_run(rows.counted)
    known = counted_from + 1  # START and the question
    size = scored.sum(axis=1)
    last = scored.shape[1] - np.argmax(scored[:, ::-1], axis=1)  # one past the answer's last target
    answers = [target[r, last[r] - size[r] : last[r]] for r in range(len(size))]
    width = min(int(last.max()) + 2 + SPARE, rows.tokens.shape[1])
    on_devices = functools.partial(placement.rows, axis=0) if placement else jnp.asarray
    given, limits = on_devices(rows.tokens[:, :width].astype(np.int32)), on_devices(known.astype(np.int32))
    key = jax.random.key(seed)

    @(placement.evaluating if placement else jax.jit)
    def program(params: Any, given: jax.Array, limits: jax.Array) -> jax.Array:
        return over_lanes(lambda lane: generate(decoder, lane, given, limits, temperature, key))(params)

    def run(params: Any) -> list[tuple[Score, dict[str, np.ndarray]]]:
        return [score(lane) for lane in np.asarray(program(params, given, limits))]

    def score(written: np.ndarray) -> tuple[Score, dict[str, np.ndarray]]:
        matched = np.zeros(len(size), int)
        for row, answer in enumerate(answers):
            text = written[row, known[row] :]
            ends = np.flatnonzero(text == END)
            if len(ends) and ends[0] >= len(answer):
                matched[row] = (text[ends[0] - len(answer) : ends[0]] == answer).sum()
        items = {
            "correct": (matched == size).astype(np.uint8),
            "matched_bytes": as_lengths(matched, size),
            "answer_bytes": as_lengths(size, size),
        }
        return summarise(items), items

    return run


def _last_run(counted: np.ndarray) -> np.ndarray:
    """The first target of the last unbroken stretch of counted ones in each row, int [R]."""
    begins = counted & ~np.pad(counted, ((0, 0), (1, 0)))[:, :-1]
    return counted.shape[1] - 1 - np.argmax(begins[:, ::-1], axis=1)
