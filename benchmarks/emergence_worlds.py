"""Simulated worlds for the emergence detector: tasks of a known class, drawn by seed.

Three makers of curves that share no formula with each other, so that no setting fits one simulator:
`plain` (steps, ramps, lines), `curved` (power laws, logistics, Gompertz curves, logit scatter) and `rough`
(uneven sizes, heavy-tailed scatter shared by the tasks of a model, level ground that drifts).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator
KINDS = ("flat", "linear", "gradual", "saturating", "inverse", "u", "emergent")
CLASS_OF = {
    "flat": "flat",
    "linear": "smooth",
    "gradual": "smooth",
    "saturating": "saturated",
    "inverse": "inverse",
    "u": "u_shaped",
    "emergent": "emergent",
}
MAKERS = ("plain", "curved", "rough")


@dataclass(frozen=True)
class World:
    """`table` as the detector takes it; `kind` and `threshold` (a size, NaN where none) of each task."""

    table: pd.DataFrame
    kind: dict[str, str]
    threshold: dict[str, float]

    @property
    def expected(self) -> dict[str, str]:
        return {task: CLASS_OF[kind] for task, kind in self.kind.items()}


def draw_world(
    maker: str,
    seed: int,
    sizes: int = 12,
    items: int = 200,
    scatter: float = 0.0,
    seeds: int = 1,
    counts: dict[str, int] | None = None,
) -> World:
    """A world of `counts` tasks a kind (ten each unless said), sizes from 10 million to 10 billion."""
    rng = np.random.default_rng([seed, MAKERS.index(maker), sizes, items])
    steps = np.ones(sizes - 1) if maker != "rough" else rng.uniform(0.6, 1.4, sizes - 1)
    x = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    size = np.round(10 ** (7 + 3 * x))
    make = {"plain": _plain, "curved": _curved, "rough": _rough}[maker]
    kinds: dict[str, str] = {}
    threshold: dict[str, float] = {}
    rows = []
    of_model = rng.standard_t(4, (seeds, sizes)) / np.sqrt(2)
    for kind, count in (counts or dict.fromkeys(KINDS, 10)).items():
        for number in range(count):
            task = f"{kind}_{number}"
            chance = float(rng.choice([0.0, 0.25, 0.5]))
            curve, at = make(kind, x, chance, rng)
            kinds[task], threshold[task] = kind, 10 ** (7 + 3 * at)
            if maker == "rough":
                error = scatter * (0.7 * of_model + 0.7 * rng.standard_t(4, (seeds, sizes)) / np.sqrt(2))
            else:
                error = rng.normal(0, scatter, (seeds, sizes))
            level = np.clip(curve + error, 0, 1)
            if maker == "curved" and scatter:
                inner = np.clip(curve, 0.005, 0.995)
                logit = np.log(inner / (1 - inner)) + error / np.maximum(inner * (1 - inner), 0.05)
                level = 1 / (1 + np.exp(-logit))
            correct = rng.binomial(items, level)
            for s in range(seeds):
                rows += [(task, size[k], s, correct[s, k], items, chance) for k in range(sizes)]
    table = pd.DataFrame(rows, columns=["task", "size", "seed", "correct", "total", "chance"])
    return World(table, kinds, threshold)


def _plain(kind: str, x: Floats, chance: float, rng: Rng) -> tuple[Floats, float]:
    gain = min(rng.uniform(0.2, 0.6), 0.95 - chance)
    if kind == "flat":
        return np.full_like(x, chance if rng.random() < 0.6 else chance + rng.uniform(0.05, 0.35)), np.nan
    if kind == "linear":
        return chance + gain * x, np.nan
    if kind == "gradual":
        return chance + gain * _scaled(_logistic, x, rng.uniform(0.35, 0.65), rng.uniform(0.1, 0.18)), np.nan
    if kind == "saturating":
        if rng.random() < 0.4:
            return np.full_like(x, rng.uniform(0.965, 0.995)), np.nan
        return chance + gain * np.minimum(x / rng.uniform(0.1, 0.3), 1), np.nan
    if kind == "inverse":
        return chance + gain * (1 - x), np.nan
    if kind == "u":
        bottom = rng.uniform(0.35, 0.65)
        return chance + gain * np.abs(x - bottom) / max(bottom, 1 - bottom), np.nan
    at = rng.uniform(0.5, 1 - 1 / (len(x) - 1))
    if rng.random() < 0.5:
        return np.asarray(chance + gain * (x > at)), at
    return chance + gain * np.clip((x - at) / rng.uniform(0.1, 0.5), 0, 1), at


def _curved(kind: str, x: Floats, chance: float, rng: Rng) -> tuple[Floats, float]:
    gain = min(rng.uniform(0.15, 0.7), 0.98 - chance)
    if kind == "flat":
        return np.full_like(x, chance if rng.random() < 0.7 else rng.uniform(chance + 0.05, 0.85)), np.nan
    if kind == "linear":
        return chance + gain * x ** rng.uniform(0.6, 1.5), np.nan
    if kind == "gradual":
        shape = _scaled(_gompertz, x, rng.uniform(0.25, 0.5), rng.uniform(0.12, 0.25))
        return chance + gain * shape, np.nan
    if kind == "saturating":
        return chance + gain * (1 - np.exp(-x / rng.uniform(0.03, 0.12))), np.nan
    if kind == "inverse":
        return chance + gain * (
            1 - _scaled(_logistic, x, rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.2))
        ), np.nan
    if kind == "u":
        bottom = rng.uniform(0.35, 0.65)
        return chance + gain * ((x - bottom) / max(bottom, 1 - bottom)) ** 2, np.nan
    at = rng.uniform(0.55, 0.92)
    if rng.random() < 0.7:
        return chance + gain * _logistic(x, at, rng.uniform(0.01, 0.04)), at
    # A power law of the distance past the threshold, in size and not in its log.
    past = np.maximum(1 - 10 ** (3 * (at - x)), 0) ** rng.uniform(0.5, 1.0)
    return chance + gain * past / past[-1], at


def _rough(kind: str, x: Floats, chance: float, rng: Rng) -> tuple[Floats, float]:
    curve, at = (_plain if rng.random() < 0.5 else _curved)(kind, x, chance, rng)
    drift = rng.uniform(-0.012, 0.012) * x + rng.uniform(0, 0.01)
    return np.clip(curve + drift, 0, 1), at


def _logistic(x: Floats, middle: float, scale: float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(x - middle) / scale)))


def _gompertz(x: Floats, middle: float, scale: float) -> Floats:
    return np.asarray(np.exp(-np.exp(-(x - middle) / scale)))


def _scaled(
    shape: Callable[[Floats, float, float], Floats], x: Floats, middle: float, scale: float
) -> Floats:
    ends = shape(np.array([0.0, 1.0]), middle, scale)
    return np.asarray((shape(x, middle, scale) - ends[0]) / (ends[1] - ends[0]))


def draw_steps(seed: int, gain: float, items: int, count: int, flat: int, sizes: int = 12) -> World:
    """`count` tasks that step up by `gain` at the last size only, and `flat` ones that never do."""
    rng = np.random.default_rng([seed, items])
    size = np.round(np.geomspace(1e7, 1e10, sizes))
    rows, kinds = [], {}
    for number in range(count + flat):
        chance = float(rng.choice([0.0, 0.25, 0.5]))
        kind = "emergent" if number < count else "flat"
        task = f"{kind}_{number}"
        kinds[task] = kind
        curve = np.full(sizes, chance)
        curve[-1] += gain if kind == "emergent" else 0.0
        correct = rng.binomial(items, curve)
        rows += [(task, size[k], 0, correct[k], items, chance) for k in range(sizes)]
    table = pd.DataFrame(rows, columns=["task", "size", "seed", "correct", "total", "chance"])
    return World(table, kinds, dict.fromkeys(kinds, float(np.sqrt(size[-2] * size[-1]))))


def draw_weak(name: str, seed: int, items: int, count: int, sizes: int = 12) -> World:
    """`count` tasks of a kind between the classes, among ordinary ones: "exp R" (growth exp(R x) in the log
    of size), "fall B" (falls by .10 until x = B, then rises by .40), "drift" (flat, with a scatter of .03 whose
    neighbours correlate by .6)."""
    rng = np.random.default_rng([seed, items, len(name)])
    kind, _, number = name.partition(" ")
    at = float(number or 0)
    x = np.linspace(0, 1, sizes)
    size = np.round(10 ** (7 + 3 * x))
    rows, kinds = [], {}
    curves = {
        "flat": np.full(sizes, 0.25),
        "linear": 0.2 + 0.5 * x,
        "gradual": 0.2 + 0.6 * _logistic(x, 0.5, 0.14),
        "emergent": 0.1 + 0.5 * (x > 0.7),
    }
    for task in range(3 * count):
        label = name if task < count else list(curves)[task % len(curves)]
        if task >= count:
            curve = curves[label]
        elif kind == "exp":
            curve = 0.1 + 0.6 * np.expm1(at * x) / np.expm1(at)
        elif kind == "fall":
            curve = 0.4 - 0.1 * np.minimum(x / at, 1) + 0.4 * np.clip((x - at) / (1 - at), 0, 1)
        else:
            noise = rng.normal(0, 0.03, sizes)
            for k in range(1, sizes):
                noise[k] = 0.6 * noise[k - 1] + 0.8 * noise[k]
            curve = 0.3 + noise
        kinds[f"{label}_{task}"] = label
        correct = rng.binomial(items, np.clip(curve, 0, 1))
        rows += [(f"{label}_{task}", size[k], 0, correct[k], items, 0.0) for k in range(sizes)]
    table = pd.DataFrame(rows, columns=["task", "size", "seed", "correct", "total", "chance"])
    return World(table, kinds, dict.fromkeys(kinds, float("nan")))


def draw_twins(seed: int, truth: str, sizes: int, items: int, scatter: float, count: int) -> pd.DataFrame:
    """Two scores of the same outputs, `bytes` and `exact`, of answers of 5 to 12 bytes.

    truth "metric": the byte accuracy rises from the start and the exact match is its power; "jump": the byte
    accuracy itself steps up at a threshold. Items are drawn byte by byte, so that both scores are of the same
    outputs.
    """
    rng = np.random.default_rng([seed, len(truth), sizes, items])
    x = np.linspace(0, 1, sizes)
    size = np.round(np.geomspace(1e7, 1e10, sizes))
    rows = []
    for number in range(count):
        length = int(rng.integers(5, 13))
        low, high = rng.uniform(0.1, 0.45), rng.uniform(0.93, 0.99)
        if truth == "metric":
            shape = (
                x
                if rng.random() < 0.5
                else _scaled(_logistic, x, rng.uniform(0.4, 0.6), rng.uniform(0.12, 0.2))
            )
        else:
            shape = _logistic(x, rng.uniform(0.55, 0.9), rng.uniform(0.005, 0.03))
        level = np.clip(low + (high - low) * shape + rng.normal(0, scatter, sizes), 0, 1)
        right = rng.random((sizes, items, length)) < level[:, None, None]
        for k in range(sizes):
            exact = int(right[k].all(-1).sum())
            rows.append((f"{truth}_{number}", "exact_match", size[k], exact, items))
            rows.append((f"{truth}_{number}", "byte_accuracy", size[k], right[k].mean() * items, items))
    return pd.DataFrame(rows, columns=["task", "metric", "size", "correct", "total"])
