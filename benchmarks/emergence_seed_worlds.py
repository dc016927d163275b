"""Simulated tasks whose seeds differ: jumps at sizes of their own, slopes and flat tasks with seeds that scatter.

The mean hides what each seed does; `benchmarks.emergence seeds_apart` asks what the detector makes of it.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.emergence_worlds import Floats, Rng, World, _logistic

# Kinds that jump in every seed, that never do, and that no definition decides.
JUMPS = ("jumps far apart", "jumps near one another", "jumps at one size")
SLOPES = ("linear", "gradual", "gradual, offset in size", "linear, seeds of their own level")
BETWEEN = ("success by luck", "one lucky seed", "seeds that bend apart")
KINDS = (*JUMPS, *SLOPES, "flat", *BETWEEN)


def draw_seeds(
    seed: int, sizes: int, items: int, scatter: float, seeds: int, counts: dict[str, int], heavy: bool = False
) -> World:
    """A world of `counts` tasks a kind over sizes from 10 million to 10 billion.

    scatter: standard deviation from one run to the next (each seed and size), with tails of Student's t with 3
    degrees of freedom where `heavy`. `threshold` is keyed "task/seed".
    """
    rng = np.random.default_rng([seed, sizes, items, seeds])
    x = np.linspace(0, 1, sizes)
    size = np.round(10 ** (7 + 3 * x))
    rows, kinds, threshold = [], {}, {}
    for kind, number in ((kind, number) for kind, count in counts.items() for number in range(count)):
        task = f"{kind}_{number}"
        kinds[task] = kind
        chance = float(rng.choice([0.0, 0.25, 0.5]))
        gain = min(rng.uniform(0.2, 0.7), 0.97 - chance)
        curves, at = _CURVES[kind](x, gain, seeds, rng)
        noise = rng.standard_t(3, curves.shape) / np.sqrt(3) if heavy else rng.standard_normal(curves.shape)
        correct = rng.binomial(items, np.clip(chance + curves + scatter * noise, 0, 1))
        for s in range(seeds):
            threshold[f"{task}/{s}"] = float(10 ** (7 + 3 * at[s]))
            rows += [(task, size[k], s, correct[s, k], items, chance) for k in range(sizes)]
    table = pd.DataFrame(rows, columns=["task", "size", "seed", "correct", "total", "chance"])
    return World(table, kinds, threshold)


def _jumps(apart: float) -> Callable[[Floats, float, int, Rng], tuple[Floats, Floats]]:
    def draw(x: Floats, gain: float, seeds: int, rng: Rng) -> tuple[Floats, Floats]:
        first = rng.uniform(0.5, 0.9 - apart)
        at = first + apart * rng.random(seeds)
        scale = rng.uniform(0.005, 0.03, seeds)
        return np.array([gain * _logistic(x, a, s) for a, s in zip(at, scale, strict=True)]), np.asarray(at)

    return draw


def _gradual(offset: float) -> Callable[[Floats, float, int, Rng], tuple[Floats, Floats]]:
    def draw(x: Floats, gain: float, seeds: int, rng: Rng) -> tuple[Floats, Floats]:
        middle = rng.uniform(0.35, 0.65) + offset * rng.standard_normal(seeds)
        scale = rng.uniform(0.1, 0.18)
        return np.array([gain * _logistic(x, m, scale) for m in middle]), np.full(seeds, np.nan)

    return draw


def _linear(level: float, bend: float) -> Callable[[Floats, float, int, Rng], tuple[Floats, Floats]]:
    def draw(x: Floats, gain: float, seeds: int, rng: Rng) -> tuple[Floats, Floats]:
        own = level * rng.standard_normal((seeds, 1))
        # A standard deviation of `bend` in the middle, none at the ends, drawn for each seed and size.
        wide = bend * 4 * x * (1 - x) * rng.standard_normal((seeds, len(x)))
        return gain * x + own + wide, np.full(seeds, np.nan)

    return draw


def _flat(x: Floats, gain: float, seeds: int, rng: Rng) -> tuple[Floats, Floats]:
    return np.zeros((seeds, len(x))) + (gain / 2 if rng.random() < 0.4 else 0.0), np.full(seeds, np.nan)


def _by_luck(x: Floats, gain: float, seeds: int, rng: Rng) -> tuple[Floats, Floats]:
    """Each run has the ability or has it not; the chance of it grows from 0 to 1 over .2 to .4 of the range."""
    middle, half = rng.uniform(0.4, 0.7), rng.uniform(0.1, 0.2)
    has = rng.random((seeds, len(x))) < np.clip(0.5 + (x - middle) / (2 * half), 0, 1)
    return np.where(has, gain, 0.0), np.full(seeds, np.nan)


def _lucky(x: Floats, gain: float, seeds: int, rng: Rng) -> tuple[Floats, Floats]:
    return gain * (x > 0.7) * (np.arange(seeds) == 0)[:, None], np.full(seeds, np.nan)


_CURVES = {
    "jumps far apart": _jumps(0.35),
    "jumps near one another": _jumps(0.15),
    "jumps at one size": _jumps(0.0),
    "linear": _linear(0.0, 0.0),
    "gradual": _gradual(0.0),
    "gradual, offset in size": _gradual(0.08),
    "linear, seeds of their own level": _linear(0.05, 0.0),
    "flat": _flat,
    "success by luck": _by_luck,
    "one lucky seed": _lucky,
    "seeds that bend apart": _linear(0.0, 0.12),
}
