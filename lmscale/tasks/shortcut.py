"""Scores that need no ability: guesses from position, frequency, or the few bytes before.

A score counts only above the best of these; they are fitted on training rows and scored on the items.
"""

from collections import Counter

import numpy as np

from lmscale.tasks.rows import Rows
from lmscale.tasks.sampling import Items, by_question
from lmscale.text.ngrams import contexts, count_ngrams, log_probabilities
from lmscale.text.vocab import VOCAB_SIZE

ORDER = 3  # bytes that the n-gram guesser looks back


def shortcuts(train: Rows, items: Items) -> dict[str, float]:
    """Find the share of items that each guesser gets wholly right, given the true bytes before each answer byte.

    position: the commonest byte at that place of an answer. frequency: the commonest byte of all answers.
    majority: the commonest whole answer. ngram: the commonest byte after the last three, or two, or one. Of
    options, the one that a trigram model (Kneser-Ney) of the training rows finds likelier.
    """
    if items.group is not None:
        return {"ngram": _choose(train, items)}
    scored = items.rows.item >= 0
    number = items.rows.item[scored]
    target = items.rows.tokens[:, 1:][scored]
    train_scored = train.item >= 0
    train_target = train.tokens[:, 1:][train_scored]
    place, train_place = _place(number), _place(train.item[train_scored])
    guesses = {
        "position": np.array([_commonest(train_target[train_place == p]) for p in range(place.max() + 1)])[
            place
        ],
        "frequency": np.full(len(target), _commonest(train_target)),
        "ngram": _ngram(train, items.rows)[scored],
    }
    size = np.bincount(number)
    found = {name: float((np.bincount(number, g == target) == size).mean()) for name, g in guesses.items()}
    whole = Counter(_texts(train.item[train_scored], train_target)).most_common(1)[0][0]
    found["majority"] = float(np.mean([text == whole for text in _texts(number, target)]))
    return found


def _place(item: np.ndarray) -> np.ndarray:
    """The number of bytes of the same answer before each, for ascending item numbers."""
    return np.arange(len(item)) - np.searchsorted(item, item)


def _commonest(tokens: np.ndarray) -> int:
    return int(np.bincount(tokens).argmax()) if len(tokens) else -1


def _texts(item: np.ndarray, target: np.ndarray) -> list[bytes]:
    edges = np.flatnonzero(np.diff(item)) + 1
    return [part.tobytes() for part in np.split(target, edges)]


def _codes(tokens: np.ndarray) -> list[np.ndarray]:
    """The 0, 1, .. ORDER tokens up to each position, packed: int64 [R, T] each."""
    shown = tokens[:, :-1].astype(np.int64)
    codes = [np.zeros_like(shown)]
    for back in range(ORDER):
        earlier = np.pad(shown, ((0, 0), (back, 0)))[:, : shown.shape[1]]
        codes.append(codes[-1] * VOCAB_SIZE + earlier + 1)
    return codes


def _ngram(train: Rows, rows: Rows) -> np.ndarray:
    """The commonest training target after the longest known context of each position, int [R, T]."""
    target = train.tokens[:, 1:][train.counted].astype(np.int64)
    guess = np.full(rows.item.shape, -1, np.int64)
    for code, train_code in zip(_codes(rows.tokens), _codes(train.tokens), strict=True):
        pairs, count = np.unique(train_code[train.counted] * VOCAB_SIZE + target, return_counts=True)
        context = pairs // VOCAB_SIZE
        best = np.lexsort((-count, context))
        known, first = np.unique(context[best], return_index=True)
        token = (pairs % VOCAB_SIZE)[best][first]
        at = np.searchsorted(known, code).clip(max=len(known) - 1)
        guess = np.where(known[at] == code, token[at], guess)
    return guess


def _choose(train: Rows, items: Items) -> float:
    ngrams = count_ngrams(train.tokens.ravel(), VOCAB_SIZE)
    scored = items.rows.item >= 0
    logs = log_probabilities(ngrams, contexts(items.rows.tokens), items.rows.tokens[:, 1:])[2]
    total = np.bincount(items.rows.item[scored], logs[scored])
    return float(np.mean([_worth_of_best(*pair) for pair in by_question(items, total)]))


def _worth_of_best(worth: np.ndarray, value: np.ndarray) -> float:
    """A tie is a guess."""
    return float(worth[value == value.max()].mean())
