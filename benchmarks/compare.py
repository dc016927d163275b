"""Comparisons."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

KINDS = ("constant", "shrinking", "crossing", "null")
DESIGNS = {
    6: [(3, 2, 1), (6, 1, 1)],
    9: [(3, 3, 1)],
    12: [(4, 3, 1), (6, 2, 1)],
    16: [(4, 2, 2)],
    24: [(4, 2, 3), (6, 4, 1)],
    40: [(5, 4, 2)],
}


@dataclass(frozen=True)
class Pair:
    kind: str
    a: pd.DataFrame
    b: pd.DataFrame
    target: float
    truth: dict
    first: dict
    second: dict
    noise: float
    share: float


def loss_of(law, n, d):
    return law["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]


def frontier(law, c):
    n = np.sqrt(c[:, None] / 6) * np.geomspace(1e-3, 1e3, 1201)
    return loss_of(law, n, c[:, None] / 6 / n).min(axis=1)


def true_multiplier(first, second, at):
    c = np.geomspace(at.min() / 1e4, at.max() * 1e4, 1500)
    a, b = frontier(first, at), frontier(second, c)
    return np.log(at) - np.interp(-np.log(a), -np.log(b), np.log(c))


def made(kind: str, seed: int) -> Pair:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    first = {"E": rng.uniform(1.4, 2.0), "alpha": rng.uniform(0.28, 0.42), "beta": rng.uniform(0.28, 0.42)}
    runs = int(rng.choice(list(DESIGNS)))
    sizes, horizons, seeds = DESIGNS[runs][rng.integers(len(DESIGNS[runs]))]
    low = 10 ** rng.uniform(6.5, 7.5)
    n = np.geomspace(low, low * rng.uniform(6, 20), sizes)
    ratio = 20 * 2.0 ** (np.arange(horizons) - (horizons - 1) / 2) * rng.uniform(0.5, 2)
    if horizons > 1 and rng.random() < 0.5:
        d = np.outer(np.ones(sizes), ratio * np.sqrt(n[0] * n[-1]))
    else:
        d = np.outer(n, ratio)
    N, D = np.repeat(n, horizons), d.ravel()
    N, D, S = np.repeat(N, seeds), np.repeat(D, seeds), np.tile(np.arange(seeds), sizes * horizons)
    size, tokens = np.exp(np.log(N).mean()), np.exp(np.log(D).mean())
    first["A"] = rng.uniform(0.4, 1.2) * size ** first["alpha"]
    first["B"] = rng.uniform(0.4, 1.2) * tokens ** first["beta"]
    largest = 6 * (N * D).max()
    target = largest * float(rng.choice([3, 10, 30]))
    middle = 6 * size * tokens
    m0, kappa = np.exp(rng.uniform(-0.3, 0.6)), 1.0
    if kind == "null":
        m0 = 1.0
    if kind == "shrinking":
        m0, kappa = np.exp(rng.uniform(0.1, 0.8)), rng.uniform(0.85, 0.98)
    if kind == "crossing":
        kappa = rng.uniform(0.82, 0.95)
        m0 = (rng.uniform(np.log(1.5), np.log(target / middle)), kappa)
        m0 = np.exp((1 - kappa) * m0[0])
    part = rng.choice([0.0, 0.5, 1.0]) if kappa != 1.0 else 0.5
    # N' = m0^u N^k N0^(1-k) and D' likewise: the multiplier of N' D' over N D
    ka, kb = {0.0: (1.0, kappa), 1.0: (kappa, 1.0), 0.5: (kappa, kappa)}[float(part)]
    u = float(part)
    second = dict(first)
    second["alpha"], second["beta"] = first["alpha"] * ka, first["beta"] * kb
    second["A"] = first["A"] / (m0 ** (u) * size ** (1 - ka)) ** first["alpha"]
    second["B"] = first["B"] / (m0 ** (1 - u) * tokens ** (1 - kb)) ** first["beta"]
    noise = rng.uniform(0.003, 0.015)
    share = float(rng.choice([0.0, 0.5]))
    common = rng.standard_normal(len(N))
    tables = []
    for law in (first, second):
        own = np.sqrt(share) * common + np.sqrt(1 - share) * rng.standard_normal(len(N))
        tables.append(
            pd.DataFrame(
                {
                    "params": N,
                    "tokens": D,
                    "seed": S,
                    "flops": 6 * N * D,
                    "loss": loss_of(law, N, D) * np.exp(noise * own),
                }
            )
        )
    at = np.asarray([target])
    slope = true_multiplier(first, second, np.asarray([middle, target]))
    truth = {
        "target": float(true_multiplier(first, second, at)[0]),
        "trend": float((slope[1] - slope[0]) / np.log10(target / middle)),
    }
    return Pair(kind, *tables, target, truth, first, second, noise, share)
