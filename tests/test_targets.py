"""A sweep with a target: what the forecast may use trains first, the forecast is registered once, then the rest."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launching import launch

from lmscale import promise
from lmscale.config import DataConfig, HorizonConfig, ScheduleConfig, SweepConfig, TasksConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json, write_json
from lmscale.ladder import run_specs
from lmscale.ledger import Ledger
from lmscale.plan import HELD, Plan, make_plan
from lmscale.schedule import TRUNK
from lmscale.spec import write_specs
from lmscale.target import TargetConfig
from lmscale.waves import Session

pytestmark = pytest.mark.alone

MANIFEST = draft_manifest(DataConfig(), TasksConfig())
OTHER = dataclasses.replace(MANIFEST, content_hash="other")
BASE = SweepConfig(
    name="test",
    dial=(8, 16, 32),
    seed=(0, 1),
    horizon=HorizonConfig(tokens=5e5, dial=32, exponent=0.0, multiples=(0.5, 1.0)),
    schedule=ScheduleConfig(warmup_steps=10),
)


def aimed(**target: Any) -> SweepConfig:
    return dataclasses.replace(BASE, target=TargetConfig(**target))


def plan(*configs: SweepConfig) -> Plan:
    return make_plan(configs, [MANIFEST, OTHER][: len(configs)], "cpu")


def dials(plan: Plan, held: bool) -> set[int]:
    return {pack.runs[0].dial for pack in plan.packs if (pack.wave >= HELD) == held}


def test_a_target_changes_the_order_and_no_id() -> None:
    without, aims = plan(BASE), plan(aimed(dial=32))
    assert set(without.runs) == set(aims.runs)
    assert {p.pack_id for p in without.packs} == {p.pack_id for p in aims.packs}
    assert len(without.waves) == 2 and dials(without, held=True) == set()
    assert dials(aims, held=True) == {32} and dials(aims, held=False) == {8, 16}
    for pack in aims.packs:  # a branch never comes before its trunk
        assert all(run.trunk is None or pack.wave % 2 == 1 for run in pack.runs)


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (DataConfig(), True),
        (DataConfig(rows=14, heldout_rows=1024), True),
        (DataConfig(kind="packages"), False),
        (DataConfig(context=128), False),
        (DataConfig(tokenizer="bpe"), False),
        (DataConfig(markov_order=3), False),
        (DataConfig(objective="masked"), False),
        (DataConfig(clean=("dedup",)), False),
    ],
)
def test_the_floor_of_a_text_is_a_prior_for_that_text_and_these_units_alone(
    data: DataConfig, known: bool
) -> None:
    config = dataclasses.replace(aimed(dial=32, options=("--form", "auto")), data=data)
    ((_, target),) = promise.aims_of([config], [MANIFEST]).values()
    assert target.options[:2] == ("--form", "auto") and ("--floor_source" in target.options) == known
    own = dataclasses.replace(config, target=TargetConfig(dial=32, options=("--floor", "free")))
    ((_, target),) = promise.aims_of([own], [MANIFEST]).values()
    assert target.options == ("--floor", "free")


def test_what_a_forecast_may_not_use_waits_with_the_target() -> None:
    cut = plan(aimed(dial=32, cuts=(4.0, 10.0)))
    top = max(run.flops for run in cut.runs.values() if run.dial == 32)
    ends = [pack for pack in cut.packs if pack.runs[0].kind != TRUNK]
    assert {pack.wave < HELD for pack in ends} == {True, False}
    for pack in ends:
        assert (pack.wave < HELD) == (pack.runs[0].flops <= top / 4)


def test_a_ladder_without_a_target_fills_the_cores_while_another_trains_its_own() -> None:
    both = plan(aimed(dial=32), BASE)
    other = [pack for pack in both.packs if pack.runs[0].data["content_hash"] == "other"]
    assert other and all(pack.wave >= HELD for pack in other)
    two = plan(aimed(dial=32), aimed(dial=16))
    assert len(promise.aims_of([aimed(dial=32), aimed(dial=16)], [MANIFEST, OTHER])) == 2
    assert dials(two, held=True) == {32, 16}


def test_a_rung_and_a_horizon_that_the_ladder_lacks_are_added() -> None:
    added = {run.run_id: run for run in run_specs(aimed(dial=48), MANIFEST)}
    more = [run for run_id, run in added.items() if run_id not in plan(BASE).runs]
    assert [(run.kind, run.dial, run.seed) for run in more] == [("trunk", 48, 0), ("branch", 48, 0)]
    longer = [r for r in run_specs(aimed(dial=32, tokens=9e5), MANIFEST) if r.run_id not in plan(BASE).runs]
    assert [round(run.horizon_tokens or 0, -4) for run in longer] == [900_000, 900_000]  # both seeds
    near = run_specs(aimed(dial=32, tokens=4.99e5), MANIFEST)  # a horizon that a person has rounded
    assert {run.run_id for run in near} == set(plan(BASE).runs)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tokens": 1e6}, "target.tokens=1e+06: give its rung too"),
        ({"dial": 32, "tokens": -1.0}, "target.tokens"),
        ({"dial": 32, "cuts": (0.5,)}, "target.cuts"),
    ],
)
def test_a_target_that_cannot_be_is_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        TargetConfig(**values)
    with pytest.raises(UserError, match="shorter than warm-up"):
        run_specs(aimed(dial=32, tokens=100.0), MANIFEST)


# --- the order of a session, without training


class Quiet:
    """A display that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    say_once = say


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Forecasts that were asked for; `analysis` is in their place a file."""
    calls: list[tuple[str, ...]] = []

    def analysis(verb: str, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
        calls.append((verb, *options))
        cut = float(options[3]) if "--cut" in options else None
        content = {"targets": [{"run_id": options[1]}], "data": {"cut": cut}}
        (folder / "forecasts").mkdir(exist_ok=True)
        write_json(folder / "forecasts" / f"{len(calls)}.json", content)
        return subprocess.CompletedProcess([], 0, "registered", "")

    monkeypatch.setattr(promise, "_analysis", analysis)
    return calls


def session(folder: Path, config: SweepConfig, train: Callable[[Plan, str], None]) -> tuple[Session, Quiet]:
    made, display = plan(config), Quiet()
    write_specs(folder, made.runs)

    def start(jobs: list[str]) -> list[Exception]:
        for job in jobs:
            train(made, job.removeprefix("pack_"))
        return []

    aims = promise.aims_of([config], [MANIFEST])
    contexts: dict[str, Any] = {MANIFEST.content_hash: {}}
    return Session(
        folder,
        made,
        Ledger(folder),
        contexts,
        start,
        display,  # type: ignore[arg-type]
        lambda: promise.register(folder, aims, display.say) and None,
    ), display


def trainer(folder: Path, order: list[int], stop_at: int | None = None) -> Callable[[Plan, str], None]:
    """Train a pack in no time: its claim is frozen, its runs are done. The `stop_at`th is a kill."""

    def train(made: Plan, pack_id: str) -> None:
        pack = next(pack for pack in made.packs if pack.pack_id == pack_id)
        if len(order) == stop_at:
            raise KeyboardInterrupt
        order.append(pack.runs[0].dial)
        claim = Ledger(folder).claim(pack_id, pack.execution)
        assert claim is not None
        claim.freeze()
        for step in pack.pins:  # a trunk's states, from which branches start
            (folder / "packs" / pack_id / f"pinned-{step:08d}").mkdir()
        for run in pack.runs:
            write_json(folder / run.run_id / "outcome.json", {"outcome": "done", "step": 1, "tokens": 1})
        claim.finish()

    return train


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `trainer` leaves of a trunk counts as its states."""
    monkeypatch.setattr("lmscale.outcomes._missing_pins", lambda folder, pack: set())


def test_the_forecast_comes_before_the_target_and_once(tmp_path: Path, asked: list[tuple[str, ...]]) -> None:
    order: list[int] = []
    when: list[int] = []

    def train(made: Plan, pack_id: str) -> None:
        trainer(tmp_path, order)(made, pack_id)
        when.append(len(asked))

    one, _ = session(tmp_path, aimed(dial=32, cuts=(3.0, 5.0)), train)
    one.train()
    assert [call[3:5] for call in asked] == [("--cut", "3.0"), ("--cut", "5.0")]
    assert all((count == 2) for dial, count in zip(order, when, strict=True) if dial == 32)
    again, _ = session(tmp_path, aimed(dial=32, cuts=(3.0, 5.0)), train)
    again.train()
    assert len(asked) == 2


@pytest.mark.parametrize("stop_at", [3, 12, 13, 15])
def test_a_kill_between_the_stages_registers_once(
    tmp_path: Path, asked: list[tuple[str, ...]], stop_at: int
) -> None:
    """12 packs are evidence: 4 trunks and 8 branches; then come two trunks and four branches of the target."""
    order: list[int] = []
    first, _ = session(tmp_path, aimed(dial=32), trainer(tmp_path, order, stop_at))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert len(asked) == (1 if stop_at >= 12 else 0)
    second, display = session(tmp_path, aimed(dial=32), trainer(tmp_path, order))
    second.train()
    assert len(asked) == 1 and len(order) == 18 and order.index(32) == 12
    assert not any("late" in said for said in display.said)


def test_a_target_that_has_begun_gets_no_forecast(tmp_path: Path, asked: list[tuple[str, ...]]) -> None:
    first, _ = session(tmp_path, BASE, trainer(tmp_path, []))
    first.train()
    second, display = session(tmp_path, aimed(dial=32), trainer(tmp_path, []))
    second.train()
    assert not asked and any("would be late" in said for said in display.said)


def test_a_forecast_that_cannot_be_made_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = subprocess.CompletedProcess([], 2, "", "analysis: too few rows\n")
    monkeypatch.setattr(promise, "_analysis", lambda *words: refused)
    order: list[int] = []
    one, display = session(tmp_path, aimed(dial=32), trainer(tmp_path, order))
    one.train()
    assert 32 in order and display.said == ["no forecast of dial 32 at 499,968 tokens: too few rows"]


# --- the targets of forecasts that stand in a folder


def _forecast(folder: Path, **target: Any) -> None:
    (folder / "forecasts").mkdir(exist_ok=True)
    write_json(folder / "forecasts" / "a.json", {"targets": [target], "data": {}})


def test_the_run_of_a_forecast_is_trained_as_it_was_planned(tmp_path: Path) -> None:
    specs = {run.run_id: run for run in run_specs(aimed(dial=48), MANIFEST)}
    write_specs(tmp_path, specs)
    (run_id,) = promise.aims_of([aimed(dial=48)], [MANIFEST])
    _forecast(tmp_path, run_id=run_id)
    found = promise.targets_to_train(tmp_path, [BASE], [MANIFEST])
    assert [run.run_id for run in found] == [specs[run_id].trunk, run_id]
    assert set(plan(BASE).runs) | {run.run_id for run in found} == set(
        make_plan([BASE], [MANIFEST], "cpu", besides=found).runs
    )
    with pytest.raises(UserError, match="planned on another corpus"):
        promise.targets_to_train(tmp_path, [BASE], [OTHER])


def test_a_size_or_a_budget_is_the_rung_that_has_it(tmp_path: Path) -> None:
    write_specs(tmp_path, plan(BASE).runs)
    like = next(iter(plan(BASE).runs))
    params = {run.dial: sum(run.params.values()) for run in plan(BASE).runs.values()}
    _forecast(tmp_path, like=like, params=params[32], tokens=7e5, flops=1.0, from_budget=False)
    other = dataclasses.replace(BASE, seed=(9,))  # the ladder of another corpus
    *_, run = promise.targets_to_train(tmp_path, [other, BASE], [OTHER, MANIFEST])
    assert run.dial == 32 and run.seed == 0 and run.horizon_tokens == pytest.approx(7e5, rel=0.002)
    _forecast(tmp_path, like=like, params=1.04 * params[32], tokens=1.0, flops=3e11, from_budget=True)
    *_, run = promise.targets_to_train(tmp_path, [BASE], [MANIFEST])
    assert run.dial == 32 and run.flops == pytest.approx(3e11, rel=0.002)
    _forecast(tmp_path, like=like, params=1.04 * params[32], tokens=7e5, flops=1.0, from_budget=False)
    with pytest.raises(UserError, match="a ladder on another corpus"):
        promise.targets_to_train(tmp_path, [BASE], [OTHER])
    with pytest.raises(UserError, match="no rung of this family has them: the nearest, dial 32"):
        promise.targets_to_train(tmp_path, [BASE], [MANIFEST])


@pytest.mark.parametrize("target", [{}, {"run_id": 3}, {"like": "x", "params": "many"}])
def test_nothing_registered_is_one_line(tmp_path: Path, target: dict[str, Any]) -> None:
    (tmp_path / "x").mkdir()
    write_json(tmp_path / "x" / "spec.json", {"data": {"content_hash": MANIFEST.content_hash}})
    _forecast(tmp_path, **target)  # edited by hand; `analysis verify` says so
    with pytest.raises(UserError, match="no forecast is registered there"):
        promise.targets_to_train(tmp_path, [BASE], [MANIFEST])


# --- the application


def test_the_actions_without_a_target_or_runs_are_one_line(tmp_path: Path, corpora: Path) -> None:
    for overrides, said in (
        (("action=forecast",), "target.dial=null: name the rung"),
        (("action=forecast", "target.dial=16"), "nothing has been trained there to forecast from"),
        (("action=verify",), "no forecast is registered there"),
        (("target.dail=16",), "target.dail"),
    ):
        ended = launch(tmp_path, corpora, *overrides)
        assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and said in ended.stderr
    assert not (tmp_path / "runs" / "smoke" / "forecasts").exists()


@pytest.mark.slow
def test_a_sweep_registers_trains_its_target_and_is_scored(tmp_path: Path, corpora: Path) -> None:
    ladder = ("dial=[8,16,24]", "horizon.multiples=[0.5,0.75,1.0]", "horizon.exponent=0", "tasks=none")
    swept = launch(tmp_path, corpora, *ladder, "target.dial=24")
    assert swept.returncode == 0, swept.stderr
    folder = tmp_path / "runs" / "smoke"
    (path,) = (folder / "forecasts").glob("*.json")
    said = json.loads(path.read_text())
    assert said["targets"][0]["dial"] == 24 and len(said["data"]["rows"]) == 6
    frozen = [read_json(entry) for entry in sorted((folder / "frozen").glob("*.json"))]
    dial = {run.parent.name: read_json(run)["dial"] for run in folder.glob("*/spec.json")}
    for entry in frozen:
        before = entry["frozen_at"].replace("+00:00", "Z") < said["registered_at"]
        assert before == (dial[entry["execution"]["lanes"][0]] != 24)
    made = launch(tmp_path, corpora, *ladder, "action=forecast", "target.dial=32")
    assert made.returncode == 0 and "registered" in made.stdout, made.stderr
    verified = launch(tmp_path, corpora, *ladder, "action=verify")
    assert verified.returncode == 0, verified.stderr
    assert "registered: 2 forecasts" in verified.stdout
    late = launch(tmp_path, corpora, *ladder, "action=forecast", "target.dial=16", "target.tokens=2e4")
    assert late.returncode == 2 and "would be late" in late.stderr
