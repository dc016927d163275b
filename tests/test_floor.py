"""The irreducible loss: free, known, with a prior, shared; by truth, by brute force and by scipy."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_laws import CHINCHILLA, TRUTHS, made
from scipy.optimize import least_squares

from analysis import cli
from analysis.errors import Code, UserError
from analysis.fitting.fit import fit, fit_members, fit_shared
from analysis.fitting.options import FitOptions
from analysis.fitting.profile import profile
from analysis.forecasting.discrepancy import hold_out
from analysis.forecasting.forecast import extrapolate
from analysis.laws.catalogue import own_form

AT = [{"params": 3e10, "tokens": 6e11}]
WITH_FLOOR = (
    "power_const", "chinchilla", "chinchilla6", "tied", "moe",
    pytest.param("data_constrained", marks=pytest.mark.slow),
)  # fmt: skip


def known(value: float) -> dict[str, Any]:
    return {"floor": "known", "floor_value": value, "floor_source": "the truth"}


def prior(value: float, error: float) -> dict[str, Any]:
    return {"floor": "prior", "floor_value": value, "floor_error": error, "floor_source": "other sweeps"}


def two_recipes(n: int, noise: float, seed: int) -> dict[str, pd.DataFrame]:
    """Two laws of one floor."""
    other = {**CHINCHILLA, "A": 900.0, "alpha": 0.39, "beta": 0.33}
    return {
        "a": made("chinchilla", n, noise=noise, seed=2 * seed),
        "b": made("chinchilla", n, noise=noise, seed=2 * seed + 1, truth=other),
    }


def scipy_chinchilla(
    tables: list[pd.DataFrame], starts: list[dict[str, float]], floor: float | None
) -> tuple[float, float]:
    """Fit laws of one floor (held where it is given) by scipy's least squares: the objective, and E."""

    def residual(theta: np.ndarray) -> np.ndarray:
        parts = []
        for i, table in enumerate(tables):
            log_a, log_b, alpha, beta = theta[1 + 4 * i : 5 + 4 * i]
            law = np.exp(log_a) * table.params**-alpha + np.exp(log_b) * table.tokens**-beta
            parts.append(np.log((theta[0] if floor is None else floor) + law) - np.log(table.loss))
        return np.concatenate(parts)

    theta = [starts[0]["E"]]
    for truth in starts:
        theta += [np.log(truth["A"]), np.log(truth["B"]), truth["alpha"], truth["beta"]]
    found = least_squares(residual, theta, x_scale=np.abs(theta), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return float(found.cost), float(found.x[0])


@pytest.mark.parametrize("form", WITH_FLOOR)
def test_a_known_floor_is_held_and_the_rest_comes_back(form: str) -> None:
    truth = TRUTHS[form]
    fitted = fit(made(form, 60, noise=0.0), form, bootstrap=0, **known(truth["E"]))
    assert fitted.params["E"] == truth["E"]
    assert fitted.params == pytest.approx(truth, rel=2e-3, abs=2e-4)


def test_a_known_floor_gives_the_least_squares_of_scipy() -> None:
    table = made("chinchilla", 40, noise=0.02)
    fitted = fit(table, loss="l2", bootstrap=0, **known(1.7))
    cost, _ = scipy_chinchilla([table], [CHINCHILLA], 1.7)
    assert fitted.value == pytest.approx(cost, rel=1e-7)


def test_a_known_floor_is_held_by_resamples_hold_outs_and_profiles() -> None:
    table = made("chinchilla", 40, noise=0.01)
    free, held = (fit(table, bootstrap=60, **how) for how in ({}, known(1.8)))
    assert (held.draws[:, 0] == 1.8).all() and held.bse["E"] == 0.0
    assert held.bse["alpha"] < free.bse["alpha"]
    assert held.df_resid > free.df_resid
    with pytest.raises(UserError, match="profile of E: it is held at"):
        profile(held, "E")
    drawn = profile(held, "alpha", points=5)
    assert (drawn.objective >= held.value * (1 - 1e-9)).all()
    members = [fit_members(table, FitOptions(bootstrap=60, **how)) for how in ({}, known(1.8))]
    # Hold-outs with less to tell foresee less of a miss.
    for loose, tight in zip(*(hold_out(m, 0) for m in members), strict=True):
        assert tight.spread < loose.spread


def test_a_forecast_with_the_floor_known_is_narrower_and_says_so() -> None:
    table = made("chinchilla", 30, noise=0.01, seed=3)
    how = {"form": "chinchilla", "regime": "all", "bootstrap": 60}
    free, held = (extrapolate(table, at=AT, **how, **floor) for floor in ({}, known(1.8)))
    (a,), (b,) = free.predictions, held.predictions
    assert b.upper - b.lower < a.upper - a.lower
    assert held.to_json()["floor"] == {"kind": "known", "value": 1.8, "error": None, "source": "the truth"}
    assert "floor: known, 1.8 (the truth)" in held.summary()
    assert free.to_json()["floor"]["kind"] == "free"
    assert free.to_json()["floor"]["value"] == free.fit.params["E"]


def grid_posterior(table: pd.DataFrame, centre: float, error: float, sigma: float, at: float) -> np.ndarray:
    """Mean and standard deviation of E and of the law's log loss at `at` for E + a x^-b, by brute force.

    Flat in log a and b, normal in E, normal noise of log loss.
    """
    log_x = np.log(table.flops.to_numpy())
    middle = log_x.mean()
    floor = centre + error * np.linspace(-4.5, 4.5, 45)[:, None, None]
    size = np.linspace(-0.95, 0.05, 45)[None, :, None]
    slope = np.linspace(0.08, 0.3, 45)[None, None, :]
    log_p = -0.5 * ((floor - centre) / error) ** 2 + np.zeros((45, 45, 45))
    for u, loss in zip(log_x - middle, table.loss, strict=True):
        log_p -= 0.5 * (np.log((floor + np.exp(size - slope * u)) / loss) / sigma) ** 2
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    # The grid holds all of it.
    assert (
        max(p[0].sum(), p[-1].sum(), p[:, 0].sum(), p[:, -1].sum(), p[:, :, 0].sum(), p[:, :, -1].sum())
        < 1e-3
    )
    found = []
    for value in (floor + 0.0 * p, np.log(floor + np.exp(size - slope * (np.log(at) - middle)))):
        mean = float((p * value).sum())
        found += [mean, float(np.sqrt((p * (value - mean) ** 2).sum()))]
    return np.asarray(found)


@pytest.mark.parametrize("error", [0.02, 0.06])
def test_resamples_with_a_prior_are_draws_from_the_posterior(error: float) -> None:
    options = FitOptions(form="power_const", loss="l2", bootstrap=300, **prior(1.65, error))
    spread, off = [], []
    for seed in range(5, 9):
        table = made("power_const", 50, noise=0.01, seed=seed)
        (member,) = fit_members(table, options, fractional=True)
        expected = grid_posterior(table, 1.65, error, member.fit.problem.priors[0].sigma, 1e24)
        at = np.log(member.fit.predict_draws({"x": np.array([1e24])})[:, 0])
        for draws, mean, sd in zip((member.fit.draws[:, 0], at), expected[::2], expected[1::2], strict=True):
            spread.append(draws.std() / sd)
            off.append((draws.mean() - mean) / sd)
    # Resampled rows have noise of their own size where they have leverage: up to 16% more or less, a table.
    assert np.mean(spread) == pytest.approx(1.0, abs=0.1)
    # A minimum is no mean: the posterior is skewed towards a low E.
    assert np.abs(off).max() < 0.45 and abs(np.mean(off)) < 0.25


def test_a_prior_goes_from_known_to_free_with_its_error() -> None:
    table = made("tied", 24, noise=0.01)
    free, held = fit(table, "tied", bootstrap=0), fit(table, "tied", bootstrap=0, **known(1.7))
    tight, loose = (fit(table, "tied", bootstrap=0, **prior(1.7, error)) for error in (1e-6, 1e3))
    assert tight.params == pytest.approx(held.params, rel=1e-4)
    assert loose.params == pytest.approx(free.params, rel=1e-5)
    between = fit(table, "tied", bootstrap=0, **prior(1.7, 0.05)).params["E"]
    assert 1.7 < between < free.params["E"]


@pytest.mark.parametrize("how", [{"loss": "lad"}, {"loss": "l2", "scale": "linear"}])
def test_a_prior_counts_the_same_whatever_the_objectives_units(how: dict[str, str]) -> None:
    # Of one table with weights of 1 or 7, and of losses in other units, the penalty follows: a narrow loss ended
    # at a kink of the rows alone before it did.
    table = made("power_const", 30, noise=0.01)
    here = fit(table, "power_const", bootstrap=0, **how, **prior(1.6, 0.03))
    heavy = fit(table.assign(weight=7.0), "power_const", bootstrap=0, **how, **prior(1.6, 0.03))
    assert heavy.params["E"] == pytest.approx(here.params["E"], rel=1e-6)
    # The rows say the same by every loss, within what a third of their noise is.
    huber = fit(table, "power_const", bootstrap=0, **prior(1.6, 0.03))
    assert here.params["E"] == pytest.approx(huber.params["E"], abs=0.015)


def held_share(level: float, tables: int, form: str, error: float, loss: str) -> tuple[float, float]:
    """Draw truths from a prior, make tables, fit with the prior: the share of intervals that hold E, and the mean
    width over the prior's."""
    rng = np.random.default_rng(11)
    inside, width = [], []
    for seed in range(tables):
        truth = {**TRUTHS[form], "E": TRUTHS[form]["E"] + error * rng.standard_normal()}
        table = made(form, 24, noise=0.01, seed=100 + seed, truth=truth)
        fitted = fit(table, form, loss=loss, bootstrap=100, level=level, **prior(TRUTHS[form]["E"], error))
        low, high = fitted.conf_int()["E"]
        inside.append(low <= truth["E"] <= high)
        width.append((high - low) / (2 * 1.645 * error))
    return float(np.mean(inside)), float(np.mean(width))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber", "l2"])
def test_intervals_with_a_prior_hold_truths_drawn_from_it(loss: str) -> None:
    share, width = held_share(0.9, 40, "power_const", 0.08, loss)
    # 90% of 40: a share of .78 or less has a chance of 2%.
    assert 0.78 <= share <= 1.0
    assert 0.3 < width < 0.95


def test_a_shared_floor_is_the_joint_least_squares_of_scipy() -> None:
    tables = two_recipes(30, 0.01, seed=4)
    found = fit_shared(tables, loss="l2", bootstrap=10)
    other = {**CHINCHILLA, "A": 900.0, "alpha": 0.39, "beta": 0.33}
    cost, floor = scipy_chinchilla(list(tables.values()), [CHINCHILLA, other], None)
    assert sum(fitted.value for fitted in found.values()) == pytest.approx(cost, rel=1e-7)
    assert found["a"].params["E"] == found["b"].params["E"] == pytest.approx(floor, rel=1e-4)
    np.testing.assert_array_equal(found["a"].draws[:, 0], found["b"].draws[:, 0])
    assert found["a"].params["alpha"] != found["b"].params["alpha"]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber", "l2"])
def test_intervals_of_a_shared_floor_are_narrower_and_hold(loss: str) -> None:
    inside, ratio = [], []
    for seed in range(100, 140):
        tables = two_recipes(24, 0.005, seed)
        shared = fit_shared(tables, bootstrap=100, level=0.9, loss=loss)["a"].conf_int()["E"]
        alone = [fit(t, bootstrap=100, level=0.9, loss=loss).conf_int()["E"] for t in tables.values()]
        inside.append(shared[0] <= CHINCHILLA["E"] <= shared[1])
        ratio.append((shared[1] - shared[0]) / np.mean([high - low for low, high in alone]))
    # 36 of 40 expected; 31 or fewer have a chance of 1.5%.
    assert sum(inside) >= 32
    # Of two equal groups 1 / sqrt 2.
    assert 0.5 < np.mean(ratio) < 0.85


def test_groups_of_one_table_share_a_floor_in_a_forecast() -> None:
    parts = two_recipes(18, 0.01, seed=6)
    table = pd.concat([part.assign(recipe=name) for name, part in parts.items()], ignore_index=True)
    how = {"form": "chinchilla", "regime": "all", "bootstrap": 20}
    shared = extrapolate(table, at=AT, floor="shared", share="recipe=b", **how)
    apart = fit_shared(parts, bootstrap=0)
    assert shared.fit.params == apart["b"].params
    assert len(shared.fit.observations) == 18 and shared.fit.form.name == "chinchilla"
    assert shared.to_json()["floor"]["kind"] == "shared"
    assert "floor: shared" in shared.summary() and "fitted together with a" in shared.summary()
    assert shared.predictions[0].lower < shared.predictions[0].loss < shared.predictions[0].upper
    again = pickle.loads(
        pickle.dumps(fit_members(table, FitOptions(floor="shared", share="recipe=b", bootstrap=2)))
    )
    assert again[0].joint.predict(again[0].joint.observations.x).shape == (36,)


def test_what_is_known_goes_into_every_form_of_a_mixture() -> None:
    table = made("chinchilla", 40, noise=0.005)
    for how in (known(1.8), {**prior(1.8, 0.05), "k": "prior"}):
        members = fit_members(table, FitOptions(form="auto", bootstrap=0, **how), least_weight=0.0)
        assert len(members) == 3
        for member in members:
            problem = member.fit.problem
            assert bool(problem.held) == (how["floor"] == "known")
            power = how.get("k") == "prior" and member.fit.form.name == "chinchilla6"
            assert len(problem.priors) == (how["floor"] == "prior") + power
    one = made("power_const", 40, noise=0.005)
    members = fit_members(one, FitOptions(form="auto", bootstrap=0, x="flops", **known(1.7)))
    assert [member.fit.form.name for member in members] == ["power_const"]


def test_a_prior_of_k_pulls_k_and_is_named() -> None:
    table = made("chinchilla6", 40, noise=0.02, truth={**TRUTHS["chinchilla6"], "k": 0.4, "A": 5e6, "B": 9e7})
    free, pulled = (fit(table, "chinchilla6", bootstrap=n, k=k) for n, k in ((0, "free"), (30, "prior")))
    assert abs(pulled.params["k"] - 0.38) < abs(free.params["k"] - 0.38)
    assert 0.01 < pulled.bse["k"] < 0.1
    assert "published fits" in pulled.summary() and "published fits" in pulled.to_json()["provenance"]["k"]


def test_a_forecast_shows_what_it_would_be_with_another_floor() -> None:
    table = made("chinchilla", 24, noise=0.01)
    how = {"form": "chinchilla", "regime": "all", "bootstrap": 20}
    forecast = extrapolate(table, at=AT, **how)
    lower, higher = forecast.to_json()["sensitivity"]
    here = forecast.predictions[0].loss
    assert lower["loss"][0] < here < higher["loss"][0]
    for moved, shift in ((lower, -0.1), (higher, 0.1)):
        floor = forecast.fit.params["E"] + shift
        assert moved["shift"] == shift and moved["floor"] == {"chinchilla": pytest.approx(floor)}
        refit = fit(table, bootstrap=0, **known(floor))
        assert moved["loss"] == pytest.approx(refit.predict(pd.DataFrame(AT)).tolist(), rel=1e-5)
    assert "with the floor E -0.1 nats (chinchilla 1.7" in forecast.summary()
    # A floor is never below zero; a law without one has no sensitivity.
    low = made("chinchilla", 24, noise=0.01, truth={**CHINCHILLA, "E": 0.05})
    assert extrapolate(low, at=AT, **how).sensitivity[0].floor["chinchilla"] == 0.0
    assert extrapolate(table, at=AT, **{**how, "form": "kaplan"}).sensitivity == ()


def test_rows_that_speak_against_a_floor_are_heard() -> None:
    table = made("chinchilla", 24, noise=0.005)
    for how, warns in (
        (known(1.8), False),
        (known(1.2), True),
        (prior(1.2, 0.02), True),
        (prior(1.7, 0.3), False),
    ):
        codes = {warn.code for warn in fit(table, loss="l2", bootstrap=0, **how).warnings}
        assert (Code.FLOOR_DISAGREES in codes) == warns
    other = made("chinchilla", 24, noise=0.005, seed=8, truth={**CHINCHILLA, "E": 2.4})
    found = fit_shared({"a": table, "b": other}, loss="l2", bootstrap=0)
    assert Code.FLOOR_DISAGREES in {warn.code for warn in found["a"].warnings}


def test_a_true_floor_is_rarely_spoken_against() -> None:
    options = FitOptions(form="power_const", bootstrap=0, loss="l2", **known(1.7))
    said = 0
    for seed in range(20):
        (member,) = fit_members(made("power_const", 12, noise=0.01, seed=seed), options)
        said += Code.FLOOR_DISAGREES in {warn.code for warn in member.fit.warnings}
    assert said <= 1


@pytest.mark.slow
def test_one_own_law_takes_a_floor_where_it_is_linear_in_it() -> None:
    bounds = {"E": (0.0, 5.0), "A": (1.0, 1e6), "B": (1.0, 1e6), "alpha": (0.05, 1.5), "beta": (0.05, 1.5)}

    def law(p: Any, x: Any) -> Any:
        return p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta

    table = made("chinchilla", 40, noise=0.01)
    held = fit(table, own_form(law, bounds, linear=("E", "A", "B")), bootstrap=0, **known(1.75))
    assert held.params == pytest.approx(fit(table, bootstrap=0, **known(1.75)).params, rel=1e-3)
    with pytest.raises(UserError, match="own has no irreducible loss E"):
        fit(table, own_form(law, bounds), bootstrap=0, **known(1.75))


SOURCE = {"floor_source": "x"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"floor": "prior", "floor_value": 1.7, "floor_error": 0.1}, "floor_source is missing"),
    ({"floor": "known", "floor_value": 1.7}, "floor_source is missing"),
    ({"floor": "known", "floor_value": 1.7, "floor_source": "  "}, "floor_source is missing"),
    ({"floor": "known", **SOURCE}, "floor_value = None"),
    ({"floor": "known", "floor_value": -0.1, **SOURCE}, "floor_value = -0.1"),
    ({"floor": "known", "floor_value": float("nan"), **SOURCE}, "floor_value = nan"),
    ({"floor": "known", "floor_value": 9.0, **SOURCE}, "every loss of the table is below it"),
    ({"floor": "known", "floor_value": 1.7, "floor_error": 0.1, **SOURCE}, "a known floor has none"),
    ({"floor": "prior", "floor_value": 1.7, **SOURCE}, "floor_error = None"),
    ({"floor": "prior", "floor_value": 1.7, "floor_error": 0.0, **SOURCE}, "floor_error = 0.0"),
    ({"floor": "fixed"}, "choose one of free, prior, shared, known"),
    ({"floor_value": 1.7}, "floor = free has no use for it"),
    ({"floor": "shared"}, "needs the groups"),
    ({"share": "recipe=a"}, "needs the groups"),
    ({"floor": "shared", "share": "recpe=a"}, "no column 'recpe'.*did you mean recipe"),
    ({"floor": "shared", "share": "recipe"}, "say whose law is wanted: recipe=a, recipe=b"),
    ({"floor": "shared", "share": "recipe=c"}, "say whose law is wanted: recipe=a, recipe=b"),
    ({"floor": "shared", "share": "one=1"}, "has one value"),
    ({"floor": "shared", "share": "holes=1.0"}, "row 0 has no holes"),
    ({"floor": "shared", "share": "recipe=a", "k": "prior", "form": "chinchilla6"}, "leave it free"),
    ({"k": "prior"}, "chinchilla has no outer power k"),
    ({"k": "0.4", "form": "chinchilla6"}, "choose one of free, prior"),
    *(
        ({**known(1.0), "form": form}, f"{form} has no irreducible loss E")
        for form in ("power", "kaplan", "farseer", "broken")
    ),
]


@pytest.mark.parametrize(("options", "says"), BAD)
def test_a_mistake_is_one_line(options: dict[str, Any], says: str) -> None:
    table = made("chinchilla", 30, noise=0.01)
    table = table.assign(recipe=["a", "b"] * 15, one=1, holes=[np.nan] + [1.0, 2.0] * 14 + [1.0])
    with pytest.raises(UserError, match=says) as error:
        fit(table, bootstrap=0, **options)
    assert "\n" not in str(error.value)


def test_the_command_line_takes_every_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = two_recipes(20, 0.01, seed=9)
    path = tmp_path / "runs.csv"
    pd.concat([p.assign(recipe=name) for name, p in parts.items()]).to_csv(path, index=False)
    ask = ["--bootstrap", "20", "--json", str(tmp_path / "answer.json")]
    given = ["--floor_value", "1.8", "--floor_source", "an n-gram model"]
    assert cli.main(["fit", str(path), *ask, "--floor", "known", *given]) == 0
    assert "floor: known, 1.8 (an n-gram model)" in capsys.readouterr().out
    assert '"kind": "known"' in (tmp_path / "answer.json").read_text()
    at = ["--at", "params=1e11,tokens=1e12", "--form", "chinchilla"]
    assert cli.main(["extrapolate", str(path), *at, *ask, "--floor", "shared", "--share", "recipe=a"]) == 0
    assert "floor: shared" in capsys.readouterr().out
    assert '"sensitivity"' in (tmp_path / "answer.json").read_text()
    assert cli.main(["fit", str(path), "--floor", "prior", *given]) == 2
    assert "floor_error = None" in capsys.readouterr().err
