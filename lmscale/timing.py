"""The progress of a pack in clock time: timing.jsonl of its runs, which the display and the plan read.

Never read back by training: nothing here decides a result.
"""

import contextlib
import dataclasses
import json
import os
import resource
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmscale import processes
from lmscale.compilations import Programs, programs
from lmscale.guard import PATIENCE
from lmscale.plan import Pack

EVERY = 2.0  # seconds between two lines


@dataclass
class Clock:
    """Seconds of this process by what they went to. saving: what training waited; a thread does the rest. programs:
    those of this process before the pack."""

    began: float = field(default_factory=time.perf_counter)
    data: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0
    programs: Programs = field(default_factory=programs)

    def begin(self) -> None:
        """Count seconds from now on: the pack is at its first step."""
        self.began = time.perf_counter()


class Timer:
    """Appends a line every few seconds and at the end.

    It reads the metrics of the dispatch before the last: so the device always has its next work before the
    host waits, and the host is never more than one dispatch ahead.
    """

    def __init__(self, folder: Path, pack: Pack, steps: np.ndarray) -> None:
        self.folder, self.pack = folder, pack
        self.at, self.steps, self.first_steps = time.perf_counter(), steps, steps
        self.waiting: deque[tuple[Sequence[int], Any]] = deque()
        self.loss: float | None = None
        self.diverged = np.zeros(0, int)  # the runs that had, of those of the dispatch before the last
        self.seen: set[int] = set()  # the runs that had a lane since the last line

    def tick(self, lanes: Sequence[int], steps: np.ndarray, metrics: Any, clock: Clock) -> None:
        """Take the metrics of the dispatch before the last, and write a line when it is time. lanes: whose the
        metrics are. steps: of all runs."""
        self.waiting.append((lanes, metrics))
        self.seen.update(lanes)
        if len(self.waiting) > 1:
            had, ready = self.waiting.popleft()
            self.loss = float(np.mean(np.asarray(ready.total)))
            self.diverged = np.asarray(had)[np.asarray(ready.skipped_in_row) >= PATIENCE]
        if time.perf_counter() - self.at > EVERY:
            self.write(steps, clock)

    def write(self, steps: np.ndarray, clock: Clock) -> None:
        """Write a line: the step that the pack is at, a mean of all its runs, and its speed since the line before.
        A line that cannot be written is left out: nothing depends on it. Of several processes the first writes."""
        now = time.perf_counter()
        spec, done = self.pack.runs[0], programs()
        rate = int((steps - self.steps).sum()) * spec.batch_tokens / max(now - self.at, 1e-9)
        line = {
            "step": int(steps.sum()) // len(steps),
            "end_step": -(-sum(self.pack.end_steps) // len(steps)),
            "tokens": int((steps - self.first_steps).sum()) * spec.batch_tokens,
            "lanes": self.pack.width,
            "seconds": round(now - clock.began, 3),
            "data_seconds": round(clock.data, 3),
            "evaluation_seconds": round(clock.evaluating, 3),
            "saving_seconds": round(clock.saving, 3),
            "tokens_per_second": round(rate),
            "flops_per_second": rate * spec.flops_per_token,
            "memory_bytes": _memory(),
            "train_loss": self.loss if self.loss is None or np.isfinite(self.loss) else None,
            "programs": dataclasses.asdict(done.since(clock.programs)),
            "host": socket.gethostname(),
            "process": os.getpid(),
        }
        for run in {0, *self.seen} if processes.leads() else ():  # of the first one, the pack's
            path = self.folder / self.pack.runs[run].run_id / "timing.jsonl"
            with contextlib.suppress(OSError), path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        self.at, self.steps = now, steps
        self.seen.clear()


def _memory() -> int:
    """Peak bytes: of the accelerator, or of this process on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return int(stats.get("peak_bytes_in_use", 0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
