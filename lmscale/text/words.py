"""Words of a text as 64-bit hashes, and runs of words: what documents are compared and judged by.

Whole-number arithmetic only, so that every machine finds the same.
"""

from collections.abc import Iterable

import numpy as np

_WITHIN, _BEGINS = 1, 2
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


def mix(value: np.ndarray) -> np.ndarray:
    """Mix by splitmix64's finaliser (Steele, Lea and Flood 2014): a bijection of uint64 that scatters well."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))


def _kinds() -> np.ndarray:
    kind = np.zeros(256, np.uint8)
    kind[[byte for byte in range(128) if chr(byte).isalnum() or byte == ord("_")]] = _WITHIN
    kind[0x80:0xC0] = _WITHIN
    # each letter that is not ASCII begins a word: scripts without blanks have words too
    kind[0xC0:] = _BEGINS
    return kind


_KIND = _kinds()
_CODE = mix(np.array([ord(chr(b).lower()) if b < 128 else b for b in range(256)], np.uint64) + np.uint64(1))


def words(text: bytes) -> np.ndarray:
    """Hash each word in order, uint64 [n]: runs of letters, digits and _, whose case in ASCII is ignored."""
    letters = np.frombuffer(text, np.uint8)
    kind = _KIND[letters]
    begins = (kind == _BEGINS) | ((kind == _WITHIN) & (np.concatenate([[0], kind[:-1]]) == 0))
    inside = np.flatnonzero(kind)
    first = np.flatnonzero(begins[inside])
    if not len(first):
        return np.zeros(0, np.uint64)
    length = np.diff(first, append=len(inside))
    place = np.arange(len(inside)) - np.repeat(first, length)
    powers = np.cumprod(np.full(length.max(), _MULTIPLIER))
    return mix(np.add.reduceat(_CODE[letters[inside]] * powers[place], first))


def runs(hashes: np.ndarray, width: int) -> np.ndarray:
    """Hash each run of `width` consecutive words, uint64 [n - width + 1]; a shorter text is one run."""
    width = min(width, max(1, len(hashes)))
    count = len(hashes) - width + 1
    return folded(hashes[place : place + count] for place in range(width))


def folded(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Hash arrays of hashes, uint64 [n] each and in their order, to one."""
    total: np.ndarray = np.zeros(1, np.uint64)
    for part in parts:
        total = (total * _MULTIPLIER) ^ part
    return mix(total)
