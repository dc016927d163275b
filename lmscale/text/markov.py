"""A text whose entropy is known: a Markov chain of bytes with the n-gram counts of a real text, and samples of it.

The text is read as a circle, its end before its beginning. The chain then has no dead end, and its stationary
distribution is exactly the frequency of each context, so that every entropy follows from counts (Shannon 1951).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

PIECE = 1 << 24  # bytes of text that are counted at once
LANES, LENGTH = 2048, 2048  # a segment of a sample: so many stretches of so many bytes


@dataclass(frozen=True)
class Level:
    """Counts of n-grams in a circle of text. order: bytes of context; an n-gram has one more. code: its packed
    bytes, the first the highest, sorted, uint64 [n]. count: int64 [n]."""

    order: int
    code: np.ndarray
    count: np.ndarray

    @property
    def context(self) -> np.ndarray:
        """Number the context of each n-gram among those there are, int [n]."""
        new = np.diff(self.code >> np.uint64(8), prepend=~self.code[:1]) != 0
        return np.cumsum(new) - 1

    @property
    def log_probability(self) -> np.ndarray:
        """Compute the natural log of p(byte | context) of each n-gram."""
        context = self.context
        return np.log(self.count / np.bincount(context, self.count)[context])

    def entropy(self) -> float:
        """Compute the entropy of the next byte given the context, in nats, under the stationary distribution."""
        return float(-(self.count @ self.log_probability) / self.count.sum())


def count_text(pieces: Iterable[bytes], order: int) -> Level:
    """Count the n-grams of a text that comes in pieces: `order` bytes and the one after them."""
    level = Level(order, np.zeros(0, np.uint64), np.zeros(0, np.int64))
    first, waiting = b"", bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= PIECE:
            first = first or bytes(waiting[:order])
            level = _added(level, waiting)
            del waiting[: len(waiting) - order]
    circle = bytes(waiting) + (first or bytes(waiting[:order]))
    return _added(level, circle)


def _added(level: Level, text: bytes | bytearray) -> Level:
    """`level` and the n-grams of `text`."""
    letters = np.frombuffer(bytes(text), np.uint8)
    size = len(letters) - level.order
    kind = np.uint64 if level.order > 3 else np.uint32
    code: np.ndarray = np.zeros(size, kind)
    for place in range(level.order + 1):
        code = (code << kind(8)) | letters[place : place + size]
    new, times = np.unique(code, return_counts=True)
    code, where = np.unique(np.concatenate([level.code, new.astype(np.uint64)]), return_inverse=True)
    count = np.bincount(where, np.concatenate([level.count, times])).astype(np.int64)
    return Level(level.order, code, count)


def shorter(level: Level, order: int) -> Level:
    """Sum the counts to those with `order` bytes of context: in a circle each n-gram begins as many longer ones."""
    code, first = np.unique(level.code >> np.uint64(8 * (level.order - order)), return_index=True)
    return Level(order, code, np.add.reduceat(level.count, first))


def entropies(level: Level) -> list[float]:
    """Compute the entropy of a byte given the 1, 2, .. `order` bytes before it, in nats."""
    return [shorter(level, order).entropy() for order in range(1, level.order + 1)]


def floor_of(entropies: list[float], context: int) -> float:
    """Compute the least expected loss in windows of `context` targets, nats a byte: the first target has one byte
    before it in its window, the second two, and no more than the order of the chain help."""
    given = np.minimum(np.arange(context), len(entropies) - 1)
    return float(np.mean(np.array(entropies)[given]))


def window_losses(level: Level, windows: np.ndarray) -> np.ndarray:
    """Compute what the best possible model loses at each target of windows uint8 [R, T + 1]: nats, float64 [R, T].

    It knows the chain and sees the window: the first targets have fewer bytes before them.
    """
    losses = np.empty((len(windows), windows.shape[1] - 1))
    for order in range(1, level.order + 1):
        known = shorter(level, order)
        first = order - 1
        last = windows.shape[1] - 1 if order == level.order else order
        code = np.zeros((len(windows), last - first), np.uint64)
        for place in range(order + 1):
            code = (code << np.uint64(8)) | windows[:, first + place - order + 1 :][:, : last - first]
        losses[:, first:last] = -known.log_probability[np.searchsorted(known.code, code)]
    return losses


def sample(level: Level, size: int, rng: Generator) -> Iterator[np.ndarray]:
    """Draw `size` bytes of the chain from its stationary distribution, uint8, in pieces.

    The result is that of one walk, byte after byte: byte i is drawn with the i-th number of `rng`. Stretches of it
    are walked side by side, each first from a wrong state; with the same numbers walks soon meet and stay together
    (Propp and Wilson 1996), so only the beginnings are walked again.
    """
    ends = np.cumsum(level.count)
    begin = np.flatnonzero(np.diff(level.context, prepend=-1))  # the first n-gram of each context
    base = ends[begin] - level.count[begin]
    total = np.diff(base, append=ends[-1])
    contexts = level.code[begin] >> np.uint64(8)
    after = np.searchsorted(contexts, level.code & np.uint64(256**level.order - 1))  # context -> context
    letter = level.code.astype(np.uint8)

    def step(state: np.ndarray, number: np.ndarray) -> np.ndarray:
        return np.searchsorted(ends, base[state] + (number * total[state]).astype(np.int64), side="right")

    state = int(level.context[np.searchsorted(ends, rng.integers(ends[-1]), side="right")])
    shifts = np.arange(8 * (level.order - 1), -1, -8).astype(np.uint64)
    yield (contexts[state] >> shifts).astype(np.uint8)[:size]
    left = size - level.order
    while left > 0:
        length = min(LENGTH, -(-left // LANES))
        numbers = np.ascontiguousarray(rng.random((LANES, length)).T)
        walked = np.full((length, LANES), -1)
        started = np.full(LANES, -1)
        starts = np.full(LANES, state)
        while len(lanes := np.flatnonzero(starts != started)):
            started = starts
            now = starts[lanes]
            for at in range(length):
                row = step(now, numbers[at, lanes])
                apart = row != walked[at, lanes]
                lanes, row = lanes[apart], row[apart]
                if not len(lanes):
                    break
                walked[at, lanes] = row
                now = after[row]
            starts = np.concatenate([[state], after[walked[-1, :-1]]])
        yield letter[walked.T.ravel()[:left]]
        left -= LANES * length
        state = int(after[walked[-1, -1]])
