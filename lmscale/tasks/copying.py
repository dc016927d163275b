"""Tasks about order: write a string again, backwards, or sorted. Exact match asks for every byte at once."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import Examples, Task, answer, letters, render


def copy(seed: int, length: int = 12) -> Task:
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


def sort(seed: int, length: int = 8) -> Task:
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
