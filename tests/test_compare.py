"""Two recipes: known multipliers are found, equal ones are not called, unlike ones are refused, tuning is seen."""

import json
import re
from pathlib import Path

import made_ladder
import numpy as np
import pandas as pd
import pytest
from mute import mute

from analysis.cli import main
from analysis.errors import Code, UserError
from analysis.forecasting import compare as module
from analysis.forecasting.compare import compare
from analysis.forecasting.joint_law import TwoLadders, _value_and_slopes
from analysis.forecasting.multiplier import Split, curve, grid, log_multipliers
from analysis.forecasting.ranking import compare_all
from analysis.tables.load import load_table


# So few draws bend a bound by a few percent.
@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWS", 150)


LAW = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.35, "beta": 0.35}


def ladder(
    gain: float = 1.0,
    power: float = 1.0,
    *,
    noise: float = 0.003,
    seed: int = 0,
    sizes: int = 6,
    seeds: int = 2,
) -> pd.DataFrame:
    """Runs whose sizes and tokens count as gain^.5 times their power: the multiplier is gain where power is 1,
    and gain x (C / C0)^(power - 1) of its own compute otherwise."""
    rng = np.random.default_rng(seed)
    n = np.geomspace(1e7, 2e8, sizes)
    params, tokens = (
        v.ravel() for v in np.broadcast_arrays(n[:, None], n[:, None] * np.asarray([10.0, 40.0]))
    )
    params, tokens = np.repeat(params, seeds), np.repeat(tokens, seeds)
    counted = [np.sqrt(gain) * v**power * at ** (1 - power) for v, at in ((params, 4e7), (tokens, 8e8))]
    loss = LAW["E"] + LAW["A"] / counted[0] ** LAW["alpha"] + LAW["B"] / counted[1] ** LAW["beta"]
    return pd.DataFrame(
        {
            "params": params,
            "tokens": tokens,
            "flops": 6 * params * tokens,
            "seed": np.tile(range(seeds), len(params) // seeds),
            "loss": loss * np.exp(noise * rng.standard_normal(len(params))),
        }
    )


def test_derivatives_and_values_agree_with_plain_differences() -> None:
    rng = np.random.default_rng(0)
    rows = TwoLadders(rng.normal(size=(7, 2)), np.zeros(2), np.zeros(7), np.arange(7) > 3, (), False)
    theta = np.asarray([[0.5, -1.0, -0.7, -1.1, -0.9, 0.05, 0.1, -0.1, 0.2, -0.1]])
    value, slope = _value_and_slopes(rows, theta)
    own = theta[0, :5] + rows.second[:, None] * theta[0, 5:]
    plain = np.exp(own[:, 0]) + np.sum(np.exp(own[:, 1:3] - np.exp(own[:, 3:]) * rows.x), axis=1)
    np.testing.assert_allclose(value[0], np.log(plain), rtol=1e-12)
    for i in range(10):
        step = 1e-6 * np.eye(10)[i]
        apart = _value_and_slopes(rows, theta + step)[0] - _value_and_slopes(rows, theta - step)[0]
        np.testing.assert_allclose(slope[0, :, i], apart[0] / 2e-6, atol=1e-8)


def test_the_multiplier_of_two_curves_is_that_of_the_closed_form() -> None:
    """With equal exponents the best loss is E + K C^-(alpha / 2): a law of C, known by hand (6ND)."""
    own = np.log([[1.7, 400.0, 1200.0, 0.35, 0.35], [1.7, 300.0, 900.0, 0.35, 0.35]])
    at = np.asarray([1e18, 1e20])
    budgets = grid(at)
    split = Split(6.0, 0.0, 20.0, 20.0)
    a, b = (curve(law[None], np.zeros(2), budgets, split) for law in own)
    best = 1.7 + 2 * np.sqrt(400.0 * 1200.0) * (budgets / 6) ** (-0.35 / 2)
    np.testing.assert_allclose(a[0], np.log(best), rtol=2e-4)
    np.testing.assert_allclose(log_multipliers(a, b, budgets, at)[0], 2 * np.log(4 / 3) / 0.35, rtol=2e-3)


def test_a_known_multiplier_is_found_with_its_interval() -> None:
    found = compare(ladder(), ladder(1.5, seed=1), targets=[1e19])
    assert found.verdict == "better" and found.status == "ok" and found.trend[1] < 1 < found.trend[2]
    assert all(m.lower < 1.5 < m.upper for m in found.multipliers)
    assert found.multipliers[2].upper / found.multipliers[2].lower < 1.3
    back = compare(ladder(1.5, seed=1), ladder(), targets=[1e19])
    assert back.verdict == "worse" and back.multipliers[-1].lower < 1 / 1.5 < back.multipliers[-1].upper
    assert back.sentence.startswith("B is worse") and "1.5" in found.sentence
    answer = json.loads(json.dumps(found.to_json(), allow_nan=False))
    first = ["a", "b", "multipliers", "trend", "probability_ahead", "crossing", "verdict"]
    assert list(answer)[:7] == first and {"tuned", "status", "warnings"} <= set(answer)
    assert set(answer["multipliers"][0]) == {"flops", "value", "lower", "upper", "level"}
    assert set(answer["trend"]) == {"per_decade", "lower", "upper"} and answer["crossing"] is None


def test_a_lead_that_shrinks_crosses_where_it_must() -> None:
    # log m = log gain + (power - 1) log(C / C0), C0 = 6 x 4e7 x 8e8: zero at C0 gain^(1 / (1 - power)).
    truth = 6 * 4e7 * 8e8 * 1.25 ** (1 / 0.12)
    found = compare(ladder(seeds=3), ladder(1.25, 0.88, seed=1, seeds=3), targets=[2e19])
    assert found.trend[2] < 1 and found.crossing is not None
    assert found.crossing["lower"] < truth < found.crossing["upper"]
    assert found.verdict == "worse"


def test_experts_count_by_what_a_token_passes_through() -> None:
    """The share of the active parameters falls with the width: no cost is linear in all of them."""
    dense, sparse = ladder(), ladder(1.5, seed=1)
    share = 8 * (sparse["params"] / 1e7) ** 0.3
    experts = sparse.assign(params=share * sparse["params"], params_active=sparse["params"])
    plain, found = (compare(dense, table, targets=[1e19]) for table in (sparse, experts))
    assert found.to_json()["multipliers"] == plain.to_json()["multipliers"]
    assert all(m.lower < 1.5 < m.upper for m in found.multipliers)


def test_equal_recipes_are_not_told_apart_and_more_runs_are_proposed() -> None:
    found = compare(ladder(noise=0.01, seed=2, sizes=4), ladder(noise=0.01, seed=3, sizes=4), targets=[3e18])
    assert found.verdict in ("cannot_say", "no_difference") and 0.025 < found.probability_ahead < 0.975
    assert found.settling is not None and found.settling.error_after < found.settling.error_before
    close = compare(ladder(noise=1e-4), ladder(noise=1e-4, seed=1))
    assert close.verdict == "no_difference" and close.settling is None


def test_noise_that_pairs_share_is_taken_from_the_difference() -> None:
    common = np.random.default_rng(5).standard_normal(24)
    tables = [ladder(g, noise=1e-3, seed=s) for g, s in ((1.0, 0), (1.2, 1))]
    tables = [t.assign(loss=t.loss * np.exp(0.01 * common)) for t in tables]
    paired = compare(*tables)
    # Told apart by their seeds, no two runs are a pair.
    other = compare(tables[0], tables[1].assign(seed=tables[1].seed + 10))
    width = [m.multipliers[2].upper / m.multipliers[2].lower for m in (paired, other)]
    assert np.log(width[0]) < 0.5 * np.log(width[1])
    assert paired.multipliers[2].lower < 1.2 < paired.multipliers[2].upper


def test_a_law_of_compute_stands_in_where_tokens_go_with_size() -> None:
    tables = [ladder(g, seed=s).query("tokens < 11 * params") for g, s in ((1.0, 0), (1.5, 1))]
    found = compare(*tables, targets=[3e18])
    assert found.paths.alone and found.multipliers[-1].lower < 1.5 < found.multipliers[-1].upper
    plain = compare(*(t[["flops", "loss"]] for t in tables), targets=[3e18])
    assert mute(found.plot()) == mute(plain.plot()) == []
    assert plain.paths.alone and plain.verdict == "better"


def test_seconds_may_say_the_opposite() -> None:
    a, b = ladder(), ladder(1.5, seed=1)
    found = compare(a.assign(seconds=a.flops / 1e12), b.assign(seconds=b.flops / 5e11))
    assert found.seconds is not None and found.seconds.speed == pytest.approx(0.5)
    assert (
        found.verdict == "better"
        and found.seconds.multipliers[-1].upper < 1
        and "in seconds" in found.sentence
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(loss=t.loss / np.log(2)), "as bits are to nats"),
        (lambda t: t.assign(vocab_size=512), "vocab_size is 256 in A and 512 in B"),
        (lambda t: t.assign(heldout_hash="other"), "unlike tokenizers or held-out texts: heldout_hash"),
        (lambda t: t.assign(objective="masked"), "unlike losses: objective is not said in A and masked in B"),
        (
            lambda t: t.assign(flops=t.flops * 1e6, params=t.params * 1e3, tokens=t.tokens * 1e3),
            "no common budget",
        ),
        (lambda t: t[t.flops == t.flops.min()], "2 finished runs"),
        (lambda t: pd.concat([t[t.flops == t.flops.min()]] * 2), "one common budget"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(change, said: str) -> None:  # type: ignore[no-untyped-def]
    table = ladder().assign(vocab_size=256, heldout_hash="one")
    with pytest.raises(UserError) as error:
        compare(table, change(table))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_targets_that_are_none_are_refused() -> None:
    for target, said in ((-1.0, "positive FLOPs"), (1e10, "below the least common budget")):
        with pytest.raises(UserError, match=said):
            compare(ladder(), ladder(seed=1), targets=[target])


def test_a_recipe_at_the_others_rates_is_warned_of() -> None:
    a, b = (
        ladder(g, seed=s).assign(learning_rate=lambda t: 1 / t.params**0.5) for g, s in ((1, 0), (1.3, 1))
    )
    found = compare(a, b)
    assert found.tuned == {"a": None, "b": False}
    assert [w.code for w in found.warnings] == [Code.NOT_TUNED] and "plan=tune" in found.warnings[0].message
    own = compare(a, b.assign(learning_rate=b.learning_rate * 0.5))
    assert own.tuned["b"] is None and not own.warnings

    def swept(table: pd.DataFrame, best: float) -> pd.DataFrame:
        rates = [table.assign(learning_rate=table.learning_rate * f) for f in (0.5, 1.0, 2.0)]
        for rate, factor in zip(rates, (0.5, 1.0, 2.0), strict=True):
            rate["loss"] *= np.exp(0.03 * np.log(factor / best) ** 2)
        return pd.concat(rates, ignore_index=True)

    tuned = compare(swept(a, 1.0), swept(b, 1.0))
    assert tuned.tuned == {"a": True, "b": True} and tuned.verdict == "better"
    assert len(tuned.a.observations) == len(a)
    edge = compare(swept(a, 1.0), swept(b, 4.0))
    assert edge.tuned == {"a": True, "b": False} and "lowest or highest" in edge.warnings[0].message


def folder(path: Path, **change: str) -> Path:
    """A run folder without tasks' luck; `change` are fields of optim in every spec.json."""
    made_ladder.write_ladder(path, widths=(16, 24, 32, 48, 64), seeds=(0, 1), trunks=False)
    for spec in path.glob("*/spec.json"):
        said = json.loads(spec.read_text())
        said["optim"] |= change
        spec.write_text(json.dumps(said))
        (spec.parent / "timing.jsonl").write_text('{"flops_per_second": 1e9}\n{"flops_per_second": 3e9}\n')
    return path


def test_run_folders_say_in_what_they_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_ladder, "TASKS", {"copy": made_ladder.TASKS["copy"]})
    a, b = folder(tmp_path / "adamw"), folder(tmp_path / "muon", name="muon", b2="none")
    assert (
        main(["compare", str(a), str(b), "--json", str(tmp_path / "x.json"), "--plots", str(tmp_path)]) == 0
    )
    answer = json.loads((tmp_path / "x.json").read_text())
    assert (answer["a"], answer["b"], answer["differs"]) == ("adamw", "muon", ["optim.kind"])
    # The same law, the same seeds: the runs are the same.
    assert answer["verdict"] == "no_difference" and answer["multipliers"][0]["value"] == pytest.approx(
        1, rel=0.01
    )
    assert answer["seconds"]["speed"] == pytest.approx(1) and answer["tuned"]["b"] is False
    drawn = (tmp_path / "compare.svg").read_text()
    data = pd.read_csv(tmp_path / "compare.csv")
    for which, name in (("A", "adamw"), ("B", "muon")):
        runs = data[(data["recipe"] == which) & (data["series"] == "run")]
        told = re.findall(rf"<title>([^:<]*): [^<]*, loss [^<]*, {name}</title>", drawn)
        assert sorted(told) == sorted(runs["run_id"]) and len(told) > 5
    tasks = {t["task"]: t for t in answer["tasks"]}
    assert tasks["copy"]["lower"] < 1 < tasks["copy"]["upper"]
    assert main(["compare", str(a), str(b), "--differs", "schedule"]) == 2
    assert "do not differ in it" in capsys.readouterr().err
    tables = [load_table(path) for path in (a, b)]
    tables[1].attrs["sciences"] = {
        k: {**v, "schedule.kind": "x"} for k, v in tables[1].attrs["sciences"].items()
    }
    found = compare(*tables, differs=["optim"])
    assert found.status == "untrusted" and Code.DIFFERS_MORE in {w.code for w in found.warnings}
    tables[1].attrs["sciences"] = {
        k: {**v, "data.content_hash": "1"} for k, v in tables[1].attrs["sciences"].items()
    }
    with pytest.raises(UserError, match="unlike held-out texts"):
        compare(*tables)


@pytest.mark.slow
def test_several_recipes_are_ranked_and_false_discoveries_held() -> None:
    tables = {
        "base": ladder(),
        "more": ladder(1.6, seed=1),
        "same": ladder(seed=2),
        "less": ladder(0.7, seed=3),
    }
    found = compare_all(tables)
    assert [c.b.name for c in found.comparisons] == ["more", "same", "less"]
    assert [c.verdict for c in found.comparisons][::2] == ["better", "worse"]
    assert found.q_values[0] < 0.05 < found.q_values[1] and list(found.to_frame()["recipe"]) == [
        "more",
        "same",
        "less",
    ]
    assert found.accuracy is not None and found.accuracy.pairs == 6 and found.accuracy.laws >= 5 / 6
    answer = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [r["rank"] for r in answer["recipes"]] == [1, 2, 3]


def test_one_table_is_split_by_a_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.concat([ladder().assign(recipe="old"), ladder(1.5, seed=1).assign(recipe="new")])
    table.to_csv(tmp_path / "both.csv", index=False)
    assert main(["compare", str(tmp_path / "both.csv"), "--by", "recipe", "--target", "1e19"]) == 0
    assert capsys.readouterr().out.startswith("new is better")
    for words, said in (
        ([], "one table"),
        (["--by", "recpie"], "recpie"),
        (["x.csv", "--by", "recipe"], "besides"),
        (["--by", "recipe", "--where", "recipe == 'old'"], "one value"),
    ):
        assert main(["compare", str(tmp_path / "both.csv"), *words]) == 2
        assert said in capsys.readouterr().err
