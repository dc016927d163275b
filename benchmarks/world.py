"""What the data costs: making a batch against a step, and all evaluations of a run against its training.

`python -m benchmarks.world [dial ...]`. The aims: a batch under 10% of a step at every
default rung, the evaluations of experiment `cpu` under 15% of its training. The step here is a forward and a
backward pass without the optimiser, so the shares are on the high side.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lmscale.worker import take_core

take_core()  # before jax: one thread on one core, as a job of a sweep has it

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from benchmarks import default  # noqa: E402
from lmscale import model  # noqa: E402
from lmscale.data import World, open_world  # noqa: E402
from lmscale.evaluate import make_evaluator  # noqa: E402
from lmscale.loss import token_losses  # noqa: E402
from lmscale.plan import make_plan  # noqa: E402
from lmscale.spec import evaluation_steps  # noqa: E402

STEPS = 32  # a dispatch's worth of batches at a time, as the loop asks for them


def main(dials: list[int]) -> None:
    """Print a line a rung, then the sweep as a whole."""
    config = default.config(*([f"dial={dials}", "one_seed=[]"] if dials else []))
    with tempfile.TemporaryDirectory() as name:
        world = open_world(config.data, config.tasks, Path(name))
        plan = make_plan([config], [world.manifest], "cpu")
        batch = _batch_seconds(world)
        print(f"a batch of {len(world.component_of_row())} rows: {1e3 * batch:.3f} ms")
        trained = evaluated = 0.0
        for dial in config.dial:
            specs = [spec for spec in plan.runs.values() if spec.dial == dial and spec.horizon_steps]
            spec = max(specs, key=lambda spec: spec.horizon_steps or 0)
            step, evaluation = _step_seconds(world, spec), _evaluation_seconds(world, spec)
            steps = spec.horizon_steps or 0
            count = len(evaluation_steps(spec, 0, steps))
            trained += steps * step
            evaluated += count * evaluation
            print(
                f"dial {dial}: step {1e3 * step:.2f} ms, batch {batch / step:.1%} of it; "
                f"{count} evaluations of {evaluation:.3f} s, {count * evaluation / (steps * step):.1%} of training",
                flush=True,
            )
        print(f"all rungs: evaluation {evaluated / trained:.1%} of training")


def _batch_seconds(world: World, repeats: int = 64) -> float:
    world.batches(0, 0, STEPS)
    began = time.process_time()
    for start in range(STEPS, STEPS * (repeats + 1), STEPS):
        world.batches(0, start, STEPS)
    return (time.process_time() - began) / (STEPS * repeats)


def _step_seconds(world: World, spec: Any, repeats: int = 20) -> float:
    forward = model.forward(spec.shape)
    batch = world.batches(0, 0, 1)
    tokens, weight = jnp.asarray(batch.tokens[0].astype("int32")), jnp.asarray(batch.weight[0])

    def loss(params: Any) -> jax.Array:
        return (token_losses(forward(params, tokens[:, :-1]), tokens[:, 1:]) * weight).sum()

    params = jax.jit(lambda key: model.init(spec.shape, key))(jax.random.key(0))
    gradient = jax.jit(jax.grad(loss))
    return _best(lambda: jax.block_until_ready(gradient(params)), repeats)


def _evaluation_seconds(world: World, spec: Any) -> float:
    params = jax.jit(lambda key: jax.tree.map(lambda leaf: leaf[None], model.init(spec.shape, key)))(
        jax.random.key(0)
    )
    evaluator = make_evaluator(world, model.forward(spec.shape), model.decoder(spec.shape))
    return _best(lambda: evaluator(params), 3)


def _best(call: Any, repeats: int) -> float:
    """Take the least CPU time of several calls: others may use the machine meanwhile."""
    call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    main([int(dial) for dial in sys.argv[1:]])
