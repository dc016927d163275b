"""Facts that must be put together: who is the p of the q of kab? For subjects whose chains were never trained."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import Examples, Task, Variant, after, answer, chain, hash_bytes, render
from lmscale.tasks.facts import names

RELATIONS = np.frombuffer(b"pqrs", np.uint8)


def _kin(seed: int, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Names [people, 3] and, for each relation, who stands in it to whom: int [4, people]."""
    rng = np.random.default_rng([seed, 5])
    name = names(rng, people, "cvc")
    return name, np.stack([rng.permutation(people) for _ in RELATIONS])


def hops(seed: int, count: int, recite: bool, people: int = 256) -> Task:
    """Follow `count` relations in a row. recite: name who stands between before the answer. One-hop facts are
    trained for everyone, longer chains for three subjects in four and asked of the fourth."""
    name, table = _kin(seed, people)

    def asked(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray | str, ...]]:
        """Subjects [n], relations [n, count], and the question as text."""
        subject = rng.integers(people, size=n)
        relation = rng.integers(len(RELATIONS), size=(n, count))
        dotted = np.full((n, 2 * count), ord("."), np.uint8)
        dotted[:, 1::2] = RELATIONS[relation]
        return subject, relation, ("kin ", name[subject], dotted, ":" if recite else "=")

    def path(subject: np.ndarray, relation: np.ndarray) -> list[np.ndarray]:
        """The name of who stands after each relation, uint8 [n, 3] each."""
        found = []
        for step in range(count):
            subject = table[relation[:, step], subject]
            found.append(name[subject])
        return found

    def sample(rng: Generator, n: int) -> Examples:
        subject, relation, head = asked(rng, n)
        *between, last = path(subject, relation)
        key = hash_bytes(name[subject])
        if not recite:
            return render(*head, answer(last), "\n", key=key)
        parts = [part for person in between for part in (chain(person), chain(" "))]
        # the end of the line is trained: a chain that is generated must end by itself
        return render(*head, *parts, answer(last), chain("\n"), key=key)

    def wrong(rng: Generator, n: int) -> Examples:
        """A demonstration that recites true facts of another person, wrong and relevant; then the question."""
        subject, relation, head = asked(rng, n)
        other = (subject + rng.integers(1, people, size=n)) % people
        told = [part for person in path(other, relation) for part in (person, " ")][:-1]
        question = sample(rng, n)
        return after((*head, *told, "\n"), question)

    word = {1: "one", 2: "two", 3: "three"}[count]
    return Task(
        name=f"{word}_hop" + "_recite" * recite,
        about=f"{word} of four relations among {people} people" + ", each step recited first" * recite,
        sample=sample,
        chance=1 / people,
        intended_class="smooth" if count == 1 else "emergent" if recite else "flat",
        heldout=0.0 if count == 1 else 0.25,
        variants=(
            Variant("forced"),
            Variant("greedy", scoring="greedy"),
            Variant("sampled", scoring="sampled", core=False),
            Variant("wrong_facts", wrong, scoring="greedy", core=False),
        )
        if recite
        else (Variant("direct"),),
    )
