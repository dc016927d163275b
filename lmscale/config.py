"""Every field of a configuration and its default: frozen dataclasses, the only source of defaults.

The groups of sweeps/ hold what makes a variant; Hydra composes them over `base`, which is made from here. Plain
mappings become these types by `typed.build`, and nothing below ever sees a config object of Hydra's.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any

from lmscale.average import AVERAGES, NO_AVERAGE
from lmscale.cost import CostConfig
from lmscale.errors import UserError
from lmscale.family import FamilyConfig
from lmscale.mesh import MeshConfig
from lmscale.objective import CAUSAL, OBJECTIVES
from lmscale.optim import BELOW_ONE, OptimConfig
from lmscale.plans.config import PlanConfig
from lmscale.schedule import ScheduleConfig
from lmscale.target import TargetConfig
from lmscale.text.recipe import QualityConfig, check_recipe
from lmscale.trackers.config import TrackerConfig
from lmscale.transfer import TransferConfig
from lmscale.typed import among, at_least, at_most, between, positive, unread

ACTIONS = ("sweep", "data", "plan", "candidates", "status", "peek", "forecast", "verify")


@dataclass(frozen=True)
class HorizonConfig:
    """Tokens of a run: tokens x (N / N of the rung `dial`)^exponent x each of `multiples`.

    N is params without embeddings. A multiple of 1 is the rung's horizon; the default's longest is of multiple 1.
    most_flops: what a run of the ladder may cost, in training FLOPs; longer horizons of a rung are left out (null:
    none). The target's rung is free of it.
    """

    tokens: float = 7.2e6
    dial: int = 88
    exponent: float = 0.6
    multiples: tuple[float, ...] = (0.25, 0.5, 1.0)
    most_flops: float | None = None

    def __post_init__(self) -> None:
        positive("horizon.tokens", self.tokens)
        between("horizon.exponent", self.exponent, -10, 10)
        if not self.multiples:
            raise UserError("horizon.multiples=[]: give at least one, such as [1.0]")
        for multiple in self.multiples:
            positive("horizon.multiples", multiple)
        if self.most_flops is not None:
            positive("horizon.most_flops", self.most_flops)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluations at first_tokens x 2^(k / per_doubling), the same tokens for every run, and at the end.

    average: an entry of `average.AVERAGES`, whose weights are evaluated too (null: none): `ema` forgets by
    average_decay a step, `last` is the mean of average_last states, average_every steps apart.
    """

    first_tokens: float = 1e5
    per_doubling: float = 0.5
    average: str | None = None
    average_decay: float = NO_AVERAGE.decay
    average_last: int = NO_AVERAGE.last
    average_every: int = NO_AVERAGE.every

    def __post_init__(self) -> None:
        positive("evaluation.first_tokens", self.first_tokens)
        at_least("evaluation.first_tokens", self.first_tokens, 1)
        at_most("evaluation.first_tokens", self.first_tokens, 1e18)
        positive("evaluation.per_doubling", self.per_doubling)
        at_least("evaluation.per_doubling", self.per_doubling, 0.01)
        at_most("evaluation.per_doubling", self.per_doubling, 100)
        if self.average is not None:
            among("evaluation.average", self.average, AVERAGES)
        between("evaluation.average_decay", self.average_decay, 0, BELOW_ONE)
        for name in ("average_last", "average_every"):
            at_least(f"evaluation.{name}", getattr(self, name), 1)
        at_most("evaluation.average_last", self.average_last, 100)
        reads = AVERAGES[self.average].reads if self.average else ()
        unread("evaluation", self, ("average_decay", "average_last", "average_every"), reads, "average")


KEEP = ("params", "all", "none")


@dataclass(frozen=True)
class PackConfig:
    """The computing of runs, never what they compute.

    lanes: runs of one shape trained at a time in one program; `auto` is 1 on a CPU, where a process a core is
    faster, and measured on an accelerator, once for each shape and device. max_lanes: the most runs of a pack that
    has more lanes than one; the others wait for a lane that ends. steps: the most steps in a dispatch. attention:
    auto is `attention.causal` on a CPU, where nothing is added to the scores and each head has keys of its own,
    and XLA's elsewhere; xla; or cudnn: on an NVIDIA GPU by its kernels, where heads are of a multiple of 8 channels
    up to 128 and nothing is added to the scores; twice as fast (docs/performance.md), and to be checked there
    first: python -m benchmarks.gpu right. keep: of a finished run's last state its parameters (`params`), `all` of
    it, or `none` (docs/export.md).
    """

    lanes: int | str = "auto"
    max_lanes: int = 256
    steps: int = 16
    attention: str = "auto"
    device: str = "auto"
    checkpoint_seconds: float = 30.0
    checkpoints: int = 2
    tries: int = 3
    keep: str = "params"

    def __post_init__(self) -> None:
        among("pack.keep", self.keep, KEEP)
        if self.lanes != "auto" and (isinstance(self.lanes, str) or self.lanes < 1):
            raise UserError(f"pack.lanes={self.lanes}: must be auto or a number of at least 1")
        among("pack.device", self.device, ("auto", "cpu", "gpu", "tpu"))
        among("pack.attention", self.attention, ("auto", "xla", "cudnn"))
        for name in ("max_lanes", "steps", "checkpoints", "tries"):
            at_least(f"pack.{name}", getattr(self, name), 1)
        at_most("pack.steps", self.steps, 2**16)
        positive("pack.checkpoint_seconds", self.checkpoint_seconds)


KINDS = ("stdlib", "packages", "text", "tokens", "huggingface", "mixture")
LEAST_VOCAB, MOST_VOCAB = 300, 1 << 16  # tokens of a vocabulary; they are kept as 16 bits
MOST_ORDER = 7  # of a Markov chain: its n-grams are packed into 64 bits


@dataclass(frozen=True)
class DataConfig:
    """The text component and the shape of a batch.

    name: a label of the manifest, no part of a run's identity.
    kind: "stdlib", the running Python's standard library; "packages", that and the sources of this project's
    required packages; "text", `files` (paths and patterns: text, JSONL, Parquet, each also gzipped), of which
    `field` holds the text; "tokens", `files` of tokens that nanoGPT, llm.c or levanter made; "huggingface", the
    `dataset` of that name with its `subset` and `split`, streamed.
    rows: text rows a batch. context: T, targets a row. seed: fixes the split, every task's tables and the
    evaluation items. heldout_share: of the documents. heldout_rows: windows that an evaluation measures.
    unique_tokens: U, train on the first U tokens of the corpus only (null: all), so repeats can be studied.
    most_bytes: stop reading there (null: read all). tokenizer: "bytes", "bpe" of `bpe_vocab` tokens, or the path of
    a tokenizer.json of one's own.
    markov_order: in place of the text a sample of `sampled_bytes` of its Markov chain with so many bytes of
    context, whose entropy is known (null: the text itself).
    order_seed: draws the batches, the same for every seed, which is then the initialisation's alone (null: each
    run draws its own by its seed).
    mixture: of kind "mixture", the share of the text rows that each source has: "stdlib", "packages" (these alone)
    or a name of `sources`, whose files these are. clean: steps that remove training documents, in their order:
    "quality" as `quality` says, "dedup" for documents whose runs of words agree by `dedup_threshold` or more.
    objective: what is asked of a row: "causal"; "masked", `mask_share` of a window's tokens are hidden and all
    others seen; "prefix", a random beginning is seen both ways and the rest predicted. Their losses are unlike.
    """

    name: str = "stdlib"
    kind: str = "stdlib"
    rows: int = 6
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
    markov_order: int | None = None
    sampled_bytes: int = 12_000_000
    order_seed: int | None = None
    mixture: dict[str, float] = dataclasses.field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    clean: tuple[str, ...] = ()
    quality: QualityConfig = dataclasses.field(default_factory=QualityConfig)
    dedup_threshold: float = 0.8
    objective: str = CAUSAL
    mask_share: float = 0.15

    def __post_init__(self) -> None:
        among("data.kind", self.kind, KINDS)
        _check(self.kind != "text" or bool(self.files), "data.files", "[]", "the files of data=text")
        _check(self.kind != "huggingface" or bool(self.dataset), "data.dataset", None, "a dataset's name")
        _check(
            self.tokenizer in ("bytes", "bpe") or self.tokenizer.endswith(".json"),
            "data.tokenizer",
            self.tokenizer,
            "bytes, bpe or the path of a tokenizer.json",
        )
        if self.kind == "tokens":
            _check(bool(self.files), "data.files", "[]", "the files of data=tokens")
            _check(
                self.tokenizer != "bpe",
                "data.tokenizer",
                "bpe",
                "the tokenizer.json that made these token files",
            )
            no_text = "left as it is: token files hold no text"
            _check(not self.clean, "data.clean", list(self.clean), no_text)
            _check(self.markov_order is None, "data.markov_order", self.markov_order, no_text)
        at_least("data.bpe_vocab", self.bpe_vocab, LEAST_VOCAB)
        at_most("data.bpe_vocab", self.bpe_vocab, MOST_VOCAB)
        if self.markov_order is not None:
            _check(
                1 <= self.markov_order <= MOST_ORDER,
                "data.markov_order",
                self.markov_order,
                f"from 1 to {MOST_ORDER}",
            )
            _check(
                self.tokenizer == "bytes",
                "data.tokenizer",
                self.tokenizer,
                "bytes where data.markov_order is set",
            )
            least = 4 * (self.context + 1)
            _check(self.sampled_bytes >= least, "data.sampled_bytes", self.sampled_bytes, f"at least {least}")
        _check(self.most_bytes is None or self.most_bytes > 0, "data.most_bytes", self.most_bytes, "above 0")
        _check(self.rows >= 1, "data.rows", self.rows, "at least 1")
        _check(0 <= self.seed < 2**63, "data.seed", self.seed, f"from 0 to {2**63 - 1}")
        if self.order_seed is not None:
            _check(0 <= self.order_seed < 2**31, "data.order_seed", self.order_seed, f"from 0 to {2**31 - 1}")
        _check(self.context >= 32, "data.context", self.context, "at least 32: shorter rows hold no task")
        _check(0 < self.heldout_share < 0.5, "data.heldout_share", self.heldout_share, "between 0 and .5")
        _check(self.heldout_rows >= 1, "data.heldout_rows", self.heldout_rows, "at least 1")
        if self.unique_tokens is not None:
            least = self.context + 1
            _check(self.unique_tokens > least, "data.unique_tokens", self.unique_tokens, f"above {least}")
        among("data.objective", self.objective, OBJECTIVES)
        between("data.mask_share", self.mask_share, 0, 1)
        check_recipe(self.clean, self.quality, self.dedup_threshold, self.mixture, self.sources)
        mixed = self.kind == "mixture"
        _check(
            not mixed or bool(self.mixture),
            "data.mixture",
            "{}",
            "sources and their shares: {stdlib: 0.7, ...}",
        )
        _check(mixed or not self.mixture, "data.kind", self.kind, "mixture where data.mixture is given")
        for name in ("unique_tokens", "most_bytes"):
            value = getattr(self, name)
            _check(
                not mixed or value is None,
                f"data.{name}",
                value,
                "null for a mixture: its sources are read whole",
            )
        _check(
            self.markov_order is None or not (self.clean or mixed),
            "data.markov_order",
            self.markov_order,
            "null where text is cleaned or mixed: the chain is of one text as it is",
        )
        _check(
            self.markov_order is None or self.objective == CAUSAL,
            "data.objective",
            self.objective,
            "causal where data.markov_order is set: the floor is of causal prediction",
        )


@dataclass(frozen=True)
class TasksConfig:
    """The tasks that are mixed in and their weights; by default none.

    weight: the share of the total loss that all tasks have together; text has the rest. weights: the
    relative weight of each task, by name. rows: rows a batch for each task. items: evaluation items a task
    and variant. variants: "core", or "all" of them. shots: also score the examples that stand first, second
    and last in their row apart (0_shot, 1_shot, k_shot). temperature: of chains that are sampled.
    path: a BIG-bench task.json, or a folder of them, that is evaluated with path_shots examples before each.
    """

    weight: float = 0.0
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
        _check(self.path != "", "tasks.path", self.path, "a task.json or a folder of them")
        if not math.isfinite(sum(self.weights.values())):
            raise UserError(f"tasks.weights={self.weights}: their sum is beyond floating point")
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


@dataclass(frozen=True)
class SweepConfig:
    """One composed configuration: a ladder of dials x seeds x horizons, and how to train it.

    name: of the experiment, whose runs stand in the folder `runs`/name. action: sweep, data, plan, candidates,
    status, peek, forecast or verify. corpora: the folder of tokens and manifests. dial: the widths of the rungs.
    seed: every rung is trained with each, except the rungs in `one_seed`, which are trained with the first only.
    plan: which horizons and rates of them, or which other rungs. target: what is forecast before it is trained.
    mesh: the devices that train a pack together. tracker: where curves go besides the run folders.
    retry: try packs again that were parked after too many failures. job: set by the sweeper, the one pack that a
    job trains.
    parts: ladders of one experiment, each by the overrides that make it. part: which of them alone (null: all).
    """

    name: str
    action: str = "sweep"
    runs: str = "runs"
    corpora: str = "corpora"
    job: str | None = None
    dial: tuple[int, ...] = (8, 16, 24, 32, 40, 48, 64, 88)
    seed: tuple[int, ...] = (0, 1, 2)
    one_seed: tuple[int, ...] = ()
    family: FamilyConfig = field(default_factory=FamilyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    horizon: HorizonConfig = field(default_factory=HorizonConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    retry: bool = False
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    part: str | None = None

    def __post_init__(self) -> None:
        # The name becomes a folder: it must not be able to leave the runs folder.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise UserError(
                f"name={self.name}: must be letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        among("action", self.action, ACTIONS)
        for part in self.parts:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", part):
                raise UserError(f"parts.{part}: a part's name must be at most 32 letters, digits, '_' or '-'")
        for name in ("dial", "seed"):
            values = getattr(self, name)
            if not values:
                raise UserError(f"{name}=[]: give at least one")
            if len(set(values)) < len(values):
                raise UserError(f"{name}={list(values)}: a value stands twice")
        for seed in self.seed:
            if not 0 <= seed < 2**31:
                raise UserError(f"seed={seed}: must be from 0 to {2**31 - 1}")
        unknown = sorted(set(self.one_seed) - set(self.dial))
        if unknown:
            raise UserError(
                f"one_seed={unknown}: not among dial={list(self.dial)}; with rungs of one's own give one_seed too, "
                "such as one_seed=[]"
            )


def base() -> dict[str, Any]:
    """Give every field at its default, as plain values, for Hydra to compose the groups of sweeps/ over.

    The field that has no default is missing in Hydra's way.
    """
    return dataclasses.asdict(SweepConfig(name="x")) | {"name": "???"}
