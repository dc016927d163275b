"""Structure in residuals: evidence against a law that is not exact, none against one that is; bends need it."""

import numpy as np
import pandas as pd
import pytest
from known_laws import CHINCHILLA, made

from analysis.fitting import structure as module
from analysis.fitting.fit import fit
from analysis.forecasting.discrepancy import discrepancy_of
from analysis.laws.catalogue import FORMS

SEEDS = range(6)


def evidence(table: pd.DataFrame) -> float:
    return fit(table, bootstrap=0).structure


def test_a_true_law_is_not_accused() -> None:
    found = [evidence(made("chinchilla", 80, noise=0.005, seed=seed)) for seed in SEEDS]
    # The mean Bayes factor of a true law is one (Good 1979): few may pass 3.
    assert np.median(found) < 0.0 and np.sum(np.exp(found) > 3.0) <= 1


def test_a_smooth_misfit_of_the_noises_size_is_seen() -> None:
    found = []
    for seed in SEEDS:
        table = made("chinchilla", 80, noise=0.003, seed=seed)
        wave = 0.006 * np.sin(1.5 * np.log(table.params)) * np.cos(np.log(table.tokens))
        found.append(evidence(table.assign(loss=table.loss * np.exp(wave))))
    assert np.sum(np.asarray(found) > 3.0) >= 5
    # So the law is hardly taken to hold beyond the data, where nothing else was known of it.
    silent, doubted = (discrepancy_of([], bent=False, structure=s) for s in (-5.0, 8.0))
    assert silent.probability[0] == pytest.approx(0.95) and doubted.probability[0] < 0.02


@pytest.mark.slow
def test_noise_that_a_group_shares_is_no_structure() -> None:
    apart, together = [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        params = np.repeat(np.geomspace(1e7, 1e11, 10), 8)
        table = pd.DataFrame({"params": params, "tokens": np.tile(np.geomspace(1e10, 2e11, 8), 10)})
        loss = FORMS["chinchilla"].predict(CHINCHILLA, {n: table[n].to_numpy() for n in table})
        noise = 0.004 * np.repeat(rng.standard_normal(10), 8) + 0.002 * rng.standard_normal(80)
        table = table.assign(loss=loss * np.exp(noise))
        apart.append(evidence(table))
        together.append(evidence(table.assign(group=np.repeat(np.arange(10), 8))))
    assert np.median(together) < 1.0 < np.median(apart)


def test_too_few_rows_and_rounding_say_nothing_and_a_large_table_is_looked_at_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert evidence(made("chinchilla", 8, noise=0.005)) == 0.0
    assert evidence(made("chinchilla", 80, noise=0.0)) == 0.0
    table = made("chinchilla", 120, noise=0.001)
    wrong = table.assign(loss=table.loss * np.exp(0.01 * np.sin(1.5 * np.log(table.params))))
    whole = evidence(wrong)
    monkeypatch.setattr(module, "MOST_ROWS", 60)
    assert 3.0 < evidence(wrong) < whole
    # One variable; a row ten times off is one row.
    line = made("power_const", 60, noise=0.002)
    line.loc[7, "loss"] *= 1.1
    assert fit(line, "power_const", bootstrap=0).structure < 1.0


def test_rows_of_a_true_law_are_not_taken_for_another_regime() -> None:
    # Two tables of which rolling errors alone left rows out: without them they are 1.5 times less.
    for seed in (0, 1):
        table = made("chinchilla", 40, noise=0.01, seed=seed)
        found = fit(table, form="auto", regime="auto", bootstrap=0)
        assert not found.observations.left_out and not found.provenance["bent"]
