"""What is to be seen on an accelerator, in parts of at most eight minutes: `python -m benchmarks.gpu PART`.

    right     a step, an evaluation and lanes against the CPU; a killed run against one that was not
    packs     model-steps a second by lanes, for four sizes
    mfu       the share of the dense bf16 peak at sequences of 1,024, 10M to 1B parameters
    ladder    experiment gpu, as far as the time goes

Every line is kept in docs/results/gpu-CHIP-DATE-PART.json as soon as it is there; the same command goes on where
it stopped. On a CPU the parts run in miniature, into a folder that is thrown away: to see that they run.
"""

import argparse
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_right import Item, lane_numbers, on_cpu, program_of, random_batches, right
from lmscale.config import OptimConfig, PackConfig
from lmscale.family import FamilyConfig, parameter_conventions, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.shape import Shape
from lmscale.step import init_lane

SECONDS = 460.0
# Dense bf16 FLOPs a second, as the makers state them.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
# Where more lanes, or rows, give less than this share of the best so far, more are not tried.
FALL = 0.95
DEEP = FamilyConfig(n_layer=None, aspect=64, n_head=None, d_head=64)
NOT_HERE = {
    "mfu": "cuDNN attention (the network has one attention); a profile of where the rest goes",
    "ladder": "a forecast registered before the largest rung is trained (the report holds it out by a fixed rule)",
}


def chip() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", jax.devices()[0].device_kind).strip("-").lower()


def packs(_: Path) -> Iterator[Item]:
    """Model-steps a second of packs of 8 rows of 256 bytes, bf16, sixteen steps a dispatch."""
    dials, widths = ((64,), (1, 2)) if on_cpu() else ((64, 192, 384, 512), (1, 4, 16, 64, 256))
    for dial in dials:
        shape = shape_of(DEEP, dial, context=64 if on_cpu() else 256, vocab_size=260)
        for lanes in widths:
            yield Item(
                f"{_size(shape)}, {lanes} lanes",
                f"d {dial}",
                functools.partial(_pack_rate, shape, lanes, 8, 16),
            )


def mfu(_: Path) -> Iterator[Item]:
    """Model FLOPs utilisation: exact FLOPs, attention as computed, over the dense bf16 peak."""
    dials, heights = (
        ((64,), (1,)) if on_cpu() else ((384, 512, 768, 896, 1216, 1728), (4, 8, 16, 32, 64, 128))
    )
    for dial in dials:
        shape = shape_of(DEEP, dial, context=64 if on_cpu() else 1024, vocab_size=260)
        for rows in heights:
            yield Item(
                f"{_size(shape)}, {rows} rows", f"d {dial}", functools.partial(_pack_rate, shape, 1, rows, 2)
            )


def _size(shape: Shape) -> str:
    return f"{parameter_conventions(shape)['params'] / 1e6:.3g}M parameters"


def _pack_rate(shape: Shape, lanes: int, rows: int, steps: int) -> dict[str, Any]:
    """Best of dispatches over two seconds, after the one that compiles."""
    optim = OptimConfig()
    program, numbers = program_of(shape, optim, rows, jnp.bfloat16), lane_numbers(lanes)
    state = jax.jit(jax.vmap(functools.partial(init_lane, shape, optim)))(jnp.arange(lanes))
    batches = jax.device_put(random_batches(shape, lanes, steps, rows))
    compiled = time.perf_counter()
    state, metrics = program(state, numbers, batches, np.int32(steps))
    jax.block_until_ready(metrics)
    compiled = time.perf_counter() - compiled
    took: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < 2.0 or len(took) < 3:
        at = time.perf_counter()
        state, metrics = program(state, numbers, batches, np.int32(steps))
        jax.block_until_ready(metrics)
        took.append(time.perf_counter() - at)
    rate = lanes * steps / min(took)
    flops = rate * rows * shape.context * training_flops_per_token(shape)
    peak = next((peak for name, peak in PEAKS.items() if name in jax.devices()[0].device_kind.upper()), None)
    return {
        "model-steps a second": rate,
        "tokens a second": rate * rows * shape.context,
        "mfu": flops / peak if peak else None,
        "first dispatch, s": compiled,
    }


def ladder(folder: Path) -> Iterator[Item]:
    """Experiment gpu in this folder's runs/: slices, each ended by Ctrl-C; then its report."""
    yield Item("experiment gpu", "ladder", lambda: _slice(folder))


def _slice(folder: Path) -> dict[str, Any]:
    experiment = "smoke" if on_cpu() else "gpu"
    runs = folder / "runs" if on_cpu() else Path("runs")
    command = [sys.executable, "-m", "lmscale.launch", f"experiment={experiment}", f"runs={runs}"]
    command += [f"corpora={folder / 'corpora'}"] if on_cpu() else []
    child = subprocess.Popen(command)
    try:
        code = child.wait(SECONDS)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
        code = child.wait()
    done = len(list((runs / experiment).glob("*/outcome.json")))
    row: dict[str, Any] = {"runs with an outcome": done, "exit code": code}
    if code == 0:
        report = [sys.executable, "-m", "analysis", "report", str(runs / experiment)]
        row["report"] = subprocess.run(report, capture_output=True, text=True).stdout.splitlines()
        return row
    return row | {"again": "run this part again: it goes on"}


PARTS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "right": right,
    "packs": packs,
    "mfu": mfu,
    "ladder": ladder,
}


def run(part: str, kept: Path, seconds: float) -> dict[str, Any]:
    """Measure what `kept` lacks until the time is over; every line is written at once. Returns what is kept."""
    found = json.loads(kept.read_text()) if kept.is_file() else {}
    found |= {"part": part, "chip": jax.devices()[0].device_kind, "jax": jax.__version__}
    found |= {"auto lanes": PackConfig().max_lanes} if part == "packs" else {}
    rows = found.setdefault("rows", {})
    began = time.perf_counter()
    best: dict[str, float] = {}
    ended: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        for item in PARTS[part](Path(name)):
            row = rows.get(item.name)
            if row is None or "again" in row:
                if item.series in ended:
                    row = {"skipped": ended[item.series]}
                elif time.perf_counter() - began > seconds:
                    print(f"{item.name:44} left for the next call")
                    continue
                else:
                    row = _measured(item)
            rows[item.name] = row
            rate = row.get("tokens a second")
            if "out of memory" in row.get("skipped", ""):
                ended[item.series] = "fewer ran out of memory"
            elif rate is not None and rate < FALL * best.get(item.series, 0.0):
                ended[item.series] = "fewer were already slower than fewer still"
            best[item.series] = max(best.get(item.series, 0.0), rate or 0.0)
            said = ", ".join(f"{key} {_short(value)}" for key, value in row.items())
            print(f"{item.name:44} {said}", flush=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found, indent=1) + "\n")
    if part in NOT_HERE:
        print(f"not measured: {NOT_HERE[part]}")
    return found


def _measured(item: Item) -> dict[str, Any]:
    """A line; what goes wrong is a line too, for a lease is short and the others still have to come."""
    try:
        return item.measure()
    except Exception as error:
        full = "RESOURCE_EXHAUSTED" in str(error)
        return {"skipped": "out of memory"} if full else {"again": f"{type(error).__name__}: {error}"}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    if part in ("right", "ladder"):
        # These start processes that want the device too; left alone, this one would take most of its memory.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with tempfile.TemporaryDirectory() as thrown_away:
        folder = Path(thrown_away) if on_cpu() else Path("docs/results")
        found = run(part, folder / f"gpu-{chip()}-{date.today()}-{part}.json", SECONDS)
    sys.exit(any("again" in row or row.get("agrees") is False for row in found["rows"].values()))


if __name__ == "__main__":
    main()
