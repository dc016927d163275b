"""Facts to memorise, and some that nobody can: Zipf-distributed facts, facts overridden, hashed labels."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import LETTERS, Examples, Task, Variant, answer, hash_bytes, letters, render

VOWELS = np.frombuffer(b"aeiou", np.uint8)
CONSONANTS = np.frombuffer(b"bcdfghjklmnpqrstvwxyz", np.uint8)


def names(rng: Generator, count: int, pattern: str = "cvcv") -> np.ndarray:
    """Make `count` different pronounceable names of consonants and vowels, uint8 [count, len(pattern)]."""
    axes = [CONSONANTS if letter == "c" else VOWELS for letter in pattern]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(pattern))
    return grid[rng.permutation(len(grid))[:count]]


def zipf(count: int) -> np.ndarray:
    """Sum the probabilities of ranks 1..count, each in proportion to 1 / rank."""
    weight = 1 / np.arange(1, count + 1)
    return np.cumsum(weight) / weight.sum()


def _table(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Names in the order of their rank, and the letter of each: `facts` and `override` know the same ones."""
    rng = np.random.default_rng([seed, 2])
    return names(rng, count), rng.integers(26, size=count)


def facts(seed: int, count: int = 2048, often: int = 64) -> Task:
    """Ask for the letter of a name, names by Zipf's law: a larger model holds more of them."""
    subject, value = _table(seed, count)
    cumulative = zipf(count)

    def ranks(rng: Generator, n: int) -> np.ndarray:
        return np.searchsorted(cumulative, rng.random(n), side="right").clip(max=count - 1)

    def ask(index: np.ndarray) -> Examples:
        return render("fact ", subject[index], " ", answer(LETTERS[value[index, None]]), "\n")

    def contrary(rng: Generator, n: int) -> Examples:
        """The context has just said another letter: is it repeated, or the memorised one written?"""
        index = np.repeat(rng.integers(often, size=n), 2)
        other = (value[index[::2]] + rng.integers(1, 26, size=n)) % 26
        said = LETTERS[np.repeat(other, 2)[:, None]]
        option = LETTERS[np.stack([other, value[index[::2]]], axis=1).reshape(-1, 1)]
        return render(
            "fact ", subject[index], " ", said, "\nfact ", subject[index], " ", answer(option), "\n"
        )

    return Task(
        name="facts",
        about=f"{count} names with a letter each, asked by Zipf's law",
        sample=lambda rng, n: ask(ranks(rng, n)),
        chance=1 / 26,
        intended_class="smooth",
        choices=LETTERS.tobytes(),
        variants=(
            Variant("direct"),
            Variant("frequent", lambda rng, n: ask(rng.integers(often, size=n)), core=False),
            Variant("rare", lambda rng, n: ask(rng.integers(count // 2, count, size=n)), core=False),
            Variant(
                "contrary",
                contrary,
                chance=0.5,
                intended_class="inverse",
                choices=b"",
                scoring="choices",
                options=2,
                core=False,
            ),
        ),
    )


def override(seed: int, count: int = 2048) -> Task:
    """Write a note that says another letter than the memorised one (of `facts`), for names without a note in
    training."""
    subject, value = _table(seed, count)

    def sample(rng: Generator, n: int) -> Examples:
        index = rng.integers(count, size=n)
        said = LETTERS[(value[index, None] + rng.integers(1, 26, size=(n, 1))) % 26]
        name = subject[index]
        return render("note ", name, " ", said, ", ", name, " ", answer(said), "\n", key=hash_bytes(name))

    return Task(
        name="override",
        about="a fact as a note in the context has it, not as memorised",
        sample=sample,
        chance=1 / 26,
        intended_class="emergent",
        heldout=0.2,
        choices=LETTERS.tobytes(),
    )


def hashed(seed: int) -> Task:
    """Ask for a label that is a keyed hash of a random key, asked for keys never seen: nobody can know."""

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
        floor=float(np.log(4)),
    )
