"""What a mixture of experts costs a step on a CPU, per active FLOP, against the dense network of the same rung; and
ways to group tokens that were not taken. CPU time, one thread, the lengths of a step alternating in one process.

    python -m benchmarks.experts
"""

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from lmscale.worker import take_core

take_core()  # before jax: one thread on one core, as a job of a sweep has it

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from lmscale import experts  # noqa: E402
from lmscale.family import FamilyConfig, parameter_conventions, shape_of  # noqa: E402
from lmscale.flops import training_flops_per_token  # noqa: E402
from lmscale.lanes import Lane  # noqa: E402
from lmscale.optim import OptimConfig  # noqa: E402
from lmscale.step import init_lane, pack_program  # noqa: E402

DIAL, CONTEXT, ROWS = (
    88,
    64,
    (6, 18),
)  # rows of text alone (tasks=none), and with the tasks of the default sweep
FAMILIES = {"dense": {}} | {
    f"{e} experts, top {k}" + (", 1 shared" if s else ""): {
        "kind": "experts", "n_expert": e, "top_k": k, "n_shared": s
    }
    for e, k, s in ((4, 1, 0), (8, 1, 0), (8, 2, 0), (8, 1, 1), (16, 2, 0), (32, 4, 0))
}  # fmt: skip


def batched(in_EDF: jax.Array, out_EFD: jax.Array, x_CRD: jax.Array, expert_C: jax.Array) -> jax.Array:
    """Apply the blocks' experts as one product with a batch axis, of weights copied to the blocks."""
    return jax.nn.gelu(x_CRD @ in_EDF[expert_C]) @ out_EFD[expert_C]


def ragged(in_EDF: jax.Array, out_EFD: jax.Array, x_ND: jax.Array, chosen_NK: jax.Array, gate_NK: Any) -> Any:
    """Group the choices by jax.lax.ragged_dot."""
    (n, k), order = chosen_NK.shape, jnp.argsort(chosen_NK.reshape(-1))
    place, sizes = jnp.argsort(order), jnp.bincount(chosen_NK.reshape(-1), length=len(in_EDF))
    x_MD = experts._moved(x_ND, order // k, place.reshape(n, k))
    y_MD = jax.lax.ragged_dot(jax.nn.gelu(jax.lax.ragged_dot(x_MD, in_EDF, sizes)), out_EFD, sizes)
    y_NKD = experts._moved(y_MD, place, order[:, None]).reshape(n, k, -1)
    return jnp.sum(y_NKD * gate_NK[:, :, None], axis=1)


def every(in_EDF: jax.Array, out_EFD: jax.Array, x_ND: jax.Array, chosen_NK: jax.Array, gate_NK: Any) -> Any:
    """Apply every expert to every token."""
    gate_NE = jnp.sum(jax.nn.one_hot(chosen_NK, len(in_EDF)) * gate_NK[:, :, None], axis=1)
    hidden_ENF = jax.nn.gelu(jnp.einsum("nd,edf->enf", x_ND, in_EDF))
    return jnp.einsum("enf,efd,ne->nd", hidden_ENF, out_EFD, gate_NE)


WAYS = {"batched": ("_blocks", batched), "ragged_dot": ("grouped", ragged), "every": ("grouped", every)}


def stepper(family: dict[str, Any], rows: int) -> tuple[Any, Callable[[int], None]]:
    """Make a shape and a function that trains it for so many steps and waits."""
    shape = shape_of(FamilyConfig(**family), DIAL, context=CONTEXT, vocab_size=260)
    optim = OptimConfig()
    program = pack_program(shape, optim, np.zeros(rows, int), 1)
    state = jax.tree.map(lambda leaf: leaf[None], jax.jit(lambda: init_lane(shape, optim, jnp.int32(0)))())
    never = 10**6
    lane = Lane(
        peak_rate=0.003, weight_decay=0.0, warmup_steps=5, decay_start=never, decay_end=never + 1, fall=0,
        floor=0.0, end_step=never,
    )  # fmt: skip
    lanes = jax.tree.map(lambda value: jnp.asarray(value)[None], lane)
    tokens = np.random.default_rng(0).zipf(1.5, (16, 1, rows, CONTEXT + 1)).clip(max=255).astype(np.uint16)
    counted = np.ones((16, 1, rows, CONTEXT), bool)
    batch = (tokens, counted, counted.astype(np.float32) / counted[0].size)

    def run(steps: int) -> None:
        nonlocal state
        state, metrics = program(state, lanes, batch, np.int32(steps))
        jax.block_until_ready(metrics)

    return shape, run


def seconds(runs: dict[str, Callable[[int], None]], steps: int = 16, repeats: int = 5) -> dict[str, float]:
    """Measure CPU seconds a step, the least of the repeats, one run after another in each."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(steps)
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.process_time()
            run(steps)
            found[name].append((time.process_time() - began) / steps)
    return {name: min(times) for name, times in found.items()}


def main() -> None:
    """Print a table for each number of rows."""
    for rows in ROWS:
        made = {name: stepper(family, rows) for name, family in FAMILIES.items()}
        for way, (name, function) in WAYS.items():
            with mock.patch.object(experts, name, function):
                shape, run = stepper(FAMILIES["8 experts, top 2"], rows)
                run(1)  # traced while patched
            made[f"8 experts, top 2, {way}"] = shape, run
        took = seconds({name: run for name, (_, run) in made.items()})
        flops = {name: training_flops_per_token(shape) for name, (shape, _) in made.items()}
        print(f"d {DIAL}, {rows * CONTEXT} tokens a step")
        print("| | params | active | FLOPs a token | ms a step | time per active FLOP, dense 1 |")
        print("|---|---|---|---|---|---|")
        for name, (shape, _) in made.items():
            n = parameter_conventions(shape)
            relative = took[name] / flops[name] * flops["dense"] / took["dense"]
            print(
                f"| {name} | {n['params']:,} | {n['params_active']:,} | {flops[name]:,} | {took[name] * 1e3:.1f} | "
                f"{relative:.2f} |"
            )


if __name__ == "__main__":
    main()
