"""The mixture: every batch from (seed, step) alone, with a fixed number of rows for each component.

Rows are made in blocks keyed by (seed, component, block number), so that any step costs a slice of a block
and no step depends on what was asked before.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmscale import tasks as families
from lmscale.config import DataConfig, TasksConfig
from lmscale.data.manifest import Manifest
from lmscale.errors import UserError
from lmscale.objective import CAUSAL, OBJECTIVES
from lmscale.tasks.rows import Rows, text_rows
from lmscale.tasks.sampling import Items, generator, task_items, training_rows
from lmscale.text import tokenizer
from lmscale.text import tokens as token_files
from lmscale.text.classes import mark_repeats
from lmscale.text.vocab import VOCAB_SIZE
from lmscale.text.words import mix

BLOCK = 512  # rows: large enough that numpy's overhead a call vanishes, small enough for a cheap first step


class Batch(NamedTuple):
    """Rows of a step, or of several with a leading axis. Targets of position t are tokens[..., t + 1]."""

    tokens: np.ndarray  # uint16 [.., B, T + 1]
    counted: np.ndarray  # bool [.., B, T]
    weight: np.ndarray  # float32 [.., B, T]; sums to 1 a step


class World:
    """A corpus opened for training and evaluation; what it returns depends on the arguments alone."""

    def __init__(self, data: DataConfig, tasks: TasksConfig, manifest: Manifest, folder: Path):
        self.data = data
        self.task_config = tasks
        self.manifest = manifest
        self.components = manifest.components
        self.context = manifest.context
        self.vocab_size = manifest.vocab_size
        self.content_hash = manifest.content_hash
        self.tasks = manifest.tasks
        self.families = families.chosen(data, tasks).tasks
        self._train = token_files.open_tokens(folder, "train", manifest.vocab_size)[: manifest.unique_tokens]
        self._heldout = token_files.open_tokens(folder, "heldout", manifest.vocab_size)
        self.folder = folder
        self._tokenizer: Any = None
        self.token_bytes = token_files.token_bytes(folder)
        self._classes = np.memmap(folder / "classes.bin", np.uint8, mode="r")
        tables = token_files.ngram_path(data, folder, manifest.unique_tokens).with_suffix(".npy")
        self._ngrams = np.load(tables, mmap_mode="r") if tables.is_file() else None
        # a few blocks for each component: neighbouring steps share one
        self._block = functools.lru_cache(maxsize=4 * len(self.components))(self._make_block)

    def component_of_row(self, multiple: int = 1) -> np.ndarray:
        """Give the component's index of each row of a batch, int [B]."""
        return np.repeat(np.arange(len(self.components)), [c.rows * multiple for c in self.components])

    def batches(self, seed: int, start: int, count: int, multiple: int = 1) -> Batch:
        """Make the batches of steps start .. start + count - 1 of the run `seed`, `multiple` times as large."""
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
        """Cut the held-out windows: evenly spaced over the held-out text, the same for every run."""
        tokens = token_files.heldout_windows(self._heldout, self.data).astype(np.uint16)
        return self._marked(tokens, self.data.seed, "heldout")

    def _marked(self, tokens: np.ndarray, *key: int | str) -> Rows:
        """Windows of text with the targets that the objective counts."""
        rows = text_rows(tokens)
        if self.data.objective == CAUSAL:
            return rows
        rng = generator(*key, "text", "counted")
        counted = OBJECTIVES[self.data.objective].counted(
            len(tokens), self.context, self.data.mask_share, rng
        )
        return rows._replace(counted=counted)

    def heldout_classes(self) -> np.ndarray:
        """Name the kind of each target of `heldout_text` (see `classes.CLASSES`), uint8 [R, T]."""
        tokens = self.heldout_text().tokens[:, 1:]
        return mark_repeats(tokens, self._of_targets(self._classes))

    def heldout_sources(self) -> dict[str, np.ndarray]:
        """Mark the targets of `heldout_text` that come from each source of a mixture: bool [R, T]."""
        if not self.data.mixture:
            return {}
        number = self._of_targets(np.memmap(self.folder / "sources.bin", np.uint8, mode="r"))
        return {name: number == place for place, name in enumerate(sorted(self.data.mixture))}

    def _of_targets(self, of_tokens: np.ndarray) -> np.ndarray:
        """What is said of each held-out token, at the targets of the held-out windows: [R, T]."""
        start = token_files.heldout_starts(len(self._heldout), self.data)
        return np.asarray(of_tokens[start[:, None] + 1 + np.arange(self.context)])

    def ngram_log_probabilities(self, rows: int) -> np.ndarray | None:
        """Look up each n-gram model's log probabilities of every token at the targets of the first `rows` rows
        of `heldout_text`: float32 [3, rows, T, V]. None where the vocabulary is too large to tabulate."""
        return None if self._ngrams is None else self._ngrams[:, :rows]

    def items(self, name: str, variant: str | None) -> Items:
        """Make the evaluation items of a task's variant, packed as in training, at least `tasks.items` of them;
        with None, a third as many drawn as the task trains, which measure a loss and no score."""
        task = self.families[name]
        if task.items:
            chosen = next(v for v in task.variants if v.name == variant)
            items: Items = task.items(chosen, self.task_config.items, self.context, self.encode)
            return items
        return task_items(self.data, self.task_config, task, variant)

    def encode(self, text: bytes) -> np.ndarray:
        """Turn a text into tokens."""
        if self.vocab_size == VOCAB_SIZE:
            return np.frombuffer(text, np.uint8)
        if self._tokenizer is None:
            path = self.folder / tokenizer.FILE
            if not path.is_file():
                raise UserError(
                    "data.tokenizer: tasks given as text need the tokenizer of these token files; name its "
                    "tokenizer.json, or leave tasks.path out"
                )
            made = tokenizer.load(path)
            self._tokenizer = made, tokenizer.vocabulary(made).number
        made, number = self._tokenizer
        return number[np.array(made.encode(text.decode(), add_special_tokens=False).ids, int)].astype(
            np.uint16
        )

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
        rng = generator(seed, name, block, "train")
        return training_rows(self.families[name], rng, BLOCK, self.context)

    def _text_block(self, seed: int, block: int) -> Rows:
        """Windows of a block; of a mixture, each source's share of them in the block's own order."""
        rows = np.arange(BLOCK, dtype=np.int64)
        segments = self.manifest.sources.get("segments")
        if not segments:
            start = self._starts(block * BLOCK + rows, 0, len(self._train), seed, "text")
        else:
            start = np.empty(BLOCK, np.int64)
            shuffled = generator(seed, "text", "mixture", block).permutation(BLOCK)
            begin = first = 0
            for name, count in rows_of_sources(self.data.mixture).items():
                mine = shuffled[first : first + count]
                start[mine] = self._starts(
                    block * count + rows[:count], begin, segments[name], seed, "text", name
                )
                begin, first = begin + segments[name], first + count
        tokens = self._train[start[:, None] + np.arange(self.context + 1)].astype(np.uint16)
        return self._marked(tokens, seed, block)

    def _starts(self, row: np.ndarray, begin: int, tokens: int, *key: int | str) -> np.ndarray:
        """Where the windows `row` start in a text of `tokens` from `begin` on. Without replacement: each pass
        over the text visits every window once, in its own order."""
        windows = (tokens - 1) // self.context - 1
        visit, position = np.divmod(row, windows)
        start = np.empty(len(row), np.int64)
        for number in np.unique(visit):
            rng = generator(*key, int(number))
            now = visit == number
            # the grid of windows moves from pass to pass, so that a second pass cuts the text elsewhere
            offset = begin + int(rng.integers(self.context))
            start[now] = offset + self.context * permute(position[now], windows, int(rng.integers(2**63)))
        return start


def rows_of_sources(mixture: Mapping[str, float]) -> dict[str, int]:
    """Share the rows of a block among the sources of a mixture, by name; the largest remainders get the rest."""
    rows = {name: int(mixture[name] * BLOCK) for name in sorted(mixture)}
    by_remainder = sorted(rows, key=lambda name: rows[name] - mixture[name] * BLOCK)
    for name in by_remainder[: BLOCK - sum(rows.values())]:
        rows[name] += 1
    return rows


def permute(index: np.ndarray, count: int, key: int) -> np.ndarray:
    """Find the places of `index` in a pseudo-random permutation of range(count), without holding it in memory.

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


def open_world(data: DataConfig, tasks: TasksConfig, folder: Path) -> World:
    """Open the world of these configurations, its text under `folder`; scan it first where it is not there yet."""
    from lmscale.data.scan import scan

    manifest = scan(data, tasks, folder)
    return World(data, tasks, manifest, Path(folder) / manifest.text_key)
