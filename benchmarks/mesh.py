"""Weak scaling of one run over devices that are forced on this CPU: `python -m benchmarks.mesh`.

Each device has the same rows of a batch; the parameters are split over `data` too. All devices share the machine's
cores, so what counts is the CPU time of a token beside one device's: what splitting adds. No promise for real ones.
"""

import argparse
import os
import time
from dataclasses import dataclass

MOST = 8
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={MOST} --xla_cpu_multi_thread_eigen=false "
    + os.environ.get("XLA_FLAGS", "")
)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from lmscale.config import OptimConfig  # noqa: E402
from lmscale.family import FamilyConfig, shape_of  # noqa: E402
from lmscale.lanes import Lane  # noqa: E402
from lmscale.mesh import MeshConfig  # noqa: E402
from lmscale.placement import placement_of, put  # noqa: E402
from lmscale.step import init_lane, pack_program, state_template  # noqa: E402

CONTEXT, STEPS, REPEATS = 128, 8, 3
MESHES = (MeshConfig(), MeshConfig(2), MeshConfig(4), MeshConfig(8), MeshConfig(4, 2), MeshConfig(2, 4))
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True)
class Row:
    """One mesh. state_share: the part of a state's bytes that a device has. cpu, wall: microseconds a token."""

    mesh: MeshConfig
    state_share: float
    cpu: float
    wall: float
    collectives: dict[str, int]


def measure(mesh: MeshConfig, dial: int, rows: int) -> Row:
    """Train a few steps on a mesh; the least of three repeats."""
    shape, optim, rows = (
        shape_of(FamilyConfig(), dial, context=CONTEXT, vocab_size=256),
        OptimConfig(),
        rows * mesh.data,
    )
    placement = placement_of(mesh, 1)
    template = state_template(shape, optim)
    out = {"out_shardings": placement.state(template)} if placement else {}
    state = jax.jit(jax.vmap(lambda seed: init_lane(shape, optim, seed)), **out)(jnp.zeros(1, int))
    whole = {"warmup_steps": 1, "decay_start": 2**30, "decay_end": 2**30, "fall": 0, "end_step": 2**30}
    parts = {"peak_rate": 1e-3, "weight_decay": 0.0, "floor": 0.0}
    numbers = Lane(
        **{name: np.full(1, value, np.int32) for name, value in whole.items()},
        **{name: np.full(1, value, np.float32) for name, value in parts.items()},
    )
    tokens = np.random.default_rng(0).integers(0, 256, (STEPS, 1, rows, CONTEXT + 1)).astype(np.uint16)
    counted = np.ones((STEPS, 1, rows, CONTEXT), bool)
    batches = (tokens, counted, np.full(counted.shape, 1 / (rows * CONTEXT), np.float32))
    if placement:
        numbers, batches = put(numbers, placement.numbers), put(batches, placement.batches)
    program = pack_program(shape, optim, np.zeros(rows, int), 1, placement=placement)
    compiled = program.lower(state, numbers, batches, np.int32(1)).compile()
    leaves = jax.tree.leaves(state)
    share = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(
        leaf.nbytes for leaf in leaves
    )
    state, _ = jax.block_until_ready(compiled(state, numbers, batches, np.int32(1)))
    cpu, wall = [], []
    for _ in range(REPEATS):
        began = time.process_time(), time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, numbers, batches, np.int32(STEPS)))
        per_token = 1e6 / (STEPS * rows * CONTEXT)
        cpu.append((time.process_time() - began[0]) * per_token)
        wall.append((time.perf_counter() - began[1]) * per_token)
    text = compiled.as_text()
    counts = {name: text.count(f" {name}(") + text.count(f" {name}-start(") for name in COLLECTIVES}
    return Row(mesh, share, min(cpu), min(wall), {name: count for name, count in counts.items() if count})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dial", type=int, default=128)
    parser.add_argument("--rows", type=int, default=4, help="of a device")
    given = parser.parse_args()
    print(
        "| mesh | a device's share of the state | CPU time a token | wall | collectives in the program |\n|"
        + "---|" * 5
    )
    first = None
    for mesh in MESHES:
        row = measure(mesh, given.dial, given.rows)
        first = first or row
        said = ", ".join(f"{count} {name}" for name, count in row.collectives.items()) or "none"
        print(
            f"| data {mesh.data}, model {mesh.model} | {row.state_share:.1%} | {row.cpu / first.cpu:.2f} | "
            f"{row.wall / first.wall:.2f} | {said} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
