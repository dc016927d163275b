"""Follow a folder of runs while others write it: what each run has done, read from where the last look ended.

Nothing is locked and nothing written. A line that is half written is read when it is whole; what cannot be read
is passed over, for it may be whole at the next look.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.tables.run_folder import PARTS

# Seconds after which a claim without a heartbeat counts as silent: its holder beats every ten.
SILENT = 60.0
# Points of a curve that are kept; then every other one goes.
MOST_POINTS = 400


@dataclass
class Lines:
    """A file of JSON lines that grows; `new` gives what came since the last look."""

    path: Path
    offset: int = 0
    stamp: tuple[int, int] = (0, 0)

    def new(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the whole new lines that are JSON objects, and True where the file has begun anew."""
        try:
            stat = self.path.stat()
        except OSError:
            return [], False
        stamp = (stat.st_size, stat.st_mtime_ns)
        if stamp == self.stamp:
            return [], False
        # A resumed run is cut back to its checkpoint and grows again.
        anew = stat.st_size < self.offset
        self.offset, self.stamp = (0 if anew else self.offset), stamp
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read()
        except OSError:
            return [], anew
        whole = content[: content.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [line for line in map(_object, whole.splitlines()) if line], anew


@dataclass
class Run:
    """One run: what its spec plans, and what its files have said so far."""

    run_id: str
    spec: Mapping[str, Any]
    part: str
    records: Lines
    timing: Lines
    state: str = "queued"  # or running, silent, done, diverged, failed
    reason: str = ""
    step: int = 0
    end_step: int | None = None
    tokens_per_second: float = math.nan
    worker: tuple[object, ...] | None = None
    evaluated: list[tuple[float, float]] = field(default_factory=list)  # tokens, loss
    trained: list[tuple[float, float]] = field(default_factory=list)  # tokens, loss of the batch

    @property
    def batch(self) -> float:
        """Tokens of a step."""
        return _number(self.spec.get("batch_tokens"), 0.0)

    @property
    def params(self) -> float:
        """All parameters."""
        groups = self.spec.get("params")
        return sum(_number(v, 0.0) for v in groups.values()) if isinstance(groups, dict) else math.nan

    @property
    def rung(self) -> float:
        """What its size is called: the dial, or else the parameters."""
        return _number(self.spec.get("dial"), self.params)

    @property
    def first_step(self) -> int:
        """The step it begins at: a branch goes on where its trunk was."""
        return int(_number(self.spec.get("decay_start"), 0.0)) if self.spec.get("kind") == "branch" else 0

    @property
    def planned(self) -> float:
        """Tokens that it is to see itself (NaN for a trunk that has not begun: its branches say how far)."""
        end = self.spec.get("horizon_steps") or self.end_step
        if end is None and (horizon := self.spec.get("horizon_tokens")) and self.batch:
            end = _number(horizon, 0.0) / self.batch
        return math.nan if end is None else max(0.0, (_number(end, 0.0) - self.first_step) * self.batch)

    @property
    def planned_in_all(self) -> float:
        """Tokens of its whole schedule, a trunk's before it included; NaN for a trunk, which is no horizon."""
        return math.nan if self.spec.get("kind") == "trunk" else self.planned + self.first_step * self.batch

    @property
    def seen(self) -> float:
        """Tokens that it has seen itself."""
        if self.state == "done" and math.isfinite(self.planned):
            return self.planned
        return max(0.0, (self.step - self.first_step) * self.batch)

    @property
    def ended(self) -> bool:
        """True where it has an outcome."""
        return self.state in ("done", "diverged", "failed")


@dataclass
class Ladder:
    """All runs of a folder, by id; `version` counts the looks that found something new."""

    folder: Path
    runs: dict[str, Run] = field(default_factory=dict)
    version: int = 0
    looked: float = 0.0
    there: bool = False
    _stamps: dict[Path, int] = field(default_factory=dict)
    _held: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def look(self) -> None:
        """Read what has changed since the last look."""
        self.looked = time.time()
        before = self.there
        self.there = self.folder.is_dir()
        changed = before != self.there
        if self.there:
            changed |= self._new_runs()
            for run in self.runs.values():
                changed |= self._read(run)
            changed |= self._claims()
        self.version += changed

    def _new_runs(self) -> bool:
        parts = self._changed(self.folder / PARTS) or {}
        for run_id, part in parts.items():
            if run_id in self.runs:
                self.runs[run_id].part = str(part)
        found = False
        for path in self.folder.glob("*/spec.json"):
            name = path.parent.name
            spec = None if name in self.runs else read_object(path)
            if spec is None:
                continue
            part = (parts or read_object(self.folder / PARTS) or {}).get(name, "")
            lines = (Lines(path.parent / "records.jsonl"), Lines(path.parent / "timing.jsonl"))
            self.runs[name] = Run(name, spec, str(part), *lines)
            found = True
        for run in self.runs.values() if found else ():
            trunk = self.runs.get(str(run.spec.get("trunk")))
            if trunk is not None:  # it goes on for as long as a branch needs it
                trunk.end_step = max(trunk.end_step or 0, run.first_step)
        return found

    def _read(self, run: Run) -> bool:
        """Read what a run's own files have new."""
        records, anew = run.records.new()
        if anew:
            run.evaluated.clear()
        data = run.spec.get("data")
        primary = data.get("primary", "total") if isinstance(data, dict) else "total"
        for record in records:
            loss = record.get("loss")
            value = loss.get(primary) if isinstance(loss, dict) else None
            run.evaluated.append((_number(record.get("tokens"), math.nan), _number(value, math.nan)))
            run.step = max(run.step, int(_number(record.get("step"), 0.0)))
        timing, _ = run.timing.new()
        for line in timing:
            run.step = int(_number(line.get("step"), run.step))
            run.end_step = int(_number(line.get("end_step"), 0.0)) or run.end_step
            run.tokens_per_second = _number(line.get("tokens_per_second"), math.nan)
            run.worker = (line.get("host"), line.get("process"))
            run.trained.append((run.step * run.batch, _number(line.get("train_loss"), math.nan)))
        if len(run.trained) > MOST_POINTS:
            run.trained = run.trained[::2]
        path = self.folder / run.run_id / "outcome.json"
        outcome = self._changed(path)
        if outcome is not None:
            said = outcome.get("outcome")
            run.state = said if said in ("done", "diverged", "failed") else "queued"
            run.reason = str(outcome.get("reason") or "")
            run.step = max(run.step, int(_number(outcome.get("step"), 0.0)))
        elif run.ended and not path.exists():  # to be tried again, or a trunk that goes on
            run.state = "queued"
            self._stamps.pop(path, None)
            return True
        return bool(records or timing or outcome)

    def _claims(self) -> bool:
        """Read which packs are held, by their claims' files and heartbeats."""
        states: dict[str, str] = {}
        for folder in self.folder.glob("packs/*/claims"):
            numbers = sorted(p for p in folder.glob("*.json") if not p.name.endswith(".end.json"))
            if not numbers or numbers[-1].with_suffix(".end.json").exists():
                self._held.pop(folder.parent.name, None)
                continue
            claim = self._changed(numbers[-1])
            if claim is not None or folder.parent.name not in self._held:
                lanes = (claim or read_object(numbers[-1]) or {}).get("lanes", ())
                self._held[folder.parent.name] = tuple(map(str, lanes if isinstance(lanes, list) else ()))
            try:
                beat = numbers[-1].stat().st_mtime
            except OSError:
                continue
            state = "running" if time.time() - beat < SILENT else "silent"
            held = self._held[folder.parent.name]
            states |= dict.fromkeys(held, state)
            first = self.runs.get(held[0]) if held else None
            for lane in held[1:]:  # the first lane's file has the pack's time
                run = self.runs.get(lane)
                if run is not None and first is not None and not run.timing.offset:
                    run.step, run.end_step, run.worker = first.step, first.end_step, first.worker
        changed = False
        for run in self.runs.values():
            state = run.state if run.ended else states.get(run.run_id, "queued")
            changed |= state != run.state
            run.state = state
        return changed

    def _changed(self, path: Path) -> dict[str, Any] | None:
        """Read a JSON object if its file is another than at the last look."""
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return None
        if self._stamps.get(path) == stamp:
            return None
        found = read_object(path)
        if found is not None:
            self._stamps[path] = stamp
        return found


def seconds_left(runs: Iterable[Run]) -> float:
    """Estimate the seconds that the runs without an outcome need, at the speeds seen; NaN where none was.

    A rung that has not run yet is taken to need the operations per token that its parameters say, at the highest
    rate of parameters times tokens that was seen. As many processes go on as do now.
    """
    runs = list(runs)
    speeds = {run.rung: run.tokens_per_second for run in runs if run.tokens_per_second > 0}
    work = [run.params * run.tokens_per_second for run in runs if run.tokens_per_second > 0]
    going = {run.worker for run in runs if run.state == "running" and run.worker is not None}
    left = [(run, run.planned - run.seen) for run in runs if not run.ended]
    if not going or not speeds:
        return math.nan
    known = [(run, tokens) for run, tokens in left if tokens > 0]
    seconds = (tokens / speeds.get(run.rung, max(work) / run.params) for run, tokens in known)
    return sum(seconds) / len(going)


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none, yet or any more."""
    try:
        return _object(path.read_bytes())
    except OSError:
        return None


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _number(value: Any, default: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else default
