"""Samples of every component and variant as text: people learn by looking.

Under a line, `^` marks the bytes that are scored, `~` those that train besides, `_` the ends of rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmscale.data.world import World
from lmscale.tasks.base import Task
from lmscale.tasks.rows import Rows
from lmscale.tasks.sampling import Items
from lmscale.text.vocab import PAD, START

SPECIAL = {PAD: "_", START: "|", 0: "␀", 9: "⇥", 10: "⏎", 13: "␍"}
ASCII = str.maketrans("␀⇥⏎␍·", "0>$&.")


def peek(world: World, samples: int = 2, seed: int = 0) -> str:
    """Show `samples` training rows of each component and evaluation rows of each variant, with what they are."""
    batch = world.batches(seed, 0, samples)
    component_of_row = world.component_of_row()
    blocks = []
    for index, component in enumerate(world.components):
        head = f"{component.name}: {component.weight:.1%} of the loss, {component.rows} row(s) a batch"
        block = [f"{head}, {component.counted} counted"]
        mine = component_of_row == index
        rows = batch.tokens[:, mine].reshape(-1, world.context + 1)[:samples]
        marks = batch.counted[:, mine].reshape(-1, world.context)[:samples]
        task = world.families.get(component.name)
        if not task:
            block += [f"  {_prose(world, row)}" for row in rows]
            blocks.append("\n".join(block))
            continue
        held = f", {task.heldout:.0%} of questions held out" if task.heldout else ""
        block[0] += f"\n  {task.about}; meant to be {task.intended_class}{held}"
        block += [_marked(row, np.where(mark, "~", " ")) for row, mark in zip(rows, marks, strict=True)]
        blocks.append("\n".join([*block, *_variants(world, task, samples)]))
    for task in world.families.values():
        if task.items:
            head = f"{task.name}: {task.about}; evaluated, not trained on"
            blocks.append("\n".join([head, *_variants(world, task, samples)]))
    if removed := world.manifest.sources.get("clean", {}).get("samples"):
        blocks.append("\n".join(["removed from the training text:", *map(_removed, removed)]))
    return "\n\n".join(blocks)


def _removed(sample: Mapping[str, Any]) -> str:
    """A document that cleaning removed: why, and how it begins."""
    why = (
        f"score {sample['score']:.2f}"
        if "score" in sample
        else f"{sample['similarity']:.0%} of {sample['of']}"
    )
    text = _text(np.frombuffer(sample["text"].encode(), np.uint8))
    return f"  {sample['name']} ({sample['bytes']:,} bytes, {sample['reason']}: {why})\n    {text}"


def in_ascii(text: str) -> str:
    """Turn it into ASCII, one letter for one, for a terminal with nothing else: marks stay under their bytes."""
    legend = "$ a line break, > a tab, & a carriage return, 0 a zero byte, . any other byte"
    return f"{text.translate(ASCII)}\n\n(in ASCII some letters stand for two things: {legend})"


def _variants(world: World, task: Task, samples: int) -> list[str]:
    """A few items of each variant, and what a score of them must beat."""
    block = []
    for variant in task.variants:
        items = world.items(task.name, variant.name)
        said = world.tasks[task.name]["variants"][variant.name]
        block.append(
            f"  {variant.name} ({said['scoring']}): chance {said['chance']:.3g}, by {said['shortcut_by']} "
            f"{said['shortcut']:.3g}, meant to be {said['intended_class']}{_few(said['different_items'], items)}"
        )
        shown = samples if items.group is None else int((items.group < samples).sum())
        block += [_marked(*pair) for pair in _rows(items.rows, shown)]
    return block


def _few(different: int | None, items: Items) -> str:
    """Said where a question is asked more than once."""
    count = len(items.shot) if items.group is None else len(np.unique(items.group))
    return "" if different in (None, count) else f"; {different} different among {count} items"


def _rows(rows: Rows, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    marks = np.where(rows.item >= 0, "^", np.where(rows.counted, "~", " "))
    return list(zip(rows.tokens[:count], marks[:count], strict=True))


def _marked(tokens: np.ndarray, marks: np.ndarray) -> str:
    return f"    {_text(tokens)}\n    {' ' + ''.join(marks)}".rstrip()


def _prose(world: World, tokens: np.ndarray) -> str:
    return _text(np.frombuffer(b"".join(world.token_bytes[token] for token in tokens), np.uint8))


def _text(tokens: np.ndarray) -> str:
    """One character a byte, so that marks stay under what they mark."""
    return "".join(SPECIAL.get(t) or (chr(t) if 32 <= t < 127 else "·") for t in tokens.tolist())
