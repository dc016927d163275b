"""Designs: the arithmetic against brute force and simulation, made laws end to end, stopping, bad input."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main
from analysis.errors import UserError
from analysis.fitting.fit import fit_members
from analysis.forecasting.defaults import EXTRAPOLATED
from analysis.forecasting.design import believe, design
from analysis.forecasting.forecast import extrapolate
from analysis.forecasting.spending import Belief, spend

TARGET = {"params": 4e9, "tokens": 8e10}


def made(params: np.ndarray, tokens: np.ndarray, seed: int, noise: float = 0.003) -> pd.DataFrame:
    """Runs of Besiroglu et al. 2024's law."""
    loss = 1.82 + 482.0 * params**-0.348 + 2085.0 * tokens**-0.366
    rng = np.random.default_rng(seed)
    loss = loss * np.exp(noise * rng.standard_normal(len(params)))
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": 6 * params * tokens, "loss": loss})


def grid(sizes: np.ndarray, ratios: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    params = np.repeat(sizes, len(ratios))
    return params, params * np.tile(ratios, len(sizes))


def small_table(seed: int) -> pd.DataFrame:
    return made(*grid(np.geomspace(1e7, 1e8, 4), (5.0, 20.0, 80.0)), seed)


def some_candidates() -> pd.DataFrame:
    params, tokens = grid(np.geomspace(2e7, 2e9, 9), (5.0, 20.0, 80.0))
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": 6 * params * tokens})


def random_belief(seed: int, wrong: float = 0.0, runs: int = 8) -> Belief:
    rng = np.random.default_rng(seed)
    law, off = (rng.standard_normal((4, runs + 1)) for _ in range(2))
    covariance = 1e-4 * (law.T @ law + 0.1 * np.eye(runs + 1))
    return Belief(covariance, wrong * 1e-4 * (off.T @ off), np.full(runs + 1, 5e-5))


def direct(belief: Belief, runs: Sequence[int]) -> tuple[float, float]:
    """What is not known of the target after these runs, and the variance that the parameters leave, conditioned on
    all of them at once."""
    runs, left = list(runs), []
    for covariance in (belief.law + belief.wrong, belief.law):
        inner = covariance[np.ix_(runs, runs)] + np.diag(belief.noise[runs])
        left.append(covariance[-1, -1] - covariance[runs, -1] @ np.linalg.solve(inner, covariance[runs, -1]))
    return float(np.sqrt(left[0] + belief.noise[-1])), float(left[1])


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_what_is_left_run_by_run_is_that_of_all_at_once(wrong: float) -> None:
    """Replicates of one candidate included: each is a measurement of its own."""
    for seed in range(5):
        belief = random_belief(seed, wrong)
        cost = np.random.default_rng(seed).uniform(1.0, 3.0, 8)
        bought = spend(belief, cost, 9.0, most=2)
        assert bought.cost <= 9.0 and bought.cost == pytest.approx(cost[list(bought.runs)].sum())
        assert bought.runs
        for count in range(len(bought.runs) + 1):
            error, left = direct(belief, bought.runs[:count])
            assert bought.error[count] == pytest.approx(error, rel=1e-9)
            assert bought.law[count, 0] == pytest.approx(left, rel=1e-9)


def test_near_the_best_of_all_subsets() -> None:
    share = []
    for seed in range(20):
        belief = random_belief(seed, 0.3)
        cost = np.random.default_rng(seed).uniform(1.0, 3.0, 8)
        bought = spend(belief, cost, 6.0, most=1)
        subsets = itertools.chain.from_iterable(itertools.combinations(range(8), n) for n in range(1, 6))
        best = min(direct(belief, runs)[0] for runs in subsets if cost[list(runs)].sum() <= 6.0)
        share.append(bought.error[-1] / best)
    assert np.mean(share) < 1.03 and np.max(share) < 1.15


def test_the_linear_shortcut_agrees_with_simulated_losses() -> None:
    """Laws reweighted by losses drawn from one of them narrow the target as the covariances say."""
    candidates = some_candidates()
    runs = pd.concat([candidates, pd.DataFrame([TARGET])])[["params", "tokens"]]
    members = fit_members(
        small_table(0),
        replace(EXTRAPOLATED, form="chinchilla", bootstrap=400),
        least_weight=0.05,
        fractional=True,
    )
    belief = believe(members, runs, 1, seed=0, misfit=1e-9)
    with np.errstate(divide="ignore", over="ignore"):
        draws = np.concatenate([np.log(m.fit.predict_draws(runs)) for m in members])
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    draws = np.clip(draws, low, high)
    rng = np.random.default_rng(0)
    for c in (10, 20, 26):
        noise = np.sqrt(belief.noise[c])
        after = []
        for truth in rng.choice(len(draws), 300):
            y = draws[truth, c] + noise * rng.standard_normal()
            weight = np.exp(-0.5 * ((y - draws[:, c]) / noise) ** 2)
            weight /= weight.sum()
            after.append(weight @ (draws[:, -1] - weight @ draws[:, -1]) ** 2)
        linear = belief.law[-1, -1] - belief.law[c, -1] ** 2 / (belief.law[c, c] + belief.noise[c])
        assert np.sqrt(np.mean(after)) == pytest.approx(np.sqrt(linear), rel=0.3)


def test_a_run_near_the_target_counts_for_more_where_the_law_may_be_off() -> None:
    """Of a far run that tells the law well and a near one that tells it badly, one may be had."""
    tells = 0.05 * np.asarray([3.0, 1.0, 1.0])
    law, noise = np.outer(tells, tells), np.full(3, 0.02**2)
    near = 0.05**2 * np.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 0.9], [0.0, 0.9, 1.0]])
    for wrong, best in ((0.0, 0), (1.0, 1)):
        assert spend(Belief(law, wrong * near, noise), np.ones(2), 1.0, most=1).runs == (best,)


def test_the_law_is_pinned_where_it_was_tried() -> None:
    """Its misfit is small at the rows, large at the target, and shared by what is near to it."""
    table = small_table(0)
    runs = pd.concat([table, pd.DataFrame([{"params": 3e9, "tokens": 6e10}, TARGET])])[["params", "tokens"]]
    members = fit_members(table, replace(EXTRAPOLATED, form="chinchilla", bootstrap=40), fractional=True)
    wrong = believe(members, runs, 1, seed=0, misfit=0.02).wrong
    spread = np.sqrt(np.diag(wrong))
    assert spread[: len(table)].max() < 0.005 and spread[-1] == pytest.approx(0.02, rel=0.1)
    correlation = wrong[-1] / (spread * spread[-1])
    assert correlation[-2] > 0.9 and np.abs(correlation[: len(table)]).max() < 0.3


@pytest.mark.slow
def test_designed_runs_narrow_the_forecast_as_promised() -> None:
    """To within a factor of 3, and about as much as chance does where the law is true and any run says of it."""
    kept = []
    candidates = some_candidates()
    for seed in range(2):
        table = small_table(seed)
        found = design(table, candidates, at=TARGET, budget=2e20, bootstrap=60)
        assert found.width_after < found.width_before
        rows = found.runs.loc[found.runs.index.repeat(found.runs["seeds"])]
        new = made(rows["params"].to_numpy(), rows["tokens"].to_numpy(), 100 + seed)
        assert new["flops"].sum() <= 2e20 and found.cost == pytest.approx(new["flops"].sum())
        rng = np.random.default_rng(seed)
        order, left, chance = rng.permutation(len(candidates)), 2e20, []
        for i in order:
            if candidates["flops"].iloc[i] <= left:
                chance.append(i)
                left -= candidates["flops"].iloc[i]
        drawn = candidates.iloc[chance]
        other = made(drawn["params"].to_numpy(), drawn["tokens"].to_numpy(), 200 + seed)
        widths = []
        for more in (new, other):
            p = extrapolate(
                pd.concat([table, more], ignore_index=True), at=[TARGET], bootstrap=200
            ).predictions[0]
            widths.append(0.5 * float(np.log(p.upper / p.lower)))
        kept.append((found.width_before, found.width_after, *widths))
    before, promised, got, by_chance = np.mean(kept, axis=0)
    assert got < 0.6 * before and 1 / 3 < got / promised < 3.0
    assert got < 1.2 * by_chance


def test_noise_is_averaged_by_seeds() -> None:
    """One candidate next to the target, and noisy: it is run again and again."""
    one = pd.DataFrame([{"params": 3.9e9, "tokens": 8e10, "flops": 1.0}])
    belief = believe(None, pd.concat([one, pd.DataFrame([TARGET])])[["params", "tokens"]], 1, seed=0)
    noisy = Belief(belief.law, belief.wrong, np.full(2, 0.05**2))
    assert spend(noisy, np.ones(1), 100.0, most=5).runs == (0,) * 5


def test_when_to_stop() -> None:
    table, candidates = small_table(0), some_candidates()
    asked = {"at": TARGET, "bootstrap": 40, "form": "chinchilla"}
    nothing = design(table, candidates, width=0.9, **asked)
    assert nothing.stop and nothing.runs.empty and nothing.width_after == nothing.width_before
    wanted = 0.5 * (nothing.width_before + design(table, candidates, budget=1e21, **asked).width_after)
    enough = design(table, candidates, width=wanted, **asked)
    assert enough.stop and "reached" in enough.why and enough.width_after <= wanted < enough.width_before
    poor = design(table, candidates, budget=1.05 * float(candidates["flops"].min()), **asked)
    assert not poor.stop and "budget" in poor.why
    # A grain of sand of a candidate: nothing to gain, so nothing is bought though it costs next to nothing.
    useless = design(
        table, pd.DataFrame([{"params": 1e7, "tokens": 5e7, "flops": 1.0}]), budget=1e21, **asked
    )
    assert useless.stop and useless.runs.empty and "no candidate" in useless.why


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give a budget or a half-width"),
        ({"budget": -1.0}, "budget = -1: "),
        ({"budget": 1.0}, "buys no candidate"),
        ({"width": 2.0}, "width = 2: "),
        ({"budget": 1e20, "most_seeds": 0}, "most_seeds = 0: "),
        ({"budget": 1e20, "bootstrap": 5}, "bootstrap = 5"),
        ({"budget": 1e20, "at": {"params": 1e9}}, "tokens = nan"),
        ({"budget": 1e20, "at": {"params": 2e7, "tokens": 4e8}}, "inside the data"),
        ({"budget": 1e20, "cost_column": "seconds"}, "no column seconds"),
        ({"budget": 1e20, "form": "power"}, "params and tokens"),
    ],
)
def test_bad_input(given: dict[str, object], said: str) -> None:
    asked = {"at": TARGET, "bootstrap": 40, "form": "chinchilla", **given}
    with pytest.raises(UserError, match=said):
        design(small_table(0), some_candidates(), **asked)  # type: ignore[arg-type]


def test_the_command_line_before_and_after_runs_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = [{"dial": i, **row} for i, row in enumerate(some_candidates().to_dict("records"))]
    source, table, target = tmp_path / "candidates.json", tmp_path / "runs.csv", tmp_path / "design.json"
    source.write_text(json.dumps({"candidates": [{**row, "seconds": None} for row in candidates]}))
    small_table(0).to_csv(table, index=False)
    at = ["--at", "params=4e9,tokens=8e10", "--budget", "1e20", "--json", str(target)]
    assert main(["design", str(source), *at]) == 0
    first = json.loads(target.read_text())
    assert len(first["runs"]) >= 10 and first["flops"] <= 1e20
    assert main(["design", str(table), "--candidates", str(source), *at, "--bootstrap", "60"]) == 0
    answer = json.loads(target.read_text())
    assert {"runs", "target", "width_before", "width_after", "flops", "stop", "why"} <= set(answer)
    assert {"dial", "params", "tokens", "flops", "seeds"} <= set(answer["runs"][0])
    assert answer["target"]["params"] == 4e9 and answer["width_after"] < answer["width_before"]
    assert "flops" in capsys.readouterr().out
    assert main(["design", str(table), "--candidates", str(source), "--budget", "1e20"]) == 2
    assert "--at" in capsys.readouterr().err
    assert main(["design", str(source), *at, "--cost-column", "seconds"]) == 2
    assert "seconds" in capsys.readouterr().err
