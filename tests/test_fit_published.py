"""The figures of published fits: what any correct program finds in the same tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fit import fit


def chinchilla_table(published: Path) -> pd.DataFrame:
    table = pd.read_csv(published / "fit" / "chinchilla_epoch.csv")
    return table.rename(columns={"N": "params", "D": "tokens", "C": "flops"})


@pytest.fixture(scope="module")
def chinchilla(published: Path) -> pd.DataFrame:
    table = chinchilla_table(published)
    return table[table.epoch_kept == 1]


def test_chinchilla_huber_reaches_the_published_optimum(chinchilla: pd.DataFrame) -> None:
    fitted = fit(chinchilla, bootstrap=0)
    assert fitted.value <= 0.0010182740178
    expected = {"E": (1.81722, 5e-6), "A": (477.83, 5e-3), "B": (2143.4, 5e-2), "alpha": (0.34731, 5e-6)}
    for name, (value, half_digit) in expected.items():
        assert abs(fitted.params[name] - value) <= half_digit
    assert abs(fitted.params["beta"] - 0.36717) <= 5e-6


def test_five_points_move_beta(published: Path) -> None:
    assert fit(chinchilla_table(published), bootstrap=0).params["beta"] == pytest.approx(0.453, abs=5e-4)


def test_least_squares_on_plain_loss_below_1e21(chinchilla: pd.DataFrame) -> None:
    fitted = fit(chinchilla[chinchilla.flops < 1e21], loss="l2", scale="linear", bootstrap=0)
    assert fitted.params["E"] == pytest.approx(1.90509, abs=5e-6)
    assert fitted.params["alpha"] == pytest.approx(0.35106, abs=5e-6)
    assert fitted.params["beta"] == pytest.approx(0.45874, abs=5e-6)


def test_olmo_ladder_prediction(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "olmo_ladder_final_c4.csv")
    fitted = fit(table.rename(columns={"N": "params", "D": "tokens"}), bootstrap=0)
    target = {"params": np.array([13202396160.0]), "tokens": np.array([5000088518656.0])}
    assert fitted.predict(target)[0] == pytest.approx(2.3443873, abs=5e-8)
