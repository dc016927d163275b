"""Which settings and metrics of a tracker mean what, by the names that trainers give them.

A name counts by its last words: `model.num_params`, `train/num_params` and `numParams` are one. The lists are in
order: the first that a run has is taken.
"""

import re
from collections.abc import Iterable

PARAMS = (
    *("params", "n_params", "num_params", "total_params", "params_total", "num_total_params"),
    *("parameters", "n_parameters", "num_parameters", "number_of_parameters", "total_parameters"),
    *("param_count", "params_count", "parameter_count", "model_params", "model_parameters"),
    *("trainable_params", "num_trainable_params", "n_trainable_params", "trainable_parameters"),
)
NONEMBEDDING = (
    *("params_nonembedding", "nonembedding_params", "non_embedding_params", "params_non_embedding"),
    *("num_non_embedding_params", "n_params_non_embedding", "non_embedding_parameters"),
    "num_parameters_non_embedding",
)
TOKENS = (
    *("tokens", "n_tokens", "num_tokens", "tokens_seen", "seen_tokens", "total_tokens", "tokens_total"),
    *("total_tokens_seen", "num_input_tokens_seen", "num_tokens_seen", "consumed_tokens", "tokens_consumed"),
    *("consumed_train_tokens", "train_tokens", "training_tokens", "tokens_processed", "tokens_trained"),
)
TOKENS_PER_STEP = (
    *("tokens_per_step", "tokens_per_iter", "tokens_per_iteration", "tokens_per_batch", "batch_tokens"),
    *("batch_size_tokens", "batch_size_in_tokens", "global_batch_tokens", "global_batch_size_tokens"),
    *("train_batch_tokens", "total_batch_size_tokens"),
)
GLOBAL_BATCH = (
    *("global_batch_size", "global_train_batch_size", "effective_batch_size", "total_train_batch_size"),
    "train_global_batch_size",
)
DEVICE_BATCH = (
    "per_device_train_batch_size",
    "device_batch_size",
    "micro_batch_size",
    "batch_size_per_device",
)
ACCUMULATION = (
    "gradient_accumulation_steps",
    "grad_accum_steps",
    "accumulate_grad_batches",
    "gradient_accumulation",
)
DEVICES = (
    "world_size",
    "num_devices",
    "n_devices",
    "num_gpus",
    "n_gpus",
    "n_gpu",
    "devices",
    "ddp_world_size",
)
CONTEXT = (
    *("block_size", "context_length", "context_size", "context", "seq_len", "seq_length", "sequence_length"),
    *("max_seq_len", "max_seq_length", "max_sequence_length", "n_ctx", "train_seq_len"),
)
HORIZON_STEPS = (
    *("max_steps", "max_iters", "num_iterations", "total_steps", "train_steps", "num_train_steps"),
    *("training_steps", "num_training_steps", "max_train_steps", "total_iterations", "train_iters"),
    *("max_iterations", "num_steps", "n_steps"),
)
STEP = ("global_step", "iter", "iteration", "optimizer_step", "train_step", "train_iter", "num_updates")
FLOPS = (
    *("flops", "total_flops", "total_training_flops", "training_flops", "train_flops", "cumulative_flops"),
    "total_flos",
)
FLOPS_PER_TOKEN = ("flops_per_token", "num_flops_per_token", "model_flops_per_token")
SEED = ("seed", "random_seed", "global_seed", "rng_seed", "training_seed", "train_seed", "manual_seed")
RATE = ("learning_rate", "lr", "max_lr", "peak_lr", "max_learning_rate", "peak_learning_rate")
_HELD_OUT = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "test"})
_NO_LOSS = frozenset(
    [
        *(
            "aux",
            "auxiliary",
            "z",
            "balance",
            "balancing",
            "balanced",
            "router",
            "routing",
            "lb",
            "mtp",
            "kl",
        ),
        *("scale", "scaling", "grad", "gradient", "distill", "distillation", "reg", "regularization"),
        *("best", "min", "max", "std", "stderr"),
    ]
)
_SMOOTH = frozenset(
    [
        "smooth",
        "smoothed",
        "ema",
        "avg",
        "average",
        "averaged",
        "mean",
        "running",
        "moving",
        "rolling",
        "debiased",
    ]
)


def plain(name: str) -> str:
    """Return a name as small words between underscores: `train/valLoss` is train_val_loss."""
    return "_".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))


def matching(names: Iterable[str], endings: tuple[str, ...]) -> list[str]:
    """Return the names that end in one of `endings`: whole names first, then by the order of the endings.

    What is counted in an evaluation (`val/tokens`) is none of them.
    """
    ranked = []
    for name in names:
        words = plain(name)
        if _HELD_OUT & set(words.split("_")):
            continue
        for rank, ending in enumerate(endings):
            if words == ending or words.endswith(f"_{ending}"):
                ranked.append((words != ending, rank, len(words), name))
                break
    return [name for *_, name in sorted(ranked)]


def is_smoothed(name: str) -> bool:
    """Say whether a metric is an average over steps, by its name."""
    return bool(_SMOOTH & set(plain(name).split("_")))


def losses(names: Iterable[str]) -> list[list[str]]:
    """Rank the metrics that are losses: lists of equal rank, the best first.

    Held-out before training; a validation before a test; nats before bits before a perplexity; as logged before
    smoothed.
    """
    ranked: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        words = plain(name).split("_")
        unit = unit_of(name)
        if unit is None or _NO_LOSS & set(words):
            continue
        held = _HELD_OUT & set(words)
        rank = (is_smoothed(name), not held, unit != "nats", unit == "perplexity", held == {"test"})
        ranked.setdefault(tuple(map(int, rank)), []).append(name)
    return [sorted(ranked[rank], key=lambda name: (len(plain(name)), name)) for rank in sorted(ranked)]


def unit_of(name: str) -> str | None:
    """Return the unit of a loss by its name: nats (a plain loss), bits or perplexity; None for what is no loss."""
    words = plain(name).split("_")
    if {"ppl", "perplexity"} & set(words):
        return "perplexity"
    if {"bpb", "bpc", "bits"} & set(words):
        return "bits"
    plainly = {"loss", "nll", "ce", "xent", "crossentropy"} & set(words) or "cross_entropy" in plain(name)
    return "nats" if plainly else None
