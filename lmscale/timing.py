"""The progress of a pack in clock time: timing.jsonl of its runs, which the display and the plan read.

Never read back by training: nothing here decides a result.
"""

import contextlib
import json
import os
import resource
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmscale import processes
from lmscale.guard import PATIENCE
from lmscale.plan import Pack

EVERY = 2.0  # seconds between two lines


@dataclass
class Clock:
    """Seconds of this process by what they went to. saving: what training waited; a thread does the rest."""

    began: float = field(default_factory=time.perf_counter)
    data: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0


class Timer:
    """Appends a line every few seconds and at the end.

    It reads the metrics of the dispatch before the last: so the device always has its next work before the
    host waits, and the host is never more than one dispatch ahead.
    """

    def __init__(self, folder: Path, pack: Pack, steps: np.ndarray) -> None:
        self.folder, self.pack = folder, pack
        self.at, self.steps = time.perf_counter(), steps
        self.waiting: deque[Any] = deque()
        self.loss: float | None = None
        self.diverged: np.ndarray | None = None  # [lanes], as of the dispatch before the last

    def tick(self, steps: np.ndarray, metrics: Any, clock: Clock) -> None:
        """Take the metrics of the dispatch before the last, and write a line when it is time."""
        self.waiting.append(metrics)
        if len(self.waiting) > 1:
            ready = self.waiting.popleft()
            self.loss = float(np.mean(np.asarray(ready.total)))
            self.diverged = np.asarray(ready.skipped_in_row) >= PATIENCE
        if time.perf_counter() - self.at > EVERY:
            self.write(steps, clock)

    def write(self, steps: np.ndarray, clock: Clock) -> None:
        """Write a line: the step that the pack is at, and its speed since the line before. A line that cannot be
        written is left out: nothing depends on it. Of several processes the first writes."""
        now = time.perf_counter()
        spec = self.pack.runs[0]
        rate = int((steps - self.steps).sum()) * spec.batch_tokens / max(now - self.at, 1e-9)
        line = {
            "step": int(steps.max()),
            "end_step": max(self.pack.end_steps),
            "seconds": round(now - clock.began, 3),
            "data_seconds": round(clock.data, 3),
            "evaluation_seconds": round(clock.evaluating, 3),
            "saving_seconds": round(clock.saving, 3),
            "tokens_per_second": round(rate),
            "flops_per_second": rate * spec.flops_per_token,
            "memory_bytes": _memory(),
            "train_loss": self.loss if self.loss is None or np.isfinite(self.loss) else None,
            "process": os.getpid(),
        }
        for run in self.pack.runs if processes.leads() else ():
            with (
                contextlib.suppress(OSError),
                (self.folder / run.run_id / "timing.jsonl").open("a") as file,
            ):
                file.write(json.dumps(line) + "\n")
        self.at, self.steps = now, steps


def _memory() -> int:
    """Peak bytes: of the accelerator, or of this process on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return int(stats.get("peak_bytes_in_use", 0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
