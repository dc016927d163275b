"""Held-out loss by component and task scores: one jitted program over one stack of rows, sums in float64.

The rows are fixed by the data seed; they and their bookkeeping are numpy. Only `forward` is the model's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale.data.world import Rows, World

Forward = Callable[[Any, jax.Array], jax.Array]  # (params, tokens int32 [R, T]) -> logits [R, T, V]


@dataclass(frozen=True)
class Evaluation:
    """What one model scored. loss: nats, by component and in total, and the text loss's parts by token class.
    tasks: {task: {variant: {n, correct, nll, brier, byte_accuracy}}}. items: arrays by item for items.npz."""

    loss: dict[str, float]
    tasks: dict[str, dict[str, dict[str, float | int | None]]]
    items: dict[str, np.ndarray]


@dataclass(frozen=True)
class Block:
    """Consecutive rows of the stack. component: whose loss they measure, None for a scored variant only.
    task, variant: what their items score, None for text and for rows that only measure a loss."""

    rows: Rows
    component: str | None
    task: str | None
    variant: str | None


@dataclass(frozen=True)
class Stack:
    """All rows of an evaluation. question: target positions [R, Q] whose distribution over `choices` [R, K]
    is wanted (-1: none), Q the most one-byte answers in a row."""

    blocks: tuple[Block, ...]
    tokens: np.ndarray  # int32 [R, T + 1]
    question: np.ndarray  # int32 [R, Q]
    choices: np.ndarray  # int32 [R, K]


def stack_rows(world: World) -> Stack:
    """The held-out text, then for each task the rows of its loss and of its variants."""
    blocks = [Block(world.heldout_text(), world.manifest.primary, None, None)]
    for name, task in world.families.items():
        if all(variant.sample for variant in task.variants):
            blocks.append(Block(world.items(name, None), name, None, None))
        measured = blocks[-1].component == name
        for variant in task.variants:
            counts = variant.sample is None and not measured
            measured |= counts
            rows = world.items(name, variant.name)
            blocks.append(Block(rows, name if counts else None, name, variant.name))
    tokens = np.concatenate([block.rows.tokens for block in blocks]).astype(np.int32)
    questions, choices = [], []
    for block in blocks:
        valid = world.families[block.task].choices if block.task else b""
        place = np.where(block.rows.item >= 0, np.arange(world.context), world.context)
        asked = np.sort(place, axis=1) if valid else np.full_like(place, world.context)
        questions.append(np.where(asked < world.context, asked, -1))
        choices.append(np.broadcast_to(np.frombuffer(valid, np.uint8), (len(place), len(valid))))
    question = np.concatenate(questions)
    question = question[:, : max(1, int((question >= 0).sum(axis=1).max()))]
    width = max(1, *(c.shape[1] for c in choices))
    padded = [np.pad(c.astype(np.int32), ((0, 0), (0, width - c.shape[1]))) for c in choices]
    return Stack(tuple(blocks), tokens, question.astype(np.int32), np.concatenate(padded))


def make_evaluator(world: World, forward: Forward, chunk_rows: int = 64) -> "Evaluator":
    """An evaluator of every lane of `params` (leading lane axis). chunk_rows: rows a forward pass."""
    return Evaluator(world, stack_rows(world), forward, chunk_rows)


class Evaluator:
    """Call it with parameters; it holds the stacked rows on the device and the compiled program."""

    def __init__(self, world: World, stack: Stack, forward: Forward, chunk_rows: int):
        self.world, self.stack = world, stack
        count = len(stack.tokens)
        chunks = -(-count // chunk_rows)
        self.tokens = chunks * chunk_rows * world.context  # forward tokens an evaluation costs, for one lane

        def chunked(array: np.ndarray) -> jax.Array:
            fill = np.zeros((chunks * chunk_rows - count, *array.shape[1:]), array.dtype)
            return jnp.asarray(np.concatenate([array, fill]).reshape(chunks, chunk_rows, *array.shape[1:]))

        self._rows = tuple(chunked(array) for array in (stack.tokens, stack.question, stack.choices))

        def one(params: Any, rows: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
            tokens, question, choices = rows
            logits = forward(params, tokens[:, :-1])
            target = tokens[:, 1:]
            picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
            nll = jax.nn.logsumexp(logits, axis=-1) - picked
            # first alone: argmax is slow on a CPU, and calls a tie (an untrained model) a hit
            hit = (logits >= picked[..., None]).sum(axis=-1) == 1
            row = jnp.arange(len(tokens))[:, None, None]
            return nll, hit, logits[row, jnp.maximum(question, 0)[:, :, None], choices[:, None, :]]

        def program(params: Any, rows: tuple[jax.Array, ...]) -> Any:
            return jax.lax.map(lambda chunk: jax.vmap(one, in_axes=(0, None))(params, chunk), rows)

        self._program = jax.jit(program)

    def __call__(self, params: Any) -> list[Evaluation]:
        """One evaluation a lane, in order."""
        count = len(self.stack.tokens)
        nll, hit, choice = (
            # [chunks, lanes, rows, ..] -> [lanes, rows, ..]
            np.moveaxis(np.asarray(array), 1, 0).reshape(array.shape[1], -1, *array.shape[3:])[:, :count]
            for array in self._program(params, self._rows)
        )
        return [
            summarise(self.world, self.stack, nll[lane].astype(np.float64), hit[lane], choice[lane])
            for lane in range(len(nll))
        ]


def summarise(world: World, stack: Stack, nll: np.ndarray, hit: np.ndarray, choice: np.ndarray) -> Evaluation:
    """Losses and scores from each target's NLL [R, T] and hit [R, T] and the choices' logits [R, Q, K]."""
    weight_of = {component.name: component.weight for component in world.components}
    loss: dict[str, float] = {"total": 0.0}
    weights = np.zeros_like(nll)
    tasks: dict[str, dict[str, dict[str, float | int | None]]] = {}
    items: dict[str, np.ndarray] = {}
    begin = 0
    for block in stack.blocks:
        span = slice(begin, begin := begin + len(block.rows.tokens))
        if block.component:
            counted = block.rows.counted
            loss[block.component] = float(nll[span][counted].mean())
            weights[span] = counted * (weight_of[block.component] / counted.sum())
        if block.task and block.variant:
            score, arrays = _score(world, block, nll[span], hit[span], stack.question[span], choice[span])
            tasks.setdefault(block.task, {})[block.variant] = score
            items |= {f"{block.task}/{block.variant}/{key}": value for key, value in arrays.items()}
    # not the sum of the components: one mean over all targets, each with its weight
    loss["total"] = float(np.average(nll.ravel(), weights=weights.ravel()))
    return Evaluation(loss, tasks, items)


def _score(
    world: World, block: Block, nll: np.ndarray, hit: np.ndarray, question: np.ndarray, choice: np.ndarray
) -> tuple[dict[str, float | int | None], dict[str, np.ndarray]]:
    """A variant's score and its items. An item is correct when every byte of its answer is the likeliest,
    which is when greedy generation would have written it; among its choices where a task has them."""
    item = block.rows.item
    scored = item >= 0
    number = item[scored]
    size = np.bincount(number)
    matched = np.bincount(number, hit[scored]).astype(int)
    surprise = np.bincount(number, nll[scored])
    correct = matched == size
    brier = None
    valid = world.families[block.task].choices if block.task else b""
    if valid:
        asked = question >= 0
        logits = choice[asked][:, : len(valid)].astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = shifted / shifted.sum(axis=1, keepdims=True)
        row, slot = np.nonzero(asked)
        truth = block.rows.tokens[row, question[row, slot] + 1]
        onehot = truth[:, None] == np.frombuffer(valid, np.uint8)
        brier = float(((probability - onehot) ** 2).sum(axis=1).mean())
        # a tie is no choice
        correct = (logits >= logits[onehot][:, None]).sum(axis=1) == 1
    score = {
        "n": len(size),
        "correct": int(correct.sum()),
        "nll": float(surprise.mean()),
        "brier": brier,
        "byte_accuracy": float(matched.sum() / size.sum()),
    }
    arrays = {
        "correct": correct.astype(np.uint8),
        "nll": surprise.astype(np.float32),
        "matched_bytes": matched.astype(np.uint8),
        "answer_bytes": size.astype(np.uint8),
    }
    return score, arrays
