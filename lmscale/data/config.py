"""What a person may ask of the corpus and of the tasks: frozen, checked, without jax.

`lmscale.config` composes these into the sweep's configuration; `scan` and `open_world` read them.
"""

import dataclasses
from dataclasses import dataclass

from lmscale.errors import UserError

KINDS = ("stdlib", "packages", "text", "huggingface")


@dataclass(frozen=True)
class DataConfig:
    """The text component and the shape of a batch.

    kind: "stdlib", the running Python's standard library; "packages", that and the sources of this project's
    required packages; "text", `files` (paths and patterns: text, JSONL, Parquet, each also gzipped), of which
    `field` holds the text; "huggingface", the `dataset` of that name with its `subset` and `split`, streamed.
    tokenizer: "bytes", or "bpe" of `bpe_vocab` tokens. most_bytes: stop reading there (null: read all).
    rows: text rows a batch. context: T, targets a row. seed: fixes the split, every task's tables and the
    evaluation items. heldout_share: of the documents. heldout_rows: windows that an evaluation measures.
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
    files: tuple[str, ...] = ()
    field: str = "text"
    dataset: str | None = None
    subset: str | None = None
    split: str = "train"
    most_bytes: int | None = None
    tokenizer: str = "bytes"
    bpe_vocab: int = 1024

    def __post_init__(self) -> None:
        _check(self.kind in KINDS, "data.kind", self.kind, "one of " + ", ".join(KINDS))
        _check(self.kind != "text" or bool(self.files), "data.files", "[]", "the files of data=text")
        _check(self.kind != "huggingface" or bool(self.dataset), "data.dataset", None, "a dataset's name")
        _check(self.tokenizer in ("bytes", "bpe"), "data.tokenizer", self.tokenizer, "bytes or bpe")
        _check(300 <= self.bpe_vocab <= 65536, "data.bpe_vocab", self.bpe_vocab, "from 300 to 65536")
        _check(self.most_bytes is None or self.most_bytes > 0, "data.most_bytes", self.most_bytes, "above 0")
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
    path: a BIG-bench task.json, or a folder of them, that is evaluated with path_shots examples before each.
    """

    name: str = "cpu"
    weight: float = 0.3
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    rows: int = 1
    items: int = 200
    variants: str = "core"
    shots: bool = False
    temperature: float = 1.0
    path: str | None = None
    path_shots: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _check(0 <= self.weight < 1, "tasks.weight", self.weight, "at least 0 and below 1: text has the rest")
        for task, weight in self.weights.items():
            _check(weight > 0, f"tasks.weights.{task}", weight, "above 0; leave a task out to drop it")
        _check(self.rows >= 1, "tasks.rows", self.rows, "at least 1")
        _check(self.variants in ("core", "all"), "tasks.variants", self.variants, "core or all")
        for shots in self.path_shots:
            _check(shots >= 0, "tasks.path_shots", shots, "at least 0")
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
