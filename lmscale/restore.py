"""The state that a pack begins or goes on from: its newest checkpoint, its trunks' states, or step 0; a state as
the named arrays of a checkpoint. What is trained from there is `train`'s business.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import checkpoint, jsonfiles, processes, records
from lmscale.average import AverageConfig, average_of
from lmscale.errors import UserError
from lmscale.guard import PATIENCE
from lmscale.mesh import MeshConfig
from lmscale.optim import OptimConfig
from lmscale.packs import Job, outcome_path
from lmscale.placement import Placement, cut, parts
from lmscale.plan import Pack
from lmscale.schedule import BRANCH
from lmscale.shape import Shape
from lmscale.spec import RunSpec
from lmscale.step import State, init_lane, state_template

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


def restore(job: Job, placement: Placement | None = None) -> Start:
    """Find the newest state of this pack; else its trunks' states where the branches begin; else step 0.

    It only reads. Without a checkpoint, lanes that have their outcome already (their trunk diverged, or another
    lane's folder was deleted) are padding: they begin as ended ones.
    """
    pack, template = job.pack, _template(job.pack)
    found, ended = _found(job)
    if found is not None:
        state = from_arrays(template, len(pack.runs), found.arrays, placement)
    elif pack.runs[0].kind == BRANCH:
        at_start = to_arrays(fresh(pack)) if any(ended) else {}
        lanes = [
            _lane(at_start, lane) if ended[lane] else _trunk_arrays(job, run)
            for lane, run in enumerate(pack.runs)
        ]
        arrays = lanes[0] if len(lanes) == 1 else _side_by_side(template, lanes)
        state = from_arrays(template, len(lanes), arrays, placement)
    else:
        state = fresh(pack, placement)
    if any(ended):
        in_row = jnp.where(jnp.asarray(ended), PATIENCE, state.guard.skipped_in_row)
        state = state._replace(guard=state.guard._replace(skipped_in_row=in_row))
    steps = np.asarray(state.step)
    stand = {lane: int(steps[lane]) if found else None for lane in range(len(ended)) if not ended[lane]}
    return Start(state, stand)


def _found(job: Job) -> tuple[checkpoint.Checkpoint | None, list[bool]]:
    """The newest state, and which lanes have ended without one; of several processes the first looks."""
    found, ended = None, None
    if processes.leads():
        found = checkpoint.load(job.claim.folder, meta_of(job), at_most=_resume_step(job))
        ended = [found is None and outcome_path(job, run).exists() for run in job.pack.runs]
    step, ended = processes.agree((found and found.step, ended))
    if step is not None and not processes.leads():
        found = checkpoint.load(job.claim.folder, meta_of(job), step)
    return found, ended


def begin(job: Job, start: Start) -> None:
    """Make the pack's runs this process's, after its first step: freeze the execution, then cut their records at
    the step that they go on from. Raises LostClaim where another pack has begun one of them."""
    if not processes.leads():
        return
    job.claim.freeze()
    for lane, run in enumerate(job.pack.runs):
        path = job.folder / run.run_id / "execution.json"
        execution = {"pack_id": job.pack.pack_id, **job.pack.execution}
        meshes = _meshes(path, job.pack.mesh, start.records_until.get(lane) or 0)
        jsonfiles.write_json(path, {**execution, **({"mesh": meshes} if meshes else {})}, job.claim)
    for lane, step in start.records_until.items():
        path = job.folder / job.pack.runs[lane].run_id / "records.jsonl"
        for problem in records.truncate_after(path, step, job.claim):
            _log.warning("%s", problem)


def _meshes(path: Path, mesh: MeshConfig, step: int) -> list[dict[str, int]]:
    """List the meshes that a run has had, each with the step from which on; none where it was always one device.
    A resume may have another: it changes the order of sums, and nothing else."""
    one = [{"from_step": 0, **dataclasses.asdict(MeshConfig())}]
    before = jsonfiles.read_json(path).get("mesh", one) if path.exists() else []
    kept = [entry for entry in before if entry["from_step"] < step]
    now = dataclasses.asdict(mesh)
    if not kept or {**kept[-1], "from_step": 0} != {"from_step": 0, **now}:
        kept.append({"from_step": step, **now})
    return [] if len(kept) == 1 and mesh.size == 1 else kept


def _template(pack: Pack) -> State:
    """A state's tree, whose leaves are one lane's shapes."""
    spec = pack.runs[0]
    return state_template(spec.shape, spec.optim, average_of(spec.evaluation))


def _resume_step(job: Job) -> int | None:
    """A trunk that lacks a pin goes on from the newest checkpoint before it; all else from the newest."""
    have = {step for step, pinned, _ in checkpoint.saved(job.claim.folder) if pinned}
    return min(set(job.pack.pins) - have, default=None)


def fresh(pack: Pack, placement: Placement | None = None) -> State:
    """Start every lane at step 0; the same numbers on any mesh."""
    spec = pack.runs[0]
    init = _init(spec.shape, spec.optim, average_of(spec.evaluation), placement)
    return init(jnp.asarray([run.seed for run in pack.runs]))


@functools.lru_cache(maxsize=4)
def _init(
    shape: Shape, optim: OptimConfig, average: AverageConfig, placement: Placement | None
) -> Callable[[jax.Array], State]:
    """seeds [L] -> states at step 0, as one program: run eagerly, it would be a hundred small compilations."""
    init = jax.vmap(functools.partial(init_lane, shape, optim, average=average))
    if placement:
        return jax.jit(init, out_shardings=placement.state(state_template(shape, optim, average)))
    return jax.jit(init)


def _trunk_arrays(job: Job, run: RunSpec) -> dict[str, np.ndarray]:
    """One lane's arrays, from its trunk's pinned checkpoint at the step where the rate begins to fall."""
    execution = jsonfiles.read_json(job.folder / str(run.trunk) / "execution.json")
    pack_id = execution.pop("pack_id")
    execution.pop("mesh", None)
    folder = job.folder / "packs" / pack_id
    meta = {"lanes": execution["lanes"], "execution": execution}
    found = checkpoint.load(folder, meta, run.decay_start)
    if found is None:
        raise UserError(
            f"{folder}: no checkpoint of trunk {run.trunk} at step {run.decay_start}; start the sweep again "
            "and the trunk is trained once more"
        )
    return _lane(found.arrays, execution["lanes"].index(run.trunk))


def _lane(arrays: dict[str, np.ndarray], lane: int) -> dict[str, np.ndarray]:
    return {name: array[lane : lane + 1] for name, array in arrays.items()}


def _side_by_side(template: State, lanes: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of several lanes as those of one pack."""
    return {
        name: np.concatenate([cut(arrays, name, (1, *leaf.shape)) for arrays in lanes])
        for name, leaf in _named(template)
    }


def to_arrays(state: State) -> dict[str, np.ndarray]:
    """Turn a state into named arrays, for a checkpoint: of what several processes have between them the parts that
    this one has. Copies: the next step is given the state's own memory."""
    return {name: array for path, leaf in _named(state) for name, array in parts(path, leaf).items()}


def from_arrays(
    template: State, n_lanes: int, arrays: dict[str, np.ndarray], placement: Placement | None = None
) -> State:
    """Turn what `to_arrays` made, of all processes, into a state on this placement, whichever it was made on."""
    shapes = [(name, (n_lanes, *leaf.shape)) for name, leaf in _named(template)]
    tree = jax.tree.structure(template)
    if placement is None:
        return on_device(jax.tree.unflatten(tree, [cut(arrays, name, shape) for name, shape in shapes]))
    shardings = jax.tree.leaves(placement.state(template))
    leaves = [
        jax.make_array_from_callback(shape, sharding, functools.partial(cut, arrays, name, shape, copy=True))
        for (name, shape), sharding in zip(shapes, shardings, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def on_device(tree: Any) -> Any:
    """Put arrays of numpy on the device, as copies: the state is donated to the step, and a checkpoint's arrays are
    views of one buffer. No program is compiled for it, as `jnp.array` would for each shape."""
    return jax.device_put(tree, may_alias=False)
