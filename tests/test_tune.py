"""Made sweeps of rates, whose truth is known: the optima, how sure, what the rule cost, the trend, the edges."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mute import mute

from analysis.cli import main
from analysis.errors import Code, UserError
from analysis.figures.tune import plot_tuning
from analysis.forecasting.tune import tune

P, Q, CURVATURE = 0.3, -0.7, 0.03


def true_optimum(params: float, tokens: float) -> float:
    return 0.004 * (params / 1e6) ** Q * (tokens / 1e8) ** -P


def sweep(
    seed: int,
    *,
    noise: float = 0.002,
    skew: float = 0.004,
    seeds: int = 2,
    factors: tuple[float, ...] | None = None,
) -> pd.DataFrame:
    """Twelve rungs of seven rates each; the curve rises faster above its optimum than below (`skew`)."""
    rng = np.random.default_rng(seed)
    rows = []
    for params in (1e6, 4e6, 1.6e7):
        for tokens in (1e8, 3e8, 9e8, 2.7e9):
            best = true_optimum(params, tokens)
            grid = (
                2.0 ** (np.arange(-3, 4) + rng.uniform(-0.5, 0.5)) if factors is None else np.asarray(factors)
            )
            for rate in best * grid:
                u = np.log(rate / best)
                for number in range(seeds):
                    loss = (2.0 + (1e7 / params) ** 0.3 + (1e8 / tokens) ** 0.3) * np.exp(
                        CURVATURE * u**2 + skew * u**3 + noise * rng.standard_normal()
                    )
                    rows.append(
                        {
                            "params": params,
                            "tokens": tokens,
                            "learning_rate": rate,
                            "seed": number,
                            "loss": loss,
                        }
                    )
    return pd.DataFrame(rows)


def test_intervals_hold_the_true_optimum() -> None:
    inside, errors = [], []
    for seed in range(12):
        for rung in tune(sweep(seed)).rungs:
            truth = true_optimum(rung.place["params"], rung.place["tokens"])
            inside.append(rung.interval[0] <= truth <= rung.interval[1])
            errors.append(np.log(rung.optimum / truth))
    # 144 intervals of 90%: a share below .80 has a chance of one in ten thousand.
    assert 0.80 <= np.mean(inside) <= 0.98
    assert abs(np.mean(errors)) < 0.1 and np.std(errors) < 0.15


def test_what_a_seed_is_better_by_at_every_rate_is_no_noise() -> None:
    """Five percent between the seeds, and intervals as narrow as without: the runs are paired."""
    table = sweep(0)
    plain = tune(table)
    shifted = tune(table.assign(loss=table["loss"] * np.where(table["seed"] == 1, 1.05, 1.0)))
    assert shifted.curves.noise == pytest.approx(plain.curves.noise, rel=0.01)
    for one, other in zip(plain.rungs, shifted.rungs, strict=True):
        assert np.log(other.optimum / one.optimum) == pytest.approx(0.0, abs=0.01)


def test_the_trend_over_size_and_horizon() -> None:
    held = []
    for seed in range(12):
        trend = tune(sweep(seed)).trend
        assert trend is not None and trend.rungs == 12
        assert trend.exponents["tokens"] == pytest.approx(-P, abs=0.1)
        assert trend.exponents["params"] == pytest.approx(Q, abs=0.1)
        (low, high) = trend.conf_int["tokens"]
        held.append(low <= -P <= high)
    assert np.sum(held) >= 8


def test_what_a_rule_off_by_two_costs() -> None:
    table = sweep(0, noise=1e-4, skew=0.0)
    table["rule"] = [2.0 * true_optimum(n, t) for n, t in zip(table["params"], table["tokens"], strict=True)]
    found = tune(table, rule="rule")
    for rung in found.rungs:
        least = 2.0 + (1e7 / rung.place["params"]) ** 0.3 + (1e8 / rung.place["tokens"]) ** 0.3
        assert rung.cost == pytest.approx(least * np.expm1(CURVATURE * np.log(2.0) ** 2), rel=0.05)
        assert rung.rule / rung.optimum == pytest.approx(2.0, rel=0.02)
    assert Code.UNTUNED in {warn.code for warn in found.warnings}
    good = tune(table.assign(rule=table["rule"] / 2.0), rule="rule")
    assert Code.UNTUNED not in {warn.code for warn in good.warnings}


def test_a_rule_is_a_rate_or_a_rate_over_a_column() -> None:
    table = sweep(0)
    for rule, expected in (("0.002", 0.002), ("2000/params", 2000.0 / 1e6)):
        assert tune(table, rule=rule).rungs[0].rule == pytest.approx(expected)
    for wrong in ("fast", "-1", "0.3/width"):
        with pytest.raises(UserError, match="rule = "):
            tune(table, rule=wrong)


def test_an_edge_is_said_and_is_no_part_of_the_trend() -> None:
    found = tune(sweep(0, factors=(0.05, 0.1, 0.2, 0.4)))
    assert {rung.edge for rung in found.rungs} == {"highest"}
    assert found.trend is None or found.trend.rungs < 12
    assert Code.EDGE_RATE in {warn.code for warn in found.warnings}


def test_a_rate_that_diverged_is_no_edge() -> None:
    """The best rate is the highest that finished, and the next one up was tried."""
    table = sweep(0, factors=(0.25, 0.5, 1.0, 2.0), noise=1e-4)
    above = table["learning_rate"] > 1.5 * np.vectorize(true_optimum)(table["params"], table["tokens"])
    found = tune(table.assign(outcome=np.where(above, "diverged", "done")))
    assert {rung.edge for rung in found.rungs} == {""}
    assert all(len(rung.rates) == 3 for rung in found.rungs)


def test_two_rates_are_no_curve_and_one_seed_of_three_assumes_its_noise() -> None:
    table = sweep(0, factors=(0.5, 1.0, 2.0), seeds=1)
    assert Code.ONE_SEED in {warn.code for warn in tune(table[table["params"] == 1e6].iloc[:3]).warnings}
    some = table.drop(index=table.index[:2])
    found = tune(some)
    assert Code.FEW_RATES in {warn.code for warn in found.warnings}
    assert [np.isnan(rung.optimum) for rung in found.rungs] == [True] + 11 * [False]
    with pytest.raises(UserError, match="3 rates"):
        tune(sweep(0, factors=(0.5, 1.0)))


def test_batches_are_told_apart() -> None:
    """The optimum of a batch is its square root's multiple: an exponent of a half."""
    tables = []
    for i, batch in enumerate((1, 2, 4, 8)):
        table = sweep(i)
        tables.append(table.assign(learning_rate=table["learning_rate"] * np.sqrt(batch), batch=batch))
    trend = tune(pd.concat(tables)).trend
    assert trend is not None and trend.exponents["batch"] == pytest.approx(0.5, abs=0.05)
    one = tune(sweep(0).assign(batch_tokens=lambda t: t["params"])).trend
    assert one is not None and set(one.exponents) == {"params", "tokens"}


def test_skipped_steps_make_no_other_horizon() -> None:
    """The plan's horizon counts; without it, tokens that differ by less than two percent are one horizon."""
    table = sweep(0)
    lost = table.assign(tokens=table["tokens"] * np.random.default_rng(0).uniform(0.99, 1.0, len(table)))
    assert [r.optimum for r in tune(lost).rungs] == [r.optimum for r in tune(table).rungs]
    shorter = table.assign(tokens=0.9 * lost["tokens"], horizon_tokens=table["tokens"])
    assert [r.place for r in tune(shorter).rungs] == [r.place for r in tune(table).rungs]


def test_skipped_steps_make_no_horizon_of_their_own() -> None:
    """The guard skips a few steps at high rates, and their tokens do not count: the horizon tells the runs."""
    table = sweep(0)
    skipped = table.assign(
        horizon_tokens=table["tokens"], tokens=table["tokens"] * (1 - 0.001 * (table.index % 7))
    )
    assert tune(skipped).to_json() == tune(table).to_json()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "rates.csv"
    sweep(0).rename(columns={"learning_rate": "lr"}).to_csv(source, index=False)
    target = tmp_path / "tune.json"
    asked = ["tune", str(source), "--columns", "learning_rate=lr", "--rule", ".002", "--json", str(target)]
    assert main([*asked, "--plots", str(tmp_path)]) == 0
    answer = json.loads(target.read_text())
    assert len(answer["rungs"]) == 12 and answer["trend"]["p"] == pytest.approx(P, abs=0.1)
    assert (tmp_path / "tune.png").stat().st_size > 10_000
    assert "optimum ~ params^" in capsys.readouterr().out
    assert main(["tune", str(source)]) == 2
    assert "learning_rate" in capsys.readouterr().err
    assert main([*asked, "--plots", str(tmp_path / "nowhere")]) == 2


def test_the_picture_shows_every_rung() -> None:
    found = tune(sweep(0), rule="0.002")
    assert mute(plot_tuning(found)) == []
    left, right = plot_tuning(found).axes
    told = [words for drawn in right.collections for words in drawn.get_urls() if words]
    assert len(left.collections) == sum("optimum" in words for words in told) == len(found.rungs)
    assert sum("the rule's rate 0.002" in words for words in told) == len(found.rungs)


def test_published_rates_of_li_2025() -> None:
    """The best rate falls with size, as every published rule has it (step law: N^-.71)."""
    source = Path(__file__).resolve().parents[2] / "shared" / "published" / "fit" / "misfitting_final.csv"
    if not source.is_file():
        pytest.skip(f"no published table at {source}")
    table = pd.read_csv(source).rename(columns={"peak_lr": "learning_rate", "N": "params", "D": "tokens"})
    found = tune(table)
    assert len(found.rungs) == 81 and sum(len(rung.rates) == 3 for rung in found.rungs) == 77
    assert found.trend is not None and found.trend.conf_int["params"][1] < -0.4
