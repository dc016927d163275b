"""Nested list operations, after ListOps (Nangia and Bowman 2018): maximum, median, sum mod 10, of digits."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import DIGITS, PAD, Examples, Task, Variant, answer, chain, cut, render

OPERATIONS = np.frombuffer(b"MDS", np.uint8)  # MAX, MED, SUM
WIDTH = 3


def _apply(operation: np.ndarray, x: np.ndarray) -> np.ndarray:
    """operation [..], digits [.., 3] -> a digit [..]."""
    return np.choose(operation, [x.max(axis=-1), np.median(x, axis=-1).astype(int), x.sum(axis=-1) % 10])


def list_ops(seed: int, steps: bool = False) -> Task:
    """Apply an operation to three digits, each of which may be an operation of its own. steps: the inner results,
    the easier questions, are written before the answer."""

    def sample(rng: Generator, n: int, nested: float = 0.5) -> Examples:
        digit = rng.integers(10, size=(n, WIDTH, WIDTH))
        inner = rng.integers(3, size=(n, WIDTH))
        outer = rng.integers(3, size=n)
        is_nested = rng.random((n, WIDTH)) < nested
        value = np.where(is_nested, _apply(inner, digit), digit[..., 0])
        result = DIGITS[_apply(outer, value)[:, None]]
        text = np.full((n, WIDTH, WIDTH + 3), PAD, np.uint16)
        text[..., 0] = np.where(is_nested, ord("("), DIGITS[digit[..., 0]])
        text[..., 1] = OPERATIONS[inner]
        text[..., 2:-1] = DIGITS[digit]
        text[..., -1] = ord(")")
        text[~is_nested, 1:] = PAD
        head = ("list ", OPERATIONS[outer, None], text.reshape(n, -1))
        if not steps:
            return render(*head, "=", answer(result), "\n")
        found = np.take_along_axis(DIGITS[value], np.argsort(~is_nested, axis=1, kind="stable"), axis=1)
        return render(
            *head, ":", chain(cut(found, is_nested.sum(axis=1))), chain("="), answer(result), chain("\n")
        )

    deep = Variant("nested", lambda rng, n: sample(rng, n, 1.0), core=False)
    return Task(
        name="list_ops_steps" if steps else "list_ops",
        about="max, median or sum of three digits or of such lists" + ", inner results first" * steps,
        sample=sample,
        chance=0.1,
        intended_class="emergent" if steps else "smooth",
        heldout=0.1,
        choices=DIGITS.tobytes(),
        variants=(
            Variant("forced"),
            Variant("greedy", scoring="greedy"),
            Variant("sampled", scoring="sampled", core=False),
        )
        if steps
        else (Variant("direct"), deep),
    )
