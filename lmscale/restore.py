"""The state that a pack begins or goes on from: its newest checkpoint, its trunks' states, or step 0; a state as
the named arrays of a checkpoint. What is trained from there is `train`'s business.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import checkpoint, jsonfiles, model, records, slots
from lmscale.average import AverageConfig, average_of
from lmscale.errors import UserError
from lmscale.guard import PATIENCE
from lmscale.lanes import in_lane
from lmscale.optim import OptimConfig
from lmscale.packs import Job, outcome_path
from lmscale.plan import Pack
from lmscale.schedule import BRANCH
from lmscale.shape import Shape
from lmscale.spec import RunSpec
from lmscale.step import State, init_lane, state_at_start

_log = logging.getLogger(__name__)


def meta_of(job: Job) -> dict[str, Any]:
    """Return what a checkpoint must match: the science of every lane, by id, and the execution."""
    return {"lanes": [run.run_id for run in job.pack.runs], "execution": job.pack.execution}


@dataclass(frozen=True)
class Start:
    """A state to go on from, the run of the pack that each lane has, and the step up to which each run's records
    stand: None where none do. A run that is not in `records_until` is padding: its records are left alone."""

    state: State
    slots: list[int]
    records_until: dict[int, int | None]


def restore(job: Job) -> Start:
    """Find the newest state of this pack; else its trunks' states where the branches begin; else step 0.

    It only reads. Runs that have their outcome already (their trunk diverged, or another lane's folder was deleted)
    are padding: they begin as ended ones, where no run waits for the lane. Only trunks with a state go on whatever
    their outcomes: branches start from the states of all.
    """
    pack = job.pack
    ended = [outcome_path(job, run).exists() for run in pack.runs]
    at = slots.round_at(pack, ended)
    found, template = _newest(job, at), _template(pack)
    lanes = slots.first(pack, at, ended)
    if found is not None:
        lanes = [int(run) for run in found.arrays.get(slots.NAME, lanes)]
    on = slots.rounds(pack)[at] if found is not None and pack.pins else []
    idle = [ended[run] and run not in on for run in lanes]
    new = dict(slots.refills(pack, lanes, {lane for lane, is_idle in enumerate(idle) if is_idle}, ended))
    for lane, run in new.items():
        lanes[lane], idle[lane] = run, False
    if found is not None:
        state = on_device(_from_arrays(template, found.arrays))
        for lane, run in new.items():
            state = in_lane(state, begin_run(job, run), np.int32(lane))
    elif pack.runs[0].kind == BRANCH:
        at_start = fresh(pack, lanes) if any(idle) else None
        parts = [
            jax.tree.map(lambda array, lane=lane: np.asarray(array)[lane : lane + 1], at_start)
            if idle[lane]
            else begin_run(job, run)
            for lane, run in enumerate(lanes)
        ]
        state = on_device(jax.tree.map(lambda *parts: np.concatenate(parts), *parts))
    else:
        state = fresh(pack, lanes)
    if any(idle):
        in_row = jnp.where(jnp.asarray(idle), PATIENCE, state.guard.skipped_in_row)
        state = state._replace(guard=state.guard._replace(skipped_in_row=in_row))
    steps = np.asarray(state.step)
    stand = {
        run: int(steps[lane]) if found and lane not in new else None
        for lane, run in enumerate(lanes)
        if not idle[lane]
    }
    return Start(state, lanes, stand)


def _newest(job: Job, at: int) -> checkpoint.Checkpoint | None:
    """Load the newest state of a round. A trunk that lacks a pin goes on from the newest before it."""
    pack = job.pack
    have = {step for step, pinned, _ in checkpoint.saved(job.claim.folder) if pinned}
    at_most = (at + 1) * slots.ROUND - 1 if pack.pins else None
    at_most = min(slots.pin_numbers(pack, at) - have, default=at_most)
    found = checkpoint.load(job.claim.folder, meta_of(job), at_most=at_most)
    return found if found is None or not pack.pins or found.step >= at * slots.ROUND else None


def begin(job: Job, start: Start) -> None:
    """Make the pack's runs this process's, after its first step: freeze the execution, then cut their records at
    the step that they go on from. Raises LostClaim where another pack has begun one of them."""
    job.claim.freeze()
    for run, step in start.records_until.items():
        begin_records(job, run, step)


def begin_records(job: Job, run: int, step: int | None) -> None:
    """Say how a run is computed, and cut its records at the step that it goes on from."""
    folder = job.folder / job.pack.runs[run].run_id
    execution = {"pack_id": job.pack.pack_id, **job.pack.execution}
    jsonfiles.write_json(folder / "execution.json", execution, job.claim)
    for problem in records.truncate_after(folder / "records.jsonl", step, job.claim):
        _log.warning("%s", problem)


def begin_run(job: Job, run: int) -> State:
    """Make the state, of one lane, that a run of the pack begins with."""
    spec = job.pack.runs[run]
    return _trunk_state(job, spec, _template(job.pack)) if spec.kind == BRANCH else fresh(job.pack, [run])


def _template(pack: Pack) -> State:
    """A state's tree, whose leaves are one lane's shapes."""
    spec = pack.runs[0]
    start = functools.partial(state_at_start, spec.shape, spec.optim, average=average_of(spec.evaluation))
    return jax.eval_shape(start, model.shapes(spec.shape))


def fresh(pack: Pack, lanes: Sequence[int] | None = None) -> State:
    """Start every lane at step 0. lanes: their runs; the pack's first ones unless given."""
    spec = pack.runs[0]
    init = _init(spec.shape, spec.optim, average_of(spec.evaluation))
    return init(jnp.asarray([pack.runs[run].seed for run in (range(pack.width) if lanes is None else lanes)]))


@functools.lru_cache(maxsize=4)
def _init(shape: Shape, optim: OptimConfig, average: AverageConfig) -> Callable[[jax.Array], State]:
    """seeds [L] -> states at step 0, as one program: run eagerly, it would be a hundred small compilations."""
    return jax.jit(jax.vmap(functools.partial(init_lane, shape, optim, average=average)))


def _trunk_state(job: Job, run: RunSpec, template: State) -> State:
    """One lane's state, in numpy, from its trunk's pinned checkpoint at the step where the rate begins to fall."""
    execution = jsonfiles.read_json(job.folder / str(run.trunk) / "execution.json")
    pack_id = execution.pop("pack_id")
    folder = job.folder / "packs" / pack_id
    meta = {"lanes": execution["lanes"], "execution": execution}
    index = execution["lanes"].index(run.trunk)
    at, lane = divmod(index, execution.get("width", len(execution["lanes"])))
    found = checkpoint.load(folder, meta, at * slots.ROUND + int(run.decay_start or 0))
    if found is None:
        raise UserError(
            f"{folder}: no checkpoint of trunk {run.trunk} at step {run.decay_start}; start the sweep again "
            "and the trunk is trained once more"
        )
    return _from_arrays(template, {name: array[lane : lane + 1] for name, array in found.arrays.items()})


def to_arrays(state: State) -> dict[str, np.ndarray]:
    """Turn a state into named arrays, for a checkpoint. Copies: the next step is given the state's own memory."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def _from_arrays(template: State, arrays: dict[str, np.ndarray]) -> State:
    paths, tree = jax.tree_util.tree_flatten_with_path(template)
    return jax.tree.unflatten(tree, [arrays[jax.tree_util.keystr(path)] for path, _ in paths])


def on_device(tree: Any) -> Any:
    """Put arrays of numpy on the device, as copies: the state is donated to the step, and a checkpoint's arrays are
    views of one buffer. No program is compiled for it, as `jnp.array` would for each shape."""
    return jax.device_put(tree, may_alias=False)
