"""What must be memorised, and what cannot be: Zipf-distributed facts, and labels that only a table knows."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import LETTERS, Examples, Task, answer, hash_bytes, letters, render

VOWELS = np.frombuffer(b"aeiou", np.uint8)
CONSONANTS = np.frombuffer(b"bcdfghjklmnpqrstvwxyz", np.uint8)


def names(rng: Generator, count: int) -> np.ndarray:
    """`count` different pronounceable names of four letters, uint8 [count, 4]."""
    grid = np.stack(np.meshgrid(CONSONANTS, VOWELS, CONSONANTS, VOWELS, indexing="ij"), -1).reshape(-1, 4)
    return grid[rng.permutation(len(grid))[:count]]


def zipf(count: int) -> np.ndarray:
    """Cumulative probabilities of ranks 1..count, each in proportion to 1 / rank."""
    weight = 1 / np.arange(1, count + 1)
    return np.cumsum(weight) / weight.sum()


def facts(seed: int, count: int = 2048) -> Task:
    """Names with one letter each, asked as often as Zipf's law says: a larger model holds more of them."""
    rng = np.random.default_rng([seed, 2])
    subject, value = names(rng, count), LETTERS[rng.integers(26, size=count)]
    cumulative = zipf(count)

    def sample(rng: Generator, n: int) -> Examples:
        index = np.searchsorted(cumulative, rng.random(n), side="right").clip(max=count - 1)
        return render("fact ", subject[index], " ", answer(value[index, None]), "\n")

    return Task(
        name="facts",
        about=f"{count} names with a letter each, asked by Zipf's law",
        sample=sample,
        chance=1 / 26,
        intended_class="smooth",
        choices=LETTERS.tobytes(),
    )


def hashed(seed: int) -> Task:
    """A label that is a keyed hash of a random key, asked for keys never seen: nobody can know."""

    def sample(rng: Generator, n: int) -> Examples:
        key = letters(rng, n, 4)
        label = LETTERS[(hash_bytes(key, salt=seed + 3) % np.uint64(4)).astype(int)]
        return render("hash ", key, " ", answer(label[:, None]), "\n")

    return Task(
        name="hashed",
        about="the hash of an unseen key, one of four letters",
        sample=sample,
        chance=0.25,
        intended_class="flat",
        heldout=0.1,
        choices=b"abcd",
    )
