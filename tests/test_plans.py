"""Plans: budgets and ratios are hit by exact count, files of `analysis` are read, and a refusal is one line."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import composed

import analysis
from lmscale import sweep
from lmscale.candidates import candidates
from lmscale.config import HorizonConfig, PackConfig, ScheduleConfig, SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.device import Device
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.ladder import chosen, run_specs
from lmscale.plan import Plan, make_plan
from lmscale.plans.config import PlanConfig
from lmscale.schedule import BRANCH, TRUNK
from lmscale.spec import RunSpec
from lmscale.transfer import TransferConfig

BASE = SweepConfig(
    name="test",
    dial=(8, 16, 32, 64),
    seed=(0, 1),
    horizon=HorizonConfig(tokens=1e6, dial=16, exponent=0.0, multiples=(0.25, 1.0)),
    schedule=ScheduleConfig(warmup_steps=10),
)
MANIFEST = dataclasses.replace(draft_manifest(BASE.data, BASE.tasks), sources={"scanned": True})


def change(**fields: Any) -> SweepConfig:
    return dataclasses.replace(BASE, **fields)


def planned(**fields: Any) -> SweepConfig:
    return change(plan=PlanConfig(**fields))


def ends(config: SweepConfig) -> list[RunSpec]:
    return [spec for spec in run_specs(config, MANIFEST) if spec.kind != TRUNK]


def plan(config: SweepConfig, device: str = "cpu") -> Plan:
    return make_plan([config], [MANIFEST], device)


def exact_flops(spec: RunSpec) -> float:
    """C of a whole run, counted here from its products: qkv, scores and mix, out, mlp; then the logits."""
    d, layers, context = spec.shape.d_model, spec.shape.n_layer, spec.shape.context
    block = 3 * d * d + 2 * context * d + d * d + 2 * 4 * d * d
    return 3 * 2 * (layers * block + d * spec.shape.vocab_size) * (spec.horizon_tokens or 0)


@given(st.lists(st.floats(1e9, 1e15), min_size=1, max_size=3, unique=True))
@settings(max_examples=40, deadline=None)
def test_every_isoflop_run_has_its_budget_and_every_other_is_named(budgets: list[float]) -> None:
    config = change(plan=PlanConfig(kind="isoflop", budgets=tuple(budgets)), seed=(0,))
    try:
        found = chosen(config, MANIFEST)
    except UserError as error:
        assert "no rung can be trained so" in str(error)
        return
    steps = sum(len(point.steps) for point in found.points)
    close = [budget for budget in budgets for other in budgets if 1 < budget / other < 1.02]
    assert close or steps + len(found.left_out) == len(budgets) * len(config.dial)
    for spec in ends(config):
        assert min(abs(exact_flops(spec) / budget - 1) for budget in budgets) <= 0.01


def test_whole_steps_that_miss_a_budget_are_named() -> None:
    rung = chosen(planned(kind="ratio", tokens_per_param=200.0), MANIFEST).points[1].rung
    config = planned(kind="isoflop", budgets=(20.4 * rung.flops_per_step,))
    found = chosen(dataclasses.replace(config, dial=(8, 16)), MANIFEST)
    assert [point.rung.dial for point in found.points] == [8]
    assert "dial 16 would take 20.4 steps, and whole ones miss that by 2.0%" in found.left_out[0]


def test_an_isoflop_plan_of_a_rung_is_one_trunk_with_a_branch_a_budget() -> None:
    runs = run_specs(planned(kind="isoflop", budgets=(1e11, 4e11, 1.6e12)), MANIFEST)
    kinds = [spec.kind for spec in runs if spec.dial == 16]
    assert kinds.count(TRUNK) == 2 and kinds.count(BRANCH) == 6


@pytest.mark.parametrize(
    ("convention", "count"),
    [
        # two blocks of 12 d^2, the norms of residual stream, queries and keys; two embeddings
        ("params_nonembedding", lambda d, v: 24 * d * d + 5 * d + 4 * d // 4),
        ("params", lambda d, v: 24 * d * d + 5 * d + 4 * d // 4 + 2 * v * d),
        ("params_matmul", lambda d, v: 24 * d * d + v * d),
    ],
)
def test_a_ratio_is_of_the_named_convention(convention: str, count: Any) -> None:
    found = ends(planned(kind="ratio", tokens_per_param=200.0, params=convention))
    assert {spec.dial for spec in found} == set(BASE.dial)
    for spec in found:
        assert spec.horizon_tokens == pytest.approx(200 * count(spec.dial, MANIFEST.vocab_size), rel=0.01)


def test_tuning_surrounds_the_rule_and_holds_its_runs() -> None:
    config = planned(kind="tune", factors=(0.5, 1.0, 4.0), batches=(1, 2))
    found, grid = plan(config).runs, plan(BASE).runs
    assert set(grid) < set(found)
    for dial in BASE.dial:
        rule = {spec.learning_rate for spec in grid.values() if spec.dial == dial}
        assert len(rule) == 1
        rates = {spec.learning_rate for spec in found.values() if spec.dial == dial}
        assert sorted(rates) == pytest.approx([factor * min(rule) for factor in (0.5, 1, 4)])
    assert (
        sum(spec.kind != TRUNK for spec in found.values()) == 4 * 2 * 2 * 3 * 2
    )  # dial seed horizon rate batch
    together = plan(dataclasses.replace(config, pack=PackConfig(lanes=64)), "gpu")
    assert len(together.packs) == 4 * 2 * 2  # a program a rung, batch and kind: rates are traced


def test_tuning_goes_above_the_cap() -> None:
    config = change(plan=PlanConfig(kind="tune", factors=(1.0, 2.0)), transfer=TransferConfig(rate_cap=0.01))
    assert {spec.learning_rate for spec in run_specs(config, MANIFEST) if spec.dial == 8} == {0.01, 0.02}


# A law of these sizes, with an optimum inside the family.
LAW = {"E": 1.0, "A": 60.0, "B": 400.0, "alpha": 0.4, "beta": 0.35}


def fitted(folder: Path, **other: Any) -> str:
    path = folder / "fit.json"
    path.write_text(json.dumps({"form": "chinchilla", "params": LAW, "status": "ok", **other}))
    return str(path)


@pytest.mark.parametrize("budget", [3e11, 1e13, 1e16])
def test_the_optimum_of_a_fit_is_that_of_every_width_tried(tmp_path: Path, budget: float) -> None:
    # one head: any even width is a rung; 512 of context: scores that cost far more than the embedding saves
    family, manifest = FamilyConfig(n_head=1), dataclasses.replace(MANIFEST, context=512)
    config = change(plan=PlanConfig(kind="from_fit", fit=fitted(tmp_path), budget=budget), family=family)
    first, second = (spec for spec in run_specs(config, manifest) if spec.kind != TRUNK)
    assert exact_flops(first) == pytest.approx(budget, rel=0.01)
    assert {first.seed, second.seed} == {0, 1} and first.dial == second.dial

    def loss(dial: int) -> float:
        shape = shape_of(family, dial, context=512, vocab_size=MANIFEST.vocab_size)
        n = 24 * dial**2 + 2 * MANIFEST.vocab_size * dial
        one = dataclasses.replace(first, shape=shape, horizon_tokens=1)
        d = budget / exact_flops(one)
        return LAW["E"] + LAW["A"] * n ** -LAW["alpha"] + LAW["B"] * d ** -LAW["beta"]

    best = min(range(2, 8 * first.dial, 2), key=loss)
    assert abs(best - first.dial) <= max(2, 0.02 * best)


def test_what_analysis_fits_and_extrapolates_can_be_planned(tmp_path: Path) -> None:
    """The JSON of the other side, as it writes it today."""
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(5e3, 2e5, 6), np.geomspace(5e5, 5e7, 5)))
    loss = LAW["E"] + LAW["A"] * n ** -LAW["alpha"] + LAW["B"] * d ** -LAW["beta"]
    noise = 1 + 0.001 * np.random.default_rng(0).standard_normal(len(n))
    table = pd.DataFrame({"params": n, "tokens": d, "loss": loss * noise})
    fit = analysis.fit(table, form="chinchilla", bootstrap=20)
    budget = 1e13
    wide = []
    for name, answer in (("fit", fit), ("forecast", analysis.extrapolate(fit, budgets=[budget]))):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(answer.to_json()))
        config = planned(kind="from_fit", fit=str(path), budget=budget)
        (spec, _) = ends(config)
        assert exact_flops(spec) == pytest.approx(budget, rel=0.01)
        wide.append(spec.dial)
    # 6ND, which splits the extrapolation's budget, is not the family's cost: near, not the same
    assert 0.5 < wide[0] / wide[1] < 2


def test_a_design_of_our_candidates_trains_the_runs_of_their_grid(tmp_path: Path) -> None:
    grid = plan(BASE)
    listed = candidates(grid, {})["candidates"]
    assert [(c["dial"], c["tokens"]) for c in listed] == sorted(
        {(s.dial, s.horizon_tokens) for s in ends(BASE)}
    )
    for c in listed:
        (spec, *_) = [s for s in ends(BASE) if (s.dial, s.horizon_tokens) == (c["dial"], c["tokens"])]
        assert c["flops"] == exact_flops(spec) and c["params"] == sum(spec.params.values())
        assert c["seconds"] is None
    keys = ("dial", "params", "tokens", "flops")
    runs = [{**{k: listed[i][k] for k in keys}, "seeds": seeds} for i, seeds in ((0, 1), (5, 2), (5, [7]))]
    path = tmp_path / "design.json"
    path.write_text(json.dumps({"runs": runs, "width_before": 0.2, "width_after": 0.1, "stop": False}))
    found = ends(planned(kind="design", file=str(path)))
    assert [(s.dial, s.seed) for s in found] == [(8, 0), (32, 0), (32, 1), (32, 7)]
    assert {s.run_id for s in found[:3]} <= set(grid.runs)


def test_seconds_of_candidates_are_those_of_measured_speeds() -> None:
    from lmscale.speeds import speed_key

    found = plan(BASE)
    speeds = {speed_key(pack): 1000.0 for pack in found.packs if pack.runs[0].dial == 16}
    seconds = {(c["dial"], c["tokens"]): c["seconds"] for c in candidates(found, speeds)["candidates"]}
    assert {d for (d, _), s in seconds.items() if s is not None} == {16}
    assert all(s == d / 1000 for (dial, d), s in seconds.items() if dial == 16)


def test_a_rate_of_the_horizon_gives_each_a_trunk_and_no_default_moves() -> None:
    still = change(transfer=TransferConfig(horizon_exponent=0.0, horizon_reference=1e3))
    assert set(plan(still).runs) == set(plan(BASE).runs)
    falling = change(transfer=TransferConfig(horizon_exponent=0.25, horizon_reference=1e6))
    runs = [spec for spec in run_specs(falling, MANIFEST) if spec.dial == 16 and spec.seed == 0]
    assert [spec.kind for spec in runs] == [TRUNK, BRANCH, TRUNK, BRANCH]
    short, long = runs[1], runs[3]
    assert short.trunk == runs[0].run_id and long.trunk == runs[2].run_id
    ratio = long.horizon_tokens / short.horizon_tokens  # type: ignore[operator]
    assert short.learning_rate / long.learning_rate == pytest.approx(ratio**0.25)
    assert long.learning_rate == pytest.approx(0.3 / 16, rel=1e-3)
    capped = dataclasses.replace(falling, transfer=dataclasses.replace(falling.transfer, rate_cap=1e-4))
    kinds = [spec.kind for spec in run_specs(capped, MANIFEST) if spec.dial == 16 and spec.seed == 0]
    assert kinds == [TRUNK, BRANCH, BRANCH]  # one rate again, one trunk


def test_what_trunks_of_ones_own_cost_is_said() -> None:
    """Horizons D and D/4: a shared trunk saves the short one's constant part, .8 D/4 of .8 D + .2 (D + D/4)."""
    config = change(transfer=TransferConfig(horizon_exponent=0.25))
    asked = sweep.Sweep((config,), (MANIFEST,), Path("none"), Device("cpu"))
    said = sweep.own_trunks(asked, plan(config))
    assert f"{1.25 / (0.8 + 0.2 * 1.25):.2f} times" in said


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "gird"}, "plan.kind=gird: no such kind; did you mean grid?"),
    ({"kind": "isoflop"}, "plan.budgets=[]: give at least one"),
    ({"kind": "isoflop", "budgets": [-1.0]}, "plan.budgets=-1.0: must be above 0"),
    ({"kind": "isoflop", "budgets": [1e12, 1e12]}, "a value stands twice"),
    ({"kind": "isoflop", "budgets": [1e3]}, "no rung can be trained so, the shortest run takes"),
    ({"kind": "isoflop", "budgets": [1e40]}, "no rung can be trained so"),
    ({"budgets": [1e12]}, "plan.budgets=[1000000000000.0]: plan=grid does not read it, but plan=isoflop"),
    ({"kind": "ratio", "tokens_per_param": 0}, "plan.tokens_per_param=0.0: must be above 0"),
    ({"kind": "ratio", "tokens_per_param": 1e-3}, "leave no room for warm-up and decay"),
    (
        {"kind": "ratio", "params": "active"},
        "plan.params=active: no such params; there are params, params_non",
    ),
    ({"kind": "tune", "factors": []}, "plan.factors=[]: give at least one"),
    ({"kind": "tune", "factors": [0.0]}, "plan.factors=0.0: must be above 0"),
    ({"kind": "tune", "factors": [1e30]}, "plan.factors=1e+30: must be at most"),
    ({"kind": "tune", "batches": [0]}, "plan.batches=0: must be above 0"),
    ({"kind": "tune", "batches": [1.5]}, "plan.batches[0]=1.5: must be a whole number"),
    ({"kind": "tune", "batches": [4096]}, "shorter than warm-up"),
    ({"kind": "from_fit"}, "plan.budget=null: give the FLOPs"),
    ({"kind": "from_fit", "budget": 1e12}, "plan.fit=null: give the file"),
    ({"kind": "from_fit", "budget": 1e12, "fit": "gone.json"}, "plan.fit=gone.json: No such file"),
    ({"kind": "from_fit", "budget": 1e12, "fit": "text.json"}, "it is no JSON object"),
    ({"kind": "from_fit", "budget": 1e12, "fit": "list.json"}, "it is no JSON object"),
    ({"kind": "from_fit", "budget": 1e12, "fit": "empty.json"}, "it has no form and params"),
    ({"kind": "from_fit", "budget": 1e12, "fit": "lacks.json"}, "its law chinchilla has no parameter 'beta'"),
    (
        {"kind": "from_fit", "budget": 1e12, "fit": "words.json"},
        "params: alpha=high: it must be a number above 0",
    ),
    ({"kind": "from_fit", "budget": 1e12, "fit": "farseer.json"}, "extrapolate --budget FLOPS --json"),
    (
        {"kind": "from_fit", "budget": 1e12, "fit": "other.json"},
        "none of its predictions is of params at 1e+12",
    ),
    ({"kind": "from_fit", "budget": 10.0, "fit": "good.json"}, "the smallest run, dial 8 for"),
    ({"kind": "from_fit", "budget": 1e12, "fit": "."}, "plan.fit=.: Is a directory"),
    ({"kind": "design"}, "plan.file=null: give the file"),
    ({"kind": "design", "file": "good.json"}, "it has no list of runs"),
    ({"kind": "design", "file": "stop.json"}, "it holds no run: narrow enough"),
    ({"kind": "design", "file": "dial.json"}, "runs[0]: dial=9: d_model 9 is not divisible"),
    ({"kind": "design", "file": "tokens.json"}, "runs[0]: tokens=None: it must be a number above 0"),
    ({"kind": "design", "file": "short.json"}, "runs[0]: dial 8 would take 0 steps"),
    ({"kind": "design", "file": "seeds.json"}, "runs[0]: seeds=3: the sweep has only 1"),
]
FILES: dict[str, Any] = {
    "list": [1],
    "empty": {},
    "good": {"form": "chinchilla", "params": LAW},
    "lacks": {"form": "chinchilla", "params": {k: v for k, v in LAW.items() if k != "beta"}},
    "words": {"form": "chinchilla", "params": {**LAW, "alpha": "high"}},
    "farseer": {"form": "farseer", "params": LAW},
    "other": {"form": "chinchilla", "predictions": [{"params": 1e5, "flops": 1e15}, {"params": None}]},
    "stop": {"runs": [], "stop": True, "why": "narrow enough"},
    "dial": {"runs": [{"dial": 9, "tokens": 1e6, "seeds": 1}]},
    "tokens": {"runs": [{"dial": 8, "seeds": 1}]},
    "short": {"runs": [{"dial": 8, "tokens": 100, "seeds": 1}]},
    "seeds": {"runs": [{"dial": 8, "tokens": 1e5, "seeds": 3}]},
}


@pytest.fixture(scope="module")
def smoke() -> dict[str, Any]:
    return {key: value for key, value in composed().items() if key != "hydra"}


@pytest.mark.parametrize(("fields", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_a_plan_that_cannot_be_is_one_line_before_anything_is_written(
    smoke: dict[str, Any], fields: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in FILES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "text.json").write_text("form: chinchilla")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        sweep.run([{**smoke, "plan": {**smoke["plan"], **fields}}], lambda jobs: [])
    assert said in str(error.value) and "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_design_for_another_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    path.write_text(json.dumps({"runs": [{"dial": 8, "params": 999, "tokens": 1e6, "seeds": 1}]}))
    with pytest.raises(UserError, match=r"runs\[0\]: params=999, but dial 8 has .* action=candidates"):
        run_specs(planned(kind="design", file=str(path)), MANIFEST)


@pytest.mark.parametrize(("p", "said"), [(3.0, "must lie between -2 and 2"), (-2.0, "between")])
def test_an_exponent_beyond_sense_is_refused(p: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        TransferConfig(horizon_exponent=p)
