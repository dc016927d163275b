"""A classifier of quality: words and pairs of words, hashed, with logistic weights (as in Joulin et al. 2016).

It learns to tell good text from raw text. All sums are of whole numbers and probabilities are rounded before they
are used, so that every machine finds the same weights: what is removed is part of a corpus's identity.
"""

import hashlib
import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, Philox

from lmscale.text.words import runs, words

BITS = 18  # of a feature's number
PIECE = 256  # words of a training example
MOST_TRAINED = 8_000_000  # bytes of each source
EPOCHS, RATE = 5, 0.5
TESTED = 10  # one document in so many is kept from training, to measure the classifier
UNIT = 2**24  # of a weight of 1
_ROUNDED = 2**16  # steps of a probability


@dataclass(frozen=True)
class Classifier:
    """weights: int64 [2^BITS], in units of 1 / UNIT. auc: how often it puts an unseen piece of good text above
    one of raw text, .5 for a guess. examples: pieces of each source that it learnt from."""

    weights: np.ndarray
    auc: float
    examples: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.weights.astype("<i8").tobytes()).hexdigest()

    def score(self, text: bytes) -> float:
        """Compute the log odds that a text is good: the mean weight of its words and pairs; 0 without words."""
        return _score(self.weights, features(words(text)))


def features(hashes: np.ndarray) -> np.ndarray:
    """Number each word and each pair of neighbours, int64 [2 n - 1], below 2^BITS."""
    pairs = runs(hashes, 2) if len(hashes) > 1 else hashes[:0]
    return (np.concatenate([hashes, pairs]) >> np.uint64(64 - BITS)).astype(np.int64)


def _score(weights: np.ndarray, found: np.ndarray) -> float:
    return int(weights[found].sum()) / (UNIT * max(1, len(found)))


def sample(documents: Iterable[tuple[bytes, bytes]], most: int = MOST_TRAINED) -> list[bytes]:
    """Choose those of the pairs (place, text) with the lowest places: at most `most` bytes together, or one."""
    heap: list[tuple[int, bytes]] = []
    total = 0
    for place, text in documents:
        heapq.heappush(heap, (-int.from_bytes(place), text))
        total += len(text)
        while total > most and len(heap) > 1:
            total -= len(heapq.heappop(heap)[1])
    return [text for _, text in sorted(heap, reverse=True)]


def train(good: Sequence[bytes], raw: Sequence[bytes]) -> Classifier:
    """Fit logistic weights by stochastic gradient steps, good and raw pieces in turn, at a rate that falls to 0.

    A step is in proportion to 1 / |x|^2, so that the rate is the share of an example's error that it mends.
    """
    learnt, tested = zip(*(_pieces(texts) for texts in (good, raw)), strict=True)
    count = min(map(len, learnt))
    weights = np.zeros(2**BITS, np.int64)
    rng = Generator(Philox(0))
    steps = EPOCHS * count
    for epoch in range(EPOCHS):
        orders = [rng.permutation(len(pieces))[:count] for pieces in learnt]
        for at in range(count):
            rate = RATE * (1 - (epoch * count + at) / steps)
            for label, pieces, order in zip((1, 0), learnt, orders, strict=True):
                _step(weights, pieces[order[at]], label, rate)
    scores = [np.array([_score(weights, piece) for piece in pieces]) for pieces in tested]
    above = np.sign(scores[0][:, None] - scores[1][None]) if all(map(len, scores)) else np.zeros(1)
    return Classifier(weights, float((1 + above.mean()) / 2), count)


def _step(weights: np.ndarray, piece: np.ndarray, label: int, rate: float) -> None:
    feature, times = np.unique(piece, return_counts=True)
    score = max(-30.0, min(30.0, _score(weights, piece)))
    probability = round(_ROUNDED / (1 + math.exp(-score))) / _ROUNDED
    whole = rate * (label - probability) * len(piece) / int((times**2).sum())
    weights[feature] += np.rint(whole * times * UNIT).astype(np.int64)


def _pieces(texts: Sequence[bytes]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The features of pieces of PIECE words: to learn from, and of other documents to test with."""
    learnt: list[np.ndarray] = []
    tested: list[np.ndarray] = []
    for number, text in enumerate(texts):
        hashes = words(text)
        into = tested if number % TESTED == TESTED - 1 else learnt
        into += [features(hashes[at : at + PIECE]) for at in range(0, len(hashes), PIECE)]
    return learnt, tested
