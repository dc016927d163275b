"""A made-up experiment in the run folder's format (DESIGN.md): a known law, and tasks of every class.

Nothing is trained, so tests of the reader, the plots and the report need no training code and take no time.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WIDTHS = (16, 24, 32, 40, 48, 64, 80, 96, 128)
VOCAB, CONTEXT, BATCH_TOKENS = 260, 64, 2048
LAW = {"E": 1.2, "A": 90.0, "B": 2500.0, "alpha": 0.5, "beta": 0.5}
SEED_NOISE = 0.003
CLASSES = {"letter": 0.5, "digit": 0.2, "space": 0.3}
ITEMS = 256


@dataclass(frozen=True)
class Task:
    """A task's curve: accuracy of each variant as a function of u, the log-size scaled to 0..1."""

    intended: str
    chance: float
    variants: Mapping[str, Any]


def _jump(at: float, low: float, high: float) -> Any:
    return lambda u: low + (high - low) / (1 + np.exp(-(u - at) * 40))


def _line(low: float, high: float) -> Any:
    return lambda u: low + (high - low) * u


TASKS: dict[str, Task] = {
    "bigram": Task("saturated", 1 / 16, {"direct": lambda u: np.full_like(u, 0.98)}),
    "facts": Task("smooth", 1 / 16, {"frequent": _line(0.3, 0.95), "rare": _line(0.1, 0.6)}),
    "brackets": Task("smooth", 0.25, {"direct": _line(0.3, 0.9)}),
    "copy": Task("emergent", 0.0, {"direct": _jump(0.55, 0.01, 0.97)}),
    "modular": Task("emergent", 1 / 23, {"direct": _jump(0.72, 1 / 23, 0.95)}),
    "parity": Task(
        "emergent", 0.5, {"direct": lambda u: np.full_like(u, 0.5), "chain": _jump(0.6, 0.5, 0.99)}
    ),
    "hashed": Task("flat", 0.25, {"direct": lambda u: np.full_like(u, 0.25)}),
    "reverse": Task("emergent", 0.0, {"direct": lambda u: _line(0.1, 0.97)(u) ** 8}),
    "popular": Task("inverse", 0.5, {"direct": _line(0.85, 0.2)}),
    "distractor": Task("u_shaped", 0.5, {"direct": lambda u: 0.3 + 2.4 * (u - 0.5) ** 2}),
}


def param_groups(d_model: int) -> dict[str, int]:
    """Parameters of a two-layer transformer by group."""
    return {
        "embedding": VOCAB * d_model,
        "unembedding": VOCAB * d_model,
        "attention": 2 * 4 * d_model**2,
        "mlp": 2 * 8 * d_model**2,
        "norm": 5 * d_model,
    }


def text_loss(params: float, tokens: float) -> float:
    """The law that every run follows, noise aside; nats per byte."""
    return float(LAW["E"] + LAW["A"] / params ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"])


def write_ladder(
    folder: Path,
    widths: Iterable[int] = WIDTHS,
    seeds: Iterable[int] = (0, 1, 2),
    horizons: Iterable[float] = (1.0, 0.5, 0.25),
    diverge: Iterable[tuple[int, int]] = (),
    trunks: bool = True,
    evaluations: int = 6,
    top_tokens: float = 2.4e7,
) -> Path:
    """Write `runs/<experiment>`: a trunk and its branches for each width and seed.

    A rung's longest horizon is `top_tokens` (params / params at the top)^0.5, `horizons` are fractions of it;
    the longest run of each (width, seed) in `diverge` diverges half way.
    """
    widths = tuple(widths)
    top = sum(param_groups(max(WIDTHS)).values())
    for width in widths:
        params = sum(param_groups(width).values())
        longest = top_tokens * (params / top) ** 0.5
        for seed in seeds:
            trunk = f"trunk-{width:03d}-{seed}" if trunks else None
            if trunk:
                _write_run(folder / trunk, width, seed, longest, None, "trunk", "done", evaluations)
            for fraction in horizons:
                bad = (width, seed) in set(diverge) and fraction == max(horizons)
                _write_run(
                    folder / f"run-{width:03d}-{seed}-{fraction:g}",
                    width,
                    seed,
                    longest * fraction,
                    trunk,
                    "branch" if trunk else "run",
                    "diverged" if bad else "done",
                    evaluations,
                )
    return folder


def _write_run(
    folder: Path,
    width: int,
    seed: int,
    horizon: float,
    trunk: str | None,
    kind: str,
    outcome: str,
    points: int,
) -> None:
    folder.mkdir(parents=True)
    groups = param_groups(width)
    params = sum(groups.values())
    steps = round(horizon / BATCH_TOKENS)
    rng = np.random.default_rng([width, seed, steps, kind == "trunk"])
    noise = rng.normal(0, SEED_NOISE)
    shift = np.random.default_rng([width, seed]).normal(0, 0.03)
    weights = {"text": 0.6, **{name: 0.4 / len(TASKS) for name in TASKS}}
    spec = {
        "science_version": 1,
        "kind": kind,
        "trunk": trunk,
        "dial": width,
        "n_layer": 2,
        "d_model": width,
        "n_head": max(1, width // 16),
        "d_head": 16,
        "context": CONTEXT,
        "vocab_size": VOCAB,
        "seed": seed,
        "horizon_tokens": None if kind == "trunk" else steps * BATCH_TOKENS,
        "batch_tokens": BATCH_TOKENS,
        "params": groups,
        "learning_rate": 1.2 / width,
        "data": {
            "content_hash": "0" * 16,
            "primary": "text",
            "unique_tokens": 46_800_000,
            "components": [{"name": n, "weight": w, "rows": 1, "counted": 64} for n, w in weights.items()],
        },
        "tasks": {
            name: {"chance": task.chance, "intended_class": task.intended, "metric": "correct"}
            for name, task in TASKS.items()
        },
        "optim": {"name": "adamw"},
        "schedule": {"name": "wsd"},
        "transfer": {"name": "width"},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    execution = {"pack": "p0", "lane": 0, "width": 1, "device": "cpu", "versions": {"jax": "0.0"}}
    (folder / "execution.json").write_text(json.dumps(execution))
    last = steps // 2 if outcome == "diverged" else steps
    at = np.unique(np.geomspace(max(1, last // 2 ** (points - 1)), last, points).round().astype(int))
    lines, items = [], {}
    for step in at:
        rise = 1.0 if outcome == "diverged" and step == at[-1] else 0.0
        record, items = _record(width, params, int(step), noise + rise, shift, weights, rng)
        lines.append(json.dumps(record))
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    reason = "loss over 6 sigma for 64 steps" if outcome == "diverged" else None
    ended = {"outcome": outcome, "reason": reason, "step": last, "tokens": last * BATCH_TOKENS}
    (folder / "outcome.json").write_text(json.dumps(ended))
    np.savez(folder / "items.npz", **items)


def _record(
    width: int,
    params: int,
    step: int,
    noise: float,
    shift: float,
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    tokens = step * BATCH_TOKENS
    text = text_loss(params, tokens) * np.exp(noise)
    u = np.log(width / min(WIDTHS)) / np.log(max(WIDTHS) / min(WIDTHS)) + shift
    loss: dict[str, float] = {}
    tasks: dict[str, Any] = {}
    items = {}
    for name, task in TASKS.items():
        scores = {}
        for variant, curve in task.variants.items():
            p = float(np.clip(curve(np.asarray(u)), 0.0, 1.0))
            correct = rng.random(ITEMS) < p
            nll = -np.log(max(p, 0.02)) + rng.normal(0, 0.1, ITEMS)
            scores[variant] = {
                "n": ITEMS,
                "correct": int(correct.sum()),
                "nll": float(nll.mean()),
                "brier": None,
                "byte_accuracy": float(np.clip(p, 0.02, 1) ** 0.125),
            }
            items[f"{name}/{variant}/correct"] = correct.astype(np.uint8)
            items[f"{name}/{variant}/nll"] = nll.astype(np.float32)
        tasks[name] = scores
        loss[name] = float(np.mean([s["nll"] for s in scores.values()]))
    loss["text"] = float(text)
    total = sum(weight * loss[name] for name, weight in weights.items())
    loss = {"total": total, **loss, **{f"text.{c}": share * text for c, share in CLASSES.items()}}
    # Exact C: three times the forward products, with attention's scores, which 6ND does not see.
    groups = param_groups(width)
    products = params - groups["embedding"] - groups["norm"]
    flops = 3 * (2 * products + 2 * 2 * CONTEXT * width) * tokens
    record = {
        "step": step,
        "tokens": tokens,
        "flops": flops,
        "skipped_steps": 0,
        "loss": loss,
        "tasks": tasks,
    }
    return record, items
