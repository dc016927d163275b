"""One pack's loop: claim, restore, train, evaluate, record, checkpoint, finish.

Everything that decides a result comes from the pack (its specs and its execution); what stops or resumes it
is the business of `ledger`, `checkpoint` and `records`, and leaves no trace in the records.
"""

import dataclasses
import functools
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import checkpoint, faults, model, records, stopping
from lmscale.config import OptimConfig, PackConfig
from lmscale.data import World
from lmscale.errors import UserError
from lmscale.evaluate import Evaluator, make_evaluator
from lmscale.family import Shape
from lmscale.ledger import Claim
from lmscale.optim import Lane
from lmscale.plan import BRANCH, TRUNK, Pack, RunSpec, evaluation_steps, versions
from lmscale.step import PATIENCE, State, init_lane, pack_program, state_at_start
from lmscale.timing import Clock, Timer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A claimed pack and where it lives. folder: runs/<experiment>."""

    pack: Pack
    config: PackConfig
    folder: Path
    claim: Claim


def configure_jax(cache: Path) -> None:
    """The compilation cache, at a minimum time of 0: by default it skips the small programs we have."""
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def train(job: Job, world: World) -> None:
    """Train what is missing of a claimed pack, to the outcome of each of its runs.

    Raises LostClaim where another process has it now, Interrupted (its state saved) where this one was asked to
    stop, DiskError, CheckpointMismatch, or whatever went wrong; the claim is the caller's to end.
    """
    pack, claim = job.pack, job.claim
    _check_execution(pack)
    spec = pack.runs[0]
    numbers = [lane_numbers(run, end) for run, end in zip(pack.runs, pack.end_steps, strict=True)]
    lanes = _on_device(jax.tree.map(lambda *values: np.stack(values), *numbers))
    precision = pack.execution["precision"]
    program = _program(world, spec.shape, spec.optim, spec.batch_multiple, precision)
    state = _restore(job)
    for run in pack.runs:
        run_folder = job.folder / run.run_id
        records.write_json(run_folder / "execution.json", {"pack_id": pack.pack_id, **pack.execution}, claim)
    clock = Clock(time.perf_counter())
    # made when it is first asked for: a process that resumes is then at its first step sooner
    evaluator = functools.partial(_evaluator, world, spec.shape, precision)
    _finish(job, _loop(job, world, program, evaluator, lanes, state, clock))


def _check_execution(pack: Pack) -> None:
    """A pack goes on under the execution it was frozen with, or not at all."""
    frozen = {"device": pack.execution["device"], **pack.execution["versions"]}
    here = {"device": jax.default_backend(), **versions()}
    different = [f"{key} {frozen[key]}, here {here[key]}" for key in frozen if frozen[key] != here.get(key)]
    if different:
        raise UserError(
            f"pack {pack.pack_id} was begun with {'; '.join(different)}: install these again to go on with it, or "
            "start over what it has not finished: retry=true"
        )


@functools.lru_cache(maxsize=4)
def _program(world: World, shape: Shape, optim: OptimConfig, batch_multiple: int, precision: str) -> Any:
    """The step, traced once for all the packs of one shape that a worker trains."""
    rows = world.component_of_row(batch_multiple)
    return pack_program(shape, optim, rows, len(world.components), _dtype(precision))


@functools.lru_cache(maxsize=4)
def _evaluator(world: World, shape: Shape, precision: str) -> Evaluator:
    """The evaluation, likewise."""
    dtype = _dtype(precision)
    return make_evaluator(world, model.forward(shape, dtype), model.decoder(shape, dtype))


def _dtype(precision: str) -> Any:
    return jnp.float32 if precision == "float32" else jnp.bfloat16


def lane_numbers(spec: RunSpec, end: int) -> Lane:
    """The traced numbers of a lane."""
    never = np.iinfo(np.int32).max // 2
    decay_start, decay_end = never, never + 1
    if spec.kind != TRUNK:
        assert spec.decay_start is not None and spec.horizon_steps is not None, "only a trunk has no horizon"
        decay_start, decay_end = spec.decay_start, spec.horizon_steps
    numbers: dict[str, Any] = {
        "peak_rate": np.float32(spec.learning_rate),
        "weight_decay": np.float32(spec.weight_decay),
        "warmup_steps": np.int32(spec.schedule["warmup_steps"]),
        "decay_start": np.int32(decay_start),
        "decay_end": np.int32(decay_end),
        "cosine": np.float32(spec.schedule["name"] == "cosine"),
        "floor": np.float32(spec.schedule.get("floor", 0.0)),
        "end_step": np.int32(end),
    }
    return Lane(**numbers)


def _meta(job: Job) -> dict[str, Any]:
    """What a checkpoint must match: the science of every lane, by id, and the execution."""
    return {"lanes": [run.run_id for run in job.pack.runs], "execution": job.pack.execution}


def _restore(job: Job) -> State:
    """The newest state of this pack; else its trunks' states where the branches begin; else step 0.

    Without a checkpoint, lanes that have their outcome already (their trunk diverged, or another lane's folder
    was deleted) are padding: they begin as ended ones.
    """
    pack = job.pack
    found = checkpoint.load(job.claim.folder, _meta(job), at_most=_resume_step(job))
    ended = [found is None and _outcome_path(job, run).exists() for run in pack.runs]
    if found is not None:
        state = _on_device(_from_arrays(_template(pack), found.arrays))
    elif pack.runs[0].kind == BRANCH:
        fresh, template = _fresh(pack) if any(ended) else None, _template(pack)
        lanes = [
            jax.tree.map(lambda array, lane=lane: np.asarray(array)[lane : lane + 1], fresh)
            if ended[lane]
            else _trunk_state(job, run, template)
            for lane, run in enumerate(pack.runs)
        ]
        state = _on_device(jax.tree.map(lambda *parts: np.concatenate(parts), *lanes))
    else:
        state = _fresh(pack)
    if any(ended):
        in_row = jnp.where(jnp.asarray(ended), PATIENCE, state.guard.skipped_in_row)
        state = state._replace(guard=state.guard._replace(skipped_in_row=in_row))
    steps = np.asarray(state.step)
    for lane, run in enumerate(pack.runs):
        if not ended[lane]:
            path = job.folder / run.run_id / "records.jsonl"
            for problem in records.truncate_after(path, int(steps[lane]) if found else None, job.claim):
                _log.warning("%s", problem)
    return state


def _outcome_path(job: Job, run: RunSpec) -> Path:
    return job.folder / run.run_id / "outcome.json"


def _template(pack: Pack) -> State:
    """A state's tree, whose leaves are one lane's shapes."""
    spec = pack.runs[0]
    return jax.eval_shape(functools.partial(state_at_start, spec.optim), model.shapes(spec.shape))


def _resume_step(job: Job) -> int | None:
    """A trunk that lacks a pin goes on from the newest checkpoint before it; all else from the newest."""
    have = {step for step, pinned, _ in checkpoint.saved(job.claim.folder) if pinned}
    return min(set(job.pack.pins) - have, default=None)


def _fresh(pack: Pack) -> State:
    spec = pack.runs[0]
    return _init(spec.shape, spec.optim)(jnp.asarray([run.seed for run in pack.runs]))


@functools.lru_cache(maxsize=4)
def _init(shape: Shape, optim: OptimConfig) -> Callable[[jax.Array], State]:
    """seeds [L] -> states at step 0, as one program: run eagerly, it would be a hundred small compilations."""
    return jax.jit(jax.vmap(functools.partial(init_lane, shape, optim)))


def _trunk_state(job: Job, run: RunSpec, template: State) -> State:
    """One lane's state, in numpy, from its trunk's pinned checkpoint at the step where the rate begins to fall."""
    execution = records.read_json(job.folder / str(run.trunk) / "execution.json")
    pack_id = execution.pop("pack_id")
    folder = job.folder / "packs" / pack_id
    meta = {"lanes": execution["lanes"], "execution": execution}
    found = checkpoint.load(folder, meta, run.decay_start)
    if found is None:
        raise UserError(
            f"{folder}: no checkpoint of trunk {run.trunk} at step {run.decay_start}; start the sweep again "
            "and the trunk is trained once more"
        )
    lane = execution["lanes"].index(run.trunk)
    return _from_arrays(template, {name: array[lane : lane + 1] for name, array in found.arrays.items()})


def to_arrays(state: State) -> dict[str, np.ndarray]:
    """A state as named arrays, for a checkpoint. Copies: the next step is given the state's own memory."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def _from_arrays(template: State, arrays: dict[str, np.ndarray]) -> State:
    paths, tree = jax.tree_util.tree_flatten_with_path(template)
    return jax.tree.unflatten(tree, [arrays[jax.tree_util.keystr(path)] for path, _ in paths])


def _on_device(tree: Any) -> Any:
    """Arrays of numpy on the device, as copies: the state is donated to the step, and a checkpoint's arrays are
    views of one buffer. No program is compiled for it, as `jnp.array` would for each shape."""
    return jax.device_put(tree, may_alias=False)


@dataclass(frozen=True)
class Grid:
    """At which steps something happens, a lane: evaluations, and the pins of the pack."""

    evaluations: tuple[frozenset[int], ...]
    ends: tuple[int, ...]
    pins: frozenset[int]

    def next_stop(self, steps: np.ndarray) -> int:
        """How many steps until something happens in some lane that still runs."""
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
    state: State,
    clock: Clock,
) -> State:
    pack, grid = job.pack, _grid(job.pack)
    ends = np.asarray(grid.ends)
    steps = _steps(state, ends)
    timer = Timer(job.folder, pack, steps)
    saved_at = time.perf_counter()
    batches = _batches(pack, world, steps, clock)
    with checkpoint.Saver() as saver:
        while (left := grid.next_stop(steps)) > 0:
            count = min(left, pack.execution["steps"])
            state, metrics = program(state, lanes, batches, np.int32(count))
            gc.enable()  # the start is over: see `job.train_job`
            before, steps = steps, np.minimum(steps + count, ends)
            if grid.next_stop(steps):
                batches = _batches(pack, world, steps, clock)  # while the device works
            due = [
                i for i, marks in enumerate(grid.evaluations) if before[i] < steps[i] and steps[i] in marks
            ]
            if due:
                _evaluate(job, evaluator, state, steps, due, clock)
            step, wished = _checkpoint_step(pack, steps), stopping.requested()
            pinned = step in grid.pins
            if pinned or wished or time.perf_counter() - saved_at > job.config.checkpoint_seconds:
                _save(job, saver, state, step, pinned, clock)
                saved_at = time.perf_counter()
            timer.tick(steps, metrics, clock)
            faults.point("train.stepped")
            if wished:
                saver.wait()
                raise stopping.Interrupted(f"interrupted at step {step}")
            if timer.diverged is not None:
                steps = np.where(timer.diverged, ends, steps)  # the device stopped them already
        began = time.perf_counter()
        saver.wait()
        clock.saving += time.perf_counter() - began
    timer.write(steps, clock)
    return state


def _steps(state: State, ends: np.ndarray) -> np.ndarray:
    """Where every lane is, as the loop counts: one that has diverged is at its end."""
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
        world.batches(run.seed, int(step), count, run.batch_multiple)
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
    evaluations = evaluator()(state.params)
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
        }
        records.check_record(record, dataclasses.asdict(spec))
        folder = job.folder / spec.run_id
        records.append(folder / "records.jsonl", record, job.claim)
        if steps[lane] == spec.horizon_steps:
            records.write_npz(folder / "items.npz", evaluation.items, job.claim)
    clock.evaluating += time.perf_counter() - began


def _save(job: Job, saver: checkpoint.Saver, state: State, step: int, pinned: bool, clock: Clock) -> None:
    jax.block_until_ready(state)  # what the device is still at is no cost of saving
    began = time.perf_counter()
    keep, meta = job.config.checkpoints, _meta(job)
    saver.save(job.claim.folder, step, to_arrays(state), meta, pinned=pinned, keep=keep, fence=job.claim)
    clock.saving += time.perf_counter() - began


def _finish(job: Job, state: State) -> None:
    """outcome.json of every lane that lacks it; the checkpoints that nobody starts from are removed."""
    rows = np.asarray(state.guard.skipped_in_row)
    skipped, steps = np.asarray(state.guard.skipped), np.asarray(state.step)
    for lane, spec in enumerate(job.pack.runs):
        if _outcome_path(job, spec).exists():
            continue
        outcome, reason = "done", None
        if rows[lane] >= PATIENCE:
            outcome = "diverged"
            reason = f"{PATIENCE} steps in a row were not finite or spiked; the last was step {steps[lane]}"
        tokens = (int(steps[lane]) - int(skipped[lane])) * spec.batch_tokens
        records.write_json(
            _outcome_path(job, spec),
            {"outcome": outcome, "reason": reason, "step": int(steps[lane]), "tokens": tokens},
            job.claim,
        )
    checkpoint.remove(job.claim.folder)
