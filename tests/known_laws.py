"""Tables made from laws with known parameters, for the tests of fits and forecasts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.laws.catalogue import get_form

CHINCHILLA = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}

TRUTHS: dict[str, dict[str, float]] = {
    "power": {"a": 35.0, "b": 0.06},
    "power_const": {"E": 1.7, "a": 2.0e3, "b": 0.18},
    "kaplan": {"N_c": 8.8e13, "D_c": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
    "chinchilla": CHINCHILLA,
    "chinchilla6": {"E": 1.7, "A": 2300.0, "B": 9900.0, "alpha": 0.42, "beta": 0.43, "k": 0.8},
    "tied": {"E": 1.8, "A": 560.0, "B": 1750.0, "alpha": 0.357},
    "farseer": {
        "a1": 79.5, "b1": -1.083, "alpha": -0.3, "a2": -0.0345, "b2": 10.32, "beta": 0.2, "a3": -3e-4,
        "b3": 0.775, "gamma": 0.3,
    },
    "data_constrained": {**CHINCHILLA, "R_D": 15.0, "R_N": 5.0},
    "moe": {**CHINCHILLA, "gamma": 0.01, "delta": -0.2, "omega": 0.05, "zeta": 0.002},
    "broken": {"a": 0.5, "b": 30.0, "c0": 0.05, "c": 0.4, "d": 1e20, "f": 0.2},
    "broken2": {
        "a": 0.3, "b": 9.0, "c0": 0.02, "c1": 0.3, "d1": 1e19, "f1": 0.15, "c2": -0.25, "d2": 1e21, "f2": 0.1
    },
}  # fmt: skip


def design(n: int, seed: int = 0) -> pd.DataFrame:
    """n runs with params, tokens, active params, unique tokens and flops that all vary."""
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7.5, 10.0, n)
    tokens = 10 ** rng.uniform(8.5, 11.5, n)
    return pd.DataFrame(
        {
            "params": params,
            "tokens": tokens,
            "params_active": params / rng.choice([1, 2, 4, 8, 16], n),
            "unique_tokens": tokens / rng.choice([1, 1, 2, 4, 16, 50], n),
            "flops": 6 * params * tokens,
        }
    )


def made(
    form: str, n: int, *, noise: float, seed: int = 0, truth: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """`n` runs of a law with its TRUTHS, their log loss normal about it with standard deviation `noise`."""
    table = design(n, seed)
    law = get_form(form)
    x = {name: table["flops" if name == "x" else name].to_numpy() for name in law.columns}
    loss = law.predict(truth or TRUTHS[form], x)
    rng = np.random.default_rng(seed + 1)
    return table.assign(loss=loss * np.exp(noise * rng.standard_normal(n)))
