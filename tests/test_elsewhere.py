"""Packs that are planned on one machine and run on others: what they run on is settled where they run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launching import composed, sweep_here
from test_restart_trouble import OVERRIDES

from lmscale import plan, sweep, train, worker
from lmscale.device import Device
from lmscale.errors import UserError
from lmscale.ledger import Ledger
from lmscale.packs import read_pack
from lmscale.spec import short_hash

pytestmark = pytest.mark.alone


@pytest.fixture
def values(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The ladder of `test_restart_trouble`, whose step is compiled once. This process keeps its cores; it is the
    node, where jax has a cpu."""
    monkeypatch.setattr(worker, "take_core", lambda count: None)
    monkeypatch.setattr(train, "configure_jax", lambda cache: None)
    monkeypatch.setattr(worker, "found", lambda wanted, runs: Device("cpu", "a kind"))
    return {**composed(*OVERRIDES, "pack.device=auto", "pack.lanes=1"), "corpora": str(corpora)}


def executions(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("smoke/*/execution.json")):
        yield json.loads(path.read_text())


@pytest.mark.slow
def test_what_was_planned_for_a_gpu_runs_on_the_cpu_that_is_there(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login node asks no jax and has none; the same losses, byte for byte, as where it runs here."""
    with monkeypatch.context() as login:
        login.setattr(sweep, "found", None)
        assert sweep_here(values, tmp_path / "there", elsewhere="gpu") == 0
    found = list(executions(tmp_path / "there"))
    assert len(found) == 3
    for execution in found:
        assert (execution["device"], execution["precision"]) == ("cpu", "float32")
        assert execution["versions"] == plan.versions()
        # the id is that of the plan, before anybody knew
        planned = {"lanes": execution["lanes"], "device": "gpu", "steps": execution["steps"]}
        assert execution["pack_id"] == short_hash(planned)
    assert sweep_here(values, tmp_path / "there", elsewhere="gpu") == 0
    assert [row.claims for row in Ledger(tmp_path / "there" / "smoke").status()] == [1, 1, 1]
    monkeypatch.setattr(sweep, "found", lambda wanted, runs: Device("cpu"))
    assert sweep_here(values, tmp_path / "here", elsewhere="") == 0
    for path in tmp_path.glob("here/smoke/*/records.jsonl"):
        other = tmp_path / "there" / path.relative_to(tmp_path / "here")
        assert path.read_bytes() == other.read_bytes()
    # who trained them is told by the claims
    for path in tmp_path.glob("*/smoke/packs/*/claims/000001.json"):
        claim = json.loads(path.read_text())
        assert claim["about"]["overrides"] == ["seed=[0]"] and claim["about"]["device_kind"] == "cpu"
        assert claim["about"]["version"] and claim["at"].startswith("20")


@pytest.mark.slow
def test_what_began_on_one_device_goes_on_there_or_is_started_over_on_demand(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="No space left"):
        sweep_here(values, tmp_path, "checkpoint.written:3=ENOSPC", "cpu")
    (entry,) = Ledger(tmp_path / "smoke").frozen()
    assert list(tmp_path.glob("smoke/packs/*/*.ckpt"))
    with monkeypatch.context() as node:  # another node, with a card
        node.setattr(train.jax, "default_backend", lambda: "gpu")
        node.setenv("SLURM_JOB_ID", "7")
        for _ in range(2):
            with pytest.raises(
                UserError, match=r"^on \w.*: pack \w+ was begun or planned with device cpu, here gpu"
            ):
                sweep_here(values, tmp_path, elsewhere="cpu")
    assert Ledger(tmp_path / "smoke").frozen() == [entry]
    # a machine that has not been refused what it asks for gives nothing up, whatever the login node has
    assert sweep_here(values, tmp_path, elsewhere="cpu", retry=True) == 0
    (found,) = {
        e["pack_id"]: e for e in executions(tmp_path) if e["lanes"] == entry["execution"]["lanes"]
    }.values()
    assert found["restart"] == 1 and found["pack_id"] != entry["pack_id"]
    assert len(list(tmp_path.glob("smoke/*/outcome.json"))) == 3


def test_a_pack_that_another_machine_began_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    """Two nodes of different kinds, one pack: the first step decides, and its files name one execution."""
    ledger = Ledger(tmp_path)
    cpu, gpu = ({"lanes": ["a"], "device": device} for device in ("cpu", "gpu"))
    assert ledger._freeze("p1", cpu) and ledger._freeze("p1", cpu)
    assert not ledger._freeze("p1", gpu)
    claim = ledger.claim("p1", gpu)
    assert claim is not None and claim.execution == cpu
    claim.release()


def test_launches_that_come_to_nothing_end_the_sweep_in_vain(values: dict[str, Any], tmp_path: Path) -> None:
    """A job that is preempted before its first step, each time anew: nothing is parked for it."""
    launches: list[str] = []

    def launch(jobs: list[str]) -> list[Exception]:
        launches.extend(jobs)
        for name in jobs:
            pack, _ = read_pack(tmp_path / "smoke", name.removeprefix("pack_"))
            claim = Ledger(tmp_path / "smoke").claim(pack.pack_id, pack.execution)
            assert claim is not None
            claim.release("preempted")
        return []

    with pytest.raises(UserError, match=r"10 launches in a row came to nothing: \w+: preempted"):
        sweep.run([{**values, "runs": str(tmp_path)}], launch, "cpu")
    assert len(launches) == 10
    assert not list(tmp_path.glob("smoke/*/outcome.json"))
