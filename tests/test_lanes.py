"""Packs of more runs than lanes: what a lane is given, what a kill or a lack of memory leaves, what is compiled."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from launching import composed, launch, sweep_here

from lmscale import checkpoint, faults, plan, slots, sweep, train, widths, worker
from lmscale.config import PackConfig, SweepConfig
from lmscale.data import World
from lmscale.data.scan import draft_manifest
from lmscale.device import Device
from lmscale.guard import PATIENCE
from lmscale.jsonfiles import canonical
from lmscale.ledger import Ledger
from lmscale.packs import Job, outcome_path, read_pack
from lmscale.plan import make_plan
from lmscale.schedule import TRUNK
from lmscale.typed import build

TINY = (
    "tasks=none",
    "family.n_layer=1",
    "schedule=cosine",
    "horizon={tokens: 3e4, dial: 8, multiples: [0.5, 1.0]}",
    "evaluation={first_tokens: 5e3, per_doubling: 1}",
    "data.heldout_rows=8",
    "data.context=32",
    "pack.device=cpu",
    "pack.steps=4",
    "pack.checkpoint_seconds=0.01",
)


COMPILED: Counter[str] = Counter()


def note(event: str, seconds: float, **about: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED[str(about.get("fun_name"))] += 1


@pytest.fixture(autouse=True, scope="module")
def quietly_here() -> Iterator[None]:
    """This process keeps its cores and has no compilation cache; what it compiles is counted."""
    jax.monitoring.register_event_duration_secs_listener(note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
        patch.setattr(worker, "take_core", lambda *_: None)
        patch.setattr(train, "configure_jax", lambda cache: None)
        yield


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A composed configuration, of a text of its own, which is scanned at once."""
    folder = tmp_path_factory.mktemp("text")
    for document in range(60):
        words = " ".join(f"{n} is {n * n + document}," for n in range(200))
        (folder / f"{document}.txt").write_text(f"{words}\n")
    found = composed(*TINY, "data=text", f"data.files=[{folder}/*.txt]")
    return {**found, "corpora": str(folder / "corpora")}


def run(values: dict[str, Any], folder: Path, lanes: Any, fault: str = "", **changes: Any) -> int:
    """The sweep in this process, with so many lanes."""
    return sweep_here({**values, "pack": {**values["pack"], "lanes": lanes}}, folder, fault, **changes)


def results(folder: Path) -> dict[str, bytes]:
    """The records, items and outcomes, by run and name."""
    names = ("records.jsonl", "items.npz", "outcome.json")
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for name in names
        for path in folder.glob(f"smoke/*/{name}")
    }


def executions(folder: Path) -> list[dict[str, Any]]:
    return [entry["execution"] for entry in Ledger(folder / "smoke").frozen()]


@pytest.fixture(scope="module")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seeds of two horizons each: eight runs in two lanes, never disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(values, folder, 2, seed=[0, 1, 2, 3]) == 0
    return folder


@pytest.mark.slow
def test_a_run_has_the_bytes_that_it_has_in_any_lane_and_beside_any_other(
    values: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    """In a queue of eight for two lanes, and where all begin at once: the same program, other places."""
    assert [(len(found["lanes"]), found["width"]) for found in executions(whole)] == [(8, 2)]
    found = results(whole)
    assert len(found) == 24
    apart: dict[str, bytes] = {}
    for seeds in ([3], [1], [2, 0]):
        folder = tmp_path / str(seeds[0])
        assert run(values, folder, 2, seed=seeds) == 0
        apart |= results(folder)
    assert apart == found


def rates(values: dict[str, Any], count: int) -> dict[str, Any]:
    """Changes that make the sweep one of so many rates, one horizon, one seed."""
    factors = [2 ** (4 * n / count - 2) for n in range(count)]
    horizon = {**values["horizon"], "multiples": [0.5]}
    return {"plan": {**values["plan"], "kind": "tune", "factors": factors}, "horizon": horizon, "seed": [0]}


@pytest.mark.slow
def test_a_sweep_of_rates_compiles_one_step_and_says_so(
    values: dict[str, Any], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the rate, the program is that of the eight runs of `whole`; these needed one step, one evaluation,
    and what begins a run."""
    large = ("jit(run)", "jit(program)", "jit(init_lane)", "jit(in_lane)")
    before = COMPILED.copy()
    assert [before[name] for name in large] == [1, 1, 2, 1]
    assert run(values, tmp_path, 2, **rates(values, 12)) == 0
    assert before == COMPILED
    assert len(executions(tmp_path)) == 1
    assert len(results(tmp_path)) == 36
    assert "0 programs compiled, 0 read from the cache" in capsys.readouterr().out
    path = next(path for path in whole.glob("smoke/*/timing.jsonl") if path.stat().st_size)
    line = json.loads(path.read_text().splitlines()[-1])
    assert line["programs"]["compiled"] + line["programs"]["read"] <= sum(before.values())
    assert line["lanes"] == 2


@pytest.mark.slow
def test_the_step_of_the_next_pack_is_compiled_ahead(values: dict[str, Any], tmp_path: Path) -> None:
    """As a thread does on an accelerator, here after the first of two sizes: training the second compiles none."""
    folder, steps = tmp_path / "smoke", []
    values = {**values, "runs": str(tmp_path), "dial": [8, 16], "seed": [0]}
    values["horizon"] = {**values["horizon"], "multiples": [0.5]}

    def one_by_one(jobs: list[str]) -> list[Exception]:
        for name in jobs:
            before = COMPILED["jit(run)"]
            worker.train_job({**values, "job": name})
            steps.append(COMPILED["jit(run)"] - before)
            pack, context = read_pack(folder, name.removeprefix("pack_"))
            configs = canonical({"data": context["data"], "tasks": context["tasks"]})
            world = worker._world(configs, Path(context["corpora"]))
            train.prepare_next(Job(pack, PackConfig(), folder, None), world)  # type: ignore[arg-type]
        return []

    assert sweep.run([values], one_by_one) == 0
    assert steps == [1, 0]


@pytest.mark.slow
def test_256_rates_of_a_size_are_one_command_and_one_compilation(
    values: dict[str, Any], tmp_path: Path
) -> None:
    before = COMPILED.copy()
    assert run(values, tmp_path, 16, **rates(values, 256)) == 0
    assert COMPILED["jit(run)"] - before["jit(run)"] == 1
    assert sum(COMPILED.values()) - sum(before.values()) <= 12
    assert [(len(found["lanes"]), found["width"]) for found in executions(tmp_path)] == [(256, 16)]
    assert len(results(tmp_path)) == 3 * 256


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "train.refilled:2=crash",
        pytest.param(
            "train.stepped:5=crash,train.stepped:11=crash,train.refilled:4=crash,train.stepped:21=crash",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_queue_that_crashes_ends_with_the_same_bytes(
    values: dict[str, Any], whole: Path, tmp_path: Path, fault: str
) -> None:
    assert run(values, tmp_path, 2, fault, seed=[0, 1, 2, 3]) == 0
    assert results(tmp_path) == results(whole)
    assert executions(tmp_path) == executions(whole)
    assert not list(tmp_path.glob("smoke/packs/*/*.ckpt"))


@pytest.mark.slow
def test_a_run_that_diverges_gives_its_lane_to_the_next(
    values: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 1 meets nothing but bad steps from step 3 on, and its longer run gives up; the others end as ever."""
    original = World.batches

    def batches(world: World, seed: int, step: int, count: int, multiple: int = 1) -> Any:
        batch = original(world, seed, step, count, multiple)
        weight = batch.weight.copy()
        weight[np.arange(step, step + count) >= (3 if seed == 1 else 10**6)] = np.nan
        return batch._replace(weight=weight)

    monkeypatch.setattr(World, "batches", batches)
    fault = "train.stepped:20=crash"
    assert run(values, tmp_path, 2, fault, seed=[0, 1, 2, 3]) == 0
    specs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("smoke/*/spec.json")}
    found, expected = results(tmp_path), results(whole)
    ended = {name: json.loads(found[f"{name}/outcome.json"]) for name in specs}
    assert {ended[name]["step"] for name in specs if ended[name]["outcome"] == "diverged"} == {3 + PATIENCE}
    sound = {name for name in expected if specs[name.split("/")[0]]["seed"] != 1}
    assert len(sound) == 18 and {name: found[name] for name in sound} == {n: expected[n] for n in sound}


@pytest.mark.slow
def test_trunks_go_in_rounds_and_their_branches_find_their_states(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """Three trunks in two lanes. A horizon that is added later opens both rounds again."""
    wsd = {"schedule": {**values["schedule"], "kind": "wsd"}}
    longer = {**values["horizon"], "multiples": [0.5, 1.0, 1.5]}
    fault = "train.stepped:3=crash,train.stepped:9=crash"
    assert run(values, tmp_path / "rounds", 2, fault, seed=[0, 1, 2], **wsd) == 0
    assert run(values, tmp_path / "rounds", 2, fault, seed=[0, 1, 2], horizon=longer, **wsd) == 0
    together: dict[str, bytes] = results(tmp_path / "rounds")
    apart: dict[str, bytes] = {}
    for seeds in ([2, 1], [0, 3]):
        folder = tmp_path / str(seeds[0])
        assert run(values, folder, 2, seed=seeds, horizon=longer, **wsd) == 0
        apart |= results(folder)
    assert len(together) == 9 * 3 + 3 * 2  # branches; trunks, which have no items
    assert together == {name: apart[name] for name in together}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["train.step:1=ENOMEM", "train.stepped:7=ENOMEM", "train.refilled:1=ENOMEM"]
)
def test_a_pack_that_runs_out_of_memory_goes_on_with_half_the_lanes(
    values: dict[str, Any], whole: Path, tmp_path: Path, fault: str
) -> None:
    """Before its first step, after it, and when a run has ended, which stays; two lanes are those of `whole`."""
    assert run(values, tmp_path, 4, fault, seed=[0, 1, 2, 3]) == 0
    (execution,) = executions(tmp_path)
    assert execution["width"] == 2
    (kept,) = json.loads((tmp_path / widths.KEPT).read_text()).values()
    assert kept == {"most": 2}
    (row,) = Ledger(tmp_path / "smoke").status()
    assert (row.state, row.claims, row.tries) == ("finished", 2, 0)
    found, ended = results(tmp_path), executed(tmp_path, 4)
    assert bool(ended) == fault.startswith("train.refilled")
    assert found.keys() == results(whole).keys()
    assert {name: data for name, data in found.items() if name.split("/")[0] not in ended} == {
        name: data for name, data in results(whole).items() if name.split("/")[0] not in ended
    }
    # the next sweep of this shape begins with two
    assert run(values, tmp_path, 4, seed=[4, 5]) == 0
    assert [found["width"] for found in executions(tmp_path)] == [2, 2]


def executed(folder: Path, width: int) -> set[str]:
    """The runs that were trained in so many lanes."""
    paths = folder.glob("smoke/*/execution.json")
    return {path.parent.name for path in paths if json.loads(path.read_text())["width"] == width}


def test_a_kill_amid_halving_leaves_what_can_be_halved_again(tmp_path: Path) -> None:
    """Six trunks in rounds of four; the second round's pinned state goes, the first's stays."""
    config = build(SweepConfig, composed("tasks=none", "seed=[0,1,2,3,4,5]", "pack.lanes=4"))
    planned = make_plan([config], [draft_manifest(config.data, config.tasks)], "cpu")
    pack = planned.packs[0]
    assert (pack.runs[0].kind, len(pack.runs), pack.width) == (TRUNK, 6, 4)
    ledger = Ledger(tmp_path / "smoke")
    claim = ledger.claim(pack.pack_id, pack.execution)
    assert claim is not None
    claim.freeze()
    job = Job(pack, config.pack, tmp_path / "smoke", claim)
    for run in pack.runs[:4]:
        outcome_path(job, run).parent.mkdir()
        outcome_path(job, run).write_text("{}")
    at = [slots.ROUND * n + step for n, step in ((0, 8), (0, 12), (1, 8), (1, 10))]
    for number, pinned in zip(at, (True, True, True, False), strict=True):
        checkpoint.save(claim.folder, number, {}, {}, pinned=pinned)
    kept = []
    for point in ("narrow.kept", "narrow.removed", "narrow.thawed"):
        faults._plan = faults.parse(f"{point}=crash")
        faults._passed.clear()
        try:
            with pytest.raises(faults.InjectedCrash):
                widths.narrow(job, ledger, "no memory")
        finally:
            faults._plan = None
        kept.append(([step for step, _, _ in checkpoint.saved(claim.folder)], len(ledger.frozen())))
        assert widths.kept(tmp_path / widths.KEPT, widths.key_of(job.pack))["most"] == 2
    assert kept == [(at, 1), (at[:2], 1), (at[:2], 0)]
    widths.narrow(job, ledger, "no memory")
    assert ledger.status()[0].state == "released"


class TestFastest:
    """The choice among measured speeds."""

    @staticmethod
    def of(speeds: dict[int, float], most: int = 64) -> tuple[int, list[int]]:
        asked: list[int] = []

        def speed(width: int) -> float:
            asked.append(width)
            if speeds[width] == 0:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
            return speeds[width]

        return widths.fastest({}, most, speed), asked

    def test_more_lanes_are_tried_as_long_as_they_gain(self) -> None:
        assert self.of({1: 100, 4: 300, 16: 500, 64: 510}) == (64, [1, 4, 16, 64])
        assert self.of({1: 100, 4: 104}) == (4, [1, 4])
        assert self.of({1: 100, 4: 80}) == (1, [1, 4])
        assert self.of({1: 100, 4: 300, 16: 250}) == (4, [1, 4, 16])

    def test_a_number_that_does_not_fit_is_none(self) -> None:
        assert self.of({1: 100, 4: 300, 16: 0}) == (4, [1, 4, 16])
        with pytest.raises(RuntimeError):
            self.of({1: 0})

    def test_never_more_than_runs(self) -> None:
        assert self.of({1: 100, 4: 300, 6: 350}, most=6) == (6, [1, 4, 6])
        assert self.of({1: 100}, most=1) == (1, [1])

    def test_what_is_known_is_not_measured(self) -> None:
        known = {"1": 100.0, "4": 300.0, "16": 290.0}
        assert widths.fastest(known, 64, lambda width: pytest.fail("measured")) == 4


@pytest.mark.slow
def test_lanes_are_measured_once_where_a_pack_is_trained(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, with one and two lanes to compare."""
    monkeypatch.setattr(plan, "_width", lambda config, device: plan.AUTO)
    two = {"pack": {**values["pack"], "max_lanes": 2}}
    assert run({**values, **two}, tmp_path, "auto", seed=[0, 1]) == 0
    (kept,) = json.loads((tmp_path / widths.KEPT).read_text()).values()
    assert kept["speeds"].keys() == {"1", "2"} and min(kept["speeds"].values()) > 0
    best = max(kept["speeds"], key=kept["speeds"].get)
    assert [found.get("width", 2) for found in executions(tmp_path)] == [int(best)] * 2
    monkeypatch.setattr(train, "_speed", lambda *_: pytest.fail("measured again"))
    assert run({**values, **two}, tmp_path, "auto", seed=[2]) == 0
    assert len(executions(tmp_path)) == 3


@pytest.mark.slow
def test_a_queue_that_is_killed_ends_with_the_same_bytes(values: dict[str, Any], tmp_path: Path) -> None:
    """Real processes and SIGKILL: between the end of a run and the first step of the next, and amid a save."""
    files = f"data.files={values['data']['files']}"
    overrides = (*TINY, "data=text", files, "pack.lanes=2", "seed=[0,1,2]", "hydra/launcher=basic")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ended = launch(whole, Path(values["corpora"]), *overrides)
    assert ended.returncode == 0, ended.stderr
    assert "programs compiled" in ended.stdout
    shutil.copytree(whole / "runs" / ".xla", killed / "runs" / ".xla")
    for fault in ("train.refilled:1=kill", "checkpoint.synced:2=kill", "train.refilled:2=kill"):
        ended = launch(killed, Path(values["corpora"]), *overrides, LMSCALE_FAULT=fault)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    ended = launch(killed, Path(values["corpora"]), *overrides)
    assert ended.returncode == 0, ended.stderr
    assert results(killed / "runs") == results(whole / "runs")
    assert len(results(whole / "runs")) == 18
