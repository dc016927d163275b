"""Near-copies among documents: MinHash proposes pairs (Broder 1997), their runs of words decide.

A document is the set of its runs of five words. Documents whose signatures agree in a whole band (Leskovec,
Rajaraman and Ullman 2014, section 3.4) are compared exactly, by the Jaccard similarity of the sets. Our own and
no library's: what is removed is part of a corpus's identity, and must not move with a package's version.
"""

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.random import Generator, Philox

from lmscale.text.words import folded, mix, runs, words

HASHES = 128
WIDTH = 5  # words
RECALL = 0.99  # of pairs as similar as the threshold, at least
MOST_ALIKE = 64  # documents that are remembered of one band's key: boilerplate would make too many pairs
_BLOCK = 1024  # runs of words that are hashed at a time: they stay in the cache
_MULTIPLIERS = mix(Generator(Philox(2026)).integers(2**63, size=HASHES, dtype=np.uint64)) | np.uint64(1)

Read = Callable[[], Iterator[tuple[int, bytes, bool]]]  # number, text, held out: the same at every call


class NearCopy(NamedTuple):
    """A document that is too much like one that is kept. of: the number of that one."""

    of: int
    similarity: float
    of_heldout: bool


def shingles(text: bytes) -> np.ndarray:
    """List the different runs of words of a text, sorted uint64 [n]; none where it has no word."""
    return np.unique(runs(words(text), WIDTH))


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the Jaccard similarity of two sets, as `shingles` lists them."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / max(1, len(one) + len(other) - both)


def signature(found: np.ndarray) -> np.ndarray:
    """Compute the MinHash signature of shingles [n > 0]: uint64 [HASHES].

    Two signatures agree in a share of their places that estimates the Jaccard similarity.
    """
    lowest = np.full(HASHES, np.iinfo(np.uint64).max)
    for at in range(0, len(found), _BLOCK):
        hashed = _MULTIPLIERS[:, None] * found[None, at : at + _BLOCK]
        np.minimum(lowest, hashed.min(axis=1), out=lowest)
    return lowest


def bands_of(threshold: float) -> tuple[int, int]:
    """Choose (bands, rows of a band): as many rows as let a pair at the threshold pass with RECALL."""
    fitting = [rows for rows in range(1, HASHES) if 1 - _missed(threshold, rows) >= RECALL]
    return HASHES // max(fitting), max(fitting)


def _missed(similarity: float, rows: int) -> float:
    return float((1 - similarity**rows) ** (HASHES // rows))


def near_copies(read: Read, threshold: float, folder: Path) -> dict[int, NearCopy]:
    """Find the training documents whose similarity to a document before them is `threshold` or more.

    Held-out documents must come first and are never found; one that was found is no measure for those after it.
    Scratch files in `folder` hold the keys of all bands and the sets of documents that may have a near-copy; in
    memory are some hundred bytes a document.
    """
    with tempfile.TemporaryFile(dir=folder) as key_file, tempfile.TemporaryFile(dir=folder) as set_file:
        numbers, keys = _band_keys(read, *bands_of(threshold), key_file)
        shared = np.stack([_is_shared(keys[:, band]) for band in range(keys.shape[1])], axis=1)
        row_of = {int(numbers[row]): int(row) for row in np.flatnonzero(shared.any(axis=1))}
        found: dict[int, NearCopy] = {}
        alike: dict[tuple[int, int], list[int]] = {}
        sets = _Sets(set_file)
        for number, text, heldout in read() if row_of else ():
            row = row_of.get(number)
            if row is None:
                continue
            own = shingles(text)
            mine = [(int(band), int(keys[row, band])) for band in np.flatnonzero(shared[row])]
            others = sorted({other for key in mine for other in alike.get(key, ())})
            copy = None if heldout else sets.first_alike(own, others, threshold)
            if copy:
                found[number] = copy
                continue
            sets.add(number, own, heldout)
            for key in mine:
                if len(of_key := alike.setdefault(key, [])) < MOST_ALIKE:
                    of_key.append(number)
        return found


class _Sets:
    """The sets of documents that may have a near-copy, in a file."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._places: dict[int, tuple[int, int, bool]] = {}

    def add(self, number: int, own: np.ndarray, heldout: bool) -> None:
        self._places[number] = (self._file.seek(0, 2), len(own), heldout)
        self._file.write(own.tobytes())

    def first_alike(self, own: np.ndarray, others: Iterable[int], threshold: float) -> NearCopy | None:
        for other in others:
            at, size, heldout = self._places[other]
            if min(size, len(own)) < threshold * max(size, len(own)):
                continue  # sets so unequal cannot be so similar
            self._file.seek(at)
            similarity = jaccard(own, np.frombuffer(self._file.read(8 * size), np.uint64))
            if similarity >= threshold:
                return NearCopy(other, similarity, heldout)
        return None


def _band_keys(read: Read, bands: int, rows: int, file: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of documents that have words, int64 [n], and hashes of their bands, uint64 [n, bands]."""
    numbers = array("q")
    for number, text, _ in read():
        if len(found := shingles(text)):
            numbers.append(number)
            signed = signature(found)[: bands * rows].reshape(bands, rows)
            file.write(folded(signed.T).tobytes())
    file.flush()
    shape = (len(numbers), bands)
    keys = np.memmap(file, np.uint64, "r", shape=shape) if numbers else np.zeros(shape, np.uint64)
    return np.array(numbers, np.int64), keys


def _is_shared(column: np.ndarray) -> np.ndarray:
    _, inverse, count = np.unique(column, return_inverse=True, return_counts=True)
    return count[inverse] > 1
