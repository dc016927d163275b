"""One pack's loop: claim, restore, train, evaluate, record, checkpoint, finish.

Everything that decides a result comes from the pack (its specs and its execution); what stops or resumes it
is the business of `ledger`, `checkpoint` and `records`, and leaves no trace in the records.
"""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import checkpoint, collector, faults, jsonfiles, model, records, stopping
from lmscale.average import AverageConfig, average_of, averages
from lmscale.compiled import KeptFunction
from lmscale.data import World
from lmscale.errors import UserError
from lmscale.evaluate import Evaluator, make_evaluator
from lmscale.guard import PATIENCE
from lmscale.lanes import Lane
from lmscale.optim import OptimConfig
from lmscale.packs import Job, outcome_path
from lmscale.plan import Pack, versions
from lmscale.restore import Start, begin, meta_of, on_device, restore, to_arrays
from lmscale.schedule import SCHEDULES, TRUNK, traced
from lmscale.shape import Shape
from lmscale.spec import RunSpec, evaluation_steps
from lmscale.step import Metrics, State, pack_program
from lmscale.timing import Clock, Timer

FAR_ABOVE = 2.0  # times ln V, from which on a last loss is no result
GRACE = 3.0  # seconds that an evaluation goes on for after a request to stop
_log = logging.getLogger(__name__)


def configure_jax(cache: Path) -> None:
    """The compilation cache, at a minimum time of 0: by default it skips the small programs we have. What
    `compiled` keeps is there too."""
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def train(job: Job, world: World) -> None:
    """Train what is missing of a claimed pack, to the outcome of each of its runs.

    Raises LostClaim where another process has it now, Interrupted where this one was asked to stop (its state
    saved, but amid an evaluation), DiskError, CheckpointMismatch, or whatever went wrong; the claim is the
    caller's to end.
    """
    spec = job.pack.runs[0]
    precision, kernel = job.pack.execution["precision"], job.pack.execution.get("attention")
    average = average_of(spec.evaluation)
    program = _program(world, spec.shape, spec.optim, spec.batch_multiple, precision, average, kernel)
    try:
        return _train(job, world, program)
    except jax.errors.JaxRuntimeError as error:
        # Whether it was the program's doing cannot be told, and the error may come long after its call. Without
        # it the pack goes on from its last checkpoint, and what then fails is a failure of the pack.
        if not program.distrust():
            raise
        _log.warning("pack %s goes on with its step compiled again: %s", job.pack.pack_id, error)
    _train(job, world, program)


def _train(job: Job, world: World, program: KeptFunction) -> None:
    pack = job.pack
    spec, precision = pack.runs[0], pack.execution["precision"]
    numbers = [lane_numbers(run, end) for run, end in zip(pack.runs, pack.end_steps, strict=True)]
    lanes = on_device(jax.tree.map(lambda *values: np.stack(values), *numbers))
    start = restore(job)
    clock = Clock(time.perf_counter())
    # made when it is first asked for: a process that resumes is then at its first step sooner
    evaluator = functools.partial(_evaluator, world, spec.shape, precision)
    _finish(job, _loop(job, world, program, evaluator, lanes, start, clock))


def check_execution(pack: Pack) -> None:
    """Raise UserError where this process cannot give a pack the device and the versions of its execution."""
    planned = {"device": pack.execution["device"], **pack.execution["versions"]}
    here = {"device": jax.default_backend(), **versions()}
    changed = [key for key in {**planned, **here} if planned.get(key) != here.get(key)]
    different = [f"{key} {planned.get(key, 'unset')}, here {here.get(key, 'unset')}" for key in changed]
    if different:
        raise UserError(
            f"pack {pack.pack_id} was begun or planned with {'; '.join(different)}: have these again to go on with "
            "it (pack.device=... names a device), or start over what it has not finished: retry=true"
        )


@functools.lru_cache(maxsize=4)
def _program(
    world: World,
    shape: Shape,
    optim: OptimConfig,
    batch_multiple: int,
    precision: str,
    average: AverageConfig,
    kernel: str | None = None,
) -> KeptFunction:
    """The step, made once for all the packs of one shape that a worker trains, or found on the disk."""
    rows, n_components = world.component_of_row(batch_multiple), len(world.components)
    jitted = pack_program(
        shape, optim, rows, n_components, _dtype(precision), average, world.data.objective, kernel
    )
    made_from = {
        "shape": dataclasses.asdict(shape),
        "optim": dataclasses.asdict(optim),
        "average": dataclasses.asdict(average),
        "schedules": list(SCHEDULES),
        "rows": rows.tolist(),
        "n_components": n_components,
        "objective": world.data.objective,
        "precision": precision,
    }
    leaf: Any = 0
    return KeptFunction(
        jitted,
        made_from,
        returns=lambda state, *_: (state, Metrics(leaf, leaf, leaf, leaf)),
        shorten=lambda *arguments: (*arguments[:-1], np.int32(1)),  # with no step the body would not run
    )


@functools.lru_cache(maxsize=4)
def _evaluator(world: World, shape: Shape, precision: str) -> Evaluator:
    """The evaluation, likewise."""
    dtype = _dtype(precision)
    return make_evaluator(
        world, model.forward(shape, dtype), model.decoder(shape, dtype), load=model.load(shape, dtype)
    )


def _dtype(precision: str) -> Any:
    return jnp.float32 if precision == "float32" else jnp.bfloat16


def lane_numbers(spec: RunSpec, end: int) -> Lane:
    """Collect the traced numbers of a lane."""
    numbers: dict[str, Any] = {
        "peak_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        **traced(spec.schedule, spec.horizon_steps, spec.decay_start),
        "end_step": end,
    }
    for name, value in numbers.items():
        numbers[name] = np.int32(value) if isinstance(value, int) else np.float32(value)
    return Lane(**numbers)


@dataclass(frozen=True)
class Grid:
    """At which steps something happens, a lane: evaluations, and the pins of the pack."""

    evaluations: tuple[frozenset[int], ...]
    ends: tuple[int, ...]
    pins: frozenset[int]

    def next_stop(self, steps: np.ndarray) -> int:
        """Count the steps until something happens in some lane that still runs."""
        stops = [
            min(stop for stop in (*marks, *self.pins, end) if stop > step) - step
            for step, marks, end in zip(steps.tolist(), self.evaluations, self.ends, strict=True)
            if step < end
        ]
        return min(stops, default=0)


def _grid(pack: Pack) -> Grid:
    marks = [
        frozenset(evaluation_steps(run, start, end))
        for run, start, end in zip(pack.runs, pack.start_steps, pack.end_steps, strict=True)
    ]
    return Grid(tuple(marks), pack.end_steps, frozenset(pack.pins))


def _loop(
    job: Job,
    world: World,
    program: Any,
    evaluator: Callable[[], Evaluator],
    lanes: Lane,
    start: Start,
    clock: Clock,
) -> State:
    pack, grid, state, begun = job.pack, _grid(job.pack), start.state, False
    ends = np.asarray(grid.ends)
    steps = _steps(state, ends)
    timer = Timer(job.folder, pack, steps)
    saved_at = time.perf_counter()
    batches = _batches(pack, world, steps, clock)
    with checkpoint.Saver() as saver:
        while (left := grid.next_stop(steps)) > 0:
            count = min(left, pack.execution["steps"])
            state, metrics = program(state, lanes, batches, np.int32(count))
            collector.wake()
            if not begun:
                jax.block_until_ready(state)  # nothing is frozen or written before the device has run a step
                begin(job, start)
                begun, saved_at = True, time.perf_counter()
            before, steps = steps, np.minimum(steps + count, ends)
            if grid.next_stop(steps):
                batches = _batches(pack, world, steps, clock)  # while the device works
            due = [
                i for i, marks in enumerate(grid.evaluations) if before[i] < steps[i] and steps[i] in marks
            ]
            if due:
                _evaluate(job, evaluator, state, steps, due, clock)
            step, asked = _checkpoint_step(pack, steps), stopping.requested()
            pinned = step in grid.pins
            if pinned or asked or time.perf_counter() - saved_at > job.config.checkpoint_seconds:
                _save(job, saver, state, step, pinned, clock)
                saved_at = time.perf_counter()
            timer.tick(steps, metrics, clock)
            faults.point("train.stepped")
            if asked:
                saver.wait()
                raise stopping.Interrupted(f"interrupted at step {step}")
            if timer.diverged is not None:
                steps = np.where(timer.diverged, ends, steps)  # the device stopped them already
        if not begun:  # a process ended after its last step and before its outcome
            begin(job, start)
        began = time.perf_counter()
        saver.wait()
        clock.saving += time.perf_counter() - began
    timer.write(steps, clock)
    return state


def _steps(state: State, ends: np.ndarray) -> np.ndarray:
    """Return the step of every lane, as the loop counts: one that has diverged is at its end."""
    diverged = np.asarray(state.guard.skipped_in_row) >= PATIENCE
    return np.where(diverged, ends, np.asarray(state.step)).astype(int)


def _checkpoint_step(pack: Pack, steps: np.ndarray) -> int:
    """The number of a pack's checkpoint, which must only grow: the step of a trunk's living lanes, which go
    together; else the steps of all lanes added up, for they begin and end each at its own."""
    return int(steps.min() if pack.pins else steps.sum())


def _batches(pack: Pack, world: World, steps: np.ndarray, clock: Clock) -> tuple[np.ndarray, ...]:
    """The next batches of every lane: [steps of a dispatch, lanes, ...]."""
    began = time.perf_counter()
    count = pack.execution["steps"]
    parts = [
        world.batches(run.data_seed, int(step), count, run.batch_multiple)
        for run, step in zip(pack.runs, steps, strict=True)
    ]
    stacked = tuple(np.stack(arrays, axis=1) for arrays in zip(*parts, strict=True))
    clock.data += time.perf_counter() - began
    return stacked


def _evaluate(
    job: Job,
    evaluator: Callable[[], Evaluator],
    state: State,
    steps: np.ndarray,
    due: list[int],
    clock: Clock,
) -> None:
    """Evaluate the pack and append a record to the run of each lane that is due and has not diverged."""
    jax.block_until_ready(state)  # what the device is still at is no cost of evaluating
    began = time.perf_counter()
    skipped, in_row = np.asarray(state.guard.skipped), np.asarray(state.guard.skipped_in_row)
    evaluations = evaluator()(state.params, _give_way)
    average = average_of(job.pack.runs[0].evaluation)
    averaged = evaluator()(averages(average)(state.average, state.params), _give_way) if average.kind else []
    for lane in due:
        if in_row[lane] >= PATIENCE:
            continue
        spec, evaluation = job.pack.runs[lane], evaluations[lane]
        tokens = (int(steps[lane]) - int(skipped[lane])) * spec.batch_tokens
        record = {
            "step": int(steps[lane]),
            "tokens": tokens,
            "flops": tokens * spec.flops_per_token,
            "skipped_steps": int(skipped[lane]),
            "loss": evaluation.loss,
            "tasks": evaluation.tasks,
            "ngrams": evaluation.ngrams,
            **({"sources": evaluation.sources} if evaluation.sources else {}),
        }
        if averaged:
            record["average"] = {"loss": averaged[lane].loss, "tasks": averaged[lane].tasks}
        if evaluation.load:
            record["experts"] = {"load": evaluation.load}
        records.check_record(record, dataclasses.asdict(spec))
        folder = job.folder / spec.run_id
        records.append(folder / "records.jsonl", record, job.claim)
        if steps[lane] == spec.horizon_steps:
            jsonfiles.write_npz(folder / "items.npz", evaluation.items, job.claim)
    clock.evaluating += time.perf_counter() - began


def _give_way() -> None:
    """Between the pieces of an evaluation. One that is broken off leaves no trace: a resume goes on from the last
    checkpoint, which is of an earlier step, and comes to it again. A short one is better ended."""
    faults.point("evaluation.piece")
    if stopping.waited() > GRACE:
        raise stopping.Interrupted("interrupted amid an evaluation, which is done again")


def _save(job: Job, saver: checkpoint.Saver, state: State, step: int, pinned: bool, clock: Clock) -> None:
    jax.block_until_ready(state)  # what the device is still at is no cost of saving
    began = time.perf_counter()
    keep, meta = job.config.checkpoints, meta_of(job)
    saver.save(job.claim.folder, step, to_arrays(state), meta, pinned=pinned, keep=keep, fence=job.claim)
    clock.saving += time.perf_counter() - began


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


def _finish(job: Job, state: State) -> None:
    """outcome.json of every lane that lacks it; the checkpoints that nobody starts from are removed."""
    rows = np.asarray(state.guard.skipped_in_row)
    skipped, steps = np.asarray(state.guard.skipped), np.asarray(state.step)
    for lane, spec in enumerate(job.pack.runs):
        if outcome_path(job, spec).exists():
            continue
        reason: str | None
        if rows[lane] >= PATIENCE:
            reason = f"{PATIENCE} steps in a row were not finite or spiked; the last was step {steps[lane]}"
        else:
            reason = _no_result(job, spec)
        outcome = "diverged" if reason else "done"
        tokens = (int(steps[lane]) - int(skipped[lane])) * spec.batch_tokens
        jsonfiles.write_json(
            outcome_path(job, spec),
            {"outcome": outcome, "reason": reason, "step": int(steps[lane]), "tokens": tokens},
            job.claim,
        )
    faults.point("train.finished")
    checkpoint.remove(job.claim.folder)
