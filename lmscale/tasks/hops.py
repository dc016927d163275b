"""Facts that must be put together: who is the p of the q of kab? For subjects whose chains were never trained."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import Examples, Task, Variant, answer, chain, hash_bytes, render
from lmscale.tasks.facts import names

RELATIONS = np.frombuffer(b"pqrs", np.uint8)


def _kin(seed: int, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Names [people, 3] and, for each relation, who stands in it to whom: int [4, people]."""
    rng = np.random.default_rng([seed, 5])
    name = names(rng, people, "cvc")
    return name, np.stack([rng.permutation(people) for _ in RELATIONS])


def hops(seed: int, count: int, recite: bool, people: int = 256) -> Task:
    """`count` relations in a row. recite: name who stands between before the answer. One-hop facts are
    trained for everyone, longer chains for three subjects in four and asked of the fourth."""
    name, table = _kin(seed, people)

    def sample(rng: Generator, n: int) -> Examples:
        subject = rng.integers(people, size=n)
        relation = rng.integers(len(RELATIONS), size=(n, count))
        path = [subject]
        for step in range(count):
            path.append(table[relation[:, step], path[-1]])
        dotted = np.full((n, 2 * count), ord("."), np.uint8)
        dotted[:, 1::2] = RELATIONS[relation]
        parts = [part for person in path[1:-1] for part in (chain(name[person]), chain(" "))]
        head = ("kin ", name[subject], dotted, ":" if recite else "=")
        key = hash_bytes(name[subject])
        if not recite:
            return render(*head, answer(name[path[-1]]), "\n", key=key)
        # the end of the line is trained: a chain that is generated must end by itself
        return render(*head, *parts, answer(name[path[-1]]), chain("\n"), key=key)

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
        )
        if recite
        else (Variant("direct"),),
    )
