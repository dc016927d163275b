"""Model-steps a second and the share of the peak, by shape, lanes, rows and attention (`gpu packs`, `gpu mfu`)."""

import functools
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_right import Item, lane_numbers, on_cpu, program_of, random_batches
from lmscale.config import OptimConfig
from lmscale.family import FamilyConfig, parameter_conventions, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.shape import Shape
from lmscale.step import init_lane

# Dense bf16 FLOPs a second, as the makers state them.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
DEEP = FamilyConfig(n_layer=None, aspect=64, n_head=None, d_head=64)
SECONDS = 1.0  # of dispatches, for one line
# Rows at a sequence of 1,024, by width: two sizes of batch each, the likelier one first.
ROWS = {384: (32, 64), 512: (32, 64), 768: (16, 32), 896: (16, 32), 1216: (8, 16), 1728: (4, 8)}
PACKED = ((384, 8, 8), (512, 8, 8))  # width, lanes, rows
_tracing = threading.Lock()


class Case(NamedTuple):
    """A program to be timed. attention: cudnn, or None: XLA's."""

    shape: Shape
    lanes: int
    rows: int
    steps: int
    attention: str | None = None

    @property
    def name(self) -> str:
        size = f"{parameter_conventions(self.shape)['params'] / 1e6:.3g}M parameters"
        lanes = f"{self.lanes} lanes" if self.lanes > 1 else "1 lane"
        return f"{size}, {lanes}, {self.rows} rows" + (f", {self.attention}" if self.attention else "")

    def item(self, series: str) -> Item:
        return Item(self.name, series, functools.partial(rate, self), functools.partial(compiled, self))


def packs() -> Iterator[Item]:
    """Model-steps a second of packs of 8 rows of 256 bytes, bf16, sixteen steps a dispatch."""
    dials, widths = ((64,), (1, 2)) if on_cpu() else ((64, 192, 384, 512), (1, 4, 16, 64, 256))
    for dial in dials:
        shape = shape_of(DEEP, dial, context=64 if on_cpu() else 256, vocab_size=260)
        for lanes in widths:
            yield Case(shape, lanes, 8, 16).item(f"d {dial}")


def mfu() -> Iterator[Item]:
    """Model FLOPs utilisation: exact FLOPs, attention as computed, over the dense bf16 peak."""
    if on_cpu():
        yield Case(shape_of(DEEP, 64, context=64, vocab_size=260), 1, 1, 2).item("d 64")
        return
    shapes = {dial: shape_of(DEEP, dial, context=1024, vocab_size=260) for dial in ROWS}
    for attempt in range(2):
        for attention in ("cudnn", None):
            for dial, heights in ROWS.items():
                yield Case(shapes[dial], 1, heights[attempt], 2, attention).item(f"d {dial}, {attention}")
            for dial, lanes, rows in PACKED if attempt == 0 else ():
                yield Case(shapes[dial], lanes, rows, 2, attention).item(f"d {dial}, packed, {attention}")


def compiled(case: Case) -> tuple[Any, Any]:
    """seeds -> state, and the pack's program. Several threads may compile; they trace one after the other."""
    optim = OptimConfig()
    init = jax.jit(jax.vmap(functools.partial(init_lane, case.shape, optim)))
    seeds = jnp.arange(case.lanes)
    with _tracing:
        begin = init.lower(seeds)
        batches = random_batches(case.shape, case.lanes, 1, 1)
        sizes = (case.steps, case.lanes, case.rows)
        abstract = tuple(jax.ShapeDtypeStruct((*sizes, *part.shape[3:]), part.dtype) for part in batches)
        program = program_of(case.shape, optim, case.rows, jnp.bfloat16, case.attention).lower(
            jax.eval_shape(init, seeds), lane_numbers(case.lanes), abstract, np.int32(0)
        )
    return begin.compile(), program.compile()


def started(case: Case) -> tuple[Any, Any, Any]:
    """The program, a state after its first dispatch, and the other arguments."""
    begin, program = compiled(case)
    batches = jax.device_put(random_batches(case.shape, case.lanes, case.steps, case.rows))
    arguments = (jax.device_put(lane_numbers(case.lanes)), batches, np.int32(case.steps))
    state, metrics = program(begin(jnp.arange(case.lanes)), *arguments)
    jax.block_until_ready(metrics)
    return program, state, arguments


def rate(case: Case) -> dict[str, Any]:
    """Best of a second of dispatches, after the first one."""
    compiling = time.perf_counter()
    program, state, arguments = started(case)
    took: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS or len(took) < 3:
        at = time.perf_counter()
        state, metrics = program(state, *arguments)
        jax.block_until_ready(metrics)
        took.append(time.perf_counter() - at)
    steps = case.lanes * case.steps / min(took)
    tokens = steps * case.rows * case.shape.context
    kind = jax.devices()[0].device_kind.upper()
    peak = next((peak for name, peak in PEAKS.items() if name in kind), None)
    memory = program.memory_analysis()
    return {
        "model-steps a second": steps,
        "tokens a second": tokens,
        "mfu": tokens * training_flops_per_token(case.shape) / peak if peak else None,
        "loss": float(metrics.total[0]),
        "spread": float(np.median(took) / min(took) - 1),
        "memory, GB": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9 if memory else None,
        "until it ran, s": began - compiling,
    }
