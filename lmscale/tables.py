"""The plan and the ledger as tables for a terminal. Reads; decides nothing."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lmscale.config import KEEP
from lmscale.data.manifest import passes
from lmscale.errors import UserError
from lmscale.experts import starving
from lmscale.family import parameter_conventions
from lmscale.jsonfiles import read_json
from lmscale.kept import bytes_of, kept_bytes
from lmscale.ledger import Ledger, PackStatus
from lmscale.memory import memory_in
from lmscale.packs import read_pack
from lmscale.plan import Plan
from lmscale.records import read_records
from lmscale.spec import RunSpec
from lmscale.speeds import last_timing, speed_key

PLURAL = {"run": "runs", "trunk": "trunks", "branch": "branches"}


PLAN = (
    *(
        "wave",
        "pack",
        "run",
        "kind",
        "dial",
        "layers",
        "N",
        "N_non-emb",
        "seed",
        "D_tokens",
        "passes",
        "C_FLOPs",
    ),
    *("rate", "memory", "model", "time", "state"),
)
WORDS = ("part", "pack", "run", "kind", "state", "runs")  # columns of words, which begin at the left


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out lines of columns as wide as their widest entry: words to the left, numbers to the right.

    Plain, so that a pipe and a log get what a terminal does; rich.table takes 1.3 s for a thousand runs.
    """
    table = [[name.replace("_", " ") for name in header], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    sides = [str.ljust if name in WORDS else str.rjust for name in header]
    return [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in table
    ]


def plan_table(plan: Plan, folder: Path, speeds: dict[str, float], keep: str = KEEP[0]) -> str:
    """Write a line a pack and run: sizes, tokens, FLOPs, rate, memory, what is kept of its model (`keep`: see
    `PackConfig`), time ('-' where no speed is known)."""
    rows = []
    total_flops, total_kept, known, unknown = 0, 0, 0.0, 0
    parts: dict[str, list[float]] = {}  # runs, FLOPs, seconds
    has_experts = any(run.params_active for run in plan.runs.values())
    for pack in plan.packs:
        speed = speeds.get(speed_key(pack))
        memory = short(memory_in(pack) / (1 if pack.mesh.size > 1 else len(pack.runs))) + "B"
        for run, start, end in zip(pack.runs, pack.start_steps, pack.end_steps, strict=True):
            tokens = (end - start) * run.batch_tokens
            seconds = tokens / speed if speed else None
            known += seconds or 0
            unknown += seconds is None
            flops = run.flops_per_token * tokens
            part = plan.part_of.get(run.run_id, "")
            parts[part] = [
                a + b for a, b in zip(parts.get(part, [0, 0, 0]), [1, flops, seconds or 0], strict=True)
            ]
            active = [short(run.params_active or sum(run.params.values()))] if has_experts else []
            model = kept_bytes(run, keep)
            total_kept += model
            n, seen = parameter_conventions(run.shape), end * run.batch_tokens
            rows.append(
                [
                    *([part] if part else []),
                    str(pack.wave),
                    pack.pack_id,
                    run.run_id,
                    run.kind,
                    str(run.dial),
                    str(run.shape.n_layer),
                    short(n["params"]),
                    short(n["params_nonembedding"]),
                    *active,
                    str(run.seed),
                    short(seen),
                    f"{passes(seen, run.data):.2g}",
                    f"{flops:.2g}",
                    f"{run.learning_rate:.3g}",
                    memory,
                    f"{short(model)}B" if model else "-",
                    duration(seconds),
                    state_of(folder, run.run_id),
                ]
            )
        total_flops += pack.flops
    header = [*(["part"] if plan.part_of else []), *PLAN]
    if has_experts:
        header.insert(header.index("N_non-emb") + 1, "N_active")
    lines = aligned(header, rows)
    for part, (runs, cost, took) in parts.items():
        if part:
            lines.append(f"{part}: {runs} runs, {cost:.3g} FLOPs, {duration(took or None)}")
    kinds = Counter(run.kind for run in plan.runs.values())
    counts = ", ".join(f"{count} {PLURAL[kind]}" for kind, count in sorted(kinds.items()))
    lines.append(
        f"{len(plan.runs)} runs ({counts}) in {len(plan.packs)} packs, {total_flops:.3g} FLOPs; one process after "
        f"another: {duration(known) if known else '-'}"
        + (f" and {unknown} of unknown time" if unknown else "")
        + f"; models kept (pack.keep={keep}): {short(total_kept)}B"
    )
    lines.append(
        "D: tokens at the end, a branch's trunk included. passes: how often D sees each unique token of the "
        "text. C: exact training FLOPs of the run itself. memory: estimate, of a device. model: kept of "
        "its last state. time: from speeds of earlier sweeps."
    )
    return "\n".join(lines)


def status_table(plan: Plan, folder: Path, jobs: Mapping[str, str] | None = None) -> str:
    """Write the ledger in words: a line for each rung; what runs where, and what waits in a scheduler's queue
    (`jobs`: words by pack id); then what failed or diverged and why."""
    by_rung: dict[tuple[str, int, str], Counter[str]] = {}
    for run_id, run in plan.runs.items():
        rung = (plan.part_of.get(run_id, ""), run.dial, run.kind)
        by_rung.setdefault(rung, Counter())[state_of(folder, run_id)] += 1
    table = [
        (part, str(dial), kind, ", ".join(f"{n} {state}" for state, n in sorted(states.items())))
        for (part, dial, kind), states in sorted(by_rung.items())
    ]
    header = ("part", "dial", "kind", "runs")
    lines = aligned(header, table) if plan.part_of else aligned(header[1:], [row[1:] for row in table])
    waiting = dict(jobs or {})
    for row in Ledger(folder).status():
        runs = [plan.runs[lane] for lane in row.lanes if lane in plan.runs]
        if runs and row.state == "running":
            job = waiting.pop(row.pack_id, "")
            lines.append(f"{_named(row.pack_id, runs)}: {_running(folder, row)}{job and f'; {job}'}")
        elif runs and row.state not in ("finished", "frozen", "released"):
            detail = f": {row.reason}" if row.reason else f" by {row.holder}"
            lines.append(f"pack {row.pack_id} {row.state}{detail}")
    for pack_id, words in waiting.items():
        with contextlib.suppress(UserError, KeyError):  # a folder from which the pack was removed
            lines.append(f"{_named(pack_id, read_pack(folder, pack_id)[0].runs)}: {words}")
    for run_id in plan.runs:
        path = folder / run_id / "outcome.json"
        if path.exists() and (outcome := read_json(path))["outcome"] != "done":
            lines.append(f"run {run_id} {outcome['outcome']}: {outcome['reason']}")
    sizes = [size for run_id in plan.runs if (size := bytes_of(folder / run_id))]
    if sizes:
        lines.append(f"models kept of {len(sizes)} runs: {short(sum(sizes))}B")
    for run_id, run in plan.runs.items():
        path = folder / run_id / "records.jsonl"
        evaluated = read_records(path)[0] if run.shape.n_expert and path.exists() else []
        if evaluated and (said := starving(evaluated[-1]["experts"]["load"])):
            lines.append(f"run {run_id} at step {evaluated[-1]['step']}: {said}")
    return "\n".join(lines)


def _named(pack_id: str, runs: Sequence[RunSpec]) -> str:
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in runs))
    return f"pack {pack_id} (dial {runs[0].dial}, {runs[0].kind}, seed {seeds})"


def _running(folder: Path, row: PackStatus) -> str:
    """Say where a claimed pack runs, since when, how far it is."""
    since = ""
    if row.since:
        at = datetime.fromisoformat(row.since)
        took = duration(max(0.0, (datetime.now(UTC) - at).total_seconds()))
        since = f" since {at.astimezone():%Y-%m-%d %H:%M:%S} ({took})"
    timing = last_timing(folder, row.lanes[0])
    step = f", step {timing['step']} of {timing['end_step']}" if timing else ""
    return f"running on {row.holder}{since}{step}"


def state_of(folder: Path, run_id: str) -> str:
    path = folder / run_id / "outcome.json"
    if path.exists():
        return str(read_json(path)["outcome"])
    return "begun" if (path.parent / "execution.json").exists() else "planned"


def short(value: float) -> str:
    """Write a number short: 1234567 -> 1.23M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Write seconds as 45s, 12m or 3.4h; '-' where unknown."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 5400 else f"{seconds / 3600:.1f}h"
