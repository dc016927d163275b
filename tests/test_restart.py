"""Real sweeps in real processes, killed, stopped, starved and started again: they end with the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from launching import without_clock

from lmscale import checkpoint, device
from lmscale.faults import VARIABLE
from lmscale.ledger import Ledger

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "experiment=smoke",
    "hydra/launcher=basic",
    "dial=[8]",
    "horizon={tokens: 6e4, dial: 8, multiples: [0.6, 1.0]}",
    "schedule.warmup_steps=5",
    "evaluation={first_tokens: 5e3, per_doubling: 2}",
    "data.heldout_rows=8",
    "tasks.items=20",
    "pack.steps=4",
    "pack.checkpoint_seconds=0.01",
)


class Place:
    """A folder for runs beside a shared corpus, and the processes that work in it, with the code of `code`."""

    def __init__(self, folder: Path, corpora: Path, compiled: Path | None = None, code: Path = ROOT) -> None:
        self.runs, self.corpora, self.code = folder / "runs", corpora, code
        self.experiment = self.runs / "smoke"
        if compiled:
            shutil.copytree(compiled, self.runs / ".xla")
            shutil.copy(compiled.with_name(device.KEPT), self.runs)  # and what jax answered

    def start(
        self, *overrides: str, fault: str = "", python: tuple[str, ...] = ("-m", "lmscale.launch")
    ) -> subprocess.Popen:
        command = [sys.executable, *python, *TINY]
        command += [f"runs={self.runs}", f"corpora={self.corpora}", *overrides]
        variables = os.environ | {"JAX_PLATFORMS": "cpu", VARIABLE: fault}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # jax's keys would hold the path of its folder's autotuning, and no place would find what was copied
        variables |= {"JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none", "PYTHONPATH": str(self.code)}
        return subprocess.Popen(command, cwd=self.code, env=variables, **pipes)

    def run(self, *overrides: str, **how: Any) -> subprocess.CompletedProcess:
        process = self.start(*overrides, **how)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def content(self) -> dict[str, bytes]:
        """The science: everything but clocks, logs and the ledger's notes."""
        return {
            str(path.relative_to(self.experiment)): without_clock(path)
            for path in sorted(self.experiment.rglob("*"))
            if path.is_file()
            and not path.name.startswith((".", "log.txt", "timing.jsonl"))
            and "claims" not in path.parts
        }

    def progress(self) -> list[tuple[str, int]]:
        """What a training process leaves behind as it goes."""
        files = [*self.experiment.glob("packs/*/*.ckpt"), *self.experiment.glob("*/records.jsonl")]
        sizes = []
        for path in sorted(files):
            try:
                sizes.append((str(path), path.stat().st_size))
            except FileNotFoundError:
                continue
        return sizes


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory, corpora: Path) -> Place:
    place = Place(tmp_path_factory.mktemp("unkilled"), corpora)
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert len(list(place.experiment.glob("*/outcome.json"))) == 3
    return place


@pytest.fixture
def place(tmp_path: Path, unkilled: Place) -> Place:
    return Place(tmp_path, unkilled.corpora, unkilled.runs / ".xla")


def wait_for_progress(place: Place, process: subprocess.Popen, times: int = 1) -> None:
    for _ in range(times):
        before = place.progress()
        while place.progress() == before and process.poll() is None:
            time.sleep(0.001)


def kill_at_random(place: Place, kills: int, seed: int) -> None:
    """Start and SIGKILL: mostly a random while after a random amount of progress, sometimes while starting."""
    rng, done = random.Random(seed), 0
    while done < kills:
        process = place.start()
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0.1, 2.0))
        else:
            wait_for_progress(place, process, rng.randrange(1, 9))
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        _, said = process.communicate()
        if process.returncode == -signal.SIGKILL:
            done += 1
        else:  # it was faster: begin again from nothing
            assert process.returncode == 0, said
            shutil.rmtree(place.experiment)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, 25])
def test_a_sweep_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, unkilled: Place, kills: int
) -> None:
    """In two folders at a time, for there are two cores: 8 kills, and 50."""
    places = [Place(tmp_path / name, unkilled.corpora, unkilled.runs / ".xla") for name in "ab"]
    with ThreadPoolExecutor() as both:
        list(both.map(kill_at_random, places, [kills] * 2, [kills, kills + 1]))
        for ended in both.map(Place.run, places):
            assert ended.returncode == 0, ended.stderr
    for place in places:
        assert place.content() == unkilled.content()


@pytest.mark.slow
def test_two_sweeps_on_one_folder_train_each_run_once(place: Place, unkilled: Place) -> None:
    both = [place.start(), place.start()]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    assert place.content() == unkilled.content()
    assert [row.claims for row in Ledger(place.experiment).status()] == [1, 1, 1]


@pytest.mark.slow
def test_ctrl_c_and_sigterm_leave_everything_resumable_and_say_how(place: Place, unkilled: Place) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = place.start("pack.checkpoint_seconds=1000")
        wait_for_progress(place, process, 2 if number == signal.SIGINT else 1)
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 128 + number
        assert "nothing that was saved is lost" in said
        assert f"to go on: python -m lmscale.launch {TINY[0]}" in said
        states = [row.state for row in Ledger(place.experiment).status()]
        assert states and set(states) <= {"released", "finished"}
        assert checkpoint.newest_step(next(place.experiment.glob("packs/*"))) > 0
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert place.content() == unkilled.content()


GROWING = ("[0.6]", "[0.6,1.0]", "[0.6,1.0,1.2]")


def kept_in(place: Place) -> list[Path]:
    """The compiled steps that lmscale keeps itself; jax's own are there besides."""
    return list(place.runs.glob(".xla/*.program"))


def grow(place: Place, unkilled: Place, *starts: str) -> None:
    """Ask for longer horizons in each start: no try of a pack fails, and the runs have the same bytes."""
    for multiples in starts:
        ended = place.run(f"horizon.multiples={multiples}")
        assert ended.returncode == 0, ended.stderr
    outcomes = [json.loads(path.read_text())["outcome"] for path in place.experiment.glob("*/outcome.json")]
    assert outcomes == ["done"] * (2 + starts[-1].count(","))
    ends = [path.read_text() for path in place.experiment.glob("packs/*/claims/*.end.json")]
    assert ends and not any("failed" in end for end in ends)
    runs = list(unkilled.experiment.glob("*/items.npz"))
    assert len(runs) == 2
    for run in runs:
        for name in ("items.npz", "records.jsonl"):
            assert (place.experiment / run.parent.name / name).read_bytes() == run.with_name(
                name
            ).read_bytes()


@pytest.mark.slow
def test_sources_that_change_leave_jax_s_cache_and_not_ours(tmp_path: Path, unkilled: Place) -> None:
    """Our key holds the sources, jax's does not: it answers from its cache, whose programs cannot be kept."""
    code = tmp_path / "code"
    for package in ("lmscale", "sweeps", "hydra_plugins"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (code / "lmscale" / "family.py").open("a") as file:
        file.write("# a comment\n")
    place = Place(tmp_path, unkilled.corpora, unkilled.runs / ".xla", code)
    before = kept_in(place)
    grow(place, unkilled, *GROWING)
    assert kept_in(place) == before and len(before) == 1


KEEPS_UNTRIED = """
from lmscale import compiled, launch
compiled.KeptFunction._try = lambda *_: []
launch.main()
"""


@pytest.mark.slow
def test_a_kept_step_that_cannot_run_is_found_out_and_deleted(place: Place, unkilled: Place) -> None:
    """As a folder of before may hold them: kept of what jax read from its own cache, and never tried."""
    (path,) = kept_in(place)
    whole = path.read_bytes()
    path.unlink()
    place.run("horizon.multiples=[0.6]", python=("-c", KEEPS_UNTRIED))
    poisoned = path.read_bytes()
    assert len(poisoned) < 0.9 * len(whole)
    shutil.rmtree(place.experiment)
    grow(place, unkilled, "[0.6,1.0]")
    assert not path.exists()


@pytest.mark.slow
def test_a_leader_killed_between_jax_s_cache_and_ours(tmp_path: Path, unkilled: Place) -> None:
    place = Place(tmp_path, unkilled.corpora)
    killed = place.run("horizon.multiples=[0.6]", fault="program.synced=kill")
    assert killed.returncode == -signal.SIGKILL and list(place.runs.glob(".xla/*jit_run*-cache"))
    grow(place, unkilled, *GROWING)
    assert not kept_in(place)


POINTS = [
    "checkpoint.synced:3",
    "record.half:3",
    "json.synced:9",
    "items.written",
    "model.renamed",
    "truncate.renamed",
    "claim.taken:2",
]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_inside_each_kind_of_write(place: Place, unkilled: Place, point: str) -> None:
    assert place.run(fault=f"{point}=kill").returncode == -signal.SIGKILL
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert place.content() == unkilled.content()


@pytest.mark.slow
def test_a_sweep_that_was_only_paused_writes_nothing_more(place: Place, unkilled: Place) -> None:
    late = place.start(fault="record.checked:3=stop")
    try:
        os.waitid(os.P_PID, late.pid, os.WSTOPPED)
        (claim,) = place.experiment.glob("packs/*/claims/000001.json")
        os.utime(claim, (0, 0))  # as if the pause had outlasted the lease
        ended = place.run()
        assert ended.returncode == 0, ended.stderr
        assert place.content() == unkilled.content()
        late.send_signal(signal.SIGCONT)
        _, said = late.communicate(timeout=300)
    finally:
        late.kill()
        late.communicate()
    assert late.returncode == 0 and "another process took it over (claim 2)" in said
    assert place.content() == unkilled.content()
