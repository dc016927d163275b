"""The progress of a sweep in the terminal. Reads; decides nothing."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lmscale.errors import UserError
from lmscale.jsonfiles import read_json
from lmscale.ledger import Ledger
from lmscale.plan import Pack, Plan
from lmscale.speeds import last_timing, mean_speed, record_speeds
from lmscale.tables import duration, short


class Display:
    """Progress while packs train: a live table in a terminal, else a plain line as each pack ends.

    It reads the run folders from a thread of its own, so it costs training nothing and may fail alone.
    """

    EVERY = 1.0

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.began = time.time()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True, name="display")
        self.done_before = self._done()
        self.said: set[str] = set(self.done_before)
        self.said_once: set[str] = set()
        self.live: Any = None

    def __enter__(self) -> Self:
        runs, done = len(self.plan.runs), sum(len(p.runs) for p in self.plan.packs if p.pack_id in self.said)
        self.say(f"{runs} runs in {len(self.plan.packs)} packs; {done} done before")
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(refresh_per_second=2)
            self.live.start()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()
        self._report()
        self._say_programs()
        if self.live:
            self.live.stop()
        try:
            done = self._done() - self.done_before
            begun = {entry["pack_id"]: entry["execution"] for entry in Ledger(self.folder).frozen()}
            record_speeds(  # of the device that each had, which a plan for other machines did not know
                self.folder,
                [
                    replace(pack, execution=begun.get(pack.pack_id, pack.execution), named=pack.pack_id)
                    for pack in self.plan.packs
                    if pack.pack_id in done
                ],
            )
        except UserError:
            if error is None:  # else a full disk would say that of the speeds, and not what it stopped
                raise

    def say(self, text: str) -> None:
        """Print one plain line, above the table if there is one. A terminal that was closed, or a reader that has
        gone, stops the talk and not the training."""
        try:
            if self.live:
                self.live.console.print(text, markup=False, highlight=False)
            else:
                print(text, flush=True)
        except OSError:
            _hush()

    def say_once(self, text: str) -> None:
        """Print a line that would repeat while one waits, once."""
        if text not in self.said_once:
            self.said_once.add(text)
            self.say(text)

    def _done(self) -> set[str]:
        return {
            pack.pack_id
            for pack in self.plan.packs
            if all((self.folder / run.run_id / "outcome.json").exists() for run in pack.runs)
        }

    def _follow(self) -> None:
        while not self.stop.wait(self.EVERY):
            self._report()

    def _report(self) -> None:
        done = self._done()
        ended = [p for p in self.plan.packs if p.pack_id in done - self.said]
        self.said |= done
        left = self._left(done)
        for pack in ended:
            self.say(f"[{duration(time.time() - self.began):>4}] {self._ended(pack)}; {left} left")
        if self.live:
            with contextlib.suppress(OSError):
                self.live.update(self._table(done, left))

    def _ended(self, pack: Pack) -> str:
        run, line = pack.runs[0], last_timing(self.folder, pack.runs[0].run_id)
        outcome = read_json(self.folder / run.run_id / "outcome.json")
        tokens = short(outcome["tokens"]) if outcome["tokens"] else "-"
        part = f"{self.plan.part_of[run.run_id]} " if run.run_id in self.plan.part_of else ""
        loss, speed = ("-", "-") if line is None else (_loss(line["train_loss"]), short(mean_speed(line)))
        return (
            f"{outcome['outcome']}: {part}{run.kind} dial {run.dial} seed "
            f"{_seeds(pack)} at {tokens} tokens, train loss {loss}, {speed} tokens/s"
        )

    def _say_programs(self) -> None:
        """Say how many programs the packs of this session needed, as their last lines have it."""
        ended = [pack for pack in self.plan.packs if pack.pack_id in self.said - self.done_before]
        lines = [last_timing(self.folder, pack.runs[0].run_id) for pack in ended]
        found = [line["programs"] for line in lines if line]
        if found:
            compiled, read, seconds = (
                sum(one[name] for one in found) for name in ("compiled", "read", "seconds")
            )
            self.say(f"{compiled} programs compiled, {read} read from the cache, {duration(seconds)}")

    def _left(self, done: set[str]) -> str:
        """Time left, from the FLOPs a second of this session; '-' before any is known."""
        now = [pack for pack in self.plan.packs if pack.pack_id in done - self.done_before]
        spent = sum(pack.flops for pack in now)
        left = sum(pack.flops for pack in self.plan.packs if pack.pack_id not in done)
        for pack, line in self._running(done):
            start = min(pack.start_steps)
            share = max(0, line["step"] - start) / max(line["end_step"] - start, 1)
            spent += int(pack.flops * share)
            left -= int(pack.flops * share)
        return duration((time.time() - self.began) * left / spent) if spent else "-"

    def _running(self, done: set[str]) -> Sequence[tuple[Pack, dict[str, Any]]]:
        waiting = [pack for pack in self.plan.packs if pack.pack_id not in done]
        lines = [(pack, last_timing(self.folder, pack.runs[0].run_id)) for pack in waiting]
        return [(pack, line) for pack, line in lines if line and line["step"] < line["end_step"]]

    def _table(self, done: set[str], left: str) -> Any:
        from rich.table import Table
        from rich.text import Text

        every, running = len(self.plan.packs), self._running(done)
        title = f"{len(done)} of {every} packs done" + (f", {left} left" if left != "-" else "")
        if not running:  # a head without rows tells nothing
            return Text(title if len(done) == every else f"{title}; no step yet of the next")
        table = Table(title=title, title_justify="left", box=None)
        for name in ("rung", "kind", "seed", "step", "loss", "tokens/s", "GFLOP/s", "on"):
            table.add_column(name, justify="right")
        for pack, line in running:
            run = pack.runs[0]
            table.add_row(
                str(run.dial),
                run.kind,
                _seeds(pack),
                f"{line['step']}/{line['end_step']}",
                _loss(line["train_loss"]),
                short(line["tokens_per_second"]),
                f"{line['flops_per_second'] / 1e9:.1f}",
                line.get("host", ""),
            )
        return table


def _hush() -> None:
    """Let what is still printed go nowhere: Python would fail at it when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _seeds(pack: Pack) -> str:
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in pack.runs))
    return f"{seeds} ({len(pack.runs)} runs)" if len(pack.runs) > 1 else seeds


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
