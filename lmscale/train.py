"""One pack's loop: claim, restore, train, evaluate, record, checkpoint, finish.

Everything that decides a result comes from the pack (its specs and its execution); what stops or resumes it
is the business of `ledger`, `checkpoint` and `records`, and leaves no trace in the records.
"""

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmscale import (
    checkpoint,
    collector,
    faults,
    processes,
    slots,
    stopping,
    widths,
)
from lmscale.compiled import KeptFunction
from lmscale.data import World
from lmscale.errors import UserError
from lmscale.evaluate import Evaluator
from lmscale.following import next_pack
from lmscale.grid import grid_of
from lmscale.guard import PATIENCE
from lmscale.lanes import Lane
from lmscale.packs import Job, outcome_path
from lmscale.placement import Placement, placement_of, put
from lmscale.plan import Pack, versions
from lmscale.programs import evaluator_of, lane_numbers, program_of
from lmscale.restore import (
    Start,
    begin,
    begin_records,
    fresh,
    meta_of,
    on_device,
    restore,
    to_arrays,
    with_run,
)
from lmscale.results import evaluate, finish
from lmscale.step import State
from lmscale.timing import Clock, Timer

PROBE = 0.2  # seconds of dispatches by which a number of lanes is judged
_log = logging.getLogger(__name__)


def configure_jax(cache: Path) -> None:
    """The compilation cache, at a minimum time of 0: by default it skips the small programs we have. What
    `compiled` keeps is there too."""
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def with_width(job: Job, world: World) -> Job:
    """Settle how many lanes a claimed pack has, by its speed here where nobody said."""
    return widths.decided(job, lambda width: _speed(job.pack, world, width))


def train(job: Job, world: World) -> None:
    """Train what is missing of a claimed pack, to the outcome of each of its runs.

    Raises LostClaim where another process has it now, Interrupted where this one was asked to stop (its state
    saved, but amid an evaluation), DiskError, CheckpointMismatch, or whatever went wrong; the claim is the
    caller's to end.
    """
    clock, program = Clock(), program_of(job.pack, world)
    try:
        return _train(job, world, program, clock)
    except jax.errors.JaxRuntimeError as error:
        # Whether it was the program's doing cannot be told, and the error may come long after its call. Without
        # it the pack goes on from its last checkpoint, and what then fails is a failure of the pack.
        if not program.distrust():
            raise
        _log.warning("pack %s goes on with its step compiled again: %s", job.pack.pack_id, error)
    _train(job, world, program, clock)


def _train(job: Job, world: World, program: KeptFunction, clock: Clock) -> None:
    pack = job.pack
    placement = placement_of(pack.mesh, pack.width)
    # made when it is first asked for: a process that resumes is then at its first step sooner
    evaluator = functools.partial(
        evaluator_of, world, pack.runs[0].shape, pack.execution["precision"], placement
    )
    for _ in slots.rounds(pack):
        start = restore(job, placement)
        clock.begin()
        state, lanes = _loop(job, world, program, evaluator, start, clock)
        for lane, run in enumerate(lanes):
            finish(job, state, lane, pack.runs[run])
        if all(outcome_path(job, run).exists() for run in pack.runs):
            break
    if processes.leads():
        faults.point("train.finished")
        checkpoint.remove(job.claim.folder)


def prepare_next(job: Job, world: World) -> None:
    """Compile the step of the pack that comes next. What goes wrong there shows when it is trained."""
    try:
        if (pack := next_pack(job)) is not None and pack.mesh.size == 1:
            lanes, steps = range(pack.width), np.zeros(len(pack.runs), int)
            batches = _batches(pack, world, lanes, steps, Clock())
            state = jax.eval_shape(functools.partial(fresh, pack, lanes))
            program_of(pack, world).prepare(state, _numbers(pack, lanes), batches, np.int32(1))
    except Exception as error:
        _log.info("the next pack's program is not compiled ahead: %s", error)


def _numbers(pack: Pack, lanes: Sequence[int], placement: Placement | None = None) -> Lane:
    """The traced numbers of the runs that the lanes have, on the device."""
    numbers = [lane_numbers(pack.runs[run], pack.end_steps[run]) for run in lanes]
    stacked: Lane = jax.tree.map(lambda *values: np.stack(values), *numbers)
    return put(stacked, placement.numbers) if placement else on_device(stacked)


def _speed(pack: Pack, world: World, width: int) -> float:
    """Measure the tokens a second of so many lanes of a pack by its first steps: the best of some dispatches."""
    lanes, count, placement = range(width), pack.execution["steps"], placement_of(pack.mesh, width)
    batches = _batches(pack, world, lanes, np.zeros(len(pack.runs), int), Clock(), placement)
    state, numbers = fresh(pack, lanes, placement), _numbers(pack, lanes, placement)
    took: list[float] = []
    program = program_of(pack, world, width)
    state, _ = program(state, numbers, batches, np.int32(1))  # compiled, and tried
    jax.block_until_ready(state)
    began = time.perf_counter()
    while len(took) < 2 or time.perf_counter() - began < PROBE:
        at = time.perf_counter()
        state, _ = program(state, numbers, batches, np.int32(count))
        jax.block_until_ready(state)
        took.append(time.perf_counter() - at)
    return width * count * pack.runs[0].batch_tokens / min(took)


def check_execution(pack: Pack) -> None:
    """Raise UserError where this process cannot give a pack its devices and the versions of its execution."""
    placement_of(pack.mesh, pack.width)
    planned = {"device": pack.execution["device"], **pack.execution["versions"]}
    here = {"device": jax.default_backend(), **versions()}
    if (cores := pack.execution.get("cores", 1)) > 1:
        planned["cores"], here["cores"] = cores, min(cores, len(os.sched_getaffinity(0)))
    changed = [key for key in {**planned, **here} if planned.get(key) != here.get(key)]
    different = [f"{key} {planned.get(key, 'unset')}, here {here.get(key, 'unset')}" for key in changed]
    if different:
        raise UserError(
            f"pack {pack.pack_id} was begun or planned with {'; '.join(different)}: have these again to go on with "
            "it (pack.device=... names a device), or start over what it has not finished: retry=true"
        )


def _loop(
    job: Job,
    world: World,
    program: Any,
    evaluator: Callable[[], Evaluator],
    start: Start,
    clock: Clock,
) -> tuple[State, list[int]]:
    """Train the runs that have lanes, and those that get one when another has ended. Returns the last state and
    whose it is, lane by lane."""
    pack, grid, state, begun = job.pack, grid_of(job.pack), start.state, False
    lanes, ends = start.slots, grid.ends
    steps = _steps(pack, start, ends)
    timer = Timer(job.folder, pack, steps)
    saved_at = time.perf_counter()
    placement = placement_of(pack.mesh, pack.width)
    numbers, batches = (
        _numbers(pack, lanes, placement),
        _batches(pack, world, lanes, steps, clock, placement),
    )
    waiting = slots.refills(pack, lanes, range(len(lanes)), (steps >= ends).tolist())
    with checkpoint.Saver() as saver:
        while (left := grid.next_stop(lanes, steps)) > 0 or waiting:
            count = min(max(left, 1), pack.execution["steps"])
            faults.point("train.step")
            state, metrics = program(state, numbers, batches, np.int32(count))
            collector.wake()
            if not begun:
                jax.block_until_ready(state)  # nothing is frozen or written before the device has run a step
                begin(job, start)
                begun, saved_at = True, time.perf_counter()
                if jax.default_backend() != "cpu":  # there it would take this process's core
                    threading.Thread(target=prepare_next, args=(job, world), name="next program").start()
            before, steps = steps, steps.copy()
            steps[lanes] = np.minimum(steps[lanes] + count, ends[lanes])
            free = [lane for lane, run in enumerate(lanes) if steps[run] >= ends[run]]
            refills = slots.refills(pack, lanes, free, (steps >= ends).tolist())
            had, lanes = lanes, [dict(refills).get(lane, run) for lane, run in enumerate(lanes)]
            if refills or grid.next_stop(lanes, steps):
                batches = _batches(pack, world, lanes, steps, clock, placement)  # while the device works
            if due := grid.due(had, before, steps):
                evaluate(job, evaluator, state, had, steps, due, clock)
            for lane, run in refills:
                finish(job, state, lane, pack.runs[had[lane]])
                begin_records(job, run, None)
                state = with_run(job, state, lane, run, placement)
                faults.point("train.refilled")
            if refills:
                numbers = _numbers(pack, lanes, placement)
            step = _checkpoint_step(pack, lanes, steps)
            pinned = step % slots.ROUND in grid.pins
            late = time.perf_counter() - saved_at > job.config.checkpoint_seconds
            asked, late = processes.agree((stopping.requested(), late))
            if pinned or asked or late:
                _save(job, saver, state, lanes, step, pinned, clock)
                saved_at = time.perf_counter()
            timer.tick(had, steps, metrics, clock)
            faults.point("train.stepped")
            if asked:
                saver.wait()
                raise stopping.Interrupted(f"interrupted at step {step % slots.ROUND}")
            steps[timer.diverged] = ends[timer.diverged]  # the device stopped them already
            waiting = slots.refills(pack, lanes, range(len(lanes)), (steps >= ends).tolist())
        if not begun:  # a process ended after its last step and before its outcome
            begin(job, start)
        began = time.perf_counter()
        saver.wait()
        clock.saving += time.perf_counter() - began
    timer.write(steps, clock)
    return state, lanes


def _steps(pack: Pack, start: Start, ends: np.ndarray) -> np.ndarray:
    """Return the step of every run, as the loop counts: one that has ended or diverged is at its end."""
    steps = np.where(start.ended, ends, pack.start_steps)
    diverged = np.asarray(start.state.guard.skipped_in_row) >= PATIENCE
    steps[start.slots] = np.where(diverged, ends[start.slots], np.asarray(start.state.step))
    return steps


def _checkpoint_step(pack: Pack, lanes: Sequence[int], steps: np.ndarray) -> int:
    """The number of a pack's checkpoint, which must only grow: of trunks their round and the step of the living
    lanes, which go together; else the steps of all runs added up, for they begin and end each at its own."""
    if not pack.pins:
        return int(steps.sum())
    at = next(n for n, runs in enumerate(slots.rounds(pack)) if lanes[0] in runs)
    return at * slots.ROUND + int(steps[lanes].min())


def _batches(
    pack: Pack,
    world: World,
    lanes: Sequence[int],
    steps: np.ndarray,
    clock: Clock,
    placement: Placement | None = None,
) -> tuple[Any, ...]:
    """The next batches of every lane's run: [steps of a dispatch, lanes, ...]. steps: of all runs."""
    began = time.perf_counter()
    count = pack.execution["steps"]
    parts = [
        world.batches(pack.runs[run].data_seed, int(steps[run]), count, pack.runs[run].batch_multiple)
        for run in lanes
    ]
    stacked: Any = tuple(np.stack(arrays, axis=1) for arrays in zip(*parts, strict=True))
    if placement:
        stacked = put(stacked, placement.batches)
    clock.data += time.perf_counter() - began
    return stacked


def _save(
    job: Job,
    saver: checkpoint.Saver,
    state: State,
    lanes: Sequence[int],
    step: int,
    pinned: bool,
    clock: Clock,
) -> None:
    jax.block_until_ready(state)  # what the device is still at is no cost of saving
    began = time.perf_counter()
    keep, meta = job.config.checkpoints, meta_of(job)
    claim = job.claim
    arrays = to_arrays(state)
    if job.pack.width < len(job.pack.runs):
        arrays[slots.NAME] = np.asarray(lanes, np.int32)
    saver.save(claim.folder, step, arrays, meta, pinned, keep, fence=claim, claim=claim.number)
    clock.saving += time.perf_counter() - began
