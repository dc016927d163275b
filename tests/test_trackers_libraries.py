"""With the trackers' own libraries: a sweep is trained, sent on, and comes back as the same table; real exports
whole and damaged. Libraries are used in processes of their own, for what they do at import and at exit."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from launching import ROOT, launch

from analysis import load_table
from analysis.errors import UserError
from analysis.sources import mlflow, wandb
from analysis.sources.registry import read_source, source_of
from analysis.sources.run import TrackedRun

pytestmark = pytest.mark.slow
LADDER = ("horizon.multiples=[0.5,1.0]", "hydra.launcher.n_jobs=1")
COLUMNS = ("params", "params_nonembedding", "tokens", "flops", "loss", "seed", "step", "learning_rate")


def python(code: str, folder: Path, **environment: str) -> None:
    """Run code in a process in `folder`."""
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "MLFLOW_DISABLE_TELEMETRY": "true", **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def needs(library: str) -> None:
    pytest.importorskip(library, reason=f"the extra {library} is not installed: it is not tried")


def runs_in(path: Path) -> list[TrackedRun]:
    source = source_of(path)
    assert source is not None
    read = read_source(path, source)
    assert isinstance(read, list)
    return read


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpora: Path) -> Path:
    """A tiny ladder, trained with TensorBoard's tracker."""
    needs("tensorboard")
    folder = tmp_path_factory.mktemp("trained")
    done = launch(folder, corpora, *LADDER, "tracker=tensorboard")
    assert done.returncode == 0, done.stderr
    assert "training goes on" not in done.stdout
    return folder


def start_again(trained: Path, corpora: Path, kind: str) -> None:
    """Start the finished sweep again with a tracker: nothing is trained, and what it has not got is sent."""
    done = launch(trained, corpora, *LADDER, f"tracker={kind}")
    assert done.returncode == 0, done.stderr
    assert "3 done before" in done.stdout
    assert "training goes on" not in done.stdout, done.stdout


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_round_trip_gives_the_same_table(trained: Path, corpora: Path, kind: str) -> None:
    """TensorBoard's scalars are float32; MLflow's and W&B's float64, so that theirs are exact."""
    needs(kind)
    folder = trained / "runs" / "smoke" / kind
    if kind != "tensorboard":
        start_again(trained, corpora, kind)
    before = {path: path.stat().st_size for path in folder.rglob("*events*")}
    ours, back = load_table(trained / "runs" / "smoke"), load_table(folder)
    back["run_id"] = back["run_id"].str.rpartition("-")[2]
    key = ["run_id", "step"]
    ours, back = (table.sort_values(key).reset_index(drop=True) for table in (ours, back))
    assert len(back) == len(ours) >= 4
    assert back["final"].tolist() == ours["final"].tolist()
    assert ours["final"].sum() == 2
    groups = {run.config["run_id"]: run.group for run in runs_in(folder)}
    assert groups == dict(zip(ours["run_id"], ours["group"], strict=True))
    rtol = 1e-6 if kind == "tensorboard" else 0
    for column in COLUMNS:
        found, true = (table[column].to_numpy(float) for table in (back, ours))
        np.testing.assert_allclose(found, true, rtol=rtol, err_msg=column)
    if kind == "tensorboard":  # a start that finds nothing new writes nothing
        start_again(trained, corpora, kind)
        assert {path: path.stat().st_size for path in folder.rglob("*events*")} == before


def test_a_tracker_that_raises_in_every_call_stops_nothing(
    tmp_path: Path, trained: Path, corpora: Path
) -> None:
    library = tmp_path / "libraries" / "wandb"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(
        "def __getattr__(name):\n"
        "    def fail(*arguments, **options):\n"
        "        raise RuntimeError('no ' + name)\n"
        "    if name.startswith('__'):\n"
        "        raise AttributeError(name)\n"
        "    return fail\n"
    )
    path = os.pathsep.join([str(library.parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    shutil.copytree(trained / "runs", tmp_path / "runs")
    more = ("horizon.multiples=[0.4,0.5,1.0]", LADDER[1])
    done = launch(tmp_path, corpora, *more, "tracker=wandb", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stdout.splitlines() if "training goes on" in line]
    assert len(warned) == 1
    assert "RuntimeError: no " in warned[0]
    ends = [path.read_text() for path in (tmp_path / "runs" / "smoke").glob("*/outcome.json")]
    assert [json.loads(end)["outcome"] for end in ends] == ["done"] * 4


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of MLflow's stores, by MLflow: two runs, of which one is still open, one deleted."""
    needs("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    code = """
        import math, mlflow
        for uri in ("sqlite:///store.db", "file:" + FOLDER + "/mlruns"):
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("ladder")
            for number, name in enumerate(("small", "large", "gone")):
                run = mlflow.start_run(run_name=name)
                mlflow.log_params({"params": 1000 * (number + 1), "seed": 3, "optim.kind": "adam", "note": "a b"})
                for step in (0, 10, 20, 10, 20, 30):
                    mlflow.log_metrics({"val/loss": 4 / (step + 1 + number), "train_loss": 1 / 3}, step=step)
                mlflow.log_metric("grad", math.nan, step=0)
                mlflow.end_run() if name != "large" else mlflow.end_run("KILLED")
                if name == "gone":
                    mlflow.delete_run(run.info.run_id)
    """
    allowed = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_FILE_STORE_WARNING": "true"}
    python(f"FOLDER = {str(folder)!r}\n" + textwrap.dedent(code), folder, **allowed)
    return folder


@pytest.mark.parametrize("name", ["store.db", "mlruns"])
def test_the_stores_of_mlflow(stores: Path, name: str) -> None:
    assert source_of(stores / name).kind == "mlflow"
    runs = {run.name: run for run in runs_in(stores / name)}
    assert set(runs) == {"small", "large"}
    small, large = runs["small"], runs["large"]
    assert (small.finished, large.finished) == (True, False)
    told = {name: small.config[name] for name in ("params", "seed", "optim.kind", "note")}
    assert told == {"params": 1000, "seed": 3, "optim.kind": "adam", "note": "a b"}
    rows = large.history[["step", "val/loss"]].dropna()
    assert rows["step"].tolist() == [0, 10, 20, 10, 20, 30]  # the restart's rows stay
    assert rows["val/loss"].tolist() == [4 / (step + 2) for step in (0, 10, 20, 10, 20, 30)]


def test_damaged_stores_of_mlflow_are_one_line(stores: Path, tmp_path: Path) -> None:
    content = (stores / "store.db").read_bytes()
    cut = tmp_path / "cut.db"
    cut.write_bytes(content[: len(content) // 3])
    torn = tmp_path / "torn.db"
    torn.write_bytes(content[:8192] + bytes(len(content) - 8192))
    empty = tmp_path / "empty.db"
    shutil.copy(stores / "store.db", empty)
    with sqlite3.connect(empty) as database:
        database.execute("delete from runs")
    database.close()
    for path in (cut, torn, empty):
        with pytest.raises(UserError) as error:
            mlflow.read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_damaged_line_of_the_file_store_costs_that_line(stores: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stores / "mlruns", tmp_path / "mlruns"))
    for path in folder.glob("*/*/metrics/val/loss"):
        path.write_text(path.read_text()[:-9] + "\n")
    for run in runs_in(folder):
        assert len(run.history["val/loss"].dropna()) == 5
        assert "line 6: not a time, a value and a step" in run.notes[0]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offline runs by W&B: a plain one, one by epochs that a restart goes on with, one that failed."""
    needs("wandb")
    folder = tmp_path_factory.mktemp("wandb")
    code = """
        import wandb
        quiet = wandb.Settings(console="off", silent=True)
        config = {"model": {"params": 1000, "name": "tiny"}, "seed": 1}
        run = wandb.init(project="p", id="aaa", name="plain", group="g", config=config, settings=quiet)
        for step in range(3000):
            run.log({"val/loss": 4 / (step + 1), "text": "words"})
        run.config.update({"late": 2})
        run.finish()
        for epochs in ((1, 2, 3), (3, 4)):
            run = wandb.init(project="p", id="bbb", name="epochs", resume="allow", settings=quiet)
            run.define_metric("*", step_metric="epoch")
            for epoch in epochs:
                run.log({"epoch": epoch, "val/loss": 1 / epoch})
            run.finish()
            import time; time.sleep(1.1)  # the folders are named after the second
        wandb.init(project="p", id="ccc", name="failed", settings=quiet).finish(exit_code=1)
    """
    python(code, folder, WANDB_MODE="offline", WANDB_ERROR_REPORTING="false")
    return folder


def test_the_offline_folders_of_wandb(offline: Path) -> None:
    assert source_of(offline).kind == "wandb"
    runs = {run.name: run for run in runs_in(offline)}
    assert set(runs) == {"plain", "epochs", "failed"}
    plain, epochs = runs["plain"], runs["epochs"]
    assert {name: run.finished for name, run in runs.items()} == {
        "plain": True,
        "epochs": True,
        "failed": False,
    }
    assert (plain.group, plain.config["model.params"], plain.config["late"]) == ("g", 1000, 2)
    assert list(plain.history.columns) == ["step", "val/loss"]
    assert plain.history["step"].tolist() == list(range(3000))  # more than a block of the log
    assert plain.history["val/loss"].tolist() == [4 / (step + 1) for step in range(3000)]
    assert epochs.history[["step", "val/loss"]].to_numpy().tolist() == [
        [epoch, 1 / epoch] for epoch in (1, 2, 3, 3, 4)
    ]


@pytest.mark.parametrize("damage", ["cut", "bit", "header"])
def test_damaged_logs_of_wandb(offline: Path, tmp_path: Path, damage: str) -> None:
    (source,) = offline.glob("wandb/offline-run-*/run-aaa.wandb")
    content = bytearray(source.read_bytes())
    path = tmp_path / source.name
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "bit":
        content[len(content) // 2] ^= 1
    else:
        content = content[:40]
    path.write_bytes(content)
    if damage == "header":
        with pytest.raises(UserError, match=r"no history in these logs; .*cut off or damaged after record 0"):
            wandb.read(path)
        return
    (run,) = runs_in(path)
    count = len(run.history)
    assert 1000 < count < 2000
    assert run.history["val/loss"].tolist() == [4 / (step + 1) for step in range(count)]
    assert run.finished is False
    assert "cut off or damaged after record" in run.notes[0]


def test_torchs_writer(tmp_path: Path) -> None:
    """What the Trainer of transformers leaves: scalars, and its arguments as JSON text."""
    needs("torch")
    needs("tensorboard")
    code = """
        import json
        from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter("runs/a")
        writer.add_text("args", json.dumps({"learning_rate": 1e-4, "seed": 5}))
        for step in (10, 20):
            writer.add_scalar("eval/loss", 30 / step, step)
            writer.add_scalar("new", 0.1, step, new_style=True)
            writer.add_histogram("weights", __import__("numpy").arange(9.0), step)
        writer.add_hparams({"params": 1000, "optim": "adam"}, {"hparam/loss": 1.5})
        writer.close()
    """
    python(code, tmp_path)
    assert source_of(tmp_path / "runs").kind == "tensorboard"
    (run,) = runs_in(tmp_path / "runs")
    assert run.name == "a"
    assert run.history[["step", "eval/loss"]].dropna().to_numpy().tolist() == [[10, 3.0], [20, 1.5]]
    assert run.history["new"].dropna().tolist() == [float(np.float32(0.1))] * 2
    wanted = {"learning_rate": 1e-4, "seed": 5, "params": 1000, "optim": "adam"}
    assert {name: run.config[name] for name in wanted} == wanted
    assert isinstance(run.history, pd.DataFrame)
