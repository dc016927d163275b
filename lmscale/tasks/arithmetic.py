"""Arithmetic on held-out questions: modular addition, decimal addition, composition of permutations."""

import itertools

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import DIGITS, LETTERS, Examples, Task, Variant, answer, chain, render


def modadd(seed: int, modulus: int = 23) -> Task:
    """Add letters, a = 0, on pairs never seen in training."""

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


def modadd_97(seed: int) -> Task:
    """Do the same of two-digit numbers mod 97: enough pairs for a thousand unseen ones."""

    def sample(rng: Generator, n: int) -> Examples:
        x = rng.integers(97, size=(n, 2))
        total = _digits(x.sum(axis=1) % 97, 2)
        return render("mod ", _digits(x[:, 0], 2), "+", _digits(x[:, 1], 2), "=", answer(total), "\n")

    return Task(
        name="modadd_97",
        about="addition mod 97 of two-digit numbers, held-out pairs",
        sample=sample,
        chance=1 / 97,
        intended_class="emergent",
        heldout=0.2,
    )


def _digits(number: np.ndarray, width: int) -> np.ndarray:
    """Decimal digits with leading zeros, uint8 [n, width]."""
    return DIGITS[number[:, None] // 10 ** np.arange(width)[::-1] % 10]


def addition(seed: int, width: int = 2, reversed_digits: bool = False) -> Task:
    """Add decimal numbers. Written from the last digit on, each digit needs only what stands before it
    (Lee et al. 2023, arXiv:2307.03381)."""

    def sample(rng: Generator, n: int) -> Examples:
        x = rng.integers(10**width, size=(n, 2))
        total = _digits(x.sum(axis=1), width + 1)
        first, second = _digits(x[:, 0], width), _digits(x[:, 1], width)
        if reversed_digits:
            return render("mus ", first, "+", second, "=", answer(total[:, ::-1]), "\n")
        return render("sum ", first, "+", second, "=", answer(total), "\n")

    return Task(
        name="addition_reversed" if reversed_digits else "addition",
        about=f"{width}-digit addition" + ", the last digit of the sum first" * reversed_digits,
        sample=sample,
        chance=1 / (2 * 10**width),
        intended_class="emergent",
        heldout=0.12,
    )


def _group() -> np.ndarray:
    """The permutations of five things, int [120, 5]."""
    return np.array(list(itertools.permutations(range(5))))


def composition(seed: int) -> Task:
    """Multiply permutations of five things (the group S5), on pairs never seen in training."""
    group = _group()

    def sample(rng: Generator, n: int) -> Examples:
        first, second = group[rng.integers(len(group), size=(2, n))]
        product = np.take_along_axis(first, second, axis=1)
        one = DIGITS[1:]
        return render("mul ", one[first], "*", one[second], "=", answer(one[product]), "\n")

    return Task(
        name="composition",
        about="the product of two permutations of five, held-out pairs",
        sample=sample,
        chance=1 / 120,
        intended_class="emergent",
        heldout=0.1,
    )


def composition_3(seed: int, steps: bool = False) -> Task:
    """Multiply three permutations. steps: the product of the first two, which is the easier question that
    `composition` asks, is written before the answer (least-to-most: Zhou et al. 2022, arXiv:2205.10625)."""
    group = _group()

    def sample(rng: Generator, n: int) -> Examples:
        factors = group[rng.integers(len(group), size=(3, n))]
        inner = np.take_along_axis(factors[0], factors[1], axis=1)
        product = np.take_along_axis(inner, factors[2], axis=1)
        first, second, third, easier, whole = DIGITS[1:][np.stack([*factors, inner, product])]
        head = ("mul ", first, "*", second, "*", third)
        if not steps:
            return render(*head, "=", answer(whole), "\n")
        return render(*head, ":", chain(easier), chain("="), answer(whole), chain("\n"))

    return Task(
        name="composition_3_steps" if steps else "composition_3",
        about="the product of three permutations of five" + ", that of the first two written first" * steps,
        sample=sample,
        chance=1 / 120,
        intended_class="emergent",
        heldout=0.1,
        variants=(
            Variant("forced"),
            Variant("greedy", scoring="greedy"),
            Variant("sampled", scoring="sampled", core=False),
        )
        if steps
        else (Variant("direct"),),
    )
