"""What the run folders say of a pack: done, to be trained, or ended with its trunk."""

from pathlib import Path

from lmscale import checkpoint
from lmscale.jsonfiles import read_json, write_json
from lmscale.plan import TRUNK, Pack


def needs_work(folder: Path, pack: Pack) -> bool:
    """Whether a lane of the pack has no outcome, or a trunk lacks a state that a branch starts from."""
    outcomes = [outcome_of(folder, run.run_id) for run in pack.runs]
    if any(outcome is None for outcome in outcomes):
        return True
    if pack.runs[0].kind != TRUNK or "diverged" in outcomes or "failed" in outcomes:
        return False
    return bool(_missing_pins(folder, pack))


def is_done(folder: Path, pack: Pack) -> bool:
    """Whether every lane has its outcome and nothing of the pack is wanted any more, not even to try it again."""
    failed = any(outcome_of(folder, run.run_id) == "failed" for run in pack.runs)
    return not failed and not needs_work(folder, pack)


def _missing_pins(folder: Path, pack: Pack) -> set[int]:
    saved = checkpoint.saved(folder / "packs" / pack.pack_id)
    return set(pack.pins) - {step for step, pinned, _ in saved if pinned}


def reopen(folder: Path, pack: Pack) -> None:
    """A trunk that was done for fewer or shorter horizons is not done any more. (One that has no outcome yet is
    left alone: another process may be about to write it.)"""
    outcomes = [outcome_of(folder, run.run_id) for run in pack.runs]
    if pack.runs[0].kind == TRUNK and None not in outcomes and needs_work(folder, pack):
        for run in pack.runs:
            (folder / run.run_id / "outcome.json").unlink(missing_ok=True)


def has_trunks(folder: Path, pack: Pack) -> bool:
    """Whether the trunks of a pack's branches have ended, one way or another."""
    return all(outcome_of(folder, run.trunk) is not None for run in pack.runs if run.trunk)


def end_branches(folder: Path, pack: Pack) -> None:
    """A branch whose trunk failed or diverged before it begins ends like its trunk."""
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
    """done, diverged or failed; None while there is none."""
    path = folder / run_id / "outcome.json"
    return str(read_json(path)["outcome"]) if path.exists() else None
