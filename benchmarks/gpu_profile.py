"""What the device's time goes to, by kind of kernel (`gpu profile`), from a trace of one dispatch."""

import functools
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData

from benchmarks.gpu_rates import DEEP, Case, compiled, started
from benchmarks.gpu_right import Item, on_cpu
from lmscale.family import shape_of

KEPT = 25  # the kernels that took longest, by name


class Kernel(NamedTuple):
    """A kernel's run. scope: where in the program it is from, as jax names it, or empty."""

    name: str
    scope: str
    start: float
    end: float


def profile(folder: Path) -> Iterator[Item]:
    """A solo run with either attention at a size of each target, and a small pack against one of its lanes."""
    if on_cpu():
        cases = [Case(shape_of(DEEP, 64, context=64, vocab_size=260), 1, 1, 2)]
    else:
        shapes = {d: shape_of(DEEP, d, context=1024, vocab_size=260) for d in (512, 896, 1728)}
        cases = [Case(shapes[896], 1, 16, 2, attention) for attention in ("cudnn", None)]
        cases += [Case(shapes[512], 8, 8, 2, "cudnn"), Case(shapes[1728], 1, 4, 2, "cudnn")]
        small = shape_of(DEEP, 64, context=256, vocab_size=260)
        cases += [Case(small, lanes, 8, 16) for lanes in (1, 64)]
    for number, case in enumerate(cases):
        kept = (folder if on_cpu() else Path("runs")) / f"profile-{number}"
        measure = functools.partial(_profile, case, kept)
        yield Item(case.name, f"profile {number}", measure, functools.partial(compiled, case))


def _profile(case: Case, kept: Path) -> dict[str, Any]:
    """Shares of the time from the first kernel to the end of the last, of one dispatch after the first."""
    program, state, arguments = started(case)
    with tempfile.TemporaryDirectory() as traced:
        with jax.profiler.trace(traced):
            jax.block_until_ready(program(state, *arguments))
        (path,) = Path(traced).rglob("*.xplane.pb")
        kernels = list(_kernels(ProfileData.from_file(str(path)), _scopes(program.as_text())))
        kept.mkdir(parents=True, exist_ok=True)
        path.rename(kept / "trace.xplane.pb")
        (kept / "program.txt").write_text(program.as_text())
    return shares(kernels) if kernels else {"skipped": "the trace has no kernel of a GPU"}


def _scopes(text: str) -> dict[str, str]:
    """Where each instruction of a compiled program is from; kernels have their names, with _ for . and -."""
    found = re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*op_name="([^"]*)"', text, re.M)
    return {re.sub(r"[.-]", "_", name): scope for name, scope in found}


def _kernels(data: ProfileData, scopes: dict[str, str]) -> Iterator[Kernel]:
    for plane in data.planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):  # other lines repeat the same time by module and step
                continue
            for event in line.events:
                # kernels of a CUDA graph name the graph as their operation, but are called as theirs
                operation = str(dict(event.stats).get("hlo_op", ""))
                named = (re.sub(r"[.-]", "_", name) for name in (event.name, operation))
                scope = next((scopes[name] for name in named if name in scopes), "")
                yield Kernel(event.name, scope, event.start_ns, event.start_ns + event.duration_ns)


def category(kernel: Kernel) -> str:
    """By the names that cuDNN, cuBLAS and XLA give; scopes tell the network from the optimiser."""
    name = kernel.name.lower()
    if re.search(r"sdpa|fmha|flash|cudnn", name):
        return "attention, cuDNN"
    if re.search(r"gemm|nvjet|cutlass|xmma|cublas|splitk|dot", name):
        return "matrix products"
    if re.search(r"memcpy|memset", name):
        return "copies"
    if re.search(r"attention_\d", kernel.scope):
        return "attention, the rest"
    if "Transformer" in kernel.scope:
        return "network, elementwise and sums"
    return "optimiser, guard, loss" if kernel.scope else "other"


def shares(kernels: Iterable[Kernel]) -> dict[str, Any]:
    """The share of the span by category, what is idle, and the longest kernels in microseconds."""
    ordered = sorted(kernels, key=lambda kernel: kernel.start)
    span = max(kernel.end for kernel in ordered) - ordered[0].start
    by_category: dict[str, float] = defaultdict(float)
    by_name: dict[str, float] = defaultdict(float)
    busy, until = 0.0, ordered[0].start
    for kernel in ordered:
        alone = max(0.0, kernel.end - max(kernel.start, until))  # streams overlap: a moment counts once
        until = max(until, kernel.end)
        busy += alone
        by_category[category(kernel)] += alone
        by_name[f"{kernel.name} | {kernel.scope}"] += alone / 1e3
    found = {name: time / span for name, time in _longest(by_category)}
    longest = {name: round(time, 1) for name, time in _longest(by_name)[:KEPT]}
    return {
        **found,
        "idle": 1 - busy / span,
        "span, ms": span / 1e6,
        "kernels": len(ordered),
        "longest": longest,
    }


def _longest(times: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(times.items(), key=lambda item: -item[1])
