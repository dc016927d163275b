"""Six classic skills of next-word prediction, as choices over a small generated language with a lexicon,
a grammar, facts, polarity and a translation of its own."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import Examples, Task, Variant, answer, join, render, words
from lmscale.tasks.facts import names

KINDS = words(["beast", "tool", "meal"])
FEELINGS = words(["glad", "sad"])
NUMBERS = words(
    [
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    ]
)
AGREEMENT = words(["s", ""])  # of a verb after a singular and a plural noun

Sentences = Callable[[Generator, int], tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]]


def language(seed: int, nouns: int = 48, verbs: int = 24, places: int = 64, adjectives: int = 32) -> Task:
    """Train sentences of all six kinds together; each kind is scored by which of two endings is likelier."""
    rng = np.random.default_rng([seed, 7])
    noun, abroad = np.split(names(rng, 2 * nouns), 2)
    verb = names(rng, verbs, "cvc")
    land, city = np.split(names(rng, 2 * places, "cvcvc"), 2)
    adjective = names(rng, adjectives, "vcvc")
    kind, capital, translated = rng.integers(3, size=nouns), rng.permutation(places), rng.permutation(nouns)
    good = rng.permutation(np.arange(adjectives) % 2)

    def another(rng: Generator, right: np.ndarray, count: int) -> np.ndarray:
        return (right + rng.integers(1, count, size=len(right))) % count

    # each: what stands before, the right ending, a wrong one
    def grammar(rng: Generator, n: int) -> tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]:
        plural, action = rng.integers(2, size=n), verb[rng.integers(verbs, size=n)]
        head = ("say the ", noun[rng.integers(nouns, size=n)], AGREEMENT[1 - plural], " ", action)
        return head, AGREEMENT[plural], AGREEMENT[1 - plural]

    def semantics(rng: Generator, n: int) -> tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]:
        thing, like = rng.integers(nouns, size=n), adjective[rng.integers(adjectives, size=n)]
        right = kind[thing]
        head = ("say a ", like, " ", noun[thing], " is a ")
        return head, KINDS[right], KINDS[another(rng, right, 3)]

    def knowledge(rng: Generator, n: int) -> tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]:
        where = rng.integers(places, size=n)
        right = capital[where]
        return ("say the city of ", land[where], " is "), city[right], city[another(rng, right, places)]

    def sentiment(rng: Generator, n: int) -> tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]:
        word, thing = rng.integers(adjectives, size=n), noun[rng.integers(nouns, size=n)]
        head = ("say the ", thing, " was ", adjective[word], ", i am ")
        return head, FEELINGS[good[word]], FEELINGS[1 - good[word]]

    def translation(rng: Generator, n: int) -> tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]:
        thing = rng.integers(nouns, size=n)
        right = translated[thing]
        return ("say ", noun[thing], " abroad is "), abroad[right], abroad[another(rng, right, nouns)]

    def arithmetic(rng: Generator, n: int) -> tuple[tuple[np.ndarray | str, ...], np.ndarray, np.ndarray]:
        x = rng.integers(10, size=(2, n))
        total = x.sum(axis=0)
        near = np.where(total == 0, 1, total + rng.choice([-1, 1], size=n)).clip(max=18)
        near = np.where(near == total, total - 1, near)
        return ("say ", NUMBERS[x[0]], " plus ", NUMBERS[x[1]], " is "), NUMBERS[total], NUMBERS[near]

    kinds: dict[str, Sentences] = {
        "grammar": grammar,
        "semantics": semantics,
        "knowledge": knowledge,
        "sentiment": sentiment,
        "translation": translation,
        "arithmetic": arithmetic,
    }

    def sample(rng: Generator, n: int) -> Examples:
        share = rng.multinomial(n, np.full(len(kinds), 1 / len(kinds)))
        parts = []
        for make, count in zip(kinds.values(), share, strict=True):
            if count:
                head, right, _ = make(rng, count)
                parts.append(render(*head, answer(right), answer("\n")))
        return join(parts).take(rng.permutation(n))

    def choose(make: Sentences) -> Callable[[Generator, int], Examples]:
        def pairs(rng: Generator, n: int) -> Examples:
            head, right, wrong = make(rng, n)
            twice = [part if isinstance(part, str) else np.repeat(part, 2, axis=0) for part in head]
            ending = np.stack([right, wrong], axis=1).reshape(2 * n, -1)
            return render(*twice, answer(ending), answer("\n"))

        return pairs

    intended = {"knowledge": "smooth", "translation": "smooth", "arithmetic": "emergent"}
    return Task(
        name="language",
        about="the likelier of two endings: grammar, meaning, facts, feeling, translation, sums",
        sample=sample,
        chance=0.5,
        intended_class="smooth",
        version=2,
        variants=tuple(
            Variant(
                name,
                choose(make),
                intended_class=intended.get(name, "saturated"),
                scoring="choices",
                options=2,
            )
            for name, make in kinds.items()
        ),
    )
