"""The ledger: one holder a pack, whatever happens to the others."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from lmscale import checkpoint, jsonfiles, records
from lmscale.claim import Claim, LostClaim
from lmscale.ledger import Ledger

EXECUTION = {"lanes": ["run-a", "run-b"], "width": 2}


def states(ledger: Ledger) -> list[str]:
    return [row.state for row in ledger.status()]


def give_outcomes(folder: Path, lanes: list[str]) -> None:
    for lane in lanes:
        (folder / lane).mkdir(exist_ok=True)
        jsonfiles.write_json(folder / lane / "outcome.json", {"outcome": "done"})


def test_a_held_pack_is_nobody_elses_and_a_finished_one_needs_nobody(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    claim = ledger.claim("p1", EXECUTION)
    assert claim is not None and claim.number == 1 and claim.execution == EXECUTION
    assert Ledger(tmp_path).claim("p1", EXECUTION) is None
    assert states(ledger) == ["running"]
    give_outcomes(tmp_path, EXECUTION["lanes"])
    claim.finish()
    assert states(ledger) == ["finished"]
    assert ledger.claim("p1", EXECUTION) is None
    assert ledger.claim("p1", EXECUTION, reopen=True).number == 2


def test_a_deleted_run_folder_reopens_its_pack(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    give_outcomes(tmp_path, EXECUTION["lanes"])
    ledger.claim("p1", EXECUTION).finish()
    (tmp_path / "run-b" / "outcome.json").unlink()
    assert ledger.claim("p1", EXECUTION).number == 2


def begin_and_release(folder: Path) -> None:
    """A pack that took its first step and was interrupted."""
    claim = Ledger(folder).claim("p1", EXECUTION)
    claim.freeze()
    claim.release()


def test_a_claim_alone_freezes_nothing(tmp_path: Path) -> None:
    """A pack that never took a step may be planned anew, on another device or in another pack."""
    Ledger(tmp_path).claim("p1", EXECUTION).release()
    assert Ledger(tmp_path).frozen() == [] and not (tmp_path / "frozen").exists()
    (row,) = Ledger(tmp_path).status()
    assert (row.pack_id, row.state, row.lanes) == ("p1", "released", ("run-a", "run-b"))
    assert Ledger(tmp_path).claim("p2", EXECUTION | {"device": "cpu"}) is not None


def test_the_first_step_freezes_the_execution(tmp_path: Path) -> None:
    begin_and_release(tmp_path)
    again = Ledger(tmp_path).claim("p1", EXECUTION | {"width": 8})
    assert again.number == 2 and again.execution == EXECUTION
    assert Ledger(tmp_path).frozen() == [{"pack_id": "p1", "execution": EXECUTION}]


def test_a_run_belongs_to_one_pack(tmp_path: Path) -> None:
    """Two sweeps that pack differently never train one run twice."""
    begin_and_release(tmp_path)
    ledger = Ledger(tmp_path)
    assert ledger.claim("p2", {"lanes": ["run-b", "run-c"]}) is None
    assert ledger.claim("p3", {"lanes": ["run-c"]}) is not None


def test_of_two_packs_at_their_first_step_one_gets_the_run(tmp_path: Path) -> None:
    first, second = (
        Ledger(tmp_path).claim("p1", EXECUTION),
        Ledger(tmp_path).claim("p2", {"lanes": ["run-b"]}),
    )
    second.freeze()
    second.freeze()  # once more changes nothing
    with pytest.raises(LostClaim, match="another pack has begun"):
        first.freeze()
    assert [entry["pack_id"] for entry in Ledger(tmp_path).frozen()] == ["p2"]
    assert {row.pack_id: row.state for row in Ledger(tmp_path).status()} == {
        "p1": "released",
        "p2": "running",
    }


def test_a_thawed_execution_leaves_its_runs_free(tmp_path: Path) -> None:
    begin_and_release(tmp_path)
    ledger = Ledger(tmp_path)
    Ledger(tmp_path).thaw("p1")
    ledger.thaw("never frozen")
    assert ledger.frozen() == []
    anew = {"lanes": ["run-b"], "versions": "new"}
    ledger.claim("p2", anew).freeze()
    assert Ledger(tmp_path).frozen() == [{"pack_id": "p2", "execution": anew}]


def test_failures_in_a_row_park_a_pack_and_retry_frees_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, max_tries=3)
    for number, parked in ((1, False), (2, False), (3, True)):
        claim = ledger.claim("p1", EXECUTION)
        assert claim.number == number and claim.tries == number - 1
        assert claim.fail("ZeroDivisionError", "the last lines") is parked
    assert ledger.claim("p1", EXECUTION) is None
    (row,) = ledger.status()
    assert (row.state, row.tries) == ("parked", 3)
    assert (row.reason, row.log_tail) == ("ZeroDivisionError", "the last lines")
    ledger.retry("p1")
    assert ledger.claim("p1", EXECUTION).tries == 0


def test_interruptions_and_failures_after_progress_do_not_park(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, max_tries=2)
    for step in range(5):
        claim = ledger.claim("p1", EXECUTION)
        checkpoint.save(claim.folder, step, {}, {}, fence=claim)
        assert claim.fail("crash") is False
    for _ in range(5):
        ledger.claim("p1", EXECUTION).release()
    assert states(ledger) == ["released"]


def hold(folder: str, pack: str, ready, go) -> None:
    claim = Ledger(Path(folder), lease=1.0).claim(pack, EXECUTION)
    ready.put(claim.number)
    go.get()


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds pack p1 with a lease of one second."""
    context = get_context("spawn")
    ready, go = context.Queue(), context.Queue()
    process = context.Process(target=hold, args=(str(tmp_path), "p1", ready, go))
    process.start()
    assert ready.get(timeout=30) == 1
    yield process
    process.kill()
    process.join()
    ready.close()
    go.close()


def test_a_living_holder_keeps_its_claim_past_the_lease(tmp_path: Path, holder) -> None:
    time.sleep(1.5)
    assert Ledger(tmp_path, lease=1.0).claim("p1", EXECUTION) is None


def test_a_killed_holder_is_known_to_be_dead_at_once(tmp_path: Path, holder) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert states(Ledger(tmp_path)) == ["stale"]
    assert Ledger(tmp_path).claim("p1", EXECUTION).number == 2  # the lease is a minute


def test_one_killed_after_its_last_outcome_has_finished(tmp_path: Path, holder) -> None:
    give_outcomes(tmp_path, EXECUTION["lanes"])
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert states(Ledger(tmp_path)) == ["finished"]


def test_a_holder_of_unknown_place_has_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine: nothing but the heartbeat can tell."""
    monkeypatch.setattr("lmscale.ledger.is_dead", lambda holder: False)
    first = Ledger(tmp_path, lease=0.6).claim("p1", EXECUTION)
    first._ended.set()  # its thread stops, as if its machine had
    assert Ledger(tmp_path, lease=0.6).claim("p1", EXECUTION) is None
    time.sleep(0.9)
    assert Ledger(tmp_path, lease=0.6).claim("p1", EXECUTION).number == 2
    with pytest.raises(LostClaim):
        first.heartbeat()


@pytest.mark.parametrize("ahead", [90.0, 86400.0 * 365])
def test_a_heartbeat_from_the_future_is_taken_over_within_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """A machine whose clock was ahead left it, and is gone."""
    monkeypatch.setattr("lmscale.ledger.is_dead", lambda holder: False)
    first = Ledger(tmp_path).claim("p1", EXECUTION)
    first._ended.set()
    future = time.time() + ahead
    os.utime(first.folder / "claims" / "000001.json", (future, future))
    (row,) = Ledger(tmp_path, lease=0.4).status()
    assert row.state == "running" and 0 <= row.age < 1
    time.sleep(0.6)
    assert Ledger(tmp_path, lease=0.4).claim("p1", EXECUTION).number == 2


def test_a_living_holder_with_a_fast_clock_keeps_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmscale.ledger.is_dead", lambda holder: False)
    first = Ledger(tmp_path).claim("p1", EXECUTION)
    for _ in range(3):
        time.sleep(0.2)
        future = time.time() + 3600
        os.utime(first.folder / "claims" / "000001.json", (future, future))  # its heartbeat, by its clock
        assert Ledger(tmp_path, lease=0.5).claim("p1", EXECUTION) is None
    first.check()


def test_deaths_that_are_not_the_packs_fault_are_excused(tmp_path: Path, holder) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    Ledger(tmp_path).excuse("p1", "no memory")
    (row,) = Ledger(tmp_path).status()
    assert (row.state, row.reason) == ("released", "no memory")


def let_lapse(claim: Claim) -> None:
    """As if the holder had been paused for long."""
    claim._ended.set()
    past = time.time() - 1000
    os.utime(claim.folder / "claims" / f"{claim.number:06d}.json", (past, past))


WRITES = {
    "checkpoint": lambda claim, run: checkpoint.save(claim.folder, 2, {}, {}, fence=claim),
    "json": lambda claim, run: jsonfiles.write_json(run / "outcome.json", {"outcome": "failed"}, claim),
    "record": lambda claim, run: records.append(run / "records.jsonl", {"step": 2}, claim),
    "claim": lambda claim, run: claim.fail("crash"),
}


@pytest.mark.parametrize("paused", ["before its check", "after its check"])
@pytest.mark.parametrize("kind", WRITES)
def test_a_lost_claim_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, paused: str
) -> None:
    """A holder sleeps anywhere, even between its last check and its write; meanwhile another takes over."""
    monkeypatch.setattr("lmscale.ledger.is_dead", lambda holder: False)
    run = tmp_path / "run-a"
    run.mkdir()
    late, holders = Ledger(tmp_path).claim("p1", EXECUTION), []

    def take_over(name: str) -> None:
        if name == f"{kind}.checked" and not holders:
            let_lapse(late)
            holders.append(Ledger(tmp_path).claim("p1", EXECUTION))
            records.truncate_after(run / "records.jsonl", None, holders[0])
            records.append(run / "records.jsonl", {"step": 1}, holders[0])

    if paused == "before its check":
        take_over(f"{kind}.checked")
        with pytest.raises(LostClaim):
            WRITES[kind](late, run)
    else:
        monkeypatch.setattr("lmscale.faults.point", take_over)
        if kind == "record":
            WRITES[kind](late, run)  # it goes to a file that nobody can open any more
        else:
            with pytest.raises(LostClaim):
                WRITES[kind](late, run)
    (holder,) = holders
    assert holder.number == 2
    assert records.read_records(run / "records.jsonl") == ([{"step": 1}], [])
    assert [child.name for child in run.iterdir()] == ["records.jsonl"]
    assert checkpoint.newest_step(holder.folder) == -1
    assert states(Ledger(tmp_path)) == ["running"]
    holder.finish()


CLAIMERS = """
import sys, time
from pathlib import Path
from lmscale.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.001)
for pack in range(40):
    claim = ledger.claim(f"p{pack}", {"lanes": [f"run-{pack}"]})
    if claim is not None:
        print(pack, flush=True)
time.sleep(60)
"""


def test_of_processes_that_race_one_gets_each_pack(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLAIMERS, str(tmp_path)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    try:
        time.sleep(0.5)
        (tmp_path / "go").touch()
        while [row.claims for row in Ledger(tmp_path).status()] != [1] * 40:
            time.sleep(0.05)
    finally:
        for racer in racers:
            racer.kill()
    got = [int(line) for racer in racers for line in racer.communicate()[0].split()]
    assert sorted(got) == list(range(40))


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "x" * 200])
def test_a_pack_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="pack id"):
        Ledger(tmp_path).claim(name, EXECUTION)


def test_a_living_holder_with_a_clock_a_minute_behind_keeps_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the machines, not the file server, date the files: its heartbeats are real, and look old."""
    monkeypatch.setattr("lmscale.ledger.is_dead", lambda holder: False)
    first = Ledger(tmp_path, lease=0.6).claim("p1", EXECUTION)
    first._ended.set()
    path, stop = first.folder / "claims" / "000001.json", threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            behind = time.time() - 1.0
            os.utime(path, (behind, behind))

    beats = threading.Thread(target=beat)
    beats.start()
    try:
        time.sleep(0.15)
        leader = Ledger(tmp_path, lease=0.6)
        for _ in range(8):
            assert states(leader) == ["running"]
            time.sleep(0.05)
        assert Ledger(tmp_path, lease=0.6).claim("p1", EXECUTION) is None
    finally:
        stop.set()
        beats.join()
    first.check()
    time.sleep(0.3)
    assert Ledger(tmp_path, lease=0.6).claim("p1", EXECUTION).number == 2  # it has fallen silent
