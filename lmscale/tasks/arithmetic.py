"""Arithmetic whose questions are held out: modular addition, parity with and without its running state."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import DIGITS, LETTERS, Examples, Task, answer, render


def modadd(seed: int, modulus: int = 23) -> Task:
    """Addition of letters, a = 0, on pairs never seen in training."""

    def sample(rng: Generator, n: int) -> Examples:
        x = rng.integers(modulus, size=(n, 2))
        total = LETTERS[x.sum(axis=1) % modulus]
        return render("add ", LETTERS[x[:, :1]], "+", LETTERS[x[:, 1:]], "=", answer(total[:, None]), "\n")

    return Task(
        name="modadd",
        about=f"addition mod {modulus} of letters, held-out pairs",
        sample=sample,
        chance=1 / modulus,
        intended_class="emergent",
        heldout=0.2,
        choices=LETTERS[:modulus].tobytes(),
    )


def _bits(rng: Generator, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random bits and their running parity, both int [n, length]."""
    bits = rng.integers(2, size=(n, length))
    return bits, np.cumsum(bits, axis=1) % 2


def parity(seed: int, length: int = 10) -> Task:
    """Is the number of ones odd? Asked at once: no partial credit leads to it."""

    def sample(rng: Generator, n: int) -> Examples:
        bits, state = _bits(rng, n, length)
        return render("odd ", DIGITS[bits], "=", answer(DIGITS[state[:, -1:]]), "\n")

    return Task(
        name="parity",
        about=f"parity of {length} bits, at once",
        sample=sample,
        chance=0.5,
        intended_class="flat",
        heldout=0.25,
        choices=b"01",
    )


def parity_chain(seed: int, length: int = 10) -> Task:
    """The same questions as `parity` (and the same held out), with the running state written before."""

    def sample(rng: Generator, n: int) -> Examples:
        bits, state = _bits(rng, n, length)
        steps = DIGITS[state]
        # scored on the whole chain: given a correct chain, the last byte would be a copy
        return render("odd ", DIGITS[bits], ":", answer(steps), answer("="), answer(steps[:, -1:]), "\n")

    return Task(
        name="parity_chain",
        about=f"parity of {length} bits, after the running parity",
        sample=sample,
        chance=2.0**-length,
        intended_class="emergent",
        heldout=0.25,
    )
