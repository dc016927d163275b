"""What the training loop costs above a bare jitted step, at the largest default rung. `make bench`.

Both run the same compiled program on the same number of steps; the loop also makes batches, keeps its books
and writes timing lines. Evaluations and checkpoints are left out: `timing.jsonl` of a sweep shows them.
"""

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from lmscale.packs import Job
from lmscale.worker import take_core

take_core()  # before jax: one thread on one core, as a job of a sweep has it

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import default  # noqa: E402
from lmscale import restore, train  # noqa: E402
from lmscale.config import EvaluationConfig, HorizonConfig, PackConfig  # noqa: E402
from lmscale.data import open_world  # noqa: E402
from lmscale.ledger import Ledger  # noqa: E402
from lmscale.plan import make_plan  # noqa: E402
from lmscale.spec import write_specs  # noqa: E402
from lmscale.timing import Clock  # noqa: E402


def main(dial: int | None = None, steps: int = 320, repeats: int = 7) -> None:
    """Print milliseconds a step of both, alternating, the best of `repeats`. dial: the largest unless given."""
    dial = dial or max(default.config().dial)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = default.config(
            f"runs={name}", f"dial=[{dial}]", "seed=[0]", "one_seed=[]", "schedule=cosine"
        )
        world = open_world(config.data, config.tasks, folder / "corpora")
        batch = sum(c.rows for c in world.components) * world.context
        config = dataclasses.replace(
            config,
            horizon=HorizonConfig(tokens=steps * batch, dial=dial, multiples=(1.0,)),
            evaluation=EvaluationConfig(first_tokens=1e12),
            pack=PackConfig(checkpoint_seconds=1e9),
        )
        plan = make_plan([config], [world.manifest], "cpu")
        write_specs(folder, plan.runs)
        (pack,) = plan.packs
        claim = Ledger(folder).claim(pack.pack_id, pack.execution)
        assert claim is not None
        job = Job(pack, config.pack, folder, claim)
        spec = pack.runs[0]
        program = train._program(world, spec.shape, spec.optim, 1, "float32")
        evaluator = train._evaluator(world, spec.shape, "float32")
        lanes = jax.tree.map(lambda x: x[None], train.lane_numbers(spec, steps))
        data = train._batches(pack, world, np.zeros(1, int), Clock())
        bare, loop = [], []
        for repeat in range(repeats + 1):
            state = restore.fresh(pack)
            began = time.perf_counter()
            for _ in range(steps // config.pack.steps):
                state, metrics = program(state, lanes, data, jnp.int32(config.pack.steps))
            jax.block_until_ready(metrics)
            seconds = time.perf_counter() - began
            clock = Clock()
            began = time.perf_counter()
            state = train._loop(job, world, program, lambda: evaluator, lanes, restore.fresh(pack), clock)
            jax.block_until_ready(state)
            whole = time.perf_counter() - began - clock.evaluating - clock.saving
            if repeat:  # the first compiles
                bare.append(seconds / steps)
                loop.append(whole / steps)
        claim.release()
        print(
            f"dial {dial}, {steps} steps: bare {min(bare) * 1e3:.2f} ms a step, loop {min(loop) * 1e3:.2f} ms"
        )
        print(
            f"loop overhead {min(loop) / min(bare) - 1:+.1%} (data {clock.data / steps * 1e3:.3f} ms a step)"
        )


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
