"""The mixture: every batch from (seed, step) alone, with a fixed number of rows for each component.

Rows are made in blocks keyed by (seed, component, block number), so that any step costs a slice of a block
and no step depends on what was asked before.
"""

import functools
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from lmscale import tasks as families
from lmscale.data import corpus
from lmscale.data.config import DataConfig, TasksConfig
from lmscale.data.manifest import Manifest
from lmscale.data.vocab import PAD, START
from lmscale.errors import UserError
from lmscale.tasks.base import Examples, Task, is_heldout, mix

BLOCK = 512  # rows: large enough that numpy's overhead a call vanishes, small enough for a cheap first step


class Batch(NamedTuple):
    """Rows of a step, or of several with a leading axis. Targets of position t are tokens[..., t + 1]."""

    tokens: np.ndarray  # uint16 [.., B, T + 1]
    counted: np.ndarray  # bool [.., B, T]
    weight: np.ndarray  # float32 [.., B, T]; sums to 1 a step


class Rows(NamedTuple):
    """Packed examples. item: which example of the call a scored target belongs to, -1 where none."""

    tokens: np.ndarray  # uint16 [R, T + 1]
    counted: np.ndarray  # bool [R, T]
    item: np.ndarray  # int32 [R, T]


def generator(*key: int | str) -> Generator:
    """An independent stream for each key."""
    entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return Generator(Philox(SeedSequence(entropy)))


class World:
    """A corpus opened for training and evaluation; what it returns depends on the arguments alone."""

    def __init__(
        self, data: DataConfig, tasks: TasksConfig, manifest: Manifest, train: np.ndarray, heldout: np.ndarray
    ):
        self.data = data
        self.items_wanted = tasks.items
        self.manifest = manifest
        self.components = manifest.components
        self.context = manifest.context
        self.vocab_size = manifest.vocab_size
        self.content_hash = manifest.content_hash
        self.tasks = manifest.tasks
        self.families = {name: families.build(name, data.seed) for name in manifest.tasks}
        self._train, self._heldout = train, heldout
        # a few blocks for each component: neighbouring steps share one
        self._block = functools.lru_cache(maxsize=4 * len(self.components))(self._make_block)

    def component_of_row(self, multiple: int = 1) -> np.ndarray:
        """The component's index of each row of a batch, int [B]."""
        return np.repeat(np.arange(len(self.components)), [c.rows * multiple for c in self.components])

    def batches(self, seed: int, start: int, count: int, multiple: int = 1) -> Batch:
        """The batches of steps start .. start + count - 1 of the run `seed`, `multiple` times as large."""
        tokens, counted, weight = [], [], []
        for component in self.components:
            rows = component.rows * multiple
            part = self._rows(seed, component.name, start * rows, count * rows)
            marks = part.counted.reshape(count, rows, -1)
            share = component.weight / marks.sum(axis=(1, 2))
            tokens.append(part.tokens.reshape(count, rows, -1))
            counted.append(marks)
            weight.append(marks * share[:, None, None].astype(np.float32))
        return Batch(*(np.concatenate(arrays, axis=1) for arrays in (tokens, counted, weight)))

    def heldout_text(self) -> Rows:
        """The held-out windows: evenly spaced over the held-out text, the same for every run."""
        count, context = self.data.heldout_rows, self.context
        last = len(self._heldout) - context - 1
        start = np.linspace(0, last, count).astype(int)
        tokens = self._heldout[start[:, None] + np.arange(context + 1)].astype(np.uint16)
        shape = (count, context)
        return Rows(tokens, np.ones(shape, bool), np.full(shape, -1, np.int32))

    def items(self, name: str, variant: str | None) -> Rows:
        """The evaluation items of a task's variant, packed as in training, at least `tasks.items` of them;
        with None, a third as many drawn as the task trains, which measure a loss and no score."""
        task, count = self.families[name], self.items_wanted if variant else self.items_wanted // 3
        sample = next((v.sample for v in task.variants if v.name == variant), None) or task.sample
        rng = generator(self.data.seed, name, variant or "", "items")
        per_row = _per_row(sample(rng, 1), self.context)
        need = -(-count // per_row) * per_row
        examples = _pool(task, sample, rng, 4 * need)
        if task.heldout:
            # first each question once; only a small population is asked again, in other company
            first = np.unique(examples.key, return_index=True)[1]
            first.sort()
            if len(first) < need:
                first = np.concatenate([rng.permutation(first) for _ in range(-(-2 * need // len(first)))])
            examples = examples.take(first)
        rows = len(examples.key) // per_row
        keys = np.sort(examples.key[: rows * per_row].reshape(rows, per_row), axis=1)
        # an answer must not stand earlier in its own row
        fresh = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).all(axis=1))[: need // per_row]
        if len(fresh) < need // per_row:
            raise UserError(f"tasks.items={count}: {name} has too few different questions for so many items")
        index = (fresh[:, None] * per_row + np.arange(per_row)).ravel()
        return pack(examples.take(index), self.context)

    def _rows(self, seed: int, name: str, start: int, count: int) -> Rows:
        """Rows start .. start + count - 1 of a component's endless stream."""
        parts = []
        for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
            whole = self._block(seed, name, block)
            piece = slice(max(start - block * BLOCK, 0), start + count - block * BLOCK)
            parts.append(Rows(*(array[piece] for array in whole)))
        return (
            parts[0]
            if len(parts) == 1
            else Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        )

    def _make_block(self, seed: int, name: str, block: int) -> Rows:
        if name == self.manifest.primary:
            return self._text_block(seed, block)
        task = self.families[name]
        rng = generator(seed, name, block, "train")
        per_row = _per_row(task.sample(rng, 1), self.context)
        return pack(_pool(task, task.sample, rng, BLOCK * per_row, train=True), self.context)

    def _text_block(self, seed: int, block: int) -> Rows:
        """Windows without replacement: each pass over the text visits every window once, in its own order."""
        context = self.context
        windows = (len(self._train) - 1) // context - 1
        row = block * BLOCK + np.arange(BLOCK, dtype=np.int64)
        visit, position = np.divmod(row, windows)
        start = np.empty(BLOCK, np.int64)
        for number in np.unique(visit):
            rng = generator(seed, "text", int(number))
            now = visit == number
            # the grid of windows moves from pass to pass, so that a second pass cuts the text elsewhere
            offset = int(rng.integers(context))
            start[now] = offset + context * permute(position[now], windows, int(rng.integers(2**63)))
        tokens = self._train[start[:, None] + np.arange(context + 1)].astype(np.uint16)
        shape = (BLOCK, context)
        return Rows(tokens, np.ones(shape, bool), np.full(shape, -1, np.int32))


def permute(index: np.ndarray, count: int, key: int) -> np.ndarray:
    """The places of `index` in a pseudo-random permutation of range(count), without holding it in memory.

    A four-round Feistel network on the next even number of bits, walked until it lands inside (Black and
    Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = max(1, -(-(count - 1).bit_length() // 2))
    mask = np.uint64((1 << half) - 1)
    keys = mix(np.arange(1, 5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(key))

    def once(value: np.ndarray) -> np.ndarray:
        left, right = value >> np.uint64(half), value & mask
        for round_key in keys:
            left, right = right, left ^ (mix(right ^ round_key) & mask)
        return (left << np.uint64(half)) | right

    value = once(index.astype(np.uint64))
    while (outside := value >= count).any():
        value[outside] = once(value[outside])
    return value.astype(np.int64)


def _per_row(example: Examples, context: int) -> int:
    return max(1, context // example.tokens.shape[1])


def _pool(task: Task, sample: Any, rng: Generator, count: int, train: bool = False) -> Examples:
    """`count` examples from one side of the task's split."""
    if not task.heldout:
        return sample(rng, count)
    share = 1 - task.heldout if train else task.heldout
    parts, have = [], 0
    while have < count:
        drawn = sample(rng, int((count - have) / share * 1.1) + 16)
        parts.append(drawn.take(np.flatnonzero(is_heldout(drawn.key, task.heldout) != train)))
        have += len(parts[-1].key)
    return Examples(*(np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True)))


def pack(examples: Examples, context: int) -> Rows:
    """Examples into rows, as many a row as the longest leaves room for: START, examples, PAD."""
    n, width = examples.tokens.shape
    per_row = _per_row(examples, context)
    rows = n // per_row
    n = rows * per_row
    tokens = np.full((rows, context + 1), PAD, np.uint16)
    tokens[:, 0] = START
    counted = np.zeros((rows, context), bool)
    item = np.full((rows, context), -1, np.int32)
    real = examples.tokens[:n] != PAD
    number = np.where(examples.answer[:n], np.arange(n)[:, None], -1)
    if real.all():
        used = per_row * width
        tokens[:, 1 : used + 1] = examples.tokens[:n].reshape(rows, used)
        counted[:, :used] = examples.counted[:n].reshape(rows, used)
        item[:, :used] = number.reshape(rows, used)
        return Rows(tokens, counted, item)
    length = real.sum(axis=1).reshape(rows, per_row)
    begin = np.cumsum(length, axis=1) - length
    place = (begin.reshape(n, 1) + np.arange(width))[real]
    row = np.repeat(np.arange(rows), length.sum(axis=1))
    tokens[row, place + 1] = examples.tokens[:n][real]
    counted[row, place] = examples.counted[:n][real]
    item[row, place] = number[real]
    return Rows(tokens, counted, item)


def open_world(data: DataConfig, tasks: TasksConfig, folder: Path) -> World:
    """The world of these configurations, its text under `folder`; scanned first where it is not there yet."""
    from lmscale.data.scan import scan

    manifest = scan(data, tasks, folder)
    text = Path(folder) / manifest.text_key
    train = corpus.open_tokens(text, "train")[: manifest.unique_tokens]
    return World(data, tasks, manifest, train, corpus.open_tokens(text, "heldout"))
