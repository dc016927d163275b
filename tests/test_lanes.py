"""Packs of more runs than lanes: what a lane is given, what a kill or a lack of memory leaves, what is compiled."""

from pathlib import Path
from typing import Any

import pytest
from launching import composed

from lmscale import faults, sweep, train, worker
from lmscale.device import Device
from lmscale.ledger import Ledger

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


@pytest.fixture(autouse=True)
def quietly_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process keeps its cores and has no compilation cache."""
    monkeypatch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
    monkeypatch.setattr(worker, "take_core", lambda: None)
    monkeypatch.setattr(train, "configure_jax", lambda cache: None)


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
    """The sweep, each job in this process, with faults as LMSCALE_FAULT would name them."""
    values = {**values, "runs": str(folder), **changes}
    values["pack"] = {**values["pack"], "lanes": lanes}

    def launch(jobs: list[str]) -> list[Exception]:
        errors = []
        for name in jobs:
            try:
                worker.train_job({**values, "job": name})
            except Exception as error:
                errors.append(error)
        return errors

    faults._plan = faults.parse(fault) if fault else None
    faults._passed.clear()
    try:
        return sweep.run([values], launch)
    finally:
        faults._plan = None


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "found", lambda wanted, runs: Device(wanted))
        patch.setattr(worker, "take_core", lambda: None)
        patch.setattr(train, "configure_jax", lambda cache: None)
        assert run(values, folder, 2, seed=[0, 1, 2, 3]) == 0
    return folder


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


@pytest.mark.parametrize(
    "fault",
    [
        "train.refilled:2=crash",
        "train.stepped:5=crash,train.stepped:11=crash,train.refilled:4=crash,train.stepped:21=crash",
    ],
)
def test_a_queue_that_crashes_ends_with_the_same_bytes(
    values: dict[str, Any], whole: Path, tmp_path: Path, fault: str
) -> None:
    assert run(values, tmp_path, 2, fault, seed=[0, 1, 2, 3]) == 0
    assert results(tmp_path) == results(whole)
    assert executions(tmp_path) == executions(whole)
    assert not list(tmp_path.glob("smoke/packs/*/*.ckpt"))
