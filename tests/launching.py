"""The application as tests start it: a tiny ladder, as a process of its own or composed here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "experiment=smoke",
    "dial=[8]",
    "horizon.dial=8",
    "horizon.tokens=3e4",
    "horizon.multiples=[1.0]",
    "schedule.warmup_steps=5",
    "evaluation.first_tokens=1e4",
    "data.heldout_rows=16",
    "tasks.items=20",
)


def launch(
    folder: Path, corpora: Path, *overrides: str, limit: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the application with its runs in folder/runs. limit: a command of the shell that goes before it."""
    command = [sys.executable, "-m", "lmscale.launch", *TINY, f"runs={folder}/runs", f"corpora={corpora}"]
    command += overrides
    if limit:
        command = ["bash", "-c", f'{limit}; exec "$@"', "bash", *command]
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)


def composed(*overrides: str) -> dict[str, Any]:
    """The tiny ladder's configuration, as the application gets it."""
    with initialize_config_module("sweeps", version_base="1.3"):
        values = OmegaConf.to_container(compose("config", [*TINY, *overrides]), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def sweep_here(
    values: dict[str, Any], folder: Path, fault: str = "", elsewhere: str = "", **changes: Any
) -> int:
    """The sweep, each job in this process, with faults as LMSCALE_FAULT would name them."""
    from lmscale import faults, stopping, sweep, worker

    values = {**values, "runs": str(folder), **changes}

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
        with pytest.MonkeyPatch.context() as patch:
            # a job ends with the process that started its own: the tests go on when a shell that began them is gone
            patch.setattr(stopping, "_watch", lambda parent: None)
            return sweep.run([values], launch, elsewhere, ["seed=[0]"])
    finally:
        faults._plan = None


def without_clock(path: Path) -> bytes:
    """The content of a file that two sweeps should share: all but the time at which a pack was frozen, the
    overrides, which name the folder, and who trained a run."""
    if path.name == "provenance.json":
        return b"there"
    if path.name == "pack.json":
        kept = json.loads(path.read_bytes())
        return json.dumps({name: value for name, value in kept.items() if name != "overrides"}).encode()
    return re.sub(rb'"frozen_at":"[^"]*",', b"", path.read_bytes())
