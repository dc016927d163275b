"""Fits of made tables: the truth comes back, from anywhere; what cannot be fitted is refused or flagged."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_laws import CHINCHILLA, TRUTHS, made

from analysis.errors import UserError
from analysis.fitting.diagnostics import diagnose
from analysis.fitting.fit import fit, solve
from analysis.fitting.newton import Minimum, minimise
from analysis.fitting.objective import Objective
from analysis.fitting.observations import LARGE_ROWS, observe
from analysis.fitting.problem import Problem
from analysis.fitting.resampling import resample_counts, resample_weights
from analysis.fitting.search import Found, search
from analysis.laws.catalogue import FORMS, own_form


def posed(form: str, table: pd.DataFrame) -> Problem:
    """The default objective of a law at the rows of a table."""
    return Problem(FORMS[form], observe(table, FORMS[form].columns), Objective())


def codes(fitted: object) -> set[str]:
    return {warn.code for warn in fitted.warnings}


@pytest.mark.parametrize("name", [n for n in FORMS if n != "farseer"])
def test_a_noiseless_law_comes_back_exactly(name: str) -> None:
    fitted = fit(made(name, 120, noise=0.0), name, bootstrap=0)
    assert fitted.params == pytest.approx(TRUTHS[name], rel=2e-3, abs=2e-4)
    np.testing.assert_allclose(fitted.predict(fitted.observations.x), fitted.observations.loss, rtol=1e-5)


@pytest.mark.slow
def test_farseer_predicts_a_noiseless_table() -> None:
    # Nine parameters trade off: what has to come back is the loss.
    fitted = fit(made("farseer", 200, noise=0.0), "farseer", bootstrap=0)
    np.testing.assert_allclose(fitted.predict(fitted.observations.x), fitted.observations.loss, rtol=1e-3)


@pytest.mark.slow
def test_two_breaks_are_found_wherever_they_are() -> None:
    rng = np.random.default_rng(7)
    missed = 0
    for seed in range(12):
        first = 10 ** rng.uniform(18.0, 19.8)
        truth = {
            "a": rng.uniform(0.1, 0.6), "b": 9.0, "c0": rng.uniform(0.0, 0.1), "c1": rng.uniform(0.1, 0.5),
            "d1": first, "f1": rng.uniform(0.05, 0.5), "c2": rng.uniform(-0.3, 0.3),
            "d2": first * 10 ** rng.uniform(1.0, 2.0), "f2": rng.uniform(0.05, 0.5),
        }  # fmt: skip
        fitted = fit(made("broken2", 80, noise=0.0, seed=seed, truth=truth), "broken2", bootstrap=0)
        assert fitted.params["d1"] <= fitted.params["d2"]
        missed += np.abs(fitted.residuals()).max() > 1e-4
    assert missed <= 1


@pytest.mark.parametrize("name", FORMS)
def test_the_minimum_is_at_least_as_good_as_the_truth(name: str) -> None:
    table = made(name, 80, noise=0.01)
    fitted = fit(table, name, bootstrap=0)
    x = fitted.observations.x
    truth = fitted.objective.report(
        np.log(FORMS[name].predict(TRUTHS[name], x) / table.loss.to_numpy()), np.ones(80)
    )
    assert fitted.value <= truth * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(
    floor=st.floats(0.5, 3.0),
    alpha=st.floats(0.15, 0.9),
    beta=st.floats(0.15, 0.9),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 100),
)
def test_chinchilla_is_recovered_wherever_its_parameters_are(
    floor: float, alpha: float, beta: float, share: float, seed: int
) -> None:
    # Terms of comparable size at the middle of the table, so that the rows can tell them apart.
    truth = {
        "E": floor, "A": share * 5e8**alpha, "B": (1 - share) * 1e10**beta, "alpha": alpha, "beta": beta
    }  # fmt: skip
    fitted = fit(made("chinchilla", 60, noise=0.0, seed=seed, truth=truth), bootstrap=0)
    assert fitted.params == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("name", ["chinchilla", "chinchilla6", "kaplan"])
def test_the_search_beats_every_one_of_sixty_random_starts(name: str) -> None:
    problem = posed(name, made(name, 50, noise=0.02))
    model, target = problem.model, problem.target
    found = search(problem, problem.observations.weight[None])
    rng = np.random.default_rng(0)
    low, high = model.lower, model.upper
    low, high = np.where(low < -5, -4.0, low), np.minimum(high, 3.0)
    starts = rng.uniform(low, high, (60, len(low)))
    for width in (0.1, 0.01, 1e-3):
        starts = minimise(model, starts, np.ones((60, 50)), target, scale="log", width=width, steps=200).theta
    ends = model.expand(starts, np.ones((60, 50)), target, "log", 1e-3)
    assert found.value[0] <= ends.value.min() * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["farseer", "data_constrained"])
def test_forty_starts_find_what_hundreds_find(name: str) -> None:
    for seed in (0, 1):
        problem = posed(name, made(name, 90, noise=0.01, seed=seed))
        quick, _ = solve(problem, 0, seed=0)
        thorough = search(problem, problem.observations.weight[None], starts=400)
        assert len(thorough.basins.value) > 80
        assert quick.value[0] <= thorough.value[0] * (1 + 1e-6)


def test_every_resample_is_searched_globally() -> None:
    # Few and loud rows: each resample's loss has several dents.
    problem = posed("chinchilla", made("chinchilla", 40, noise=0.03))
    best, quick = solve(problem, 100, seed=1)
    counts = resample_counts(problem.observations.group, 100, seed=1)
    thorough = search(problem, counts, starts=9, near=best.theta)
    worse = problem.model.expand(quick, counts, problem.target, "log", 1e-3).value / thorough.value - 1
    assert np.mean(worse > 1e-6) <= 0.05
    assert quick[:, -2:].std(axis=0) == pytest.approx(thorough.theta[:, -2:].std(axis=0), rel=0.02)


def test_units_of_params_and_tokens_do_not_matter() -> None:
    table = made("chinchilla", 60, noise=0.01)
    here = fit(table, bootstrap=0)
    there = fit(table.assign(params=table.params / 1e6, tokens=table.tokens / 1e9), bootstrap=0)
    for name in ("E", "alpha", "beta"):
        assert there.params[name] == pytest.approx(here.params[name], rel=1e-6)
    assert there.value == pytest.approx(here.value, rel=1e-9)
    assert there.params["A"] == pytest.approx(here.params["A"] / 1e6 ** here.params["alpha"], rel=1e-5)


def test_a_weight_of_two_is_a_row_given_twice() -> None:
    table = made("chinchilla", 40, noise=0.01)
    weight = np.where(np.arange(40) < 10, 2.0, 1.0)
    twice = pd.concat([table, table[:10]], ignore_index=True)
    weighted = fit(table.assign(weight=weight), bootstrap=0)
    assert weighted.value == pytest.approx(fit(twice, bootstrap=0).value, rel=1e-9)


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("loss", ["huber", "l2", "lad"])
def test_each_loss_and_scale_is_minimised(loss: str, scale: str) -> None:
    table = made("chinchilla", 60, noise=0.01)
    fitted = fit(table, loss=loss, scale=scale, bootstrap=0)
    x = fitted.observations.x

    def value(params: dict[str, float]) -> float:
        predicted = FORMS["chinchilla"].predict(params, x)
        residual = np.log(predicted / table.loss) if scale == "log" else predicted - table.loss
        return fitted.objective.report(np.asarray(residual), np.ones(60))

    assert fitted.value == pytest.approx(value(dict(fitted.params)), rel=1e-9)
    for name in fitted.params:
        for factor in (0.999, 1.001):
            assert value({**fitted.params, name: fitted.params[name] * factor}) >= fitted.value * (1 - 1e-9)


def test_lad_ignores_a_wild_row_and_least_squares_does_not() -> None:
    table = made("chinchilla", 60, noise=0.001)
    table.loc[5, "loss"] *= 1.5
    assert fit(table, loss="lad", bootstrap=0).params["E"] == pytest.approx(1.8, abs=0.05)
    assert abs(fit(table, loss="l2", bootstrap=0).params["E"] - 1.8) > 0.05


@pytest.mark.slow
def test_standard_errors_are_those_of_repeated_experiments() -> None:
    truth = CHINCHILLA
    fits = [fit(made("chinchilla", 80, noise=0.01, seed=s), loss="l2", bootstrap=0) for s in range(40)]
    # The same design each time, other noise: seeds also move the design, so compare medians of ratios.
    spread = np.std([f.params["alpha"] for f in fits], ddof=1)
    said = np.median(
        [
            fit(made("chinchilla", 80, noise=0.01, seed=s), loss="l2", bootstrap=100).bse["alpha"]
            for s in range(5)
        ]
    )
    assert 0.6 < said / spread < 1.6
    assert abs(np.mean([f.params["alpha"] for f in fits]) - truth["alpha"]) < 4 * spread / np.sqrt(40)


def test_groups_are_resampled_together() -> None:
    group = np.array([0, 0, 1, 1, 1, 2])
    counts = resample_counts(group, 50, seed=0)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 2] == counts[:, 4]).all()
    assert (counts[:, [0, 2, 5]].sum(axis=1) == 3).all()
    table = made("chinchilla", 60, noise=0.01).assign(group=np.repeat(np.arange(12), 5))
    assert fit(table, bootstrap=2).provenance["resampled_by"] == "group"


def test_exponential_weights_keep_every_row_and_its_group() -> None:
    group = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    weight = resample_weights(group, 2000, seed=0)
    assert (weight > 0).all()
    _, first = np.unique(group, return_index=True)
    np.testing.assert_allclose(weight[:, first].sum(axis=1), 5.0)
    np.testing.assert_array_equal(weight, weight[:, first][:, group])
    # The variance of counts: 1 - 1/groups there, (groups - 1) / (groups + 1) of uniform weights on a simplex.
    assert weight[:, 0].var() == pytest.approx(4 / 6, rel=0.1)


def test_a_seed_draws_the_rows_of_public_bootstraps() -> None:
    counts = resample_counts(np.arange(20), 30, seed=42)
    np.random.seed(42)
    drawn = [np.random.choice(range(20), size=20, replace=True) for _ in range(30)]
    np.testing.assert_array_equal(counts, [np.bincount(rows, minlength=20) for rows in drawn])


def test_own_law_as_a_function() -> None:
    mine = own_form(
        lambda p, x: p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta,
        {"E": (0, 5), "A": (1, 1e6), "B": (1, 1e6), "alpha": (0.05, 1.5), "beta": (0.05, 1.5)},
        linear=("E", "A", "B"),
    )
    table = made("chinchilla", 60, noise=0.01)
    built_in = fit(table, bootstrap=0)
    own = fit(table, mine, bootstrap=20)
    assert own.value == pytest.approx(built_in.value, rel=1e-8)
    assert own.params == pytest.approx(dict(built_in.params), rel=1e-5)
    assert set(own.bse) == set(own.params)


def test_auto_takes_the_form_that_made_the_table() -> None:
    power = {"E": 1.7, "A": 3e5, "B": 3e6, "alpha": 0.75, "beta": 0.75, "k": 0.4}
    fitted = fit(made("chinchilla6", 120, noise=0.001, truth=power), "auto", bootstrap=0)
    assert fitted.form.name == "chinchilla6"
    assert sum(c["weight"] for c in fitted.candidates) == pytest.approx(1.0)
    assert len(fitted.candidates) == 3


def two_regimes(seed: int = 0) -> pd.DataFrame:
    """A ladder whose small runs are worse than the law: they are still learning what comes before it."""
    table = made("chinchilla", 60, noise=0.002, seed=seed)
    late = 0.25 * np.maximum(np.log(table.loss / 2.9), 0.0) ** 0.5
    return table.assign(loss=table.loss * np.exp(late))


def test_a_bend_is_flagged_and_regime_auto_leaves_its_rows_out() -> None:
    table = two_regimes()
    assert "bend" in codes(fit(table, bootstrap=0))
    fitted = fit(table, regime="auto", bootstrap=0)
    assert "bend" not in codes(fitted)
    (left,) = fitted.observations.left_out
    assert "another regime" in left.reason
    assert table.loss[list(left.rows)].min() > fitted.observations.loss.max()
    assert fitted.params["E"] == pytest.approx(1.8, abs=0.1)


def test_no_bend_is_seen_in_most_true_laws() -> None:
    bent = ["bend" in codes(fit(made("chinchilla", 60, noise=0.01, seed=s), bootstrap=0)) for s in range(12)]
    assert sum(bent) <= 2


def test_warnings_say_what_the_rows_cannot() -> None:
    table = made("chinchilla", 60, noise=0.01)
    ratio = table.assign(tokens=20 * table.params, flops=120 * table.params**2)
    law = FORMS["chinchilla"].predict(CHINCHILLA, {n: ratio[n].to_numpy() for n in ("params", "tokens")})
    assert "constant_ratio" in codes(fit(ratio.assign(loss=law), bootstrap=0))
    # One size and two horizons almost: a factor of 3 in each, with noise, identifies no exponent.
    narrow = table[(table.params < 3 * table.params.min()) | (table.tokens > 0.7 * table.tokens.max())]
    assert codes(fit(narrow[:12], bootstrap=50)) & {"not_identified", "bound_hit", "multi_basin"}
    assert "too_few_runs" in codes(fit(table[:8], bootstrap=0))


def test_each_warning_of_a_fit_on_its_own() -> None:
    table = made("chinchilla", 60, noise=0.01)
    # Less than any sum of powers with a floor: E is driven to its bound.
    assert "bound_hit" in codes(fit(table.assign(loss=table.loss - 2.0), bootstrap=0))
    wild = table.assign(loss=table.loss.where(table.index != 5, 1.2))
    fitted = fit(wild, bootstrap=0)
    assert fitted.params["E"] > 1.2 and "floor_above_data" in codes(fitted)
    # Tokens that are a power of params: one variable under two names.
    tied = table.assign(tokens=table.params**1.2)
    law = FORMS["chinchilla"].predict(CHINCHILLA, {n: tied[n].to_numpy() for n in ("params", "tokens")})
    assert "not_identified" in codes(fit(tied.assign(loss=law, flops=1.0), bootstrap=0))


def test_another_minimum_as_good_is_another_basin() -> None:
    problem = posed("chinchilla", made("chinchilla", 60, noise=0.01))
    best, none = solve(problem, 0, seed=0)
    assert "multi_basin" not in {w.code for w in diagnose(problem, best, none)}
    other = best.theta + np.array([0.0, 0.0, 0.0, 0.2, 0.0])
    for value, said in ((1.005, True), (1.05, False)):
        ends = Minimum(
            np.concatenate([best.theta, other]),
            best.value[0] * np.array([1.0, value]),
            np.array([True, True]),
        )
        rivals = Found(best.theta, best.value, best.converged, ends)
        found = {w.code for w in diagnose(problem, rivals, none)}
        assert ("multi_basin" in found) == said


def test_a_law_without_a_break_says_that_it_does_not_fit_one() -> None:
    truth = {"a": 0.2, "b": 6.0, "c0": 0.02, "c": 1.5, "d": 1e19, "f": 0.05}
    table = made("broken", 60, noise=0.002, truth=truth)
    assert "poor_fit" in codes(fit(table, "power_const", bootstrap=0))
    broken = fit(table, "broken", bootstrap=0)
    assert "poor_fit" not in codes(broken)
    assert broken.params["d"] == pytest.approx(1e19, rel=0.1)


def bad(change: object) -> pd.DataFrame:
    return change(made("chinchilla", 30, noise=0.01))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.assign(loss=t.loss.where(t.index != 3)), "loss: row 3 holds nan"),
        (lambda t: t.assign(loss=t.loss.where(t.index != 4, 0.0)), "loss: row 4 holds 0"),
        (lambda t: t.assign(tokens=t.tokens.where(t.index != 5, -1.0)), "tokens: row 5 holds -1"),
        (lambda t: t.assign(params=t.params.where(t.index != 6, np.inf)), "params: row 6 holds inf"),
        (
            lambda t: t.assign(params=t.params.astype(str).where(t.index != 7, "big")),
            "row 7: params is 'big'",
        ),
        (lambda t: t.drop(columns="loss"), "column loss is missing"),
        (lambda t: t[:5], "5 rows for the 5 parameters"),
        (lambda t: t.assign(params=1e8), "every row has the value 1e\\+08"),
        (lambda t: t.assign(outcome="failed"), "no finished run"),
        (lambda t: t.assign(loss=2.0), "loss: every row has the value 2"),
        (lambda t: t.assign(loss=t.loss + 0j), "loss is not numeric"),
        (lambda t: pd.concat([t, t[["loss"]]], axis=1), "loss appears 2 times"),
    ],
)
def test_bad_tables_are_refused_by_name(change: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fit(bad(change), bootstrap=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"form": "chinchila"}, "form = chinchila"),
        ({"loss": "l1"}, "loss = l1"),
        ({"scale": "sqrt"}, "scale = sqrt"),
        ({"delta": 0.0}, "delta = 0"),
        ({"delta": float("nan")}, "delta = nan"),
        ({"level": 1.0}, "level = 1"),
        ({"bootstrap": -1}, "bootstrap = -1"),
        ({"regime": "some"}, "regime = some"),
        ({"seed": -1}, "seed = -1"),
        ({"group": "trunk"}, "group = trunk: no such column"),
        ({"form": "power", "x": "compute"}, "column compute is missing"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fit(made("chinchilla", 30, noise=0.01), **options)


def test_duplicates_and_one_budget_are_warned_of() -> None:
    table = made("chinchilla", 30, noise=0.01)
    assert "duplicate_rows" in codes(fit(pd.concat([table, table[:3]]), bootstrap=0))
    one = table.assign(tokens=1e20 / (6 * table.params), flops=1e20)
    law = FORMS["chinchilla"].predict(CHINCHILLA, {n: one[n].to_numpy() for n in ("params", "tokens")})
    assert "few_budgets" in codes(fit(one.assign(loss=law), bootstrap=0))


def test_runs_without_noise_have_an_answer_in_json() -> None:
    fitted = fit(made("chinchilla", 30, noise=0.0), "auto", bootstrap=0)
    assert sum(c["weight"] for c in fitted.to_json()["candidates"]) == pytest.approx(1.0)


def test_a_fit_can_be_pickled() -> None:
    fitted = fit(made("chinchilla", 30, noise=0.01), bootstrap=0)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.form is fitted.form and again.params == fitted.params


def test_whole_numbers_beyond_64_bits_are_numbers() -> None:
    table = made("chinchilla", 30, noise=0.01)
    table["flops"] = [6 * int(n) * int(d) for n, d in zip(table.params, table.tokens, strict=True)]
    assert table.flops.dtype == object
    assert fit(table, bootstrap=0).provenance["flops"] == "flops"


def test_only_finished_schedules_count() -> None:
    table = made("chinchilla", 40, noise=0.01)
    table["final"] = table.index % 4 != 0
    table["outcome"] = np.where(table.index == 1, "diverged", "done")
    table["kind"] = np.where(table.index == 2, "trunk", "run")
    fitted = fit(table, bootstrap=0)
    assert len(fitted.observations) == 28
    assert {row for left in fitted.observations.left_out for row in left.rows} == {1, 2, *range(0, 40, 4)}


def test_a_large_table_is_said_to_be_one_and_its_one_bad_row_is_named() -> None:
    table = made("chinchilla", 30_000, noise=0.01)
    fitted = fit(table, bootstrap=20)
    assert "large_table" in codes(fitted) and fitted.status == "caution"
    assert fitted.params["alpha"] == pytest.approx(CHINCHILLA["alpha"], abs=5 * fitted.bse["alpha"])
    # Resamples are drawn of the subset's rows: drawn of two million they took 16 GB.
    part = fitted.observations.small
    assert len(part) == LARGE_ROWS == part.group.max() + 1
    table.loc[25_000, "loss"] = np.nan
    with pytest.raises(UserError, match="column loss: row 25000"):
        fit(table)


@pytest.mark.slow
def test_two_million_rows_are_fitted_with_a_warning() -> None:
    rng = np.random.default_rng(0)
    n = 2_000_000
    table = pd.DataFrame({"params": 10 ** rng.uniform(7, 10, n), "tokens": 10 ** rng.uniform(9, 11.5, n)})
    law = FORMS["chinchilla"].predict(CHINCHILLA, {n: table[n].to_numpy() for n in table})
    fitted = fit(table.assign(loss=law * np.exp(0.01 * rng.standard_normal(n))), bootstrap=50)
    assert "large_table" in codes(fitted)
    for name, value in CHINCHILLA.items():
        assert abs(fitted.params[name] - value) < 5 * fitted.bse[name]
    assert fitted.bse["alpha"] < 1e-3


def test_the_summary_and_json_hold_what_a_person_needs() -> None:
    fitted = fit(made("chinchilla", 60, noise=0.01), bootstrap=50)
    answer = fitted.to_json()
    assert set(answer) == {
        "form", "objective", "params", "floor", "bse", "conf_int", "level", "status", "warnings", "n",
        "rows_left_out", "candidates", "provenance",
    }  # fmt: skip
    assert answer["objective"]["reduction"] == "sum"
    for name in fitted.params:
        low, high = fitted.conf_int()[name]
        assert low < high
        assert name in fitted.summary()
    narrow, wide = fitted.conf_int(0.5)["E"], fitted.conf_int(0.99)["E"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
