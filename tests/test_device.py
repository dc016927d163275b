"""Which device there is, is asked of jax and not of /dev; what stops every process is one line before any claim."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from launching import ROOT, composed, launch

from lmscale import cores, device, plan, sweep
from lmscale.device import Device
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.waves import DEATHS

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def no_answer_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    device._key.cache_clear()


@pytest.mark.parametrize(
    ("overrides", "environment", "sentence"),
    [
        ([], {"XLA_FLAGS": "--xla_no_such_flag=1"}, "does not know --xla_no_such_flag=1; take it out"),
        (["pack.device=tpu"], {}, "pack.device=tpu: jax has only the cpu here; leave pack.device out"),
        pytest.param(
            [], {"JAX_PLATFORMS": "quantum"}, "'quantum' is not in the list", marks=pytest.mark.slow
        ),
        pytest.param([], {"JAX_ENABLE_X64": "perhaps"}, "jax does not start here", marks=pytest.mark.slow),
    ],
)
def test_what_stops_jax_is_one_line_before_any_claim(
    tmp_path: Path, overrides: list[str], environment: dict[str, str], sentence: str
) -> None:
    ended = launch(tmp_path, tmp_path / "corpora", *overrides, **environment)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert sentence in ended.stderr and ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing scanned, nothing frozen, nothing parked


@pytest.mark.slow
def test_too_little_memory_is_one_line_and_parks_nothing(tmp_path: Path, corpora: Path) -> None:
    """From limits at which jax cannot be imported to one at which its workers die."""
    for limit in ("300000", "900000", "1500000"):
        ended = launch(tmp_path, corpora, limit=f"ulimit -v {limit}")
        assert ended.returncode in (0, 2), ended.stderr  # machines differ in what they need
        said = ended.stderr.strip().splitlines()
        assert ended.returncode == 0 or ("memory" in said[-1] and said[-1].startswith("lmscale: "))
        assert "parked:" not in ended.stderr
    ended = launch(tmp_path, corpora)
    assert ended.returncode == 0, ended.stderr


def answers(monkeypatch: pytest.MonkeyPatch, platform: str) -> list[str]:
    """Have the process that is asked say this; returns the list of what was asked for."""
    asked: list[str] = []

    def ask(wanted: str) -> Device:
        asked.append(wanted)
        return Device(platform, "a kind")

    monkeypatch.setattr(device, "_ask", ask)
    return asked


@pytest.mark.parametrize("card", ["nvidia0", "nvidia3", "dxg"])
def test_a_card_that_jax_cannot_use_is_said_and_the_cpu_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: str
) -> None:
    """The first GPU alone, the fourth alone (the others are someone else's), and that of WSL2."""
    monkeypatch.setattr(device, "_device_files", lambda: [card])
    answers(monkeypatch, "cpu")
    found = device.found("auto", tmp_path)
    assert found == Device("cpu", "a kind") == device.expected("auto", tmp_path)
    said = device.unused_card("auto", found)
    assert said and f"/dev/{card}" in said and "pip install 'lmscale[cuda]'" in said
    assert device.unused_card("cpu", found) is None  # who asked for the CPU knows
    assert device.unused_card("auto", Device("gpu")) is None


def test_jax_is_asked_once_for_each_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, "gpu")
    assert [device.found("auto", tmp_path).platform for _ in range(3)] == ["gpu"] * 3
    assert asked == ["auto"]
    assert device.expected("auto", tmp_path).said
    for change in ("XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(change, "other")
        device._key.cache_clear()
        device.found("auto", tmp_path)
    assert len(asked) == 4
    (tmp_path / device.KEPT).write_text("{")
    device.found("auto", tmp_path)
    device.forget(tmp_path)
    device.found("auto", tmp_path)
    assert len(asked) == 6
    with pytest.raises(UserError, match=r"pack\.device=tpu: jax has only the gpu here"):
        device.found("tpu", tmp_path)


def test_a_plan_guesses_from_what_is_installed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plugins:
        submodule_search_locations = (str(tmp_path),)

    specs: dict[str, Any] = {}
    monkeypatch.setattr(device.importlib.util, "find_spec", specs.get)
    monkeypatch.setattr(device, "_device_files", lambda: ["nvidia0"])
    assert device.expected("auto", tmp_path) == Device("cpu")  # a card, and no plugin that could use it
    specs["jax_plugins"] = Plugins
    (tmp_path / "xla_cuda13").mkdir()
    assert device.expected("auto", tmp_path) == Device("gpu", said=False)
    monkeypatch.setattr(device, "_device_files", list)
    assert device.expected("auto", tmp_path) == Device("cpu", said=False)
    assert device.expected("gpu", tmp_path) == Device("gpu")


@pytest.mark.parametrize(
    ("status", "stderr", "sentence"),
    [
        (-6, "F1 flags.cc] Unknown flags in XLA_FLAGS: --a --b\n", "does not know --a --b"),
        (
            1,
            "Traceback\n  x\nRuntimeError: no CUDA driver\nSome advice follows.\n",
            "no CUDA driver; python -c",
        ),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n", "it needs more memory"),
        (1, "ImportError: libx.so: failed to map segment from shared object\n", "it needs more memory"),
        (
            1,
            "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes\n",
            "it needs more memory",
        ),
        (-9, "", "it ended by SIGKILL, without a word; it needs more memory"),
        (3, "", "it ended by status 3"),
    ],
)
def test_why_jax_did_not_start_is_read_from_its_last_words(status: int, stderr: str, sentence: str) -> None:
    why = device._why(subprocess.CompletedProcess([], status, "", stderr))
    assert sentence in why and "\n" not in why


def test_a_driver_that_hangs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "PATIENCE", 0.01)
    with pytest.raises(UserError, match="no answer within"):
        device._ask("cpu")


TAKE = """
import os, sys
from lmscale import cores
os.sched_setaffinity(0, {allowed})
cores.take_core({count})
print(sorted(os.sched_getaffinity(0)), "multi_thread_eigen=false" in os.environ["XLA_FLAGS"], flush=True)
sys.stdin.read()
"""


def taken(count: int, allowed: str, temporary: Path) -> subprocess.Popen[str]:
    """A process with a temporary folder of its own that takes cores and holds them."""
    temporary.mkdir()
    variables = {**os.environ, "TMPDIR": str(temporary), "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TAKE.format(count=count, allowed=allowed)]
    return subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="pins processes to cores")
def test_each_process_takes_cores_of_its_own_whatever_its_temporary_folder(tmp_path: Path) -> None:
    """As a scheduler's jobs have one each. The third finds none free and shares; one that ends frees its own."""
    all_cores = sorted(os.sched_getaffinity(0))
    two = f"{{{', '.join(map(str, all_cores[:2]))}}}"
    with contextlib.ExitStack() as stack:

        def take(name: str, count: int = 1) -> tuple[subprocess.Popen[str], str]:
            process = stack.enter_context(taken(count, two, tmp_path / name))
            stack.callback(process.communicate, "")
            assert process.stdout is not None
            return process, process.stdout.readline()

        first, said = take("a")
        if said != f"[{all_cores[0]}] True\n" or len(all_cores) < 2:
            pytest.skip("another process of ours trains here")
        assert take("b")[1] == f"[{all_cores[1]}] True\n"
        assert take("c")[1] == f"{all_cores[:2]} True\n"
        assert take("d", 2)[1] == f"{all_cores[:2]} False\n"  # two threads, on what is there
        first.communicate("")
        assert take("e")[1] == f"[{all_cores[0]}] True\n"


def test_a_job_has_the_cores_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    for said, count in (("", 1), ("4", 4), ("x", 1), ("0", 1), ("9", 6)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", said)
        assert cores.given() == count
    shape = shape_of(FamilyConfig(), 8, context=64, vocab_size=260)
    assert plan.settle({"lanes": []}, shape, "cpu", 4)["cores"] == 4
    assert "cores" not in plan.settle({"lanes": []}, shape, "cpu", 1) | plan.settle(
        {"lanes": []}, shape, "gpu", 4
    )


def test_each_worker_sees_one_card_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{os.getpid()}-{i}" for i in range(2)]  # no card of anybody's
    monkeypatch.setattr(cores, "_held", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(names))
    assert cores.cards() == names
    seen = []
    for _ in range(2):
        cores.take_card(names)
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == names
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    cores.take_card(names)  # none is free
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "all"
    for held in cores._held:
        held.close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cores.cards() == []


def test_no_temporary_folder_at_all_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(UserError, match=r"no temporary folder .*TMPDIR="):
        sweep._check_machine()


class Stage:
    """A session without a plan's cost: one pack, a launcher that fails as it is told."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values, self.launches = folder, values, 0

    def run(self, error: Exception) -> int:
        def launch(jobs: list[str]) -> list[Exception]:
            self.launches += 1
            raise error

        return sweep.run([{**self.values, "runs": str(self.folder)}], launch)


@pytest.fixture
def stage(tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(sweep, "found", lambda wanted, runs: Device("cpu"))
    return Stage(tmp_path, {**composed(), "corpora": str(corpora)})


def test_a_launcher_that_fails_is_everybodys_trouble(stage: Stage) -> None:
    with pytest.raises(
        UserError, match=r"the launcher fails \(ValueError: no semaphores\); hydra/launcher=basic"
    ):
        stage.run(ValueError("no semaphores"))
    with pytest.raises(UserError, match=r"cannot start workers.*Too many open files.*ulimit -n"):
        stage.run(OSError(errno.EMFILE, "Too many open files"))
    assert stage.launches == 2
    assert not list(stage.folder.glob("smoke/*/outcome.json"))


def test_workers_that_die_before_any_first_step_are_everybodys_trouble(stage: Stage) -> None:
    with pytest.raises(UserError, match=r"workers were killed .* 3 times .*more memory.*nothing is parked"):
        stage.run(BrokenProcessPool("a process died abruptly"))
    assert stage.launches == DEATHS
    assert not list(stage.folder.glob("smoke/*/outcome.json"))


def test_runs_of_another_science_in_the_folder_are_said(stage: Stage, capsys: pytest.CaptureFixture) -> None:
    def said(**changes: Any) -> str:
        stage.values = {**values, **changes}
        with pytest.raises(UserError):
            stage.run(ValueError())
        return capsys.readouterr().out

    values = stage.values
    assert "not in this plan" not in said()
    assert "not in this plan" not in said(seed=[0, 1])  # grown
    assert "not in this plan" not in said(seed=[1])  # the same science, other seeds
    changed = said(optim={**values["optim"], "b2": 0.5})
    assert (
        "4 runs that are not in this plan, 4 of them of another corpus, schedule, optimiser or rate"
        in changed
    )
    spec = next(stage.folder.glob("smoke/*/spec.json"))
    assert json.loads(spec.read_text())["optim"]
