"""What is to be seen on an accelerator, in parts of at most eight minutes: `python -m benchmarks.gpu PART`.

    right     a step, an evaluation and lanes against the CPU; a killed run against one that was not
    packs     model-steps a second by lanes, for four sizes
    mfu       the share of the dense bf16 peak at sequences of 1,024, 10M to 1B parameters, with either attention
    profile   what a dispatch's time goes to, by kind of kernel
    ladder    experiment gpu, as far as the time goes, and a forecast of its largest rung from before it

Every line is kept in docs/results/gpu-CHIP-DATE-PART.json as soon as it is there; the same command goes on where
it stopped. `--seconds` bounds what is begun; `--ahead` only compiles what the part needs, into the cache of runs/,
and may run beside other parts that time nothing. On a CPU the parts run in miniature, into a folder that is
thrown away: to see that they run.
"""

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.gpu_ladder import Ladder
from benchmarks.gpu_profile import profile
from benchmarks.gpu_rates import mfu, packs
from benchmarks.gpu_right import Item, on_cpu, right
from lmscale.train import configure_jax

SECONDS = 460.0
# Where more lanes, or rows, give less than this share of the best so far, more are not tried.
FALL = 0.95
COMPILERS = 12  # threads; XLA lets go of the interpreter


class Call(NamedTuple):
    """What a part is given: a folder for what is not kept, its seconds left, and Hydra's overrides (the ladder)."""

    folder: Path
    left: Callable[[], float]
    overrides: Sequence[str] = ()


def chip() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", jax.devices()[0].device_kind).strip("-").lower()


PARTS: dict[str, Callable[[Call], Iterator[Item]]] = {
    "right": lambda call: right(call.folder),
    "packs": lambda _: packs(),
    "mfu": lambda _: mfu(),
    "profile": lambda call: profile(call.folder),
    "ladder": lambda call: Ladder(call.folder, call.overrides, call.left).items(),
}


def about(part: str) -> dict[str, Any]:
    """What a result was measured on and with. XLA's flags change kernels, so they are named."""
    flags = os.environ.get("XLA_FLAGS", "")
    command = shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    found = {"part": part, "chip": jax.devices()[0].device_kind, "jax": jax.__version__, "XLA_FLAGS": flags}
    return found | {"date": str(date.today()), "command": command}


def run(part: str, kept: Path, seconds: float, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measure what `kept` lacks until the time is over; every line is written at once. Returns what is kept."""
    found = json.loads(kept.read_text()) if kept.is_file() else {}
    found |= about(part)
    rows = found.setdefault("rows", {})
    until = time.perf_counter() + seconds
    best: dict[str, float] = {}
    ended: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        for item in PARTS[part](Call(Path(name), lambda: until - time.perf_counter(), overrides)):
            row = rows.get(item.name)
            if row is None or "again" in row:
                if item.series in ended:
                    row = {"skipped": ended[item.series]}
                elif time.perf_counter() > until:
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
    return found


def compile_ahead(part: str, folder: Path, seconds: float, overrides: Sequence[str] = ()) -> None:
    """What the lines of a part need, several at once and the first ones first, into jax's cache."""
    began = time.perf_counter()
    call = Call(folder, lambda: began + seconds - time.perf_counter(), overrides)
    with ThreadPoolExecutor(COMPILERS) as pool:
        for item in PARTS[part](call):
            if item.ahead is not None:
                pool.submit(_compiled, item, began, call.left)


def _compiled(item: Item, began: float, left: Callable[[], float]) -> None:
    if item.ahead is None or left() < 0:
        return
    try:
        item.ahead()
        said = "compiled"
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:500]}"
    print(f"{time.perf_counter() - began:6.1f} s  {item.name:44} {said}", flush=True)


def _measured(item: Item) -> dict[str, Any]:
    """A line; what goes wrong is a line too, for a lease is short and the others still have to come."""
    try:
        return item.measure()
    except Exception as error:
        full = "RESOURCE_EXHAUSTED" in str(error)
        return (
            {"skipped": "out of memory"}
            if full
            else {"again": f"{type(error).__name__}: {str(error)[:2000]}"}
        )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:400]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="begin nothing after these")
    parser.add_argument("--ahead", action="store_true", help="only compile what the part needs")
    parser.add_argument(
        "overrides", nargs="*", help="the ladder: fields of the config, as make ARGS takes them"
    )
    args = parser.parse_intermixed_args()
    if args.ahead or args.part in ("right", "ladder"):
        # These start processes that want the device too, or run beside others; left alone, this one would take
        # most of its memory.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with tempfile.TemporaryDirectory() as thrown_away:
        folder = Path(thrown_away)
        configure_jax(folder if on_cpu() else Path("runs/.xla"))
        if args.ahead:
            compile_ahead(args.part, folder, args.seconds, args.overrides)
            return
        kept = (
            folder if on_cpu() else Path("docs/results")
        ) / f"gpu-{chip()}-{date.today()}-{args.part}.json"
        found = run(args.part, kept, args.seconds, args.overrides)
    sys.exit(any("again" in row or row.get("agrees") is False for row in found["rows"].values()))


if __name__ == "__main__":
    main()
