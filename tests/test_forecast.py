"""Forecasts of new runs: optima under a cost, intervals that hold, caveats that are said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from known_laws import CHINCHILLA, made

from analysis.errors import UserError
from analysis.fitting.fit import fit
from analysis.fitting.objective import Objective, huber_weight
from analysis.fitting.observations import observe
from analysis.fitting.result import Member
from analysis.forecasting.cost import Cost, cost_model, optimum
from analysis.forecasting.discrepancy import (
    FAR,
    FAR_PRIOR,
    TRUE,
    Discrepancy,
    Missed,
    cuts,
    discrepancy_of,
    hold_out,
)
from analysis.forecasting.forecast import extrapolate
from analysis.forecasting.interval import interval, noise_of
from analysis.laws.catalogue import FORMS

QUICK = {"form": "chinchilla", "regime": "all", "bootstrap": 60}


def codes(found: object) -> set[str]:
    return {warn.code for warn in found.warnings}


def test_the_optimum_under_6nd_is_hoffmanns_closed_form() -> None:
    budgets = np.geomspace(1e19, 1e24, 6)
    law = FORMS["chinchilla"]
    params, tokens = optimum(
        lambda n, d: law.predict(CHINCHILLA, {"params": n, "tokens": d}),
        Cost(6.0, 0.0, ""),
        budgets,
        (1e8, 1e10),
    )
    a, b = CHINCHILLA["alpha"], CHINCHILLA["beta"]
    g = (a * CHINCHILLA["A"] / (b * CHINCHILLA["B"])) ** (1 / (a + b))
    np.testing.assert_allclose(params, g * (budgets / 6) ** (b / (a + b)), rtol=1e-4)
    np.testing.assert_allclose(6 * params * tokens, budgets, rtol=1e-12)


def test_the_tables_own_cost_is_recovered_and_named() -> None:
    table = made("chinchilla", 60, noise=0.01)
    own = table.assign(flops=table.tokens * (6.2 * table.params + 5e4 * np.sqrt(table.params)))
    cost = cost_model(observe(own, ("params", "tokens")))
    assert cost.linear == pytest.approx(6.2) and cost.root == pytest.approx(5e4)
    assert "fitted" in cost.source
    assert cost_model(observe(table, ("params", "tokens"))).source == "6ND"
    dense = table.drop(columns=["flops", "params_active"])
    assert cost_model(observe(dense, ("params", "tokens"))).source == "6ND"
    found = extrapolate(own, budgets=[1e22], **QUICK)
    point = found.predictions[0]
    assert point.tokens * (6.2 * point.params + 5e4 * np.sqrt(point.params)) == pytest.approx(1e22)


@pytest.mark.slow
def test_a_true_law_predicts_ten_times_beyond_within_its_interval() -> None:
    inside, total = 0, 0
    for seed in range(30):
        table = made("chinchilla", 70, noise=0.005, seed=seed)
        low = table.flops <= table.flops.max() / 10
        found = extrapolate(table[low], targets=table[~low], seed=seed, **QUICK)
        observed = table.loss[~low].to_numpy()
        lower = np.asarray([p.lower for p in found.predictions])
        upper = np.asarray([p.upper for p in found.predictions])
        inside += int(((lower <= observed) & (observed <= upper)).sum())
        total += len(observed)
    # 90% asked. Held-out runs of a table share its errors: 30 tables tell 80% and 98% apart from it.
    assert 0.82 < inside / total < 0.98


def test_the_interval_includes_seed_noise() -> None:
    quiet = extrapolate(made("chinchilla", 80, noise=0.001), at=[{"params": 1e9, "tokens": 1e10}], **QUICK)
    loud = extrapolate(made("chinchilla", 80, noise=0.02), at=[{"params": 1e9, "tokens": 1e10}], **QUICK)
    for found, noise in ((quiet, 0.001), (loud, 0.02)):
        p = found.predictions[0]
        assert np.log(p.upper / p.lower) > 2 * 1.6 * noise * 0.7
        assert p.lower < p.loss < p.upper
    assert quiet.predictions[0].upper < loud.predictions[0].upper


def test_resamples_that_send_the_loss_to_nothing_or_beyond_any_number_bound_it_so() -> None:
    fitted = fit(made("chinchilla6", 60, noise=0.01), "chinchilla6", bootstrap=20)
    names = fitted.form.names
    extreme = np.repeat([[fitted.params[name] for name in names]], 20, axis=0)
    for row, k in ((slice(0, 4), 400.0), (slice(4, 8), -400.0)):
        extreme[row, names.index("E")] = 0.0
        extreme[row, names.index("k")] = k
    wanted = pd.DataFrame({"params": [1e13], "tokens": [1e15]})
    members = [Member(replace(fitted, draws=extreme), 1.0)]
    found = interval(members, wanted, np.ones(1), discrepancy_of([], bent=True), level=0.9, seed=0)
    assert found.lower[0] == -np.inf and found.upper[0] == np.inf
    # Rare ones lie outside the level and change nothing that is not finite.
    members = [Member(replace(fitted, draws=np.concatenate([extreme[7:8], extreme[8:]] * 5)), 1.0)]
    found = interval(members, wanted, np.ones(1), discrepancy_of([], bent=True), level=0.8, seed=0)
    assert np.isfinite(found.lower).all() and np.isfinite(found.upper).all()


def test_parameters_beyond_any_number_are_said_to_be() -> None:
    fitted = fit(made("kaplan", 40, noise=0.01), "kaplan", bootstrap=40)
    draws = fitted.draws.copy()
    draws[:4, 0] = np.inf
    endless = replace(fitted, draws=draws)
    assert endless.bse["N_c"] == np.inf and np.isfinite(endless.bse["D_c"])
    assert endless.conf_int(0.95)["N_c"][1] == np.inf and np.isfinite(endless.conf_int(0.5)["N_c"]).all()
    assert endless.to_json()["bse"]["N_c"] is None


@pytest.mark.parametrize("growth", [0.0, 1.0])
def test_noise_that_grows_with_loss_is_seen_as_such(growth: float) -> None:
    found = []
    for seed in range(8):
        quiet = made("chinchilla", 200, noise=0.0, seed=seed)
        noise = 0.004 * (quiet.loss / quiet.loss.min()) ** growth
        rng = np.random.default_rng(seed)
        table = quiet.assign(loss=quiet.loss * np.exp(noise * rng.standard_normal(200)))
        found.append(noise_of(fit(table, bootstrap=0)))
    # Shrunk towards none, and never above one.
    assert growth / 2 <= np.mean([noise.growth for noise in found]) <= growth + 0.2
    # What a new run of the least loss gets.
    sizes = [np.std(noise.standard) * noise.scale(np.array([noise.least]))[0] for noise in found]
    assert np.mean(sizes) == pytest.approx(0.004, rel=0.2)


def test_intervals_widen_with_distance_and_far_ones_say_so() -> None:
    table = made("chinchilla", 80, noise=0.005)
    top = table.flops.max()
    found = extrapolate(table, budgets=[top, 10 * top, 1e4 * top], **QUICK)
    widths = [np.log(p.upper / p.lower) for p in found.predictions]
    assert widths[0] < widths[1] < widths[2]
    assert "far_beyond_tested" in codes(found)
    assert "far_beyond_tested" not in codes(extrapolate(table, budgets=[2 * top], **QUICK))
    assert found.predictions[2].flops_ratio == pytest.approx(1e4, rel=0.02)


def held(error: float, spread: float, distance: float, freedom: float = 2.0) -> Missed:
    return Missed(np.full(4, error), np.full(4, distance), spread, freedom, spare=20.0)


def holds(found: Discrepancy) -> float:
    """The probability that the law holds beyond the data."""
    return float(found.probability[found.slopes == 0.0].sum())


def test_the_discrepancy_weighs_what_hold_outs_missed_against_chance() -> None:
    assert holds(discrepancy_of([], bent=False)) == pytest.approx(TRUE)
    assert holds(discrepancy_of([], bent=True)) == 0.0
    hit, missed = held(0.003, 0.004, 1.0), held(0.05, 0.004, 1.0)
    assert holds(discrepancy_of([hit], bent=False)) > TRUE
    assert holds(discrepancy_of([missed], bent=False)) < TRUE / 2
    # What is learnt is the size of the miss: .05 at a distance of e, .09 at e^1.6.
    found = discrepancy_of([missed, held(0.09, 0.005, 1.6)], bent=False)
    assert holds(found) < 0.05 and 0.03 < found.slope < 0.08
    # A cut that hit counts against one that missed, and tells a bent table's prior down.
    assert holds(discrepancy_of([missed, hit], bent=False)) > holds(discrepancy_of([missed], bent=False))
    assert discrepancy_of([hit, hit], bent=True).slope < discrepancy_of([], bent=True).slope
    # Many errors that go together are little evidence: one fit missed them all.
    one, many = (discrepancy_of([held(0.012, 0.004, 1.0, freedom)], bent=False) for freedom in (1.0, 12.0))
    assert holds(many) < 0.5 < 0.8 < holds(one)


def test_the_discrepancy_grows_with_distance_and_far_beyond_is_never_nothing() -> None:
    found = discrepancy_of([held(0.002, 0.004, 1.0)], bent=False)
    assert not found.far(np.array([1.0 + np.log(FAR) - 0.01]))[0]
    near, far = np.abs(found.draw(np.array([0.5, 5.0]), 4000, np.random.default_rng(0))).T
    assert np.mean(near == 0.0) == pytest.approx(holds(found), abs=0.03)
    assert np.median(far) > 0.6 * FAR_PRIOR * 5.0 ** (4 / 3)
    assert not found.draw(np.array([0.0, -1.0]), 10, np.random.default_rng(0)).any()


def test_residuals_have_the_degrees_of_freedom_that_each_loss_leaves_them() -> None:
    # A location and a slope at four places, 12 rows: sums of squares of residuals over the noise's variance.
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(12), np.repeat([-3.0, -1.0, 1.0, 3.0], 3)])
    noise = rng.standard_normal((4000, 12))
    for width, loss in ((np.inf, "l2"), (1.0, "huber"), (0.01, "lad")):
        theta = np.zeros((4000, 2))
        for _ in range(60):
            residual = noise - theta @ x.T
            weight = huber_weight(residual, width)
            moment = np.einsum("sn,np,nq->spq", weight, x, x)
            theta = np.linalg.solve(moment, np.einsum("sn,np,sn->sp", weight, x, noise)[..., None])[..., 0]
        squares = np.sum((noise - theta @ x.T) ** 2)
        spare = Objective(loss, delta=1.0).spare(noise[0] / np.sqrt(np.mean(noise[0] ** 2)), np.ones(1), 2)
        assert squares / 4000 == pytest.approx(spare, rel=0.04)


@pytest.mark.slow
def test_a_cuts_errors_are_expected_as_a_true_law_makes_them() -> None:
    shares, freedom = [], []
    for seed in range(8):
        fitted = fit(made("chinchilla", 120, noise=0.005, seed=seed), bootstrap=0)
        for cut, (_, kept) in zip(
            hold_out([Member(fitted, 1.0)], seed), cuts(fitted.observations.flops), strict=True
        ):
            assert len(cut.error) == (~kept).sum() and cut.distance.min() > 0
            assert kept.sum() - 5 <= cut.spare <= kept.sum() - 5 * (2 - np.pi / 2)
            shares.append(np.mean(cut.error**2) / cut.spread**2)
            freedom.append(cut.freedom / len(cut.error))
    # Of chi squares of a few degrees of freedom, those of a table alike.
    assert 0.6 < np.mean(shares) < 1.6
    assert 0.1 < np.mean(freedom) < 0.9


def test_auto_mixes_forms_and_leaves_a_bend_out() -> None:
    table = made("chinchilla", 60, noise=0.002)
    bent = table.assign(loss=table.loss * np.exp(0.25 * np.maximum(np.log(table.loss / 2.9), 0.0) ** 0.5))
    cut = bent.flops <= bent.flops.max() / 10
    found = extrapolate(bent[cut], targets=bent[~cut], bootstrap=60)
    assert found.fit.observations.left_out
    assert sum(weight for _, weight in found.forms) == pytest.approx(1.0)
    observed = bent.loss[~cut].to_numpy()
    miss = np.abs(np.log([p.loss for p in found.predictions]) - np.log(observed))
    naive = extrapolate(bent[cut], targets=bent[~cut], **QUICK)
    worse = np.abs(np.log([p.loss for p in naive.predictions]) - np.log(observed))
    assert miss.mean() < worse.mean()


def test_the_target_is_never_looked_at() -> None:
    # The same rows with another target: nothing about the fit or its intervals may change.
    table = made("chinchilla", 40, noise=0.01)
    one = extrapolate(table, at=[{"params": 1e10, "tokens": 1e12}], bootstrap=40)
    two = extrapolate(
        table, targets=pd.DataFrame({"params": [1e10], "tokens": [1e12], "loss": [99.0]}), bootstrap=40
    )
    assert one.predictions == two.predictions


def test_one_variable_laws_predict_at_a_budget() -> None:
    table = made("power_const", 40, noise=0.002).drop(columns=["params", "tokens"])
    found = extrapolate(table, budgets=[1e23], bootstrap=40)
    assert found.predictions[0].params is None
    assert found.predictions[0].flops == 1e23
    assert found.predictions[0].loss == pytest.approx(1.7 + 2e3 * 1e23**-0.18, rel=0.01)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "nothing to predict"),
        ({"budgets": [-1e20]}, "budgets=1e21"),
        ({"budgets": [float("nan")]}, "budgets=1e21"),
        ({"at": [{"params": 1e9}]}, "needs tokens"),
        ({"at": [{"params": 1e9, "tokens": 0.0}]}, "tokens = 0"),
        ({"at": [{"params": 1e9, "tokens": 1e10}], "bootstrap": 5}, "bootstrap = 5"),
    ],
)
def test_impossible_targets_are_refused(options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        extrapolate(made("chinchilla", 30, noise=0.01), **{**QUICK, **options})
