"""Experiment gpu with its forecast: written before the largest rung is trained, compared after (`gpu ladder`)."""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import default
from benchmarks.gpu_right import Item, on_cpu
from lmscale.config import SweepConfig
from lmscale.data import scan
from lmscale.plan import run_specs

# Small enough that every shape is compiled, trained and evaluated in seconds: nothing of a program depends on it.
SHORT = ("name=ahead", "schedule.warmup_steps=1", "horizon.tokens=4e6")
PROCESSES = 6


class Ladder:
    """The sweep of these overrides. left: seconds that its slices may still take."""

    def __init__(self, folder: Path, overrides: Sequence[str], left: Callable[[], float]) -> None:
        runs, corpora = (folder / "runs", folder / "corpora") if on_cpu() else (Path("runs"), Path("corpora"))
        start = ["experiment=smoke", "dial=[8,16,24]", "seed=[0,1]"] if on_cpu() else ["experiment=gpu"]
        self.overrides = [*start, *overrides, f"runs={runs}", f"corpora={corpora}"]
        self.config: SweepConfig = default.config(*self.overrides)
        self.largest = max(self.config.dial)
        self.folder, self.left = runs / self.config.name, left
        self.broken = False  # whether a step failed in this call: none that builds on it is taken

    def items(self) -> Iterator[Item]:
        smaller = [dial for dial in self.config.dial if dial != self.largest]
        below = f"dial={smaller}".replace(" ", "")
        one_seed = [dial for dial in self.config.one_seed if dial != self.largest]
        rungs = (below, f"one_seed={one_seed}".replace(" ", ""))
        train = functools.partial(self.train, *rungs)
        yield Item("the rungs below the largest", "ladder", train, lambda: self.train(*SHORT))
        yield Item("the forecast of the largest, before it", "ladder", self.forecast)
        yield Item("the largest rung", "ladder", self.train)
        yield Item("the forecast against it", "ladder", self.compare)
        yield Item("the report", "ladder", self.report)

    def train(self, *more: str) -> dict[str, Any]:
        """A slice of the sweep, ended by Ctrl-C when the time is over; its packs are trained side by side."""
        self._needs(not self.broken, "a step before it failed")
        command = [sys.executable, "-m", "lmscale.launch", *self.overrides, *more]
        if not on_cpu():
            command += ["pack.device=gpu", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={PROCESSES}"]
        child = subprocess.Popen(command)
        try:
            code = child.wait(max(1.0, self.left()))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
            code = child.wait()
        done = len(list(self.folder.glob("*/outcome.json")))
        row = {"runs with an outcome": done, "exit code": code}
        self.broken = code != 0
        return row if code == 0 else row | {"again": "run this part again: it goes on"}

    def forecast(self) -> dict[str, Any]:
        """Of every horizon of the largest rung, by all that is below it; not once that rung has been begun."""
        self._needs(not self.broken, "a step before it failed")
        self._needs(not self._begun(), "the largest rung was begun before its forecast was written")
        manifest = scan(self.config.data, self.config.tasks, Path(self.config.corpora))
        targets = [
            f"--at=params={sum(spec.params.values())},tokens={spec.horizon_tokens}"
            for spec in run_specs(self.config, manifest)
            if spec.dial == self.largest and spec.horizon_tokens and spec.seed == self.config.seed[0]
        ]
        command = ["extrapolate", str(self.folder), *targets, "--json", "-"]
        self.broken = True
        answer = self._analysis(*command)
        self.broken = False
        return {"written": datetime.now(UTC).isoformat(timespec="seconds"), "forecast": json.loads(answer)}

    def compare(self) -> dict[str, Any]:
        """Every horizon of the largest rung: its loss. The forecast is the line above."""
        rows = self._rows()
        self._needs(bool(rows), "the largest rung has no finished run")
        return {"runs": rows}

    def report(self) -> dict[str, Any]:
        return {"report": self._analysis("report", str(self.folder)).splitlines()}

    def _rows(self) -> list[dict[str, Any]]:
        """The finished runs of the largest rung."""
        from analysis import load_table

        if not list(self.folder.glob("*/outcome.json")):
            return []
        table = load_table(str(self.folder))
        table = table[(table["dial"] == self.largest) & table["final"]].sort_values("tokens")
        return json.loads(table[["params", "tokens", "flops", "loss"]].to_json(orient="records"))

    def _begun(self) -> bool:
        """Whether a sweep with the largest rung has been started here: it writes what it is to train at once."""
        specs = (json.loads(path.read_text()) for path in self.folder.glob("*/spec.json"))
        return any(spec["dial"] == self.largest for spec in specs)

    def _needs(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            raise RuntimeError(otherwise)

    def _analysis(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "analysis", *arguments]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        self._needs(done.returncode == 0, done.stderr.strip())
        return done.stdout
