"""Add a network variant from outside: a gated MLP whose gate is a squared ReLU, as SwiGLU (Shazeer 2020) with the
activation of Primer (So et al. 2021): arrays, FLOPs and forward pass beside each other.

    python examples/network_variant.py

Expect the dense, the SwiGLU and the new rung side by side, with equal parameters, and ten steps' loss of each.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmscale import mlp
from lmscale.family import FamilyConfig, parameter_conventions, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.lanes import Lane
from lmscale.optim import OptimConfig
from lmscale.shape import Parameter, Shape
from lmscale.step import init_lane, pack_program


def width(shape: Shape) -> int:
    """Two thirds of the dense width: three matrices of it have the parameters of two."""
    return 2 * shape.d_mlp // 3


def arrays(shape: Shape) -> dict[str, Parameter]:
    d, f = shape.d_model, width(shape)
    return {
        "gate": Parameter("mlp", (d, f), d**-0.5),
        "in": Parameter("mlp", (d, f), d**-0.5),
        "out": Parameter("mlp", (f, d), (f * 2 * shape.n_layer) ** -0.5),
    }


def flops(shape: Shape) -> int:
    return 2 * 3 * shape.d_model * width(shape)


def forward(array: Any, x: jax.Array) -> jax.Array:
    return (jax.nn.relu(x @ array["gate"]) ** 2 * (x @ array["in"])) @ array["out"]


# This line is the whole of the change. In lmscale/mlp.py it would be selected by family.kind=squared_glu.
mlp.KINDS["squared_glu"] = mlp.Mlp(arrays, flops, forward)


def losses(shape: Shape, steps: int = 10) -> list[float]:
    """Loss of each step, one lane, on one batch of random bytes."""
    optim = OptimConfig()
    program = pack_program(shape, optim, np.zeros(8, int), 1)
    state = jax.vmap(lambda seed: init_lane(shape, optim, seed))(jnp.arange(1))
    never = 10**6
    lane = Lane(
        peak_rate=0.01, weight_decay=0.0, warmup_steps=5, decay_start=never, decay_end=never + 1, fall=0,
        floor=0.0, end_step=never,
    )  # fmt: skip
    lanes = jax.tree.map(lambda value: jnp.asarray(value)[None], lane)
    tokens = np.random.default_rng(0).integers(0, 64, (1, 1, 8, shape.context + 1), dtype=np.int32)
    counted = np.ones((1, 1, 8, shape.context), bool)
    batch = (tokens, counted, counted.astype(np.float32) / counted.size)
    found = []
    for _ in range(steps):
        state, metrics = program(state, lanes, batch, np.int32(1))
        found.append(float(metrics.total[0]))
    return found


def main() -> None:
    for kind in ("dense", "swiglu", "squared_glu"):
        shape = shape_of(FamilyConfig(kind=kind), 48, context=64, vocab_size=260)
        found = losses(shape)
        print(
            f"{kind}: {parameter_conventions(shape)['params']:,} parameters, "
            f"{training_flops_per_token(shape):,} FLOPs a token, loss {found[0]:.3f} -> {found[-1]:.3f}"
        )


if __name__ == "__main__":
    main()
