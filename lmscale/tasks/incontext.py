"""What the context says against what was learnt: label maps given by demonstration."""

import numpy as np
from numpy.random import Generator

from lmscale.tasks.base import Examples, Part, Task, Variant, answer, chain, hash_bytes, render, shuffled
from lmscale.tasks.facts import CONSONANTS, VOWELS

LABELS = np.frombuffer(b"AB", np.uint8)


def labels(seed: int, words: int = 32, shots: int = 5, flipped_share: float = 0.25) -> Task:
    """Words have a memorised class, half of them each; demonstrations show it as it is or flipped, and the
    question is to be answered as shown. Flips are the rarer kind, so a model that only memorises is wrong
    on them more often than chance (the flipped labels of Wei et al. 2023, arXiv:2303.03846)."""
    rng = np.random.default_rng([seed, 4])
    grid = np.stack(np.meshgrid(CONSONANTS, VOWELS, indexing="ij"), -1).reshape(-1, 2)
    word = grid[rng.permutation(len(grid))[:words]]
    kind = rng.permutation(np.arange(words) % 2)

    def sample(rng: Generator, n: int, share: float = flipped_share) -> Examples:
        index = shuffled(rng, n, words, shots + 1)
        flip = rng.random(n) < share
        label = LABELS[kind[index] ^ flip[:, None]]
        parts: list[Part | np.ndarray | str] = ["tag "]
        for shot in range(shots + 1):
            last = shot == shots
            mark = label[:, shot : shot + 1]
            # the first demonstration cannot be known, only guessed: it does not train
            parts += [word[index[:, shot]], answer(mark) if last else chain(mark) if shot else mark]
            parts.append("\n" if last else " ")
        return render(*parts, key=hash_bytes(index))

    return Task(
        name="labels",
        about=f"{words} words of two classes; {shots} demonstrations say whether the classes are flipped",
        sample=sample,
        chance=0.5,
        intended_class="emergent",
        choices=LABELS.tobytes(),
        variants=(
            Variant("gold", lambda rng, n: sample(rng, n, 0.0), intended_class="saturated"),
            Variant("flipped", lambda rng, n: sample(rng, n, 1.0), intended_class="u_shaped"),
        ),
    )
