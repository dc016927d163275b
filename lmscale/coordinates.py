"""The coordinate check of a parametrisation (Yang et al. 2022, appendix D.1): are activations, and what a few steps
change in them, of one size at every width, and for completep at every depth?

    python -m lmscale.coordinates --transfer completep

Every place of the network is named: what each block adds, the stream before it, the logits. Status 1 where one of
them is not flat, with its name.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lmscale import model
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.lanes import Lane
from lmscale.optim import OPTIMISERS, OptimConfig
from lmscale.parametrisation import BASE_LAYERS, BASE_WIDTH, checked, parametrised
from lmscale.schedule import NEVER
from lmscale.shape import Shape
from lmscale.step import init_lane, lane_step
from lmscale.transfer import RATE_RULES, TransferConfig, peak_rate
from lmscale.typed import among, at_least, positive

WIDTHS, DEPTHS, SEEDS, STEPS = (16, 32, 64, 128, 256), (2, 4, 8, 16), 2, 5
ROWS, CONTEXT, VOCAB = 4, 32, 64
FLAT = 0.25  # the largest |exponent| that passes as flat: half of the least fault, a root; 2 x over a factor of 16


class Scales(NamedTuple):
    """Root mean squares by place, over seeds. value: of the activation after the steps. change: by the steps."""

    value: dict[str, float]
    change: dict[str, float]


class Slope(NamedTuple):
    """How a scale moves. what: value or change. over: width or depth. exponent: of a line in logs."""

    place: str
    what: str
    over: str
    exponent: float
    scales: tuple[float, ...]

    @property
    def flat(self) -> bool:
        return abs(self.exponent) <= FLAT


def activations(shape: Shape, params: Any, tokens: jax.Array) -> dict[str, jax.Array]:
    """Run one model and collect by name: each block's output, each norm's input (the stream), the logits."""
    seen: dict[str, jax.Array] = {}

    def watch(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out = following(*args, **kwargs)
        name = context.module.name
        if context.method_name == "__call__" and name and len(context.module.path) == 1:
            if "norm" in name:
                seen[f"stream before {name.replace('_norm', '')}"] = args[0]
            else:
                seen[name] = out[0] if isinstance(out, tuple) else out
        return out

    with nn.intercept_methods(watch):
        seen["logits"] = model.forward(shape)(params, tokens)
    return seen


def scales(shape: Shape, optim: OptimConfig, rate: float, steps: int = STEPS, seeds: int = SEEDS) -> Scales:
    """Train each seed some steps on one batch, and measure on it before and after."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, shape.vocab_size, (ROWS, shape.context + 1)).astype(np.int32))
    counted = jnp.ones((ROWS, shape.context), bool)
    weight = counted / counted.size
    step = lane_step(shape, optim, jnp.zeros(ROWS, jnp.int32), 1, jnp.float32)
    zero, never = jnp.int32(0), jnp.int32(NEVER)
    lane = Lane(
        peak_rate=jnp.float32(rate),
        weight_decay=jnp.float32(0),
        warmup_steps=zero,
        decay_start=never,
        decay_end=never + 1,
        fall=zero,
        floor=jnp.float32(0),
        end_step=never,
    )

    @jax.jit
    @jax.vmap
    def start(seed: jax.Array) -> Any:
        state = init_lane(shape, optim, seed)
        # logits start at nothing: a random start of theirs would vanish with width, as it is meant to
        readout = {name: array * 0 for name, array in state.params.items() if name == "unembedding"}
        return state._replace(params={**state.params, **readout})

    look = jax.jit(jax.vmap(lambda state: activations(shape, state.params, tokens[:, :-1])))
    go_on = jax.jit(jax.vmap(lambda state: step(state, lane, tokens, counted, weight)[0]))
    state = start(jnp.arange(seeds))
    before = look(state)
    for _ in range(steps):
        state = go_on(state)
    after = look(state)
    return Scales(
        {name: float(jnp.sqrt(jnp.mean(x**2))) for name, x in after.items()},
        {name: float(jnp.sqrt(jnp.mean((x - before[name]) ** 2))) for name, x in after.items()},
    )


def slopes(over: str, sizes: Sequence[int], found: Sequence[Scales]) -> list[Slope]:
    """Fit the exponent of each place's scales. Over depth the places are compared that any depth has: the first
    block, the middle one and the stream before it, the end."""
    result = []
    for what in ("value", "change"):
        tables = [_renamed(getattr(one, what)) if over == "depth" else getattr(one, what) for one in found]
        for place in tables[0]:
            values = tuple(table[place] for table in tables)
            exponent = np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-30)), 1)[0]
            result.append(Slope(place, what, over, float(exponent), values))
    return result


def _renamed(scales: dict[str, float]) -> dict[str, float]:
    """The places that any depth has: a layer by its word, and what is of no layer."""
    layers = 1 + max(int(name.rsplit("_", 1)[1]) for name in scales if name.rsplit("_", 1)[-1].isdigit())
    found = {}
    for name, value in scales.items():
        stem, _, layer = name.rpartition("_")
        words = {layers // 2: "middle"}
        if not name.startswith("stream"):  # after one of many blocks the stream is still the embedding
            words[0] = "first"
        if not layer.isdigit():
            found[name] = value
        elif int(layer) in words:
            found[f"{stem} {words[int(layer)]}"] = value
    return found


def check(
    kind: str,
    optim: OptimConfig,
    rate: float,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    steps: int = STEPS,
) -> list[Slope]:
    """Check a `transfer.kind` over width at the base's depth, and over depth at the base's width. rate: of the base
    width. depths: none where there is nothing to hold over depth."""
    per_width = RATE_RULES[kind](TransferConfig(kind=kind, rate=1.0), BASE_WIDTH)
    rule = TransferConfig(kind=kind, rate=rate / per_width, rate_cap=1e9)

    def of(width: int, layers: int) -> tuple[Shape, OptimConfig, float]:
        family = FamilyConfig(n_layer=layers)
        shape = parametrised(shape_of(family, width, context=CONTEXT, vocab_size=VOCAB), kind)
        return shape, checked(shape, optim), peak_rate(rule, width, 1e6)

    over = {
        "width": (widths, [of(width, BASE_LAYERS) for width in widths]),
        "depth": (depths, [of(BASE_WIDTH, layers) for layers in depths]),
    }
    return [
        slope
        for name, (sizes, made) in over.items()
        if sizes
        for slope in slopes(name, sizes, [scales(*one, steps) for one in made])
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where all is flat, 1 with the names of what is not, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m lmscale.coordinates", description=__doc__)
    parser.add_argument("--transfer", default="completep", help="a transfer.kind (default: completep)")
    parser.add_argument("--optim", default="adamw", help="an optim.kind (default: adamw)")
    parser.add_argument("--rate", type=float, default=0.01, help=f"of width {BASE_WIDTH} (default: .01)")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--depths", type=int, nargs="*", help="default: 2 to 16 for completep, else none")
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args(arguments)
    try:
        among("--transfer", given.transfer, RATE_RULES)
        among("--optim", given.optim, OPTIMISERS)
        positive("--rate", given.rate)
        at_least("--steps", given.steps, 1)
        depths = given.depths if given.depths is not None else DEPTHS if given.transfer == "completep" else ()
        for name, sizes in (("--widths", given.widths), ("--depths", depths)):
            if len(sizes) == 1 or (name == "--widths" and not sizes) or len(set(sizes)) < len(sizes):
                raise UserError(f"{name}={list(sizes)}: give two sizes or more, each once")
        found = check(given.transfer, OptimConfig(given.optim), given.rate, given.widths, depths, given.steps)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for slope in found:
        row = " ".join(f"{value:9.3g}" for value in slope.scales)
        mark = "" if slope.flat else "  not flat"
        print(f"{slope.over:5} {slope.what:6} {slope.place:28} {row}  exponent {slope.exponent:+.2f}{mark}")
    steep = [f"{slope.place} ({slope.what} over {slope.over})" for slope in found if not slope.flat]
    print(f"not flat: {', '.join(steep)}" if steep else f"flat: every exponent is within {FLAT}")
    return 1 if steep else 0


if __name__ == "__main__":
    sys.exit(main())
