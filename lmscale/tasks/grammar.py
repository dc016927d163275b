"""Formal languages: a bigram chain that the smallest model learns, and brackets that it half learns."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import LETTERS, Examples, Task, answer, chain, hash_bytes, render

PAIRS = np.frombuffer(b"()[]{}<>", np.uint8).reshape(4, 2)


def bigram(seed: int, symbols: int = 8, likely: float = 0.9, length: int = 9) -> Task:
    """Walk over few letters in which each has one likely successor; the others share the rest."""
    table = np.random.default_rng([seed, 1]).permutation(symbols)
    # one cycle through all symbols, so that no letter is its own successor
    successor = np.empty(symbols, int)
    successor[table] = np.roll(table, -1)

    def sample(rng: Generator, n: int) -> Examples:
        state = np.empty((n, length), int)
        state[:, 0] = rng.integers(symbols, size=n)
        usual = rng.random((n, length)) < likely
        other = rng.integers(1, symbols, size=(n, length))
        for t in range(1, length):
            best = successor[state[:, t - 1]]
            state[:, t] = np.where(usual[:, t], best, (best + other[:, t]) % symbols)
        x = LETTERS[state]
        return render("walk ", x[:, :1], chain(x[:, 1:-1]), answer(x[:, -1:]), "\n", key=hash_bytes(x))

    return Task(
        name="bigram",
        about=f"a walk over {symbols} letters, each with one successor of probability {likely}",
        sample=sample,
        chance=1 / symbols,
        ceiling=likely,
        intended_class="saturated",
        choices=LETTERS[:symbols].tobytes(),
        floor=float(-likely * np.log(likely) - (1 - likely) * np.log((1 - likely) / (symbols - 1))),
        own=("ngram",),
    )


def brackets(seed: int, length: int = 14) -> Task:
    """Write the bracket that closes the innermost open one, after a random well-formed beginning."""

    def sample(rng: Generator, n: int) -> Examples:
        text = np.empty((n, length), np.uint8)
        stack = np.zeros((n, length + 1), int)
        depth = np.zeros(n, int)
        row = np.arange(n)
        kinds = rng.integers(4, size=(n, length))
        opens = rng.random((n, length)) < 0.55
        for t in range(length):
            # the last place must leave something open to ask about
            push = opens[:, t] | (depth == 0) | ((depth == 1) & (t == length - 1))
            top = stack[row, np.maximum(depth - 1, 0)]
            text[:, t] = np.where(push, PAIRS[kinds[:, t], 0], PAIRS[top, 1])
            stack[row, np.where(push, depth, length)] = kinds[:, t]
            depth += np.where(push, 1, -1)
        closing = PAIRS[stack[row, depth - 1], 1]
        return render("close ", text, " ", answer(closing[:, None]), "\n")

    return Task(
        name="brackets",
        about=f"close the innermost open bracket of {length}",
        sample=sample,
        chance=0.25,
        intended_class="smooth",
        heldout=0.1,
        choices=PAIRS[:, 1].tobytes(),
    )
