"""The state that a pack begins or goes on from: its newest checkpoint, its trunks' states, or step 0; a state as
the named arrays of a checkpoint. What is trained from there is `train`'s business.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import checkpoint, jsonfiles, model, records
from lmscale.average import AverageConfig, average_of
from lmscale.errors import UserError
from lmscale.guard import PATIENCE
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
    """A state to go on from, and the step up to which each lane's records stand: None where none do. A lane that
    is not in `records_until` is padding: its records are left alone."""

    state: State
    records_until: dict[int, int | None]


def restore(job: Job) -> Start:
    """Find the newest state of this pack; else its trunks' states where the branches begin; else step 0.

    It only reads. Without a checkpoint, lanes that have their outcome already (their trunk diverged, or another
    lane's folder was deleted) are padding: they begin as ended ones.
    """
    pack = job.pack
    found = checkpoint.load(job.claim.folder, meta_of(job), at_most=_resume_step(job))
    ended = [found is None and outcome_path(job, run).exists() for run in pack.runs]
    if found is not None:
        state = on_device(_from_arrays(_template(pack), found.arrays))
    elif pack.runs[0].kind == BRANCH:
        at_start, template = fresh(pack) if any(ended) else None, _template(pack)
        lanes = [
            jax.tree.map(lambda array, lane=lane: np.asarray(array)[lane : lane + 1], at_start)
            if ended[lane]
            else _trunk_state(job, run, template)
            for lane, run in enumerate(pack.runs)
        ]
        state = on_device(jax.tree.map(lambda *parts: np.concatenate(parts), *lanes))
    else:
        state = fresh(pack)
    if any(ended):
        in_row = jnp.where(jnp.asarray(ended), PATIENCE, state.guard.skipped_in_row)
        state = state._replace(guard=state.guard._replace(skipped_in_row=in_row))
    steps = np.asarray(state.step)
    stand = {lane: int(steps[lane]) if found else None for lane in range(len(ended)) if not ended[lane]}
    return Start(state, stand)


def begin(job: Job, start: Start) -> None:
    """Make the pack's runs this process's, after its first step: freeze the execution, then cut their records at
    the step that they go on from. Raises LostClaim where another pack has begun one of them."""
    job.claim.freeze()
    for run in job.pack.runs:
        execution = {"pack_id": job.pack.pack_id, **job.pack.execution}
        jsonfiles.write_json(job.folder / run.run_id / "execution.json", execution, job.claim)
    for lane, step in start.records_until.items():
        path = job.folder / job.pack.runs[lane].run_id / "records.jsonl"
        for problem in records.truncate_after(path, step, job.claim):
            _log.warning("%s", problem)


def _template(pack: Pack) -> State:
    """A state's tree, whose leaves are one lane's shapes."""
    spec = pack.runs[0]
    start = functools.partial(state_at_start, spec.shape, spec.optim, average=average_of(spec.evaluation))
    return jax.eval_shape(start, model.shapes(spec.shape))


def _resume_step(job: Job) -> int | None:
    """A trunk that lacks a pin goes on from the newest checkpoint before it; all else from the newest."""
    have = {step for step, pinned, _ in checkpoint.saved(job.claim.folder) if pinned}
    return min(set(job.pack.pins) - have, default=None)


def fresh(pack: Pack) -> State:
    """Start every lane at step 0."""
    spec = pack.runs[0]
    init = _init(spec.shape, spec.optim, average_of(spec.evaluation))
    return init(jnp.asarray([run.seed for run in pack.runs]))


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
    found = checkpoint.load(folder, meta, run.decay_start)
    if found is None:
        raise UserError(
            f"{folder}: no checkpoint of trunk {run.trunk} at step {run.decay_start}; start the sweep again "
            "and the trunk is trained once more"
        )
    lane = execution["lanes"].index(run.trunk)
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
