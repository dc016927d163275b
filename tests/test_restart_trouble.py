"""What goes wrong inside a sweep: crashes, a full disk, damage, poisoned steps. In one process, so that what is
compiled stays; `test_restart` has the kills."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from launching import sweep_here, without_clock
from omegaconf import OmegaConf

from lmscale import checkpoint, compiled, programs, results, stopping, sweep, train, worker
from lmscale.data import World
from lmscale.device import Device
from lmscale.durable import DiskError
from lmscale.errors import UserError
from lmscale.guard import PATIENCE
from lmscale.ledger import Ledger
from lmscale.plan import versions
from lmscale.spec import short_hash

pytestmark = pytest.mark.alone

OVERRIDES = [
    "experiment=smoke",
    "dial=[8]",
    "horizon={tokens: 9e4, dial: 8, multiples: [0.6, 1.0]}",
    "schedule.warmup_steps=5",
    "evaluation={first_tokens: 5e3, per_doubling: 2}",
    "data.heldout_rows=8",
    "tasks.items=20",
    "pack.device=cpu",
    "pack.steps=4",
    "pack.checkpoint_seconds=0.01",
]


@pytest.fixture(scope="module")
def values(corpora: Path) -> dict[str, Any]:
    """A composed configuration, as the application gets it."""
    with initialize_config_module("sweeps", version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", OVERRIDES), resolve=True)
    assert isinstance(composed, dict)
    return {**composed, "corpora": str(corpora)}


@pytest.fixture(autouse=True)
def quietly_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process keeps its cores and its compilation cache, and has asked jax."""
    monkeypatch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
    monkeypatch.setattr(worker, "take_core", lambda count: None)
    monkeypatch.setattr(train, "configure_jax", lambda cache: None)


def content(folder: Path) -> dict[str, bytes]:
    experiment = folder / "smoke"
    left_out = ("log.txt", "timing.jsonl", "pack.json")
    return {
        str(path.relative_to(experiment)): without_clock(path)
        for path in sorted(experiment.rglob("*"))
        if path.is_file() and path.name not in left_out and "claims" not in path.parts
    }


@pytest.fixture(scope="module")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a sweep without trouble leaves."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "take_core", lambda count: None)
        patch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
        patch.setattr(train, "configure_jax", lambda cache: None)
        assert sweep_here(values, folder) == 0
    return content(folder)


def test_what_keeps_crashing_is_parked_with_its_log_and_tried_again_on_demand(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    pack = {**values["pack"], "tries": 2}
    assert sweep_here(values, tmp_path, "train.stepped:*=crash", pack=pack) == 1
    said = capfd.readouterr().err
    assert "InjectedCrash" in said and "parked" in said and "log.txt" in said and "retry=true" in said
    outcomes = [json.loads(path.read_text()) for path in tmp_path.glob("smoke/*/outcome.json")]
    assert [outcome["outcome"] for outcome in outcomes] == ["failed"] * 3
    (tail,) = [outcome["log_tail"] for outcome in outcomes if "log_tail" in outcome]
    assert "Traceback" in tail and "injected at train.stepped" in tail
    assert sweep_here(values, tmp_path, pack=pack) == 1  # still parked, still said
    assert sweep_here(values, tmp_path, pack=pack, retry=True) == 0
    assert content(tmp_path) == whole


def test_a_crash_now_and_then_costs_nothing_but_time(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    assert (
        sweep_here(values, tmp_path, "train.stepped:5=crash,record.appended:9=crash,items.synced=crash") == 0
    )
    assert content(tmp_path) == whole


class FailsLater:
    """A kept step that runs a few times and then no more, which may show only where its answer is waited for."""

    def __init__(self, step: Any, calls: int) -> None:
        self.step, self.left = step, calls

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise jax.errors.JaxRuntimeError("NOT_FOUND: Function convert_sine_fusion not found")
        return self.step(*arguments)


@pytest.mark.parametrize("calls", [1, 9])
def test_a_kept_step_that_fails_later_is_no_failure_of_the_pack(
    values: dict[str, Any],
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    """One call is the trial: what follows fails at the first step, or amid the run. The claim goes on."""
    kept_by: dict[Any, compiled.KeptFunction] = {}
    original = programs._program

    def afresh(*what: Any) -> compiled.KeptFunction:
        old = original(*what)  # its step is compiled already
        new = compiled.KeptFunction(old._jitted, old._made_from, old._returns, old._shorten)
        return kept_by.setdefault(what, new)

    path = tmp_path / "step.program"
    path.write_bytes(b"kept")
    monkeypatch.setattr(programs, "_program", afresh)
    monkeypatch.setattr(compiled, "key", lambda *_: "step")
    monkeypatch.setattr(
        compiled, "_unpack", lambda *_: FailsLater(next(iter(kept_by.values()))._jitted, calls)
    )
    before = jax.config.values[compiled._CACHE]
    jax.config.update(compiled._CACHE, str(tmp_path))
    try:
        assert sweep_here(values, tmp_path / "runs", pack={**values["pack"], "tries": 1}) == 0
    finally:
        jax.config.update(compiled._CACHE, before)
    assert not path.exists()
    assert content(tmp_path / "runs") == whole
    assert [row.claims for row in Ledger(tmp_path / "runs" / "smoke").status()] == [1, 1, 1]
    logs = [log.read_text() for log in tmp_path.glob("runs/smoke/packs/*/log.txt")]
    assert ["goes on with its step compiled again" in log for log in logs].count(True) == 1


def test_what_a_pack_had_no_time_to_remove_is_removed_by_the_next_start(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Its runs have their outcomes, so that nobody will train it again."""
    assert sweep_here(values, tmp_path, "train.finished:*=crash") == 0
    left = set(content(tmp_path)) - set(whole)
    assert left and all(name.endswith(".ckpt") for name in left)
    assert sweep_here(values, tmp_path) == 0
    assert content(tmp_path) == whole


def test_a_long_evaluation_gives_way_to_a_stop(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves no record and no checkpoint of its step; the next start comes to it again."""
    monkeypatch.setattr(results, "GRACE", 0.0)
    monkeypatch.setattr(stopping, "_asked", None)  # what follows is undone with the test
    with pytest.raises(KeyboardInterrupt):
        sweep_here(values, tmp_path, "evaluation.piece:3=terminate")
    assert [row.state for row in Ledger(tmp_path / "smoke").status()] == ["released"]
    assert "amid an evaluation" in next(tmp_path.glob("smoke/packs/*/claims/*")).read_text()
    stopping._asked = None
    assert sweep_here(values, tmp_path) == 0
    assert content(tmp_path) == whole


@pytest.mark.parametrize(
    "point", ["checkpoint.written:3", "record.half:4", "json.written:9", "items.written", "model.written:2"]
)
def test_a_full_disk_ends_the_sweep_with_its_sentence(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path, point: str
) -> None:
    with pytest.raises(UserError, match=r"No space left on device; .*free some space"):
        sweep_here(values, tmp_path, f"{point}=ENOSPC")
    assert sweep_here(values, tmp_path) == 0
    assert content(tmp_path) == whole


def test_a_disk_that_stays_full_is_blamed_for_what_it_stopped(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskError("cannot write speeds.json: No space left on device")

    monkeypatch.setattr("lmscale.speeds.record_speeds", full)
    with pytest.raises(UserError, match=r"cannot write .*\.ckpt: No space left"):
        sweep_here(values, tmp_path, "checkpoint.written:3=ENOSPC")


def test_a_damaged_checkpoint_is_set_aside_and_said(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(UserError):
        sweep_here(values, tmp_path, "checkpoint.written:6=ENOSPC")
    (pack,) = {path.parent for path in tmp_path.glob("smoke/packs/*/*.ckpt")}
    newest = max(pack.glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert sweep_here(values, tmp_path) == 0
    assert f"checkpoint {newest} set aside" in capfd.readouterr().err
    newest.with_name(newest.name + ".bad").unlink()
    assert content(tmp_path) == whole


def test_a_damaged_pin_is_made_again_by_the_trunk(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    assert sweep_here(values, tmp_path) == 0
    branch = next(path.parent for path in tmp_path.glob("smoke/*/items.npz"))
    start = json.loads((branch / "spec.json").read_text())["decay_start"]
    (pin,) = tmp_path.glob(f"smoke/packs/*/step-{start:012d}.pinned.ckpt")
    pin.write_bytes(pin.read_bytes()[:1000])
    shutil.rmtree(branch)
    with pytest.raises(UserError, match=r"no checkpoint of trunk .* start the sweep again"):
        sweep_here(values, tmp_path)
    assert sweep_here(values, tmp_path) == 0
    pin.with_name(pin.name + ".bad").unlink()
    assert content(tmp_path) == whole


def test_a_deleted_run_is_trained_again_and_changed_tokens_are_refused(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    assert sweep_here(values, tmp_path) == 0
    shutil.rmtree(next(path.parent for path in tmp_path.glob("smoke/*/items.npz")))
    corpora = tmp_path / "corpora"
    shutil.copytree(values["corpora"], corpora)
    for tokens in corpora.glob("*/train.bin"):  # other tests' texts are there too
        content_before = tokens.read_bytes()
        tokens.write_bytes(bytes([content_before[0] ^ 1]) + content_before[1:])
    with pytest.raises(UserError, match=r"train\.bin has changed since it was scanned"):
        sweep_here(values, tmp_path, corpora=str(corpora))
    assert sweep_here(values, tmp_path) == 0
    assert content(tmp_path) == whole


def test_what_began_with_one_version_goes_on_with_no_other(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError):
        sweep_here(values, tmp_path, "checkpoint.written:4=ENOSPC")
    monkeypatch.setitem(versions(), "jax", "0.1.0")
    with pytest.raises(
        UserError, match=r"was begun or planned with jax [0-9.]+, here 0\.1\.0: .* retry=true"
    ):
        sweep_here(values, tmp_path)
    assert sweep_here(values, tmp_path, retry=True) == 0
    executions = [json.loads(path.read_text()) for path in tmp_path.glob("smoke/*/execution.json")]
    assert {execution["versions"]["jax"] for execution in executions} == {"0.1.0"}
    assert sweep_here(values, tmp_path) == 0


def test_what_began_with_deterministic_operations_does_not_go_on_without_them(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag is a GPU's; it is kept and compared on any device."""
    with monkeypatch.context() as flagged:
        flagged.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true")
        versions.cache_clear()
        with pytest.raises(UserError):
            sweep_here(values, tmp_path, "checkpoint.written:4=ENOSPC")
    versions.cache_clear()
    with pytest.raises(UserError, match=r"xla_gpu_deterministic_ops true, here unset: .* retry=true"):
        sweep_here(values, tmp_path)


def freeze_for(values: dict[str, Any], folder: Path, device: str, with_state: bool) -> str:
    """Leave the folder as a sweep does that began its trunk for another device."""
    with pytest.raises(UserError):
        sweep_here(values, folder, "checkpoint.written:4=ENOSPC")
    (entry,) = Ledger(folder / "smoke").frozen()
    Ledger(folder / "smoke").thaw(entry["pack_id"])
    for state in folder.glob("smoke/packs/*/*.ckpt"):
        state.unlink()
    execution = entry["execution"] | {"device": device, "precision": "bfloat16"}
    claim = Ledger(folder / "smoke").claim(short_hash(execution), execution)
    assert claim is not None
    claim.freeze()
    if with_state:
        checkpoint.save(claim.folder, 1, {}, {}, fence=claim)
    claim.release()
    return claim.pack_id


def test_a_folder_that_was_frozen_for_a_device_nobody_has_is_used_again(
    values: dict[str, Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """As older versions left it on a machine with a card that jax could not use: no state depends on it."""
    freeze_for(values, tmp_path, "gpu", with_state=False)
    assert sweep_here(values, tmp_path) == 0
    now = content(tmp_path)
    assert {name: now[name] for name in whole if "frozen" not in name} == {
        name: data for name, data in whole.items() if "frozen" not in name
    }


def test_a_state_of_another_device_is_kept_until_it_is_given_up(
    values: dict[str, Any], tmp_path: Path
) -> None:
    pack_id = freeze_for(values, tmp_path, "gpu", with_state=True)
    with pytest.raises(
        UserError, match=r"pack \w+ was begun or planned with device gpu, here cpu: .*retry=true"
    ):
        sweep_here(values, tmp_path)
    assert [row.state for row in Ledger(tmp_path / "smoke").status() if row.pack_id == pack_id] == [
        "released"
    ]
    assert sweep_here(values, tmp_path, retry=True) == 0


OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_no_memory_for_the_first_step_parks_nothing(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def restore(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train, "restore", restore)
    for _ in range(4):  # more often than a pack is tried
        with pytest.raises(UserError, match=r"did not come to its first step .*needs more memory"):
            sweep_here(values, tmp_path)
    assert [row.state for row in Ledger(tmp_path / "smoke").status()] == ["released"]
    assert Ledger(tmp_path / "smoke").frozen() == []


def test_what_no_process_can_do_is_said_before_any_claim(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configure(cache: Path) -> None:
        raise RuntimeError("Unable to initialize backend 'x':\n no driver")

    monkeypatch.setattr(train, "configure_jax", configure)
    with pytest.raises(UserError, match=r"training cannot start here: RuntimeError: Unable .* no driver$"):
        sweep_here(values, tmp_path)
    assert Ledger(tmp_path / "smoke").status() == []
    (log,) = tmp_path.glob("smoke/packs/*/log.txt")
    assert "Traceback" in log.read_text()


def test_a_finished_sweep_in_a_folder_that_cannot_be_written_is_no_error(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep_here(values, tmp_path) == 0

    def refuse(*_: Any, **__: Any) -> None:
        raise DiskError("cannot write")

    monkeypatch.setattr("lmscale.durable.replace", refuse)
    monkeypatch.setattr("lmscale.jsonfiles.replace", refuse)
    assert sweep_here(values, tmp_path) == 0


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: dict[int, range], value: float) -> None:
    """Multiply the loss of these seeds at these steps by `value`, through the weights of the batch."""
    original = World.batches

    def batches(self: World, seed: int, start: int, count: int, multiple: int = 1) -> Any:
        batch = original(self, seed, start, count, multiple)
        hurt = [index for index in range(count) if start + index in steps.get(seed, ())]
        if not hurt:
            return batch
        weight = batch.weight.copy()
        weight[hurt] *= np.float32(value)
        return batch._replace(weight=weight)

    monkeypatch.setattr(World, "batches", batches)


def of_seed(folder: Path, seed: int) -> dict[str, bytes]:
    """The files of the runs with this seed."""
    runs = [path.parent for path in folder.glob("smoke/*/spec.json")]
    mine = [run.name for run in runs if json.loads((run / "spec.json").read_text())["seed"] == seed]
    return {name: data for name, data in content(folder).items() if name.split("/")[0] in mine}


def outcomes_of(folder: Path, seed: int) -> list[str]:
    files = of_seed(folder, seed)
    return [json.loads(data)["outcome"] for name, data in files.items() if name.endswith("outcome.json")]


@pytest.mark.slow
def test_a_lane_that_keeps_failing_diverges_alone_and_survives_a_crash(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """Two seeds in one pack. Seed 0 meets two bad steps, seed 1 nothing else from step 12 on."""
    two = {"seed": [0, 1], "pack": {**values["pack"], "lanes": 2}}
    with pytest.MonkeyPatch.context() as patch:
        poisoned(patch, {0: range(10, 12)}, np.nan)
        assert sweep_here(values, tmp_path / "clean", **two) == 0
    with pytest.MonkeyPatch.context() as patch:
        poisoned(patch, {0: range(10, 12), 1: range(12, 10**6)}, np.nan)
        assert sweep_here(values, tmp_path / "bad", **two) == 0
        assert (
            sweep_here(values, tmp_path / "crashed", "train.stepped:9=crash,train.stepped:24=crash", **two)
            == 0
        )
    assert outcomes_of(tmp_path / "clean", 0) == outcomes_of(tmp_path / "clean", 1) == ["done"] * 3
    assert outcomes_of(tmp_path / "bad", 0) == ["done"] * 3
    assert outcomes_of(tmp_path / "bad", 1) == ["diverged"] * 3
    apart = of_seed(tmp_path / "bad", 0)
    assert apart == of_seed(tmp_path / "clean", 0)
    assert content(tmp_path / "bad") == content(tmp_path / "crashed")
    for name, data in apart.items():
        for line in data.splitlines() if name.endswith("records.jsonl") else ():
            record, spec = json.loads(line), json.loads(apart[name.replace("records.jsonl", "spec.json")])
            skipped = 2 if record["step"] >= 12 else max(0, record["step"] - 10)
            assert record["skipped_steps"] == skipped
            assert record["tokens"] == (record["step"] - skipped) * spec["batch_tokens"]
    bad = of_seed(tmp_path / "bad", 1)
    ended = [json.loads(data) for name, data in bad.items() if name.endswith("outcome.json")]
    # the trunk, a branch that began before it gave up, and one that could not begin
    assert {outcome["step"] for outcome in ended} == {12 + PATIENCE, None}
    assert all("steps in a row" in outcome["reason"] or "its trunk" in outcome["reason"] for outcome in ended)


def test_a_spike_is_skipped_and_counted(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss fifty times as large, once the window of 128 steps is full."""
    poisoned(monkeypatch, {0: range(140, 141)}, 50.0)
    horizon = {"tokens": 1.5e5, "dial": 8, "exponent": 0.3, "multiples": [1.0]}
    assert sweep_here(values, tmp_path, horizon=horizon, tasks=values["tasks"]) == 0
    last = [path.read_bytes().splitlines()[-1] for path in tmp_path.glob("smoke/*/records.jsonl")]
    assert [json.loads(line)["skipped_steps"] for line in last] == [1, 1]
