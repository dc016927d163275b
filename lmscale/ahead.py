"""The step of a run that nobody here can train, compiled for as many forced devices of a CPU as its mesh has.

XLA cuts the program up as it would for accelerators, and says how much memory a device's part takes; nothing is
allocated. jax must be told the number of devices before it starts, so this is a process of its own: `python -m
lmscale.ahead` reads a run on its standard input. No jax is imported by who asks.
"""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from lmscale.device import MORE_MEMORY, lacks_memory
from lmscale.errors import UserError
from lmscale.hlo import work_of
from lmscale.mesh import MeshConfig
from lmscale.spec import RunSpec, spec_of, written

_FORCED = "--xla_force_host_platform_device_count"
# The CPU's own order of work keeps its threads busy and takes more memory than an accelerator's; and code that will
# not run need not be good.
_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False, "xla_backend_optimization_level": 0}


@dataclass(frozen=True)
class Compiled:
    """A step as it was compiled, of one device. memory: bytes of its arguments, of what it returns in other places
    and of all between. flops: of matrix products, a step. counts, bytes: of each kind of communication, a step
    (`hlo.Work`). seconds: that it took."""

    memory: int
    flops: int
    counts: dict[str, int]
    bytes: dict[str, int]
    seconds: float


def compiled(run: RunSpec, mesh: MeshConfig, precision: str) -> Compiled:
    """Compile the step of a run for a mesh. UserError where that cannot be."""
    flags = re.sub(rf"{_FORCED}=\S*", "", os.environ.get("XLA_FLAGS", ""))
    asked = {"run": written(run), "mesh": dataclasses.asdict(mesh), "precision": precision}
    done = subprocess.run(
        [sys.executable, "-m", "lmscale.ahead"],
        input=json.dumps(asked),
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flags} {_FORCED}={mesh.size}".strip()},
        capture_output=True,
        text=True,
        errors="replace",
    )
    try:
        return Compiled(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = said[-1][:300] if said else f"it ended with status {done.returncode}, without a word"
        remedy = f"; {MORE_MEMORY}" if lacks_memory(why) or done.returncode == -signal.SIGKILL else ""
        raise UserError(f"cost.ahead={run.dial}: its step could not be compiled: {why}{remedy}") from None


def _compile(run: RunSpec, mesh: MeshConfig, precision: str) -> Compiled:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lmscale.average import average_of
    from lmscale.lanes import Lane
    from lmscale.placement import placement_of
    from lmscale.step import pack_program, state_template

    began = time.perf_counter()
    average, parts = average_of(run.evaluation), run.data["components"]
    rows = np.repeat(np.arange(len(parts)), [part["rows"] * run.batch_multiple for part in parts])
    dtype = jnp.float32 if precision == "float32" else jnp.bfloat16
    program: Any = pack_program(
        run.shape,
        run.optim,
        rows,
        len(parts),
        dtype,
        average,
        run.data.get("objective", "causal"),
        placement_of(mesh, 1),
    )

    def one(*shape: int, kind: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((1, *shape), kind)

    state = jax.tree.map(
        lambda leaf: one(*leaf.shape, kind=leaf.dtype), state_template(run.shape, run.optim, average)
    )
    whole = {"warmup_steps", "decay_start", "decay_end", "fall", "end_step"}
    lane = Lane(*(one(kind=jnp.int32 if name in whole else jnp.float32) for name in Lane._fields))
    n, context = len(rows), run.shape.context
    batch = one(1, n, context + 1, kind=jnp.uint16), one(1, n, context, kind=bool), one(1, n, context)
    lowered = program.lower(state, lane, batch, jax.ShapeDtypeStruct((), jnp.int32))
    made = lowered.compile(compiler_options=_OPTIONS)
    memory, work = made.memory_analysis(), work_of(made.as_text())
    return Compiled(
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        work.flops,
        dict(work.counts),
        dict(work.bytes),
        round(time.perf_counter() - began, 1),
    )


def main() -> None:
    """Compile the step of the run that stands on the standard input, and write what came of it as JSON."""
    asked = json.load(sys.stdin)
    found = _compile(spec_of(asked["run"]), MeshConfig(**asked["mesh"]), asked["precision"])
    print(json.dumps(dataclasses.asdict(found)))


if __name__ == "__main__":
    main()
