"""A task: a sampler that renders ASCII examples and says where the answers are.

`lmscale.data.world` packs examples into rows and holds some back; `lmscale.evaluate` scores them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from lmscale.text.vocab import PAD
from lmscale.text.words import mix

Bytes = np.ndarray  # uint8 [n, width], or uint16 with PAD where a part is shorter than its width

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
DIGITS = np.frombuffer(b"0123456789", np.uint8)


class Examples(NamedTuple):
    """n rendered examples, left-aligned, PAD after the shorter ones. counted: bytes whose prediction trains
    (chain and answer). answer: bytes that a score looks at. question: tells questions apart. key: what may
    not be shared by training and held-out examples; the question, or a part of it such as its subject."""

    tokens: np.ndarray  # uint16 [n, L]
    counted: np.ndarray  # bool [n, L]
    answer: np.ndarray  # bool [n, L]
    question: np.ndarray  # uint64 [n]
    key: np.ndarray  # uint64 [n]

    def take(self, index: np.ndarray | slice) -> "Examples":
        return Examples(*(array[index] for array in self))


def join(parts: list[Examples]) -> Examples:
    """Join examples one after the other, PAD where one sort is narrower than another."""
    width = max(part.tokens.shape[1] for part in parts)

    def wide(array: np.ndarray, fill: int) -> np.ndarray:
        return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)

    return Examples(
        np.concatenate([wide(part.tokens, PAD) for part in parts]),
        np.concatenate([wide(part.counted, 0) for part in parts]),
        np.concatenate([wide(part.answer, 0) for part in parts]),
        np.concatenate([part.question for part in parts]),
        np.concatenate([part.key for part in parts]),
    )


class Part(NamedTuple):
    """A stretch of an example: its bytes, whether they train, whether they are scored."""

    bytes: Bytes | str
    counted: bool
    answer: bool


def chain(text: Bytes | str) -> Part:
    """Mark steps before the answer: trained on, not scored by themselves."""
    return Part(text, counted=True, answer=False)


def answer(text: Bytes | str) -> Part:
    """Mark the answer: trained on and scored."""
    return Part(text, counted=True, answer=True)


def render(*parts: Part | Bytes | str, key: np.ndarray | None = None) -> Examples:
    """Join parts (literals, uint8 arrays [n, w], `chain(...)`, `answer(...)`) into examples.

    The question is what stands before the first chain or answer, literals aside, and so is the key unless
    one is given.
    """
    whole = [part if isinstance(part, Part) else Part(part, False, False) for part in parts]
    n = next(len(part.bytes) for part in whole if not isinstance(part.bytes, str))
    arrays: list[np.ndarray] = []
    asked: list[np.ndarray] = []
    for part in whole:
        if isinstance(part.bytes, str):
            literal = np.frombuffer(part.bytes.encode("ascii"), np.uint8)
            arrays.append(np.broadcast_to(literal, (n, len(literal))))
        else:
            arrays.append(part.bytes)
            if not any(p.counted for p in whole[: len(arrays)]):
                asked.append(part.bytes)
    tokens = np.concatenate(arrays, axis=1, dtype=np.uint16)
    width = [array.shape[1] for array in arrays]
    counted = np.repeat([part.counted for part in whole], width)
    scored = np.repeat([part.answer for part in whole], width)
    question = hash_bytes(np.concatenate(asked, axis=1))
    key = question if key is None else key
    real = tokens != PAD
    if not real.all():  # left-align what a narrow part left open
        order = np.argsort(~real, axis=1, kind="stable")
        tokens = np.take_along_axis(tokens, order, axis=1)
        return Examples(
            tokens,
            np.take_along_axis(real & counted, order, axis=1),
            np.take_along_axis(real & scored, order, axis=1),
            question,
            key,
        )
    shape = tokens.shape
    return Examples(tokens, np.broadcast_to(counted, shape), np.broadcast_to(scored, shape), question, key)


def after(shown: tuple[Bytes | str, ...], asked: Examples) -> Examples:
    """Put something before examples that neither trains nor is scored, such as a demonstration."""
    n = len(asked.key)
    parts = [part.encode("ascii") if isinstance(part, str) else part for part in shown]
    wide = [
        np.broadcast_to(np.frombuffer(p, np.uint8), (n, len(p))) if isinstance(p, bytes) else p for p in parts
    ]
    text = np.concatenate(wide, axis=1, dtype=np.uint16)
    blank = np.zeros(text.shape, bool)
    return Examples(
        np.concatenate([text, asked.tokens], axis=1),
        np.concatenate([blank, asked.counted], axis=1),
        np.concatenate([blank, asked.answer], axis=1),
        asked.question,
        asked.key,
    )


def cut(text: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Shorten `text` [n, w] by PAD from `length` [n] on: a part that is shorter in some examples."""
    return np.where(np.arange(text.shape[1]) < length[:, None], text.astype(np.uint16), np.uint16(PAD))


def words(texts: list[str]) -> np.ndarray:
    """Make strings a table of bytes, PAD after the shorter ones: uint16 [len, longest]; index it to render."""
    table = np.full((len(texts), max(map(len, texts))), PAD, np.uint16)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = np.frombuffer(text.encode("ascii"), np.uint8)
    return table


def hash_bytes(text: np.ndarray, salt: int = 0) -> np.ndarray:
    """Hash each row of `text` [n, w] to 64 bits, uint64 [n]: multiply-add, then splitmix64's finish."""
    value = np.full(len(text), (0x9E3779B97F4A7C15 * (salt + 1)) % 2**64, np.uint64)
    with np.errstate(over="ignore"):
        for column in text.T:
            value = value * np.uint64(0x100000001B3) + column.astype(np.uint64) + np.uint64(1)
        return mix(value)


def letters(rng: Generator, n: int, width: int, alphabet: np.ndarray = LETTERS) -> Bytes:
    """Draw uniform random characters, uint8 [n, width]."""
    return alphabet[rng.integers(len(alphabet), size=(n, width))]


def shuffled(rng: Generator, n: int, population: int, width: int) -> np.ndarray:
    """Draw `width` different numbers below `population` in random order, a row each: int [n, width]."""
    return np.argsort(rng.random((n, population)), axis=1)[:, :width]


Sampler = Callable[[Generator, int], Examples]


@dataclass(frozen=True)
class Variant:
    """One way to score a task; None means as the task says.

    sample: how its items are drawn. scoring: "forced", the likeliest byte at each place of the answer, given
    the true bytes before it (for an answer without a chain that is exact match under greedy generation);
    "choices", the likeliest of `options` consecutive examples, the first being right; "any", one of several
    accepted answers; "greedy" or "sampled", the chain generated too and the score on the answer that follows
    it. core: scored in every experiment and not only where `tasks.variants=all`.
    """

    name: str
    sample: Sampler | None = None
    chance: float | None = None
    ceiling: float | None = None
    intended_class: str | None = None
    choices: bytes | None = None
    scoring: str = "forced"
    options: int = 1
    core: bool = True


@dataclass(frozen=True)
class Task:
    """A task family with its tables drawn.

    chance: the expected score of a guess among valid answers. ceiling: the best possible score. metric: the
    score a curve is drawn of ("correct" or "byte_accuracy"). intended_class: the curve over size that it is
    meant to show, a claim that the report checks. heldout: the share of questions (by key) kept from training
    and used for evaluation; 0 where questions must have been seen. choices: the valid one-byte answers.
    floor: the least possible loss of its training rows, nats per counted byte; None where nobody can say.
    own: shortcut guessers (see `shortcut`) that are the ability itself, and so are no yardstick. items: of a
    task that is only evaluated: (variant, count, context, encode) -> Items, and no `sample`; without a context,
    what holds the answers.
    """

    name: str
    about: str
    sample: Sampler | None
    chance: float
    intended_class: str
    metric: str = "correct"
    ceiling: float = 1.0
    heldout: float = 0.0
    choices: bytes = b""
    floor: float | None = 0.0
    own: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = (Variant("direct"),)
    version: int | str = 1
    items: Callable[..., Any] | None = None


def is_heldout(key: np.ndarray, share: float) -> np.ndarray:
    """Choose the questions that are kept from training: a fixed function of the key, so twins hold out the same."""
    return mix(key) < np.uint64(share * 2**64) if share else np.zeros(len(key), bool)
