"""All rows that an evaluation measures, in one stack: held-out text, each task's loss and its scored variants.

The rows are fixed by the data seed and are numpy. Running a model over them is `evaluate`, judging what it said
`scoring`.
"""

from dataclasses import dataclass

import numpy as np

from lmscale.data.world import World
from lmscale.tasks.base import Task, Variant
from lmscale.tasks.rows import Rows
from lmscale.tasks.sampling import Items

GENERATED = ("greedy", "sampled")


@dataclass(frozen=True)
class Block:
    """Consecutive rows of the stack. component: whose loss they measure, None for a scored variant only.
    task, variant: what their items score, None for text and for rows that only measure a loss."""

    rows: Rows
    component: str | None
    task: Task | None = None
    variant: Variant | None = None
    items: Items | None = None

    @property
    def choices(self) -> bytes:
        """The valid one-byte answers, where the likeliest of them is what counts."""
        if not self.task or not self.variant:
            return b""
        return self.task.choices if self.variant.choices is None else self.variant.choices


@dataclass(frozen=True)
class Stack:
    """All rows of an evaluation. question: target positions [R, Q] whose distribution over `choices` [R, K]
    is wanted (-1: none), Q the most one-byte answers in a row."""

    blocks: tuple[Block, ...]
    tokens: np.ndarray  # int32 [R, T + 1]
    question: np.ndarray  # int32 [R, Q]
    choices: np.ndarray  # int32 [R, K]


def stack_rows(world: World) -> Stack:
    """Stack the held-out text, then for each task the rows of its loss and of its variants."""
    blocks = [Block(world.heldout_text(), world.manifest.primary)]
    for name, task in world.families.items():
        forced = [variant for variant in task.variants if variant.scoring not in GENERATED]
        own = next((v for v in forced if v.sample is None), None)  # its items are drawn as the task trains
        if own is None and task.sample:
            blocks.append(Block(world.items(name, None).rows, name))
        for variant in forced:
            items = world.items(name, variant.name)
            component = name if variant is own and task.sample else None
            blocks.append(Block(items.rows, component, task, variant, items))
    tokens = np.concatenate([block.rows.tokens for block in blocks]).astype(np.int32)
    questions, choices = [], []
    for block in blocks:
        asked = np.where(block.rows.item >= 0, np.arange(world.context), world.context)
        asked = np.sort(asked if block.choices else np.full_like(asked, world.context), axis=1)
        questions.append(np.where(asked < world.context, asked, -1))
        valid = np.frombuffer(block.choices, np.uint8).astype(np.int32)
        choices.append(np.broadcast_to(valid, (len(asked), len(valid))))
    question = np.concatenate(questions)
    question = question[:, : max(1, int((question >= 0).sum(axis=1).max()))]
    width = max(1, *(c.shape[1] for c in choices))
    padded = [np.pad(c, ((0, 0), (0, width - c.shape[1]))) for c in choices]
    return Stack(tuple(blocks), tokens, question.astype(np.int32), np.concatenate(padded))


def target_weights(world: World, stack: Stack) -> np.ndarray:
    """Weigh each held-out target in the total loss: by its component's, shared among those that count."""
    weight_of = {component.name: component.weight for component in world.components}
    return np.concatenate(
        [
            block.rows.counted * (weight_of[block.component] / block.rows.counted.sum())
            if block.component
            else np.zeros(block.rows.counted.shape)
            for block in stack.blocks
        ]
    )
