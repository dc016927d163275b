"""Tasks answered from the context: pairs to look up, and label maps that agree with what was learnt or do not."""

from functools import partial

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import (
    DIGITS,
    LETTERS,
    Examples,
    Part,
    Task,
    Variant,
    answer,
    chain,
    cut,
    hash_bytes,
    render,
    shuffled,
)
from lmscale.tasks.facts import names

LABELS = np.frombuffer(b"AB", np.uint8)
ABSTRACT = np.frombuffer(b"XY", np.uint8)


def recall(seed: int, pairs: tuple[int, ...] = (2, 4, 8)) -> Task:
    """Show letters with a digit each and ask for one: associative recall (Ba et al. 2016, arXiv:1610.06258)."""

    def sample(rng: Generator, n: int, only: tuple[int, ...] = pairs) -> Examples:
        count = np.array(only)[rng.integers(len(only), size=n)]
        text = np.empty((n, 2 * max(only)), np.uint8)
        text[:, ::2] = LETTERS[shuffled(rng, n, 26, max(only))]
        text[:, 1::2] = DIGITS[rng.integers(10, size=(n, max(only)))]
        place = 2 * rng.integers(count)[:, None]
        asked = np.take_along_axis(text, place, axis=1)
        value = np.take_along_axis(text, place + 1, axis=1)
        return render("key ", cut(text, 2 * count), "?", asked, answer(value), "\n")

    return Task(
        name="recall",
        about=f"the digit of one of {', '.join(map(str, pairs))} letters",
        sample=sample,
        chance=0.1,
        intended_class="emergent",
        heldout=0.1,
        choices=DIGITS.tobytes(),
        variants=tuple(Variant(f"pairs_{count}", partial(sample, only=(count,))) for count in pairs),
    )


def labels(seed: int, vocabulary: int = 32, shots: int = 5) -> Task:
    """Ask for the memorised class of words, half of them each; demonstrations show it as it is, flipped, or under
    abstract names, and the question is to be answered as shown. Flips are the rarer kind, so a model that
    only memorises is wrong on them more often than chance (Wei et al. 2023, arXiv:2303.03846)."""
    rng = np.random.default_rng([seed, 4])
    word = names(rng, vocabulary, "cv")
    kind = rng.permutation(np.arange(vocabulary) % 2)

    def sample(
        rng: Generator,
        n: int,
        flipped: float = 0.25,
        abstract: float = 0.0,
        noise: bool = False,
        given: int = shots,
    ) -> Examples:
        index = shuffled(rng, n, vocabulary, given + 1)
        mark = kind[index] ^ (rng.random((n, 1)) < flipped)
        is_abstract = rng.random((n, 1)) < abstract
        # abstract names mean nothing beforehand: which is which is drawn for each example
        mark = np.where(is_abstract, mark ^ rng.integers(2, size=(n, 1)), mark)
        if noise:
            mark[:, :-1] = rng.integers(2, size=(n, given))
        label = np.where(is_abstract, ABSTRACT[mark], LABELS[mark])
        parts: list[Part | np.ndarray | str] = ["tag "]
        for shot in range(given + 1):
            last, shown = shot == given, label[:, shot : shot + 1]
            # the first demonstration cannot be known, only guessed: it does not train
            parts += [word[index[:, shot]], answer(shown) if last else chain(shown) if shot else shown]
            parts.append("\n" if last else " ")
        return render(*parts, key=hash_bytes(index))

    return Task(
        name="labels",
        about=f"{vocabulary} words of two classes; {shots} demonstrations say whether they are flipped",
        sample=sample,
        chance=0.5,
        intended_class="emergent",
        choices=LABELS.tobytes(),
        # the first demonstration, which is not counted, tells whether labels are flipped
        variants=(
            Variant("gold", lambda rng, n: sample(rng, n, 0.0), intended_class="saturated"),
            Variant("flipped", lambda rng, n: sample(rng, n, 1.0), intended_class="u_shaped"),
            Variant(
                "random",
                lambda rng, n: sample(rng, n, 0.0, noise=True),
                intended_class="saturated",
                core=False,
            ),
            Variant(
                "abstract",
                lambda rng, n: sample(rng, n, 0.0, abstract=1.0),
                intended_class="flat",
                choices=ABSTRACT.tobytes(),
                core=False,
            ),
            *(
                Variant(
                    f"{name}_{given}_shot",
                    partial(sample, flipped=share, given=given),
                    intended_class="saturated" if not share else "inverse",
                    core=False,
                )
                for name, share in (("gold", 0.0), ("flipped", 1.0))
                for given in (0, 1)
            ),
        ),
    )
