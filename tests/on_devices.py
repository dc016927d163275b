"""Run as a program on eight forced devices: one run and four lanes on several meshes, and on one device. It prints
what it found as JSON; `test_mesh.py` judges."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import checkpoint
from lmscale.config import OptimConfig
from lmscale.family import FamilyConfig, shape_of
from lmscale.lanes import Lane
from lmscale.mesh import MeshConfig
from lmscale.placement import Placement, placement_of, put
from lmscale.restore import from_arrays, to_arrays
from lmscale.step import State, init_lane, pack_program, state_template

SHAPE = shape_of(FamilyConfig(n_layer=1, n_head=4), 16, context=32, vocab_size=63)  # no axis divides it
OPTIM, ROWS, STEPS = OptimConfig(), 8, 50
TEMPLATE = state_template(SHAPE, OPTIM)


def numbers(n_lanes: int) -> Lane:
    whole = {"warmup_steps": 4, "decay_start": 30, "decay_end": STEPS, "fall": 0, "end_step": 1000}
    parts = {"peak_rate": 0.01, "weight_decay": 0.1, "floor": 0.0}
    arrays = {name: np.full(n_lanes, value, np.int32) for name, value in whole.items()}
    return Lane(**arrays, **{name: np.full(n_lanes, value, np.float32) for name, value in parts.items()})


def batches(n_lanes: int) -> tuple[np.ndarray, ...]:
    """Rows that can be learned: each token is seen twice. Every lane has the same."""
    rng = np.random.default_rng(0)
    tokens = np.repeat(rng.integers(0, 63, (STEPS, 1, ROWS, 17)), 2, axis=-1)[..., :33].astype(np.uint16)
    counted = np.ones((STEPS, 1, ROWS, 32), bool)
    weight = np.full(counted.shape, 1 / (ROWS * 32), np.float32)
    return tuple(np.repeat(part, n_lanes, axis=1) for part in (tokens, counted, weight))


class Trainer:
    """A pack on a mesh."""

    def __init__(self, mesh: MeshConfig, n_lanes: int = 1) -> None:
        self.placement: Placement | None = placement_of(mesh, n_lanes)
        self.n_lanes = n_lanes
        self.program = pack_program(SHAPE, OPTIM, np.zeros(ROWS, int), 1, placement=self.placement)
        self.lanes: Any = numbers(n_lanes)
        if self.placement:
            self.lanes = put(self.lanes, self.placement.numbers)

    def start(self) -> State:
        out = {"out_shardings": self.placement.state(TEMPLATE)} if self.placement else {}
        init = jax.jit(jax.vmap(lambda seed: init_lane(SHAPE, OPTIM, seed)), **out)
        return init(jnp.arange(self.n_lanes))

    def train(self, state: State, steps: range) -> tuple[State, list[Any]]:
        losses = []
        for step in steps:
            batch: Any = tuple(part[step : step + 1] for part in batches(self.n_lanes))
            if self.placement:
                batch = put(batch, self.placement.batches)
            state, metrics = self.program(state, self.lanes, batch, np.int32(1))
            losses.append(np.asarray(metrics.total).tolist())
        return state, losses

    def restore(self, arrays: dict[str, np.ndarray]) -> State:
        return from_arrays(TEMPLATE, self.n_lanes, arrays, self.placement)


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def meshes() -> dict[str, Any]:
    """Losses of one run on each mesh, and where its arrays lie."""
    _, losses = ALONE.train(ALONE.start(), range(STEPS))
    start, found = jax.tree.map(np.asarray, ALONE.start()), {"alone": {"losses": losses}}
    for name, trainer in SEVERAL.items():
        state = trainer.start()
        begins_alike = same(state, start)
        state, losses = trainer.train(state, range(STEPS))
        shares = {
            jax.tree_util.keystr(path): leaf.addressable_shards[0].data.size / leaf.size
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        }
        found[name] = {"losses": losses, "begins_alike": begins_alike, "shares": shares}
    return found


def lanes() -> dict[str, Any]:
    """Four lanes of one seed on four of eight devices."""
    trainer = Trainer(MeshConfig(8), 4)
    assert trainer.placement
    arrays = {name: np.repeat(array, 4, axis=0) for name, array in to_arrays(ALONE.start()).items()}
    state, batch = trainer.restore(arrays), put(tuple(p[:1] for p in batches(4)), trainer.placement.batches)
    compiled = trainer.program.lower(state, trainer.lanes, batch, np.int32(1)).compile()
    trainer.program = compiled
    state, losses = trainer.train(state, range(STEPS))
    words = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
    return {
        "losses": losses,
        "devices": len(state.step.sharding.device_set),
        "talk": [word for word in words if word in compiled.as_text()],
        "alike": same(*(jax.tree.map(lambda array, i=i: np.asarray(array)[i], state) for i in (0, 3))),
    }


def moves(folder: str) -> dict[str, Any]:
    """One run that goes 1 -> 8 -> 4 -> 1 devices through the files of checkpoints."""
    state, losses, bits = ALONE.start(), [], []
    kept: Any = None
    for part, trainer in enumerate((ALONE, *SEVERAL.values(), ALONE)):
        steps = range(part * 12, part * 12 + 12 if part < 3 else STEPS)
        if part:
            found = checkpoint.load(Path(folder), {})
            assert found is not None
            state = trainer.restore(found.arrays)
            bits.append(same(state, kept))
        state, more = trainer.train(state, steps)
        kept = jax.tree.map(np.asarray, state)
        losses += more
        checkpoint.save(Path(folder), steps.stop, to_arrays(state), {})
    return {"losses": losses, "bits": bits}


if __name__ == "__main__":
    ALONE = Trainer(MeshConfig())
    SEVERAL = {"8": Trainer(MeshConfig(4, 2)), "4": Trainer(MeshConfig(4))}
    print(json.dumps({"meshes": meshes(), "lanes": lanes(), "moves": moves(sys.argv[1])}))
