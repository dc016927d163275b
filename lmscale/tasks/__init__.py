"""The tasks by name. Each builder takes the data seed, which draws the task's tables."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lmscale.config import DataConfig, TasksConfig
from lmscale.errors import UserError
from lmscale.tasks import (
    arithmetic,
    bigbench,
    copying,
    facts,
    grammar,
    hops,
    incontext,
    language,
    listops,
    parities,
)
from lmscale.tasks.base import Task
from lmscale.typed import one_of

BUILDERS: dict[str, Callable[[int], Task]] = {
    "bigram": grammar.bigram,
    "facts": facts.facts,
    "brackets": grammar.brackets,
    "copy": copying.copy,
    "copy_lengths": copying.copy_lengths,
    "sort": copying.sort,
    "reverse": copying.reverse,
    "modadd": arithmetic.modadd,
    "modadd_97": arithmetic.modadd_97,
    "addition": arithmetic.addition,
    "addition_reversed": partial(arithmetic.addition, reversed_digits=True),
    "composition": arithmetic.composition,
    "composition_3": arithmetic.composition_3,
    "composition_3_steps": partial(arithmetic.composition_3, steps=True),
    "parity": parities.parity,
    "parity_chain": parities.parity_chain,
    # long enough for a thousand different questions that were never trained on
    "parity_12": partial(parities.parity, length=12, name="parity_12"),
    "parity_chain_12": lambda seed: dataclasses.replace(
        parities.parity_chain(seed, length=12), name="parity_chain_12"
    ),
    "parity_long": partial(parities.parity, length=32, name="parity_long", tag="odds "),
    "sparse_parity": parities.sparse_parity,
    "one_hop": partial(hops.hops, count=1, recite=False),
    "two_hop": partial(hops.hops, count=2, recite=False),
    "two_hop_recite": partial(hops.hops, count=2, recite=True),
    "three_hop": partial(hops.hops, count=3, recite=False),
    "three_hop_recite": partial(hops.hops, count=3, recite=True),
    "list_ops": listops.list_ops,
    "list_ops_steps": partial(listops.list_ops, steps=True),
    "recall": incontext.recall,
    "labels": incontext.labels,
    "override": facts.override,
    "hashed": facts.hashed,
    "language": language.language,
}


class Chosen(NamedTuple):
    """The tasks of a configuration by name, and a sentence for each that was asked for and cannot be scored."""

    tasks: dict[str, Task]
    left_out: tuple[str, ...] = ()


def chosen(data: DataConfig, tasks: TasksConfig) -> Chosen:
    """Build the tasks of a configuration: those that train, then those that are only evaluated."""
    found = {name: build_task(name, data.seed, tasks.variants) for name in sorted(tasks.weights)}
    if not tasks.path:
        return Chosen(found)
    evaluated, left_out = bigbench.load_tasks(data, tasks, found)
    return Chosen(found | evaluated, tuple(left_out))


def build_task(name: str, seed: int, variants: str = "all") -> Task:
    """Build the task called `name` with the tables of the data seed, and all of its variants or the core ones."""
    if name not in BUILDERS:
        raise UserError(f"tasks.weights.{name}: no such task; {one_of(name, BUILDERS)}")
    task = BUILDERS[name](seed)
    if variants == "core":
        task = dataclasses.replace(task, variants=tuple(v for v in task.variants if v.core))
    return task
