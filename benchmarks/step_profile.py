"""What a step's time on one core goes to, by kind of operation: `python -m benchmarks.step_profile [DIAL]`.

From a trace of XLA's own, with the scopes that its operations have in the program. Shares of their sum, which
others at work on the machine change little.
"""

import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from lmscale.worker import take_core

take_core()  # before jax: one thread on one core, as a job of a sweep has it

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.profiler import ProfileData  # noqa: E402

from benchmarks.gpu_profile import _scopes  # noqa: E402
from benchmarks.gpu_right import lane_numbers, program_of, random_batches  # noqa: E402
from lmscale.family import FamilyConfig, shape_of  # noqa: E402
from lmscale.optim import OptimConfig  # noqa: E402
from lmscale.step import init_lane  # noqa: E402

ROWS, STEPS, DISPATCHES = 14, 16, 6


def kind(name: str, scope: str) -> str:
    """Name what an operation is for."""
    product = name.startswith("dot") or scope.endswith("dot_general")
    if "scores" in scope:
        return "scores: products" if product else "scores: softmax, mask"
    if product:
        return "products of the stream"
    if re.match("copy|transpose", name) and "transpose(jvp" in scope:
        return "transposed copies for gradients"
    for part, said in (("attention_norm", "norms"), ("mlp_norm", "norms"), ("final_norm", "norms")):
        if part in scope:
            return said
    for part, said in (("attention_", "attention: norms, rotary, parts"), ("mlp_", "MLP: GELU")):
        if part in scope:
            return said
    return "loss, look-up" if "jvp" in scope else "optimiser, guard, copies of the state"


def times(dial: int) -> Iterator[tuple[str, str, float]]:
    """Each operation of some dispatches: its name, its scope, its nanoseconds."""
    shape, optim = shape_of(FamilyConfig(), dial, context=64, vocab_size=260), OptimConfig()
    state = jax.jit(jax.vmap(lambda seed: init_lane(shape, optim, seed)))(np.arange(1))
    arguments = lane_numbers(1), random_batches(shape, 1, STEPS, ROWS), np.int32(STEPS)
    program = program_of(shape, optim, ROWS, np.float32, "blocks").lower(state, *arguments).compile()
    scopes = _scopes(program.as_text())
    state, _ = program(state, *arguments)
    jax.block_until_ready(state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(DISPATCHES):
                state, _ = program(state, *arguments)
            jax.block_until_ready(state)
        (path,) = Path(folder).rglob("*.xplane.pb")
        for plane in ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    scope = scopes.get(re.sub(r"[.-]", "_", event.name))
                    if scope is not None or re.match(r"(ynn_|wrapped_|copy|\w+_fusion)", event.name):
                        yield event.name, scope or "", event.duration_ns


def main(dial: int) -> None:
    """Print the shares."""
    shares: dict[str, float] = defaultdict(float)
    for name, scope, took in times(dial):
        if "while" not in name:
            shares[kind(name, scope)] += took
    whole = sum(shares.values())
    print(f"d {dial}, {ROWS} rows of 64: {whole / STEPS / DISPATCHES / 1e6:.2f} ms a step in its operations")
    for name, took in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"{took / whole:6.1%}  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 88)
