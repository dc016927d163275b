"""The plan and the ledger as tables for a terminal. Reads; decides nothing."""

from collections import Counter
from pathlib import Path

from lmscale.data.manifest import passes
from lmscale.family import parameter_conventions
from lmscale.jsonfiles import read_json
from lmscale.ledger import Ledger
from lmscale.plan import Plan
from lmscale.spec import RunSpec
from lmscale.speeds import speed_key

PLURAL = {"run": "runs", "trunk": "trunks", "branch": "branches"}


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
                f"{pack.wave:<5}{pack.pack_id:<14}{run.run_id:<14}{run.kind:<8}{run.dial:>6}{run.shape.n_layer:>7}"
                f"{short(n['params']):>9}{short(n['params_nonembedding']):>10}{run.seed:>5}"
                f"{short(seen):>10}{passes(seen, run.data):>8.2g}{run.flops_per_token * tokens:>10.2g}"
                f"{run.learning_rate:>8.3g}{short(memory_bytes(run)) + 'B':>9}{duration(seconds):>8}  "
                f"{state_of(folder, run.run_id)}"
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
    shape, rows = run.shape, run.batch_tokens // run.shape.context
    a_layer = run.batch_tokens * shape.d_model * 34 + 5 * shape.n_head * rows * shape.context**2
    logits = 3 * run.batch_tokens * shape.vocab_size
    return 16 * sum(run.params.values()) + 2 * shape.n_layer * a_layer + 4 * logits


def status_table(plan: Plan, folder: Path) -> str:
    """The ledger in words: a line for each rung, then what failed or diverged and why."""
    by_rung: dict[tuple[int, str], Counter[str]] = {}
    for run in plan.runs.values():
        by_rung.setdefault((run.dial, run.kind), Counter())[state_of(folder, run.run_id)] += 1
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


def state_of(folder: Path, run_id: str) -> str:
    path = folder / run_id / "outcome.json"
    if path.exists():
        return str(read_json(path)["outcome"])
    return "begun" if (path.parent / "execution.json").exists() else "planned"


def short(value: float) -> str:
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
