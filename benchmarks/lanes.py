"""What lanes cost and save: `python -m benchmarks.lanes speed`, or `tune`.

speed    CPU milliseconds of a model-step by size and lanes, in one process on one core, in turns
tune     256 rates of one size by one command: what was compiled, and the seconds of each part
ahead    a program compiled in a thread beside training, against before it, on this one core
"""

import collections
import functools
import sys
import tempfile
import time
from typing import Any

from lmscale.cores import take_core

take_core()  # before jax: one thread on one core, as a job of a sweep has it

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from benchmarks.gpu_right import lane_numbers, program_of, random_batches  # noqa: E402
from lmscale import sweep, worker  # noqa: E402
from lmscale.config import OptimConfig  # noqa: E402
from lmscale.family import FamilyConfig, shape_of  # noqa: E402
from lmscale.shape import Shape  # noqa: E402
from lmscale.step import init_lane  # noqa: E402

ROWS, STEPS = 18, 8
COMPILED = "/jax/core/compile/backend_compile_duration"


def shape(dial: int) -> Shape:
    return shape_of(FamilyConfig(n_head=4), dial, context=64, vocab_size=260)


def program(dial: int, lanes: int) -> Any:
    """A compiled dispatch of random batches: state -> state; and a first state. Compiled anew each time."""
    jitted = program_of(shape(dial), OptimConfig(), ROWS, jnp.float32)
    batches = random_batches(shape(dial), lanes, STEPS, ROWS)
    init = jax.jit(jax.vmap(functools.partial(init_lane, shape(dial), OptimConfig())))
    numbers, state = lane_numbers(lanes), init(jnp.arange(lanes))
    jitted = jitted.lower(state, numbers, batches, np.int32(STEPS)).compile()
    return lambda state: jax.block_until_ready(jitted(state, numbers, batches, np.int32(STEPS))[0]), state


def speed(dials: str = "8,24,88", lanes: str = "1,2,4", repeats: int = 7) -> None:
    """Print a line a size: CPU milliseconds a model-step, the median of `repeats`, and the gain over one lane."""
    for dial in map(int, dials.split(",")):
        took: dict[int, list[float]] = collections.defaultdict(list)
        programs = {count: program(dial, count) for count in map(int, lanes.split(","))}
        for _ in range(int(repeats)):
            for count, (run, state) in programs.items():
                began = time.process_time()
                programs[count] = run, run(state)
                took[count].append((time.process_time() - began) / count / STEPS * 1e3)
        middle = {count: float(np.median(values)) for count, values in took.items()}
        print(
            f"d {dial}: "
            + "; ".join(f"{n} lanes {ms:.2f} ms ({middle[1] / ms:.2f})" for n, ms in middle.items()),
            flush=True,
        )


def tune(count: str = "256", lanes: str = "16", dial: str = "8") -> None:
    """Train `count` rates of one size for a few steps, in this process, and count what is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        factors = [round(2 ** (n / int(count) * 4 - 2), 6) for n in range(int(count))]
        with initialize_config_module("sweeps", version_base=None):
            composed = compose(
                "config",
                [
                    *(
                        "experiment=smoke",
                        "plan=tune",
                        f"plan.factors={factors}",
                        f"dial=[{dial}]",
                        "seed=[0]",
                    ),
                    *("tasks=none", "schedule=cosine", "data.heldout_rows=64", f"pack.lanes={lanes}"),
                    *(f"horizon={{tokens: 4e4, dial: {dial}, multiples: [1.0]}}", "pack.device=cpu"),
                    *(f"runs={folder}/runs", f"corpora={folder}/corpora"),
                ],
            )
        values: Any = OmegaConf.to_container(composed, resolve=True)
        compiled: collections.Counter[str] = collections.Counter()

        def note(event: str, seconds: float, **about: Any) -> None:
            if event == COMPILED:
                compiled[str(about.get("fun_name"))] += 1

        def launch(jobs: list[str]) -> list[Exception]:
            for job in jobs:
                worker.train_job({**values, "job": job})
            return []

        jax.monitoring.register_event_duration_secs_listener(note)
        began = time.process_time()
        status = sweep.run([values], launch)
        print(f"{count} runs, {lanes} lanes: status {status}, {time.process_time() - began:.0f} CPU s")
        print(f"compiled: {dict(compiled)}")


if __name__ == "__main__":
    {"speed": speed, "tune": tune}[sys.argv[1]](*sys.argv[2:])
