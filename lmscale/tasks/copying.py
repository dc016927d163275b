"""Tasks about order: write a string again, backwards, or sorted. Exact match asks for every byte at once."""

from functools import partial

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import Examples, Task, Variant, answer, cut, letters, render


def copy(seed: int, length: int = 12) -> Task:
    """Write random letters again."""

    def sample(rng: Generator, n: int) -> Examples:
        x = letters(rng, n, length)
        return render("copy ", x, ">", answer(x), "\n")

    return Task(
        name="copy",
        about=f"{length} random letters, again",
        sample=sample,
        chance=26.0**-length,
        intended_class="emergent",
        heldout=0.1,
    )


def copy_lengths(seed: int, lengths: tuple[int, ...] = (1, 2, 4, 8, 16)) -> Task:
    """Copy strings of several lengths in one component: by how much does exact match of the long ones lag?"""

    def sample(rng: Generator, n: int, only: tuple[int, ...] = lengths) -> Examples:
        length = np.array(only)[rng.integers(len(only), size=n)]
        x = cut(letters(rng, n, max(only)), length)
        return render("dup ", x, ">", answer(x), "\n")

    return Task(
        name="copy_lengths",
        about=f"{', '.join(map(str, lengths))} random letters, again",
        sample=sample,
        chance=26.0 ** -lengths[0],
        intended_class="emergent",
        variants=tuple(
            Variant(
                f"length_{length}",
                partial(sample, only=(length,)),
                chance=26.0**-length,
            )
            for length in lengths
        ),
    )


def sort(seed: int, length: int = 8) -> Task:
    """Write random letters in the order of the alphabet."""

    def sample(rng: Generator, n: int) -> Examples:
        x = letters(rng, n, length)
        return render("sort ", x, ">", answer(np.sort(x, axis=1)), "\n")

    return Task(
        name="sort",
        about=f"{length} random letters in order",
        sample=sample,
        chance=26.0**-length,
        intended_class="emergent",
        heldout=0.1,
    )


def reverse(seed: int, length: int = 8) -> Task:
    """Write random letters backwards."""

    def sample(rng: Generator, n: int) -> Examples:
        x = letters(rng, n, length)
        return render("back ", x, ">", answer(x[:, ::-1]), "\n")

    return Task(
        name="reverse",
        about=f"{length} random letters backwards",
        sample=sample,
        chance=26.0**-length,
        intended_class="emergent",
        heldout=0.1,
    )
