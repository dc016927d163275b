"""The figures of published fits: what any correct program finds in the same tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fitting.fit import fit
from analysis.forecasting.forecast import extrapolate


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


def test_chinchilla_least_absolute_deviation(chinchilla: pd.DataFrame) -> None:
    # The paper's printed values, to all their digits.
    exact = fit(chinchilla, loss="lad", bootstrap=0).params
    printed = {"A": (482.01, 5e-3), "B": (2085.43, 5e-3), "E": (1.8169, 5e-5), "alpha": (0.3478, 5e-5)}
    for name, (value, half_digit) in printed.items():
        assert exact[name] == pytest.approx(value, abs=half_digit)
    # 0.365854 was cut, not rounded, to the 0.3658 that is printed.
    assert exact["beta"] == pytest.approx(0.3658, abs=1e-4)
    # On the way to that limit, at delta 1e-6.
    nearly = fit(chinchilla, delta=1e-6, bootstrap=0).params
    on_the_way = {"A": (481.93, 6e-3), "B": (2085.0, 0.05), "E": (1.81684, 6e-6), "alpha": (0.34780, 6e-6)}
    for name, (value, half_digit) in {**on_the_way, "beta": (0.36584, 6e-6)}.items():
        assert nearly[name] == pytest.approx(value, abs=half_digit)


@pytest.mark.slow
def test_chinchilla_standard_errors_and_intervals(chinchilla: pd.DataFrame) -> None:
    # Seed 42 draws the paper's own 4,000 resamples. Other seeds' standard errors scatter by 1 to 2% (B 5%)
    # about means that are 2 to 3% from the published ones (docs/laws.md).
    fitted = fit(chinchilla, bootstrap=4000, seed=42)
    published = {"A": 124.5, "B": 1293.0, "E": 0.0257, "alpha": 0.0154, "beta": 0.0206}
    for name, value in published.items():
        assert fitted.bse[name] == pytest.approx(value, rel=0.005)
    interval = fitted.conf_int(0.95)
    for name, low, high, off in (
        ("A", 285.2, 743.6, 1.0), ("B", 1042.0, 5810.0, 1.0), ("alpha", 0.317, 0.373, 5e-4),
        ("beta", 0.331, 0.415, 5e-4),
    ):  # fmt: skip
        assert interval[name] == pytest.approx((low, high), abs=off)


def test_a_mean_huber_stopped_early_makes_the_original_papers_error(chinchilla: pd.DataFrame) -> None:
    # Averaging in place of summing puts the gradient below L-BFGS's absolute tolerance far from the optimum
    # (Besiroglu et al. 2024, section 4): the sum is our default for that reason.
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    log_n, log_d = np.log(chinchilla.params.to_numpy()), np.log(chinchilla.tokens.to_numpy())
    log_l = np.log(chinchilla.loss.to_numpy())

    def hubers(theta: np.ndarray) -> np.ndarray:
        a, b, e, alpha, beta = theta
        terms = [a - alpha * log_n, b - beta * log_d, np.full(len(log_n), e)]
        size = np.abs(logsumexp(np.stack(terms), axis=0) - log_l)
        return np.where(size <= 1e-3, 0.5 * size**2, 1e-3 * (size - 5e-4))

    # Starts about the original paper's rounded values: A and B of some 400, E = e^.5.
    ends = [
        minimize(lambda theta: float(np.mean(hubers(theta))), start, method="L-BFGS-B")
        for start in ((6.0, 6.0, 0.5, 0.35, 0.3), (np.log(400), np.log(400), 0.5, 0.34, 0.28))
    ]
    best = fit(chinchilla, bootstrap=0)
    for end in ends:
        assert end.success
        assert end.x[3] == pytest.approx(0.338, abs=5e-4)
        assert end.x[4] == pytest.approx(0.284, abs=5e-4)
        # 15% above the optimum, which is at beta .367: our fit is not where this one stops.
        assert hubers(end.x).sum() > 1.1 * best.value
        assert abs(best.params["beta"] - end.x[4]) > 0.08


@pytest.mark.parametrize(
    ("cut", "errors"),
    [(1e21, {"chinchilla": 1.05, "chinchilla6": 0.94}), (1e20, {"chinchilla": 0.89, "chinchilla6": 1.09})],
)
def test_chinchilla_held_out_errors(chinchilla: pd.DataFrame, cut: float, errors: dict[str, float]) -> None:
    low = chinchilla.flops < cut
    for form, expected in errors.items():
        assert miss(chinchilla[low], chinchilla[~low], form) == pytest.approx(expected, abs=0.0051)


def miss(train: pd.DataFrame, test: pd.DataFrame, form: str) -> float:
    """Mean absolute relative error of held-out loss, in percent."""
    predicted = fit(train, form, bootstrap=0).predict(test)
    return 100 * float(np.mean(np.abs(predicted / test.loss - 1)))


def test_gadre_overtraining(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "gadre_overtraining.csv")
    table = table[table.dataset_name == "rpj"].rename(
        columns={"N": "params", "D": "tokens", "loss_c4_val": "loss"}
    )
    chosen = [
        ("d=96_l=8_h=4", 20), ("d=512_l=8_h=4", 20), ("d=576_l=24_h=8", 20), ("d=1024_l=24_h=8", 20),
        ("d=96_l=8_h=4", 320),
    ]  # fmt: skip
    key = list(zip(table.model_name, table.tok_mult, strict=True))
    five = table[[k in chosen for k in key]]
    assert len(five) == 5
    fitted = fit(five, "tied", loss="l2", scale="linear", bootstrap=0)
    for rows, expected in (
        (table[(table.tok_mult == 640) & (table.params.between(1.2e9, 1.6e9))], 0.7103),
        (table[(table.tok_mult == 20) & (table.params > 6e9)], 0.7320),
    ):
        assert len(rows) == 1
        error = 100 * abs(fitted.predict(rows)[0] / rows.loss.iloc[0] - 1)
        assert error == pytest.approx(expected, abs=5e-4)


def test_porian_form_choice_matters(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "porian_isoflop_points.csv")
    table = table[table["set"] == "rw|tuned|short|const|standard|val"]
    table = table.rename(columns={"N": "params", "D": "tokens", "C": "flops"})
    low = table.flops <= 1.7e18
    assert miss(table[low], table[~low], "chinchilla") == pytest.approx(9.5, abs=0.06)
    assert miss(table[low], table[~low], "chinchilla6") == pytest.approx(3.2, abs=0.06)


def test_misfitting_best_rates(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "misfitting_final.csv")
    best = table.loc[table.groupby(["N", "D"]).loss.idxmin()].rename(columns={"N": "params", "D": "tokens"})
    assert len(best) == 81
    fitted = fit(best, bootstrap=0)
    for name, value in (("E", 1.398), ("alpha", 0.138), ("beta", 0.670)):
        assert fitted.params[name] == pytest.approx(value, abs=5e-4)
    two = best.params >= np.sort(best.params.unique())[-2]
    assert miss(best[~two], best[two], "chinchilla") == pytest.approx(0.70, abs=0.0051)
    assert miss(best[~two], best[two], "chinchilla6") == pytest.approx(1.68, abs=0.0051)


def test_kyotakano_runs(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "kyotakano_llm.csv")
    table = table.rename(columns={"N": "params", "D": "tokens", "C": "flops"})
    fitted = fit(table, bootstrap=0)
    for name, value in (("E", 1.784), ("alpha", 0.343), ("beta", 0.342)):
        assert fitted.params[name] == pytest.approx(value, abs=5e-4)
    low = table.flops <= table.flops.max() / 20
    assert miss(table[low], table[~low], "chinchilla") == pytest.approx(0.84, abs=0.0051)


def test_a_sharp_break_is_not_fitted_by_forms_without_one(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "bnsl_4digit_addition.csv").rename(columns={"y": "loss"})
    for form in ("power", "power_const"):
        assert "poor_fit" in {w.code for w in fit(table, form, x="x", bootstrap=0).warnings}
    train = table[table.train == 1]
    broken = fit(train, "broken", x="x", bootstrap=0)
    assert "poor_fit" not in {w.code for w in broken.warnings}
    assert 450 < broken.params["d"] < 736


@pytest.mark.slow
def test_the_olmo_interval_contains_the_large_run(published: Path) -> None:
    table = pd.read_csv(published / "fit" / "olmo_ladder_final_c4.csv")
    found = extrapolate(
        table.rename(columns={"N": "params", "D": "tokens"}),
        at=[{"params": 13202396160.0, "tokens": 5000088518656.0}],
    )
    assert found.predictions[0].lower < 2.4378760 < found.predictions[0].upper
    assert "far_beyond_tested" in {warn.code for warn in found.warnings}
