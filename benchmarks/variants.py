"""The rate of a training step for each network variant, in exact FLOPs, beside the dense default's.

    python -m benchmarks.variants [DIAL ...]

All in one process, in turns, by CPU time, so that a shared machine is shared by all of them alike. The ratio of a
variant is the median over rounds of its rate over the default's of the same round; least and greatest stand beside.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.default import config
from lmscale.data.scan import draft_manifest
from lmscale.family import FamilyConfig, parameter_conventions, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.ladder import run_specs
from lmscale.programs import lane_numbers
from lmscale.spec import RunSpec
from lmscale.step import init_lane, pack_program

ROUNDS, STEPS, SECONDS = 7, 16, 0.5
VARIANTS: dict[str, dict[str, Any]] = {
    "norm=layer": {"norm": "layer"},
    "positions=learned": {"positions": "learned"},
    "positions=sinusoidal": {"positions": "sinusoidal"},
    "positions=alibi": {"positions": "alibi"},
    "positions=none": {"positions": "none"},
    "n_kv_head=2": {"n_kv_head": 2},
    "n_kv_head=1": {"n_kv_head": 1},
    "qk_norm=false": {"qk_norm": False},
    "kind=relu2": {"kind": "relu2"},
    "kind=swiglu": {"kind": "swiglu"},
    "tied_embeddings=true": {"tied_embeddings": True},
}


def stepper(spec: RunSpec, family: FamilyConfig) -> tuple[Callable[[], float], int, int]:
    """Make a dispatch of steps that returns its CPU seconds; with its FLOPs, and the parameters."""
    shape = shape_of(family, spec.dial, context=spec.shape.context, vocab_size=spec.shape.vocab_size)
    rows = spec.batch_tokens // shape.context
    program = pack_program(shape, spec.optim, np.zeros(rows, int), 1)
    state = jax.jit(jax.vmap(lambda seed: init_lane(shape, spec.optim, seed)))(np.zeros(1, np.int32))
    lanes = jax.tree.map(lambda value: np.asarray(value)[None], lane_numbers(spec, 2**30))
    tokens = np.random.default_rng(0).integers(0, 256, (STEPS, 1, rows, shape.context + 1)).astype(np.uint16)
    counted = np.ones((STEPS, 1, rows, shape.context), bool)
    batch = (tokens, counted, counted.astype(np.float32) / counted[0, 0].size)
    kept = [state]

    def go() -> float:
        began = time.process_time()
        kept[0], _ = program(kept[0], lanes, batch, np.int32(STEPS))
        jax.block_until_ready(kept[0])
        return time.process_time() - began

    go()
    return (
        go,
        training_flops_per_token(shape) * spec.batch_tokens * STEPS,
        parameter_conventions(shape)["params"],
    )


def main(dials: list[int]) -> None:
    for dial in dials:
        experiment = config(f"dial=[{dial}]", "one_seed=[]", "seed=[0]")
        spec = run_specs(experiment, draft_manifest(experiment.data, experiment.tasks))[0]
        made = {
            name: stepper(spec, FamilyConfig(**changes))
            for name, changes in {"default": {}, **VARIANTS}.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(ROUNDS):
            for name, (go, flops, _) in made.items():
                took = [go()]
                while sum(took) < SECONDS:
                    took.append(go())
                rates[name].append(flops * len(took) / sum(took))
        plain_flops, plain_params = made["default"][1:]
        speed = statistics.median(rates["default"]) / 1e9
        print(f"d {dial}, {spec.batch_tokens} tokens a step: default {speed:.2f} GFLOP/s")
        print("| variant | parameters | FLOPs a token | FLOP rate | least, greatest |\n|---|---|---|---|---|")
        for name in VARIANTS:
            ratios = [a / b for a, b in zip(rates[name], rates["default"], strict=True)]
            print(
                f"| {name} | {made[name][2] / plain_params:.3f} | {made[name][1] / plain_flops:.3f} | "
                f"{statistics.median(ratios):.2f} | {min(ratios):.2f}, {max(ratios):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main([int(dial) for dial in sys.argv[1:]] or [24, 88])
