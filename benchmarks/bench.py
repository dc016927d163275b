"""All that `make bench` measures on two idle cores, beside its baseline: `python -m benchmarks.bench [PART ...]`.

    loop       tokens a second: two processes of a sweep against a plain loop; the share of the matrix rate
    laws       a law's fit beside the usual code
    emergence  the detector's time
    lanes      model-steps a second of packs on one core

Contestants take turns, round by round; each figure is the median over rounds with the least and the greatest. What
else the machine does is measured before each part and said. JSON: benchmarks/results/.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

DIALS, ROUNDS = (8, 24, 48, 88), 5
STEPS = {8: 512, 24: 320, 48: 160, 88: 96}  # of a turn: about a second and a half
IDLE = 0.1  # the share of the cores that others may use
RESULTS = Path("benchmarks/results")
Row = dict[str, Any]


def main(parts: Sequence[str]) -> None:
    """Print each part's table as it is there, and write what there is."""
    began = time.perf_counter()
    found: Row = {"machine": machine(), "began": datetime.now(UTC).isoformat(timespec="seconds"), "parts": {}}
    path = RESULTS / f"bench-{found['began'].replace(':', '')}.json"
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))
    for part in parts or PARTS:
        busy = others()
        print(f"\n== {part} (other work on {busy:.0%} of the cores)")
        if busy > IDLE:
            print("THE MACHINE IS NOT IDLE: these figures are no measurement of it")
        rows = []
        for row in PARTS[part]():
            rows.append(row)
            print("  ".join(f"{name} {said(value)}" for name, value in row.items()), flush=True)
        found["parts"][part] = {"busy": busy, "rows": rows}
        found["seconds"] = time.perf_counter() - began
        RESULTS.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{found['seconds']:.0f} s; {path}")


def machine() -> Row:
    """Name what was measured on, and with what."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": name, "cores": cores, "python": platform.python_version(), "jax": version("jax")}


def others(seconds: float = 2.0) -> float:
    """Measure the share of the machine's cores that is busy while this process sleeps; 0 where nothing says."""

    def jiffies() -> tuple[int, int]:
        counts = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(counts), counts[3] + counts[4]  # all; idle and waiting for a disk

    try:
        first = jiffies()
        time.sleep(seconds)
        second = jiffies()
    except OSError:
        return 0.0
    return 1 - (second[1] - first[1]) / max(second[0] - first[0], 1)


def spread(values: Sequence[float]) -> Row:
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def said(value: Any) -> str:
    if isinstance(value, dict):
        return f"{said(value['median'])} [{said(value['least'])}, {said(value['greatest'])}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Contestant:
    """A process of `benchmarks.loop` that takes its turns when it is told to."""

    def __init__(self, who: str, dial: int, folder: Path) -> None:
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        if who == "lmscale":  # its products by numpy are of one thread as its step is
            environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.loop", who, str(dial), str(folder)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ready(self) -> None:
        self.answer(lambda line: line == "ready\n")

    def ask(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answer(self, wanted: Callable[[str], bool] = lambda line: line.startswith("{")) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            if wanted(line):
                return line
        raise SystemExit(f"{self.process.args} ended with {self.process.wait()}")

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def loop() -> Iterator[Row]:
    """Thousand tokens a second by rung, lmscale's over the plain loop's, its FLOPs a second, and their share of
    what numpy's products of the same shapes alone have. network: the plain loop with lmscale's network."""
    from benchmarks import default
    from benchmarks.loop import ROWS, TEXT
    from lmscale.data import scan
    from lmscale.family import FamilyConfig, shape_of
    from lmscale.flops import training_flops_per_token

    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = default.config(*TEXT)
        scan(config.data, config.tasks, folder)
        for dial in DIALS:
            rounds = turns(dial, folder)
            flops = training_flops_per_token(shape_of(FamilyConfig(), dial, context=64, vocab_size=260))
            ratio = [one["lmscale"] / one["plain"] for one in rounds]
            rate = [one["lmscale"] * flops for one in rounds]
            ratios.append(statistics.median(ratio))
            speeds = {
                f"{who} k/s": spread([one[who] / 1e3 for one in rounds])
                for who in ("lmscale", "plain", "network")
            }
            yield {
                "d": dial,
                "rows": ROWS,
                **speeds,
                "ratio": spread(ratio),
                "GFLOP/s": spread([value / 1e9 for value in rate]),
                "of its products": spread([v / one["step"] for v, one in zip(rate, rounds, strict=True)]),
                "of the largest": spread([v / one["largest"] for v, one in zip(rate, rounds, strict=True)]),
            }
    yield {
        "mean ratio": statistics.mean(ratios),
        "asked": ">= 2.0, at the largest >= 1.7 and >= 0.75 of the products",
    }


def turns(dial: int, folder: Path) -> list[dict[str, float]]:
    """Measure a rung: by round, tokens a second of each kind of contestant and FLOPs a second of the products."""
    found = []
    with (
        Contestant("plain", dial, folder) as plain,
        Contestant("network", dial, folder) as network,
        Contestant("lmscale", dial, folder) as one,
        Contestant("lmscale", dial, folder) as other,
    ):
        kinds = {"plain": [plain], "network": [network], "lmscale": [one, other]}
        for contestant in (plain, network, one, other):
            contestant.ready()
        for _ in range(ROUNDS):
            rates: dict[str, float] = {}
            for kind, who in kinds.items():
                answers = [json.loads(line) for line in together(who, str(STEPS[dial]))]
                rates[kind] = sum(answer["tokens"] / answer["seconds"] for answer in answers)
            answers = [json.loads(line) for line in together([one, other], "products")]
            rates |= {key: sum(answer[key] for answer in answers) for key in answers[0]}
            found.append(rates)
    return found


def together(contestants: Sequence[Contestant], word: str) -> list[str]:
    for contestant in contestants:
        contestant.ask(word)
    return [contestant.answer() for contestant in contestants]


def lanes(dial: int = 16, steps: int = 64) -> Iterator[Row]:
    """Model-steps a second of packs of 1, 4 and 16 lanes in one process of one core: a CPU's best is 1."""
    from lmscale.worker import take_core

    take_core()
    import jax
    import numpy as np

    from benchmarks.gpu_right import lane_numbers, program_of, random_batches
    from benchmarks.loop import ROWS
    from lmscale.config import OptimConfig
    from lmscale.family import FamilyConfig, shape_of
    from lmscale.step import init_lane

    shape, optim = shape_of(FamilyConfig(), dial, context=64, vocab_size=260), OptimConfig()
    program = program_of(shape, optim, ROWS, jax.numpy.float32)
    init = jax.jit(jax.vmap(functools.partial(init_lane, shape, optim)))
    going = {}
    for count in (1, 4, 16):
        arguments = lane_numbers(count), random_batches(shape, count, 16, ROWS)
        going[count] = [program(init(np.arange(count)), *arguments, np.int32(16))[0], arguments]
    rates: dict[int, list[float]] = {count: [] for count in going}
    for _ in range(ROUNDS):
        for count, one in going.items():
            began = time.perf_counter()
            dispatches = max(1, steps // 16 // count)
            for _ in range(dispatches):
                one[0], _ = program(one[0], *one[1], np.int32(16))
            jax.block_until_ready(one[0])
            rates[count].append(dispatches * 16 * count / (time.perf_counter() - began))
    for count, values in rates.items():
        gain = [value / alone for value, alone in zip(values, rates[1], strict=True)]
        yield {"d": dial, "lanes": count, "model-steps/s": spread(values), "of one": spread(gain)}


def laws() -> Iterator[Row]:
    """Seconds of a fit on the published points, or made ones."""
    from benchmarks import laws

    table, source = laws.rows()
    for form, resamples, asked in laws.FITS:
        times = [laws.timed(table, form, resamples)[0] for _ in range(3)]
        yield {
            "fit": f"{form}, {resamples} resamples, warm",
            "s": spread(times),
            "asked": asked,
            "rows": source,
        }
    with tempfile.TemporaryDirectory() as folder:
        cold = [laws.cold(table, folder) for _ in range(3)]
    yield {"fit": "chinchilla, 100 resamples, a cold process", "s": spread(cold), "asked": 6.0}
    seconds, _, success, there = laws.usual(table, 100)
    yield {"fit": "the usual code, 100 local resamples", "s": seconds, "of 4500 starts that say success": success,
           "are at the optimum": there}  # fmt: skip


def emergence() -> Iterator[Row]:
    """Seconds of the detector: 200 tasks, 12 sizes, 5 seeds."""
    from benchmarks.emergence import speed

    figures = [figure for _ in range(3) for figure in speed(True)]
    seconds = spread([figure.value for figure in figures])
    yield {"what": figures[0].what, "s": seconds, "asked": figures[0].asked}


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "loop": loop,
    "laws": laws,
    "emergence": emergence,
    "lanes": lanes,  # the last: it pins this process
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", metavar="PART")
    main(parser.parse_args().part)
