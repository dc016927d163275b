"""Two processes of four devices each train one run: killed, started again, and counted."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import ROOT
from safetensors.numpy import load_file

from lmscale import processes
from lmscale.errors import UserError
from lmscale.faults import VARIABLE
from lmscale.kept import MODEL

pytestmark = pytest.mark.alone

TINY = (
    "experiment=smoke",
    "hydra/launcher=basic",
    "dial=[8]",
    "seed=[0]",
    "family.n_layer=1",
    "data.rows=5",
    "horizon={tokens: 1e4, dial: 8, multiples: [1.0]}",
    "schedule.warmup_steps=5",
    "evaluation={first_tokens: 4e3, per_doubling: 1}",
    "data.heldout_rows=64",
    "tasks.items=20",
    "pack.steps=2",
    "pack.checkpoint_seconds=0.01",
)


def start(folder: Path, corpora: Path, devices: int, *overrides: str, **variables: str) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [
        sys.executable,
        "-m",
        "lmscale.launch",
        *TINY,
        f"runs={folder}",
        f"corpora={corpora}",
        *overrides,
    ]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **variables}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def together(folder: Path, corpora: Path, *overrides: str, faults: tuple[str, str]) -> list[tuple[int, str]]:
    """Start two processes of four devices; the exit status of each, and what it said."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [
        start(
            folder,
            corpora,
            4,
            *overrides,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(number),
            **{VARIABLE: fault},
        )
        for number, fault in enumerate(faults)
    ]
    said = [process.communicate(timeout=900)[1] for process in both]
    return [(process.returncode, text) for process, text in zip(both, said, strict=True)]


def losses(folder: Path) -> dict[str, Any]:
    return {
        path.parent.name: [list(json.loads(line)["loss"].values()) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("smoke/*/records.jsonl"))
    }


@pytest.mark.slow
def test_a_run_goes_on_after_a_process_was_killed_and_has_the_losses_of_one_device(
    tmp_path: Path, corpora: Path
) -> None:
    """The branch begins from the parts of its trunk's checkpoint, which two processes have written."""
    alone = start(tmp_path / "one", corpora, 1)
    alone.communicate(timeout=900)
    assert alone.returncode == 0
    folder = tmp_path / "two"
    killed, left = together(
        folder, corpora, "mesh={data: 4, model: 2}", faults=("checkpoint.renamed:2=kill", "")
    )
    assert killed[0] == -9 and left[0] != 0
    assert (
        len(list(folder.glob("smoke/packs/*/*.ckpt"))) == len(list(folder.glob("smoke/packs/*/*.part"))) == 2
    )
    ended = together(folder, corpora, "mesh.data=8", faults=("", ""))
    assert [status for status, _ in ended] == [0, 0], ended
    found, expected = losses(folder), losses(tmp_path / "one")
    assert found.keys() == expected.keys() and len(found) == 2
    for run in expected:
        np.testing.assert_allclose(found[run], expected[run], rtol=0, atol=1e-5)
    for run in expected:  # what no process had whole is kept whole
        one, two = (load_file(place / "smoke" / run / MODEL) for place in (tmp_path / "one", folder))
        assert one.keys() == two.keys()
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, rtol=0, atol=1e-3, err_msg=name)
    meshes = [json.loads(path.read_text())["mesh"] for path in folder.glob("smoke/*/execution.json")]
    assert sorted([entry["data"] for entry in mesh] for mesh in meshes) == [[4, 8], [8]]


def test_processes_are_counted_by_slurm_or_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "1")  # of a batch script: no step of several tasks
    assert (processes.count(), processes.index(), processes.leads()) == (1, 0, True)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert (processes.count(), processes.index()) == (4, 1)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    assert (processes.count(), processes.index()) == (2, 0)
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES=2: give JAX_COORDINATOR_ADDRESS too"):
        processes.join()
    assert processes.agree({"alone": 1}) == {"alone": 1}
