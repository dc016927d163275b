"""Compute-optimal sizes by profiles: exponents of a known law, budgets without an optimum."""

import numpy as np
import pandas as pd
import pytest
from known_laws import CHINCHILLA

from analysis.errors import UserError
from analysis.forecasting.isoflop import isoflop, slope
from analysis.laws.catalogue import FORMS

EXPONENT = CHINCHILLA["beta"] / (CHINCHILLA["alpha"] + CHINCHILLA["beta"])


def profiles(noise: float = 0.0, sizes: int = 9) -> pd.DataFrame:
    """Nine sizes about the optimum of each of six budgets."""
    rng = np.random.default_rng(0)
    budgets = np.geomspace(1e18, 1e21, 6)
    g = (CHINCHILLA["alpha"] * CHINCHILLA["A"] / CHINCHILLA["beta"] / CHINCHILLA["B"]) ** (
        1 / (CHINCHILLA["alpha"] + CHINCHILLA["beta"])
    )
    best = g * (budgets / 6) ** EXPONENT
    params = (best[:, None] * np.geomspace(0.25, 4.0, sizes)).ravel()
    flops = np.repeat(budgets, sizes)
    tokens = flops / (6 * params)
    loss = FORMS["chinchilla"].predict(CHINCHILLA, {"params": params, "tokens": tokens})
    loss = loss * np.exp(noise * rng.standard_normal(len(loss)))
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": flops, "loss": loss})


@pytest.mark.parametrize(("method", "off"), [("parabola", 0.01), ("envelope", 0.05), ("parametric", 1e-4)])
def test_each_method_finds_the_exponents_of_the_law(method: str, off: float) -> None:
    found = isoflop(profiles(), method=method, bootstrap=50)
    assert found.exponent_params == pytest.approx(EXPONENT, abs=off)
    assert found.exponent_tokens == pytest.approx(1 - EXPONENT, abs=off)
    assert set(found.to_json()) >= {
        "exponent_params",
        "exponent_tokens",
        "conf_int",
        "optima",
        "status",
        "warnings",
    }
    assert found.method in found.summary()


def test_the_interval_holds_the_truth_under_noise() -> None:
    found = isoflop(profiles(noise=0.002), bootstrap=300)
    low, high = found.conf_int()["exponent_params"]
    assert low < EXPONENT < high < low + 0.2


def test_budgets_whose_best_size_is_the_largest_are_left_out_aloud() -> None:
    table = profiles()
    top = table.flops == table.flops.max()
    best = table[top].params[table[top].loss.idxmin()]
    found = isoflop(table[~(top & (table.params >= 0.9 * best))], bootstrap=20)
    assert len(found.optima) == 5
    assert "edge_optimum" in {warn.code for warn in found.warnings}
    assert found.left_out[0].rows


def test_one_budget_is_refused() -> None:
    table = profiles()
    with pytest.raises(UserError, match="an exponent needs two"):
        isoflop(table[table.flops == table.flops.min()])
    with pytest.raises(UserError, match="method = akima"):
        isoflop(table, method="akima")


def test_published_exponents_are_least_squares_of_published_pairs(published: object) -> None:
    pairs = pd.read_csv(published / "fit" / "porian_optimal_pairs.csv")
    fits = pd.read_csv(published / "fit" / "porian_published_fits.csv").set_index("set")
    assert len(fits) == 15
    for name, rows in pairs.groupby("set"):
        found = slope(np.log(rows.flops.to_numpy()), np.log(rows.n.to_numpy()))
        assert float(found) == pytest.approx(fits.loc[name, "n_exponent"], abs=1e-8)
