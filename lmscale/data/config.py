"""What a person may ask of the corpus and of the tasks: frozen, checked, without jax.

`lmscale.config` composes these into the sweep's configuration; `scan` and `open_world` read them.
"""

import dataclasses
from dataclasses import dataclass, field

from lmscale.errors import UserError


@dataclass(frozen=True)
class DataConfig:
    """The text component and the shape of a batch.

    kind: "stdlib", the running Python's standard library. rows: text rows a batch. context: T, targets a row.
    seed: fixes the file split, the held-out windows, every task's tables and the evaluation items.
    unique_tokens: U, train on the first U tokens of the corpus only (null: all), so repeats can be studied.
    """

    name: str = "stdlib"
    kind: str = "stdlib"
    rows: int = 8
    context: int = 64
    seed: int = 0
    heldout_share: float = 0.05
    heldout_rows: int = 192
    unique_tokens: int | None = None

    def __post_init__(self) -> None:
        _check(self.kind in ("stdlib",), "data.kind", self.kind, "one of stdlib")
        _check(self.rows >= 1, "data.rows", self.rows, "at least 1")
        _check(self.context >= 32, "data.context", self.context, "at least 32: shorter rows hold no task")
        _check(0 < self.heldout_share < 0.5, "data.heldout_share", self.heldout_share, "between 0 and .5")
        _check(self.heldout_rows >= 1, "data.heldout_rows", self.heldout_rows, "at least 1")
        if self.unique_tokens is not None:
            least = self.context + 1
            _check(self.unique_tokens > least, "data.unique_tokens", self.unique_tokens, f"above {least}")


@dataclass(frozen=True)
class TasksConfig:
    """Which tasks are mixed in and how much they weigh.

    weight: the share of the total loss that all tasks have together; text has the rest. weights: the
    relative weight of each task, by name. rows: rows a batch for each task. items: evaluation items a task
    and variant. variants: "core", or "all" of them. shots: also score the examples that stand first, second
    and last in their row apart (0_shot, 1_shot, k_shot). temperature: of chains that are sampled.
    """

    name: str = "cpu"
    weight: float = 0.3
    weights: dict[str, float] = field(default_factory=dict)
    rows: int = 1
    items: int = 200
    variants: str = "core"
    shots: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(0 <= self.weight < 1, "tasks.weight", self.weight, "at least 0 and below 1: text has the rest")
        for task, weight in self.weights.items():
            _check(weight > 0, f"tasks.weights.{task}", weight, "above 0; leave a task out to drop it")
        _check(self.rows >= 1, "tasks.rows", self.rows, "at least 1")
        _check(self.variants in ("core", "all"), "tasks.variants", self.variants, "core or all")
        _check(self.temperature > 0, "tasks.temperature", self.temperature, "above 0; greedy is a variant")
        _check(self.items >= 20, "tasks.items", self.items, "at least 20: fewer items say nothing")
        if bool(self.weights) != (self.weight > 0):
            raise UserError(
                f"tasks.weight={self.weight}, tasks.weights={self.weights}: give both, or 0 and none"
            )


def _check(good: bool, name: str, value: object, remedy: str) -> None:
    if not good:
        raise UserError(f"{name}={value}: it must be {remedy}")


def as_dict(config: DataConfig | TasksConfig) -> dict[str, object]:
    """The configuration as plain values, for hashes and JSON."""
    return dataclasses.asdict(config)
