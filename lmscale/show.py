"""What a person sees of a sweep in the terminal: the plan, the ledger, the progress. Reads; decides nothing."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lmscale.data.manifest import passes
from lmscale.errors import UserError
from lmscale.family import parameter_conventions
from lmscale.ledger import Ledger
from lmscale.plan import Pack, Plan, RunSpec
from lmscale.records import read_json, write_json

SPEEDS = "speeds.json"
PLURAL = {"run": "runs", "trunk": "trunks", "branch": "branches"}


def speed_key(pack: Pack) -> str:
    """What a measured speed belongs to: the shape, the batch, the lanes and the device."""
    run = pack.runs[0]
    shape = f"{run.n_layer}x{run.d_model}h{run.n_head}t{run.context}"
    return f"{pack.execution['device']} {shape} batch {run.batch_tokens} lanes {len(pack.runs)}"


def speeds_of(runs: Path) -> dict[str, float]:
    """Tokens per second of packs trained before, by `speed_key`."""
    path = runs / SPEEDS
    return read_json(path) if path.exists() else {}


def record_speeds(folder: Path, packs: Iterable[Pack]) -> None:
    """Remember how fast the packs of a sweep went, for the next plan's estimates."""
    speeds = speeds_of(folder.parent)
    for pack in packs:
        line = last_timing(folder, pack)
        if line and line["seconds"] > 5 and (speed := mean_speed(pack, line)):
            speeds[speed_key(pack)] = speed
    write_json(folder.parent / SPEEDS, speeds)


def mean_speed(pack: Pack, line: dict[str, Any]) -> int:
    """Tokens per second from a process's first step to this line, compilation and evaluations included."""
    tokens = (line["step"] - min(pack.start_steps)) * pack.runs[0].batch_tokens * len(pack.runs)
    return max(0, round(tokens / max(line["seconds"], 1e-9)))


def last_timing(folder: Path, pack: Pack) -> dict[str, Any] | None:
    """The last line of a pack's timing.jsonl, if it has one."""
    path = folder / pack.runs[0].run_id / "timing.jsonl"
    try:
        lines = path.read_text().splitlines()
        return json.loads(lines[-1]) if lines else None
    except (OSError, ValueError):
        return None


def plan_table(plan: Plan, folder: Path, speeds: dict[str, float]) -> str:
    """A line a pack and run: sizes, tokens, FLOPs, rate, memory and time ('-' where no speed is known)."""
    header = (
        f"{'wave':<5}{'pack':<14}{'run':<14}{'kind':<8}{'dial':>6}{'layers':>7}{'N':>9}{'N non-emb':>10}"
        f"{'seed':>5}{'D tokens':>10}{'passes':>8}{'C FLOPs':>10}{'rate':>8}{'memory':>9}{'time':>8}  state"
    )
    lines = [header]
    total_flops, known, unknown = 0, 0.0, 0
    for pack in plan.packs:
        speed = speeds.get(speed_key(pack))
        for run, start, end in zip(pack.runs, pack.start_steps, pack.end_steps, strict=True):
            tokens = (end - start) * run.batch_tokens
            seconds = tokens / speed if speed else None
            known += seconds or 0
            unknown += seconds is None
            n, seen = parameter_conventions(run.shape), end * run.batch_tokens
            lines.append(
                f"{pack.wave:<5}{pack.pack_id:<14}{run.run_id:<14}{run.kind:<8}{run.dial:>6}{run.n_layer:>7}"
                f"{_short(n['params']):>9}{_short(n['params_nonembedding']):>10}{run.seed:>5}"
                f"{_short(seen):>10}{passes(seen, run.data):>8.2g}{run.flops_per_token * tokens:>10.2g}"
                f"{run.learning_rate:>8.3g}{_short(memory_bytes(run)) + 'B':>9}{duration(seconds):>8}  "
                f"{_state(folder, run.run_id)}"
            )
        total_flops += pack.flops
    kinds = Counter(run.kind for run in plan.runs.values())
    counts = ", ".join(f"{count} {PLURAL[kind]}" for kind, count in sorted(kinds.items()))
    lines.append(
        f"{len(plan.runs)} runs ({counts}) in {len(plan.packs)} packs, {total_flops:.3g} FLOPs; one process after "
        f"another: {duration(known) if known else '-'}"
        + (f" and {unknown} of unknown time" if unknown else "")
    )
    lines.append(
        "D: tokens at the end, a branch's trunk included. passes: how often D sees each unique token of the "
        "text. C: exact training FLOPs of the run itself. memory: estimate. time: from speeds of earlier sweeps."
    )
    return "\n".join(lines)


def memory_bytes(run: RunSpec) -> int:
    """Estimate of a lane's device memory: parameters, gradient and two moments in float32 (16 bytes each),
    and the activations that the backward pass keeps (Korthikanti et al. 2022, eq. 1, in float32)."""
    rows = run.batch_tokens // run.context
    a_layer = run.batch_tokens * run.d_model * 34 + 5 * run.n_head * rows * run.context**2
    logits = 3 * run.batch_tokens * run.vocab_size
    return 16 * sum(run.params.values()) + 2 * run.n_layer * a_layer + 4 * logits


def status_table(plan: Plan, folder: Path) -> str:
    """The ledger in words: a line for each rung, then what failed or diverged and why."""
    by_rung: dict[tuple[int, str], Counter[str]] = {}
    for run in plan.runs.values():
        by_rung.setdefault((run.dial, run.kind), Counter())[_state(folder, run.run_id)] += 1
    lines = [f"{'dial':>6}  {'kind':<8}runs"]
    for (dial, kind), states in sorted(by_rung.items()):
        lines.append(
            f"{dial:>6}  {kind:<8}" + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        )
    packs = {pack.pack_id: pack for pack in plan.packs}
    for row in Ledger(folder).status():
        if row.pack_id in packs and row.state not in ("finished", "frozen", "released"):
            detail = f": {row.reason}" if row.reason else f" by {row.holder}"
            lines.append(f"pack {row.pack_id} {row.state}{detail}")
    for run_id in plan.runs:
        path = folder / run_id / "outcome.json"
        if path.exists() and (outcome := read_json(path))["outcome"] != "done":
            lines.append(f"run {run_id} {outcome['outcome']}: {outcome['reason']}")
    return "\n".join(lines)


def _state(folder: Path, run_id: str) -> str:
    path = folder / run_id / "outcome.json"
    if path.exists():
        return str(read_json(path)["outcome"])
    return "begun" if (path.parent / "execution.json").exists() else "planned"


def _short(value: float) -> str:
    """1234567 -> 1.23M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as 45s, 12m or 3.4h; '-' where unknown."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 5400 else f"{seconds / 3600:.1f}h"


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
        if self.live:
            self.live.stop()
        try:
            done = self._done() - self.done_before
            record_speeds(self.folder, [pack for pack in self.plan.packs if pack.pack_id in done])
        except UserError:
            if error is None:  # else a full disk would say that of the speeds, and not what it stopped
                raise

    def say(self, text: str) -> None:
        """One plain line, above the table if there is one."""
        if self.live:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def say_once(self, text: str) -> None:
        """A line that would repeat while one waits."""
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
            self.live.update(self._table(done, left))

    def _ended(self, pack: Pack) -> str:
        run, line = pack.runs[0], last_timing(self.folder, pack)
        outcome = read_json(self.folder / run.run_id / "outcome.json")
        tokens = _short(outcome["tokens"]) if outcome["tokens"] else "-"
        loss, speed = (
            ("-", "-") if line is None else (_loss(line["train_loss"]), _short(mean_speed(pack, line)))
        )
        return (
            f"{outcome['outcome']}: {run.kind} dial {run.dial} seed {', '.join(str(r.seed) for r in pack.runs)}"
            f" at {tokens} tokens, train loss {loss}, {speed} tokens/s"
        )

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
        lines = [(p, last_timing(self.folder, p)) for p in self.plan.packs if p.pack_id not in done]
        return [(pack, line) for pack, line in lines if line and line["step"] < line["end_step"]]

    def _table(self, done: set[str], left: str) -> Any:
        from rich.table import Table

        table = Table(title=f"{len(done)} of {len(self.plan.packs)} packs done, {left} left", box=None)
        for name in ("rung", "kind", "seed", "step", "loss", "tokens/s", "GFLOP/s"):
            table.add_column(name, justify="right")
        for pack, line in self._running(done):
            run = pack.runs[0]
            table.add_row(
                str(run.dial),
                run.kind,
                ",".join(str(r.seed) for r in pack.runs),
                f"{line['step']}/{line['end_step']}",
                _loss(line["train_loss"]),
                _short(line["tokens_per_second"]),
                f"{line['flops_per_second'] / 1e9:.1f}",
            )
        return table


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
