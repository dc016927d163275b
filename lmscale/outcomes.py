"""The state of runs as their folders tell it: done, to be trained, ended with a trunk, of another science."""

import json
from pathlib import Path
from typing import Any

from lmscale import checkpoint
from lmscale.jsonfiles import read_json, write_json
from lmscale.plan import TRUNK, Pack, Plan
from lmscale.slots import pin_numbers


def needs_work(folder: Path, pack: Pack) -> bool:
    """Say if a lane of the pack has no outcome, or a trunk lacks a state that a branch starts from."""
    outcomes = [outcome_of(folder, run.run_id) for run in pack.runs]
    if any(outcome is None for outcome in outcomes):
        return True
    if pack.runs[0].kind != TRUNK or "diverged" in outcomes or "failed" in outcomes:
        return False
    return bool(_missing_pins(folder, pack))


def is_done(folder: Path, pack: Pack) -> bool:
    """Say if every lane has its outcome and nothing of the pack is asked for any more, not even to try it again."""
    failed = any(outcome_of(folder, run.run_id) == "failed" for run in pack.runs)
    return not failed and not needs_work(folder, pack)


def _missing_pins(folder: Path, pack: Pack) -> set[int]:
    saved = checkpoint.saved(folder / "packs" / pack.pack_id)
    return pin_numbers(pack) - {step for step, pinned, _ in saved if pinned}


def reopen(folder: Path, pack: Pack) -> None:
    """Open a trunk again that was done for fewer or shorter horizons. (One that has no outcome yet is left alone:
    another process may be about to write it.)"""
    outcomes = [outcome_of(folder, run.run_id) for run in pack.runs]
    if pack.runs[0].kind == TRUNK and None not in outcomes and needs_work(folder, pack):
        for run in pack.runs:
            (folder / run.run_id / "outcome.json").unlink(missing_ok=True)


def has_trunks(folder: Path, pack: Pack) -> bool:
    """Say if the trunks of a pack's branches have ended, one way or another."""
    return all(outcome_of(folder, run.trunk) is not None for run in pack.runs if run.trunk)


def end_branches(folder: Path, pack: Pack) -> None:
    """End branches whose trunk failed or diverged before they begin, like the trunk."""
    for run in pack.runs:
        trunk = outcome_of(folder, run.trunk) if run.trunk else None
        if run.trunk is None or trunk in (None, "done") or outcome_of(folder, run.run_id) is not None:
            continue
        step = read_json(folder / run.trunk / "outcome.json")["step"]
        if step is None or step <= (run.decay_start or 0):
            reason = f"its trunk {run.trunk} {trunk} before step {run.decay_start}"
            outcome = {"outcome": trunk, "reason": reason, "step": None, "tokens": None}
            write_json(folder / run.run_id / "outcome.json", outcome)


def outcome_of(folder: Path, run_id: str) -> str | None:
    """Read how a run ended: done, diverged or failed; None while it has not."""
    path = folder / run_id / "outcome.json"
    return str(read_json(path)["outcome"]) if path.exists() else None


def others(folder: Path, plan: Plan) -> str | None:
    """Give a sentence on the runs of a folder that are not in the plan and were trained on another corpus,
    schedule, optimiser or rate: a person may not know that they stand there. None where there are none."""
    planned = [_science(folder, run_id) for run_id in plan.runs]
    known = list({json.dumps(science, sort_keys=True): science for science in planned}.values())
    there = [path.parent.name for path in folder.glob("*/spec.json") if path.parent.name not in plan.runs]
    foreign = [run_id for run_id in there if not any(_agree(_science(folder, run_id), one) for one in known)]
    if not foreign:
        return None
    return (
        f"{folder} has {len(there)} runs that are not in this plan, {len(foreign)} of them of another corpus, "
        f"schedule, optimiser or rate (such as {foreign[0]}): they stay as they are, and the report does not mix "
        "them with these; name=... keeps experiments apart"
    )


def _science(folder: Path, run_id: str) -> dict[str, Any]:
    """The part of a run's spec that a law needs to be the same in all its runs, and where a rate holds."""
    spec = read_json(folder / run_id / "spec.json")
    found = {name: spec.get(name) for name in ("kind", "dial", "schedule", "optim", "learning_rate")}
    return {**found, "data": spec["data"]["content_hash"]}


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say if two runs may be of one law. Rates are compared at one size; a field that one lacks is its default."""
    if one["data"] != other["data"] or one["kind"] != other["kind"]:
        return False
    if one["dial"] == other["dial"] and one["learning_rate"] != other["learning_rate"]:
        return False
    pairs = [(one[name] or {}, other[name] or {}) for name in ("schedule", "optim")]
    return all(a[key] == b[key] for a, b in pairs for key in a.keys() & b.keys())
