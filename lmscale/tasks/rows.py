"""Examples into rows of one context: as many as fit, each whole, in order."""

from typing import NamedTuple

import numpy as np

from lmscale.errors import UserError
from lmscale.tasks.base import Examples
from lmscale.text.vocab import PAD, START


class Rows(NamedTuple):
    """Packed examples. item: which example a scored target belongs to, -1 where none; ascending by place."""

    tokens: np.ndarray  # uint16 or uint32 [R, T + 1]
    counted: np.ndarray  # bool [R, T]
    item: np.ndarray  # int32 [R, T]


def text_rows(tokens: np.ndarray) -> Rows:
    """Take windows of text, of which every target counts and none is an item."""
    shape = (len(tokens), tokens.shape[1] - 1)
    return Rows(tokens, np.ones(shape, bool), np.full(shape, -1, np.int32))


def lengths(examples: Examples) -> np.ndarray:
    """Count the bytes of each example, int [n]."""
    return (examples.tokens != PAD).sum(axis=1)


def assign(length: np.ndarray, context: int, name: str) -> np.ndarray:
    """Assign each example a row, int [n]: a row takes the next ones while they fit."""
    longest = int(length.max())
    if longest > context:
        raise UserError(f"data.context={context}: an example of {name} has {longest} bytes; give more")
    if longest == length.min():
        return np.arange(len(length)) // (context // longest)
    end = np.cumsum(length)
    row = np.empty(len(length), int)
    begin = number = 0
    while begin < len(length):
        used = end[begin - 1] if begin else 0
        stop = int(np.searchsorted(end, used + context, side="right"))
        row[begin:stop] = number
        begin, number = stop, number + 1
    return row


def assign_apart(length: np.ndarray, question: np.ndarray, context: int) -> np.ndarray:
    """Assign each example a row, int [n]: a row takes the next ones while they fit and ask something else."""
    row = np.empty(len(length), int)
    number, used, asked = 0, 0, set[int]()
    for index, (size, what) in enumerate(zip(length.tolist(), question.tolist(), strict=True)):
        if used + size > context or what in asked:
            number, used, asked = number + 1, 0, set()
        row[index] = number
        used += size
        asked.add(what)
    return row


def pack(examples: Examples, row: np.ndarray, context: int) -> Rows:
    """Pack rows of START, the examples assigned to them (`row` ascending from 0 without gaps), PAD."""
    count = int(row[-1]) + 1
    length = lengths(examples)
    end = np.cumsum(length)
    first = np.searchsorted(row, np.arange(count))
    used = (end - length)[first]
    begin = end - length - used[row]
    tokens = np.full((count, context + 1), PAD, np.uint16)
    tokens[:, 0] = START
    counted = np.zeros((count, context), bool)
    item = np.full((count, context), -1, np.int32)
    real = examples.tokens != PAD
    place = (begin[:, None] + np.arange(real.shape[1]))[real]
    at = np.repeat(row, length)
    tokens[at, place + 1] = examples.tokens[real]
    counted[at, place] = examples.counted[real]
    item[at, place] = np.where(examples.answer, np.arange(len(row))[:, None], -1)[real]
    return Rows(tokens, counted, item)


def repeats_in_row(question: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Find rows in which a question stands twice, so that its answer can be read off: bool by row."""
    order = np.lexsort((question, row))
    same = (question[order][1:] == question[order][:-1]) & (row[order][1:] == row[order][:-1])
    twice = np.zeros(int(row.max()) + 1, bool)
    twice[row[order][1:][same]] = True
    return twice
