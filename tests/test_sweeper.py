"""The command line as the sweeper reads it: what is composed, and what is refused in one line before any work."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from hydra_plugins.lmscale_sweeper import lmscale_sweeper
from lmscale import launch, sweep
from lmscale.config import DataConfig, HorizonConfig, SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.ladder import same_runs
from lmscale.transfer import TransferConfig
from lmscale.typed import build

pytestmark = pytest.mark.alone

Composed = list[dict[str, Any]]
HAS_RAY = importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is not None


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """(arguments) -> the values that the sweep would be given, in a folder of its own."""
    found: Composed = []
    monkeypatch.setattr(sweep, "run", lambda values, *_: found.extend(values) or 0)
    monkeypatch.setattr("lmscale.stopping.lead", lambda: None)
    monkeypatch.chdir(tmp_path)

    def compose(*arguments: str) -> Composed:
        found.clear()
        monkeypatch.setattr(sys, "argv", ["lmscale", *arguments])
        GlobalHydra.instance().clear()
        try:
            status = launch.main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        finally:
            GlobalHydra.instance().clear()
        assert list(tmp_path.rglob("multirun.yaml")) == [], "Hydra's own sweeper wrote something"
        return [*found] if status == 0 else [{"status": status}]

    return compose


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dial=8,16"], "dial=8,16: dial is a list, which one sweep trains; write dial=[8,16]"),
        (["-m", "seed=range(0,3)"], "write seed=[0,1,2]"),
        (["horizon.multiples=.5,1"], "write horizon.multiples=[0.5,1]"),
        (["transfer.rate=interval(0,1)"], "an interval cannot be enumerated"),
        pytest.param(
            ["hydra/launcher=ray"],
            "hydra/launcher=ray: not installed; pip install 'lmscale[ray]'",
            marks=pytest.mark.skipif(HAS_RAY, reason="Ray is installed"),
        ),
        (["hydra.mode=RUN"], "hydra.mode=RUN: a job trains the pack that a sweep names"),
        pytest.param(
            ["hydra/sweeper=basic"],
            "hydra/sweeper=basic: packs are planned by hydra/sweeper=lmscale",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["-m", "hydra/sweeper=basic", "optim.b2=.9,.95"], "hydra/sweeper=basic", marks=pytest.mark.slow
        ),
        pytest.param(
            ["hydra.launcher.n_job=2"], "did you mean hydra.launcher.n_jobs?", marks=pytest.mark.slow
        ),
        pytest.param(
            ["hydra.launcher.colour=red"], "known are hydra.launcher.backend, ", marks=pytest.mark.slow
        ),
        pytest.param(["hydra.lancher.n_jobs=2"], "did you mean hydra.launcher?", marks=pytest.mark.slow),
        pytest.param(
            ["schedule=linear"],
            "schedule=linear: no such file; there are cosine, wsd",
            marks=pytest.mark.slow,
        ),
        pytest.param(["schedule.name=cosine"], "it is called schedule.kind", marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_hydra_would_misunderstand_is_refused_in_one_line(
    composed: Any, capsys: pytest.CaptureFixture, tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert composed(*arguments, "experiment=smoke") == [{"status": 2}]
    err = capsys.readouterr().err
    assert err.startswith("lmscale: ") and err.count("\n") == 1 and said in err
    assert list(tmp_path.iterdir()) == []


def test_axes_of_values_and_of_groups_by_commas_and_by_glob(composed: Any) -> None:
    rates = composed("experiment=smoke", "transfer.rate=.1,.2", "optim.b2=.9,.95")
    assert [(c["transfer"]["rate"], c["optim"]["b2"]) for c in rates] == [
        (0.1, 0.9),
        (0.1, 0.95),
        (0.2, 0.9),
        (0.2, 0.95),
    ]
    assert [c["dial"] for c in composed("experiment=smoke", "dial=[8],[16]")] == [[8], [16]]
    kinds = [c["schedule"]["kind"] for c in composed("experiment=smoke", "schedule=glob(*)")]
    assert kinds == ["cosine", "wsd"]


def test_the_sweepers_own_axes_are_honoured_and_the_command_line_wins(composed: Any, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /tasks: smoke\nname: mine\n"
        "hydra: {sweeper: {params: {optim.b2: '.9,.95', seed: [7]}}}\n"
    )
    own = ("experiment=mine", f"hydra.searchpath=[file://{tmp_path / 'mine'}]")
    found = composed(*own)
    assert [(c["optim"]["b2"], c["seed"]) for c in found] == [(0.9, [7]), (0.95, [7])]
    assert [c["optim"]["b2"] for c in composed(*own, "optim.b2=.8")] == [0.8]
    assert [c["seed"] for c in composed("experiment=smoke", "+hydra.sweeper.params.seed=[9]")] == [[9]]


def test_a_folder_below_the_home_folder(
    composed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (found,) = composed("experiment=smoke", "corpora='~/texts'", "runs='~'")
    assert (found["corpora"], found["runs"]) == (f"{tmp_path}/texts", str(tmp_path))


def test_without_a_group_nothing_changes_unsaid(composed: Any) -> None:
    assert composed("experiment=smoke", "~transfer") == composed("experiment=smoke")


def test_compositions_that_are_one_set_of_runs_are_said() -> None:
    base = SweepConfig(name="x", dial=(16,), horizon=HorizonConfig(tokens=1e6, dial=16))
    manifest = draft_manifest(DataConfig(), base.tasks)

    def said(*transfers: TransferConfig) -> list[str]:
        configs = [dataclasses.replace(base, transfer=transfer) for transfer in transfers]
        return same_runs(configs, [manifest] * len(configs))

    (sentence,) = said(*(TransferConfig(rate=rate) for rate in (10.0, 20.0, 40.0)))
    assert sentence.startswith("3 compositions are one set of runs (transfer.rate=10.0, 20.0, 40.0)")
    assert "transfer.rate_cap=0.08" in sentence
    (other,) = said(TransferConfig(batch_exponent=0.3), TransferConfig(batch_exponent=0.4))
    assert "transfer.batch_exponent=0.3, 0.4" in other and "rate_cap" not in other
    assert said(TransferConfig(rate=0.1), TransferConfig(rate=0.2)) == []


def test_the_device_of_other_machines_is_read_from_what_is_asked_of_them() -> None:
    """Without a word of a GPU nobody expects one; where the jobs run here, this machine is asked."""
    with initialize_config_module("sweeps", version_base="1.3"):
        for launcher, asked, device in (
            ("slurm", [], "cpu"),
            ("slurm", ["hydra.launcher.gres=gpu:1"], "gpu"),
            ("slurm", ["hydra.launcher.gpus_per_node=2"], "gpu"),
            ("slurm", ["hydra.launcher.mem_per_gpu=4G"], "cpu"),
            ("slurm", ["+hydra.launcher.additional_parameters.gpus=a100:1"], "gpu"),
            ("joblib", [], ""),
        ):
            overrides = [f"hydra/launcher={launcher}", "action=plan", *asked]
            config = compose("config", overrides, return_hydra_config=True)
            assert lmscale_sweeper._device_elsewhere(config) == device, asked


def test_joblib_has_a_worker_a_card_and_a_core_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with initialize_config_module("sweeps", version_base="1.3"):
        for device, launcher, cards in (
            ("gpu", "joblib", ["0", "3"]),
            ("gpu", "basic", []),
            ("cpu", "joblib", []),
        ):
            overrides = [f"pack.device={device}", f"hydra/launcher={launcher}"]
            config = compose("config", overrides, return_hydra_config=True)
            assert lmscale_sweeper._cards(config) == cards


def test_what_is_composed_is_what_is_built(composed: Any) -> None:
    configs = {values["part"]: build(SweepConfig, values) for values in composed("experiment=ladders")}
    assert list(configs) == ["text", "known", "tasks"]
    assert [config.data.markov_order for config in configs.values()] == [None, 3, None]
    assert [config.tasks.weight for config in configs.values()] == [0.0, 0.0, 0.25]
    tasks = configs["tasks"]
    assert tasks.dial == SweepConfig(name="cpu").dial and tasks.seed == (3, 4, 5)
    # the runs of the former default: another id would train them again
    former = SweepConfig(name="cpu", horizon=HorizonConfig(multiples=(1.0,)))
    assert (tasks.family, tasks.data, tasks.horizon, tasks.evaluation, tasks.target) == (
        former.family,
        former.data,
        former.horizon,
        former.evaluation,
        former.target,
    )
