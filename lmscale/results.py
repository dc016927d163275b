"""What a run leaves: a record of each evaluation, its trained model, and its outcome."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lmscale import faults, jsonfiles, kept, processes, provenance, records, stopping
from lmscale.average import average_of, averages
from lmscale.evaluate import Evaluator
from lmscale.guard import PATIENCE
from lmscale.lanes import of_lane
from lmscale.packs import Job, outcome_path
from lmscale.schedule import TRUNK
from lmscale.spec import RunSpec
from lmscale.step import State
from lmscale.timing import Clock

FAR_ABOVE = 2.0  # times ln V, from which on a last loss is no result
GRACE = 3.0  # seconds that an evaluation goes on for after a request to stop


def evaluate(
    job: Job,
    evaluator: Callable[[], Evaluator],
    state: State,
    lanes: Sequence[int],
    steps: np.ndarray,
    due: list[int],
    clock: Clock,
) -> None:
    """Evaluate the lanes and append a record to the run of each that is due and has not diverged."""
    jax.block_until_ready(state)  # what the device is still at is no cost of evaluating
    began = time.perf_counter()
    skipped, in_row = np.asarray(state.guard.skipped), np.asarray(state.guard.skipped_in_row)
    evaluations = evaluator()(state.params, _give_way)
    average = average_of(job.pack.runs[0].evaluation)
    averaged = evaluator()(averages(average)(state.average, state.params), _give_way) if average.kind else []
    for lane in due:
        if in_row[lane] >= PATIENCE or not processes.leads():
            continue
        spec, step, evaluation = job.pack.runs[lanes[lane]], int(steps[lanes[lane]]), evaluations[lane]
        tokens = (step - int(skipped[lane])) * spec.batch_tokens
        record = {
            "step": step,
            "tokens": tokens,
            "flops": tokens * spec.flops_per_token,
            "skipped_steps": int(skipped[lane]),
            "loss": evaluation.loss,
            "tasks": evaluation.tasks,
            "ngrams": evaluation.ngrams,
            "blocks": evaluation.blocks,
            **({"sources": evaluation.sources} if evaluation.sources else {}),
        }
        if averaged:
            record["average"] = {"loss": averaged[lane].loss, "tasks": averaged[lane].tasks}
        if evaluation.load:
            record["experts"] = {"load": evaluation.load}
        records.check_record(record, dataclasses.asdict(spec))
        folder = job.folder / spec.run_id
        records.append(folder / "records.jsonl", record, job.claim)
        if step == spec.horizon_steps:
            jsonfiles.write_npz(folder / "items.npz", evaluation.items, job.claim)
    clock.evaluating += time.perf_counter() - began


def _give_way() -> None:
    """Between the pieces of an evaluation. One that is broken off leaves no trace: a resume goes on from the last
    checkpoint, which is of an earlier step, and comes to it again. A short one is better ended."""
    faults.point("evaluation.piece")
    if processes.agree(stopping.waited() > GRACE):
        raise stopping.Interrupted("interrupted amid an evaluation, which is done again")


def _no_result(job: Job, spec: RunSpec) -> str | None:
    """Say what is wrong with the last loss of a run that went through all its steps, or None.

    It is not finite, or far above that of a uniform guess, ln V, which all that learned anything are below.
    A trunk is not judged: the fall of its branches may yet bring them down.
    """
    path = job.folder / spec.run_id / "records.jsonl"
    if spec.kind == TRUNK or not path.exists():
        return None
    evaluated, _ = records.read_records(path)
    if not evaluated:
        return None
    loss, guess = evaluated[-1]["loss"].get(spec.data["primary"]), math.log(spec.shape.vocab_size)
    if loss is None:
        return "its last loss is not finite"
    if loss <= FAR_ABOVE * guess:
        return None
    best = min(value for record in evaluated if (value := record["loss"][spec.data["primary"]]) is not None)
    return (
        f"its last loss is {loss:.4g} nats a token, the least on the way {best:.4g}; guessing has "
        f"ln {spec.shape.vocab_size} = {guess:.3g}: give a lower rate (transfer.rate, transfer.rate_cap)"
    )


def _keep(job: Job, state: State, lane: int, spec: RunSpec, step: int) -> None:
    """Write what `pack.keep` says of a lane's last state into its run's folder. Of several processes that have a
    state between them each gives its part."""
    keep, average = job.config.keep, average_of(spec.evaluation)
    if keep == "none":
        return
    files = {kept.MODEL: state.params}
    if average.kind:
        files[kept.AVERAGE] = averages(average)(state.average, state.params)
    if keep == "all":
        files[kept.STATE] = state._replace(params=())
    for name, tree in files.items():
        alone = _alone(tree, lane)
        if processes.leads():
            arrays = {
                jax.tree_util.keystr(path, simple=True, separator="."): array
                for path, array in jax.tree_util.tree_leaves_with_path(alone)
            }
            kept.write(job.folder / spec.run_id / name, spec, step, arrays, job.claim)


def _alone(tree: Any, lane: int) -> Any:
    """The arrays of one lane, in this process's memory; of several processes in that of the first."""
    if processes.joined():
        from jax.experimental.multihost_utils import process_allgather

        def whole(array: jax.Array) -> np.ndarray | None:  # one at a time: no device need have room for all
            found = np.asarray(process_allgather(array, tiled=True))[lane]
            return found if processes.leads() else None

        return jax.tree.map(whole, tree)
    if jax.tree.leaves(tree)[0].shape[0] > 1:  # else every run's end would fetch those of all lanes
        return jax.tree.map(np.asarray, of_lane(tree, np.int32(lane)))
    return jax.tree.map(lambda array: np.asarray(array)[lane], tree)


def finish(job: Job, state: State, lane: int, spec: RunSpec) -> None:
    """Write the outcome of the run that a lane has, if it lacks it, and before it the model and its provenance: a
    kill between them leaves a run without an outcome, which is finished again."""
    if processes.agree(outcome_path(job, spec).exists()):
        return
    in_row, skipped, step = (
        int(np.asarray(array)[lane])
        for array in (state.guard.skipped_in_row, state.guard.skipped, state.step)
    )
    reason: str | None
    if in_row >= PATIENCE:
        reason = f"{PATIENCE} steps in a row were not finite or spiked; the last was step {step}"
    else:
        reason = _no_result(job, spec) if processes.leads() else None
    if processes.agree(reason is None):
        _keep(job, state, lane, spec, step)
    if not processes.leads():
        return
    provenance.write(job.folder / spec.run_id, job.claim)
    tokens = (step - skipped) * spec.batch_tokens
    outcome = {"outcome": "diverged" if reason else "done", "reason": reason, "step": step, "tokens": tokens}
    jsonfiles.write_json(outcome_path(job, spec), outcome, job.claim)
