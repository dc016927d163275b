"""The tasks by name. Each builder takes the data seed, which draws the task's tables."""

from collections.abc import Callable

from lmscale.errors import UserError
from lmscale.tasks import arithmetic, copying, facts, grammar, incontext
from lmscale.tasks.base import Task

BUILDERS: dict[str, Callable[[int], Task]] = {
    "bigram": grammar.bigram,
    "facts": facts.facts,
    "brackets": grammar.brackets,
    "copy": copying.copy,
    "sort": copying.sort,
    "reverse": copying.reverse,
    "modadd": arithmetic.modadd,
    "parity": arithmetic.parity,
    "parity_chain": arithmetic.parity_chain,
    "labels": incontext.labels,
    "hashed": facts.hashed,
}


def build(name: str, seed: int) -> Task:
    """The task called `name` with the tables of the data seed."""
    if name not in BUILDERS:
        raise UserError(f"tasks.weights.{name}: no such task; there are {', '.join(BUILDERS)}")
    return BUILDERS[name](seed)
