"""Parities: no part of the answer is worth anything without the rest, unless the steps are written down."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import DIGITS, Examples, Part, Task, Variant, after, answer, chain, render


def _bits(rng: Generator, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random bits and their running parity, both int [n, length]."""
    bits = rng.integers(2, size=(n, length))
    return bits, np.cumsum(bits, axis=1) % 2


def parity(seed: int, length: int = 9, name: str = "parity", tag: str = "odd ") -> Task:
    """Ask whether the number of ones is odd, at once: no partial credit leads to it."""

    def sample(rng: Generator, n: int) -> Examples:
        bits, state = _bits(rng, n, length)
        return render(tag, DIGITS[bits], "=", answer(DIGITS[state[:, -1:]]), "\n")

    return Task(
        name=name,
        about=f"parity of {length} bits, at once",
        sample=sample,
        chance=0.5,
        intended_class="flat",
        heldout=0.4,
        choices=b"01",
    )


def parity_chain(seed: int, length: int = 9) -> Task:
    """Ask the same questions as `parity` (and the same held out), with the running state written before."""

    def sample(rng: Generator, n: int) -> Examples:
        bits, state = _bits(rng, n, length)
        return render("odd ", DIGITS[bits], ":", chain(DIGITS[state]), chain("="), _last(state), chain("\n"))

    def whole(rng: Generator, n: int) -> Examples:
        """Scored on every step: given a correct chain, the last byte would be a copy."""
        bits, state = _bits(rng, n, length)
        return render("odd ", DIGITS[bits], ":", answer(DIGITS[state]), answer("="), _last(state), "\n")

    def wrong(rng: Generator, n: int) -> Examples:
        """A demonstration whose steps are relevant and wrong from a random place on, its answer with them
        (Wang et al. 2023, arXiv:2212.10001); then the question."""
        shown, steps = _bits(rng, n, length)
        steps = steps ^ (np.arange(length) >= rng.integers(length, size=(n, 1)))
        demonstration = ("odd ", DIGITS[shown], ":", DIGITS[steps], "=", DIGITS[steps[:, -1:]], "\n")
        return after(demonstration, sample(rng, n))

    return Task(
        name="parity_chain",
        about=f"parity of {length} bits, after the running parity",
        sample=sample,
        chance=0.5,
        intended_class="emergent",
        heldout=0.4,
        choices=b"01",
        variants=(
            Variant("chain", whole, chance=2.0**-length, choices=b""),
            Variant("greedy", scoring="greedy"),
            Variant("sampled", scoring="sampled", core=False),
            Variant("wrong_steps", wrong, scoring="greedy", core=False),
        ),
    )


def _last(state: np.ndarray) -> Part:
    return answer(DIGITS[state[:, -1:]])


def sparse_parity(seed: int, length: int = 14, rare_share: float = 0.1) -> Task:
    """Ask for the parity of three bits at secret places, under two tags with places of their own, one of them rare:
    each is learnt at once or not at all, the rare one later (Michaud et al. 2023, arXiv:2303.13506)."""
    rng = np.random.default_rng([seed, 6])
    places = np.stack([rng.permutation(length)[:3] for _ in range(2)])
    tags = np.frombuffer(b"fr", np.uint8)

    def sample(rng: Generator, n: int, share: float = rare_share) -> Examples:
        bits = rng.integers(2, size=(n, length))
        kind = (rng.random(n) < share).astype(int)
        value = np.take_along_axis(bits, places[kind], axis=1).sum(axis=1) % 2
        return render("xor", tags[kind, None], " ", DIGITS[bits], "=", answer(DIGITS[value[:, None]]), "\n")

    return Task(
        name="sparse_parity",
        about=f"parity of 3 secret bits of {length}, a frequent and a rare kind",
        sample=sample,
        chance=0.5,
        intended_class="emergent",
        heldout=0.1,
        choices=b"01",
        variants=(
            Variant("frequent", lambda rng, n: sample(rng, n, 0.0)),
            Variant("rare", lambda rng, n: sample(rng, n, 1.0)),
        ),
    )
