"""Unigram, bigram and trigram models of the training text: the yardsticks of a small model's loss.

Interpolated Kneser-Ney with one discount an order, n1 / (n1 + 2 n2) (Kneser and Ney 1995; Chen and Goodman
1999, section 3). Counts are sorted arrays, so a BPE vocabulary costs no more than bytes.
"""

from dataclasses import dataclass

import numpy as np

ORDERS = ("unigram", "bigram", "trigram")
MOST_TOKENS = 10_000_000  # of the training text; the counts of three bytes have long settled by then


@dataclass(frozen=True)
class Level:
    """Counts of one order. code: sorted packed n-grams; count of each; total and types of each context."""

    code: np.ndarray
    count: np.ndarray
    context: np.ndarray
    total: np.ndarray
    types: np.ndarray
    discount: float


@dataclass(frozen=True)
class Ngrams:
    """The counts behind all three models. raw: true counts of order 1, 2, 3; lower: continuation counts,
    in how many different places an n-gram of order 1 or 2 goes on."""

    vocab_size: int
    raw: tuple[Level, ...]
    lower: tuple[Level, ...]


def count_ngrams(tokens: np.ndarray, vocab_size: int) -> Ngrams:
    """Count the first MOST_TOKENS of `tokens`."""
    text = np.asarray(tokens[:MOST_TOKENS]).astype(np.int32 if vocab_size**3 < 2**31 else np.int64)
    raw = []
    code: np.ndarray = text
    for order in range(1, 4):
        if order > 1:
            code = code[:-1] * vocab_size + text[order - 1 :]
        raw.append(_level(*_counted(code, vocab_size**order), vocab_size))
    lower = []
    for level in raw[1:]:
        # each different longer n-gram is one place where its end goes on
        ending = level.code.astype(np.int64) % vocab_size ** (1 if level is raw[1] else 2)
        lower.append(_level(*np.unique(ending, return_counts=True), vocab_size))
    return Ngrams(vocab_size, tuple(raw), tuple(lower))


def _counted(code: np.ndarray, highest: int) -> tuple[np.ndarray, np.ndarray]:
    if highest <= 2**25:  # bytes: counting is faster than sorting
        count = np.bincount(code, minlength=highest)
        present = np.flatnonzero(count)
        return present, count[present]
    return np.unique(code, return_counts=True)


def _level(code: np.ndarray, count: np.ndarray, vocab_size: int) -> Level:
    context, first = np.unique(code // vocab_size, return_index=True)
    total = np.add.reduceat(count, first)
    types = np.diff(np.append(first, len(code)))
    once, twice = int((count == 1).sum()), int((count == 2).sum())
    # a corpus so small that nothing was seen twice: the usual fallback
    discount = once / (once + 2 * twice) if once and twice else 0.5
    return Level(code, count, context, total, types, discount)


def _interpolate(
    level: Level, context: np.ndarray, token: np.ndarray, below: np.ndarray, v: int
) -> np.ndarray:
    """The discounted estimate of `token` [..] after packed `context` [..], on top of the order `below`."""
    place = np.searchsorted(level.context, context).clip(max=len(level.context) - 1)
    known = level.context[place] == context
    total = np.where(known, level.total[place], 1)
    code = context * v + token
    at = np.searchsorted(level.code, code).clip(max=len(level.code) - 1)
    count = np.where(level.code[at] == code, level.count[at], 0)
    kept = np.maximum(count - level.discount, 0) / total
    return np.where(known, kept + level.discount * level.types[place] / total * below, below)


def log_probabilities(ngrams: Ngrams, before: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Compute the natural logs of p(token | the two tokens before) by each model: float64 [3, *token.shape].

    before: int [*token.shape, 2], the older first; -1 where a window has none, and the order falls by one.
    """
    v = ngrams.vocab_size
    before, token = before.astype(np.int64), token.astype(np.int64)
    none = np.zeros_like(token)
    unigram = _interpolate(ngrams.raw[0], none, token, np.full(token.shape, 1 / v), v)
    ending = _interpolate(ngrams.lower[0], none, token, np.full(token.shape, 1 / v), v)
    last = before[..., 1]
    bigram = np.where(last < 0, unigram, _interpolate(ngrams.raw[1], last, token, ending, v))
    middle = _interpolate(ngrams.lower[1], last, token, ending, v)
    both = before[..., 0] * v + last
    trigram = np.where(before[..., 0] < 0, bigram, _interpolate(ngrams.raw[2], both, token, middle, v))
    return np.log(np.stack([unigram, bigram, trigram]))


def contexts(tokens: np.ndarray) -> np.ndarray:
    """Find the two tokens before each target of windows [R, T + 1], as far as the window shows: int64 [R, T, 2]."""
    older = np.pad(tokens[:, :-2].astype(np.int64), ((0, 0), (1, 0)), constant_values=-1)
    return np.stack([older, tokens[:, :-1].astype(np.int64)], axis=-1)


def window_log_probabilities(ngrams: Ngrams, tokens: np.ndarray) -> np.ndarray:
    """Compute each model's whole distribution at every target of windows [R, T + 1]: float32 [3, R, T, V]."""
    before = contexts(tokens)[:, :, None, :]
    shape = (*before.shape[:2], ngrams.vocab_size)
    token = np.broadcast_to(np.arange(ngrams.vocab_size), shape)
    return log_probabilities(ngrams, np.broadcast_to(before, (*shape, 2)), token).astype(np.float32)
