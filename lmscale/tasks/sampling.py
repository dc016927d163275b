"""From a task's sampler to the examples of one side of its split: for training, or as evaluation items."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from lmscale.config import DataConfig, TasksConfig
from lmscale.errors import UserError
from lmscale.tasks.base import Examples, Sampler, Task, Variant, hash_bytes, is_heldout, join
from lmscale.tasks.rows import Rows, assign, assign_apart, lengths, pack, repeats_in_row


class Items(NamedTuple):
    """Evaluation rows of a variant. shot: how many examples stand before each item in its row, int [n].
    group: the question of each item, ascending, where items are the options of questions; worth: what each
    option is worth. None where an item is a question. different: how many items differ from all others."""

    rows: Rows
    shot: np.ndarray
    group: np.ndarray | None = None
    worth: np.ndarray | None = None
    different: int | None = None


def by_question(items: Items, *arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Give for each question the worth of its options, and their part of each array."""
    assert items.group is not None and items.worth is not None
    starts = np.flatnonzero(np.diff(items.group)) + 1
    parts = [np.split(array, starts) for array in (items.worth, *arrays)]
    return (list(question) for question in zip(*parts, strict=True))


def generator(*key: int | str) -> Generator:
    """Make an independent stream for each key."""
    entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return Generator(Philox(SeedSequence(entropy)))


def task_items(data: DataConfig, tasks: TasksConfig, task: Task, variant: str | None) -> Items:
    """Make the evaluation items that these configurations fix, of a task that is sampled; see `World.items`."""
    chosen = next((v for v in task.variants if v.name == variant), None)
    rng = generator(data.seed, task.name, variant or "", "items")
    count = tasks.items if chosen else tasks.items // 3
    return evaluation_items(task, chosen, rng, count, data.context, bool(chosen) and tasks.shots)


def training_rows(task: Task, rng: Generator, count: int, context: int) -> Rows:
    """Make `count` rows of examples whose questions may be trained on."""
    sample = sampler(task)
    typical = float(lengths(sample(rng, 64)).mean())
    examples = pool(task, sample, rng, int(count * (context / typical + 1) * 1.1) + 8, train=True)
    row = assign(lengths(examples), context, task.name)
    stop = int(np.searchsorted(row, count))
    if stop == len(row):
        raise UserError(f"task {task.name}: its examples differ too much in length to fill rows of {context}")
    return pack(examples.take(slice(stop)), row[:stop], context)


def evaluation_items(
    task: Task, variant: Variant | None, rng: Generator, count: int, context: int, whole_rows: bool
) -> Items:
    """Make at least `count` items of a variant (None: drawn as the task trains), of held-out questions where the
    task holds some out. whole_rows: at least `count` rows, so that each number of shots has enough."""
    sample = (variant and variant.sample) or sampler(task)
    options = variant.options if variant else 1
    if options > 1 or (variant and variant.scoring in ("greedy", "sampled")):
        # a row for each: no option sees another, no question an answer that the model made up. Alone, a
        # question twice would be one item counted twice
        drawn = pool(task, sample, rng, 4 * count)
        if task.heldout:
            first = np.sort(np.unique(drawn.question, return_index=True)[1])
            examples = drawn.take(first[:count])
        else:
            examples = _different_first(drawn, count, options)
        row = np.arange(len(examples.key))
        assign(lengths(examples), context, task.name)
        packed, shot = pack(examples, row, context), np.zeros(len(row), int)
        different = _different(examples, options)
        if options == 1:
            return Items(packed, shot, different=different)
        return Items(packed, shot, row // options, (row % options == 0).astype(float), different)
    typical = float(lengths(sample(rng, 64)).mean())
    want = int(1.1 * count * (max(1.0, context / typical) if whole_rows else 1)) + 32
    examples = pool(task, sample, rng, 4 * want)
    if task.heldout:
        examples = _distinct(examples, rng, want)
    row = assign(lengths(examples), context, task.name)
    fresh = ~repeats_in_row(examples.question, row)
    fresh[-1] = False  # the last row may be cut short
    index = np.flatnonzero(fresh[row])
    row = np.unique(row[index], return_inverse=True)[1]

    def too_few() -> bool:
        return len(row) < count or (whole_rows and row[-1] < count)

    if too_few():  # in a long row some question nearly always stands twice: rows that end before it does
        row = assign_apart(lengths(examples), examples.question, context)
        index = np.arange(np.searchsorted(row, row[-1]))
        row = row[index]
    if too_few():
        raise UserError(f"tasks.items={count}: {task.name} has too few different questions for so many")
    stop = np.searchsorted(row, count if whole_rows else row[count - 1] + 1)
    row, index = row[:stop], index[:stop]
    shot = np.arange(len(row)) - np.searchsorted(row, row)
    chosen = examples.take(index)
    return Items(pack(chosen, row, context), shot, different=_different(chosen))


def _texts(examples: Examples, options: int) -> np.ndarray:
    """A hash of each item's text, of `options` examples each."""
    return hash_bytes(examples.tokens.reshape(len(examples.tokens) // options, -1))


def _different(examples: Examples, options: int = 1) -> int:
    return len(np.unique(_texts(examples, options)))


def _different_first(examples: Examples, count: int, options: int) -> Examples:
    """`count` items, none twice as long as there are others."""
    first = np.unique(_texts(examples, options), return_index=True)[1]
    again = np.ones(len(examples.key) // options, bool)
    again[first] = False
    chosen = np.concatenate([np.sort(first), np.flatnonzero(again)])[:count]
    return examples.take((chosen[:, None] * options + np.arange(options)).ravel())


def sampler(task: Task) -> Sampler:
    """Return the sampler of a task that has one."""
    if task.sample is None:
        raise ValueError(f"{task.name} is only evaluated")
    return task.sample


def pool(task: Task, sample: Sampler, rng: Generator, count: int, train: bool = False) -> Examples:
    """Draw `count` examples from one side of the task's split."""
    if not task.heldout:
        return sample(rng, count)
    share = 1 - task.heldout if train else task.heldout
    parts, have = [], 0
    while have < count:
        drawn = sample(rng, int((count - have) / share * 1.1) + 16)
        parts.append(drawn.take(np.flatnonzero(is_heldout(drawn.key, task.heldout) != train)))
        have += len(parts[-1].key)
    return join(parts).take(slice(count))


def _distinct(examples: Examples, rng: Generator, count: int) -> Examples:
    """Each question once. A population smaller than `count` is asked again and again, in other company: a
    row in which a question stands twice is left out, so there are spares."""
    first = np.sort(np.unique(examples.question, return_index=True)[1])
    if len(first) < count:
        turns = -(-4 * count // len(first)) - 1
        first = np.concatenate([first, *(rng.permutation(first) for _ in range(turns))])
    return examples.take(first)
