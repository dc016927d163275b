"""Contestants of `make bench`, each in a process of its own: ours as a job of a sweep has it, and the plain loop.

`python -m benchmarks.loop WHO DIAL FOLDER` says `ready`, and then answers each line `STEPS`, or `products`, with
a line of JSON. FOLDER has the corpus. WHO: lmscale, plain, or network (the plain loop with lmscale's network in
it).
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import default
from lmscale.family import FamilyConfig, shape_of
from lmscale.shape import Shape

TEXT = ("tasks=none", "data.rows=14")  # the batch of the default's part `text`
ROWS = 14


def lmscale(dial: int, folder: Path) -> Callable[[int], dict[str, float]]:
    """Make steps -> a whole run of so many by `train`: its tokens, and its seconds without evaluating and
    saving."""
    from lmscale.worker import take_core

    take_core()  # before jax: one thread on one core, as a job of a sweep has it
    from lmscale.data import open_world
    from lmscale.ledger import Ledger
    from lmscale.packs import Job
    from lmscale.plan import make_plan
    from lmscale.spec import write_specs
    from lmscale.train import train

    runs = folder / f"runs-{time.time_ns()}"
    seeds = iter(range(10**6))
    overrides = (*TEXT, f"dial=[{dial}]", "one_seed=[]", "schedule=cosine", "schedule.warmup_steps=16")
    overrides += ("horizon.multiples=[1.0]", f"horizon.dial={dial}", "evaluation.first_tokens=1e12")
    config = default.config(*overrides, f"runs={runs}", f"corpora={folder}")
    world = open_world(config.data, config.tasks, folder)

    def go(steps: int) -> dict[str, float]:
        tokens = steps * ROWS * world.context
        one = default.config(*overrides, f"seed=[{next(seeds)}]", f"horizon.tokens={tokens}", f"runs={runs}")
        plan = make_plan([one], [world.manifest], "cpu")
        (pack,) = plan.packs
        write_specs(runs, plan.runs)
        claim = Ledger(runs).claim(pack.pack_id, pack.execution)
        assert claim is not None
        train(Job(pack, one.pack, runs, claim), world)
        claim.release()
        end = json.loads((runs / pack.runs[0].run_id / "timing.jsonl").read_text().splitlines()[-1])
        aside = end["evaluation_seconds"] + end["saving_seconds"]
        return {"tokens": end["step"] * ROWS * world.context, "seconds": end["seconds"] - aside}

    return go


def plain(dial: int, folder: Path, ours: bool = False) -> Callable[[int], dict[str, float]]:
    """Make steps -> so many of the plain loop. ours: with lmscale's network."""
    from benchmarks.plain import loop, network
    from lmscale import model
    from lmscale.data import open_world

    config = default.config(*TEXT)
    world = open_world(config.data, config.tasks, folder)
    text = np.fromfile(folder / world.manifest.text_key / "train.bin", np.uint8)
    steps_of = loop(dial, ROWS, text, model.forward if ours else network)

    def go(steps: int) -> dict[str, float]:
        began = time.perf_counter()
        return {"tokens": steps_of(steps), "seconds": time.perf_counter() - began}

    return go


def products(shape: Shape, rows: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List all matrix products of a training step, as the shapes of their factors: `flops.forward_terms` and two of
    the backward pass for each."""
    tokens, width, stack = rows * shape.context, shape.n_head * shape.d_head, rows * shape.n_head
    layer = [(shape.d_model, width + 2 * shape.d_kv), (width, shape.d_model)]
    layer += [(shape.d_model, shape.d_mlp), (shape.d_mlp, shape.d_model)]
    found = []
    for k, n in layer * shape.n_layer + [(shape.d_model, shape.vocab_size)]:
        found += [((tokens, k), (k, n)), ((tokens, n), (n, k)), ((k, tokens), (tokens, n))]
    t, k = shape.context, shape.d_head
    scores, mix = ((stack, t, k), (stack, k, t)), ((stack, t, t), (stack, t, k))
    found += ([scores] * 2 + [mix] * 4) * shape.n_layer  # each forward and two backward
    return found


def product_rates(dial: int) -> dict[str, float]:
    """FLOPs a second of numpy's products, one thread: of all of a step, and of the largest one (way into the
    MLP)."""
    shape = shape_of(FamilyConfig(), dial, context=64, vocab_size=260)
    rng = np.random.default_rng(0)

    def rate(shapes: list[Any]) -> float:
        pairs = [[rng.standard_normal(size, np.float32) for size in pair] for pair in shapes]
        work = sum(2 * np.prod(a, dtype=float) * b[-1] for a, b in shapes)
        best = np.inf
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            began = time.perf_counter()
            for a, b in pairs:
                a @ b
            best = min(best, time.perf_counter() - began)
        return float(work / best)

    step = products(shape, ROWS)
    return {"step": rate(step), "largest": rate([step[6]] * 10)}


def main(who: str, dial: int, folder: Path) -> None:
    go = {"lmscale": lmscale, "plain": plain, "network": lambda *a: plain(*a, ours=True)}[who](dial, folder)
    go(64)  # compiles
    print("ready", flush=True)
    for line in sys.stdin:
        word = line.strip()
        print(json.dumps(product_rates(dial) if word == "products" else go(int(word))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
