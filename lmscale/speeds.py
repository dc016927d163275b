"""Speeds of packs: tokens per second by shape, batch, lanes and device, kept for the next plan."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmscale.jsonfiles import read_json, write_json
from lmscale.plan import Pack
from lmscale.spec import VERSION_1, written

SPEEDS = "speeds.json"


def speed_key(pack: Pack, lanes: int | None = None) -> str:
    """Name what a measured speed belongs to: the shape, the batch, the lanes (the pack's) and the device."""
    return f"{pack.execution['device']} {shape_key(pack)} lanes {lanes or pack.width}"


def shape_key(pack: Pack) -> str:
    """Name the shape and the batch of a pack's runs."""
    run = pack.runs[0]
    shape = f"{run.shape.n_layer}x{run.shape.d_model}h{run.shape.n_head}t{run.shape.context}"
    own = written(run)["shape"].items()
    variant = "".join(f" {name}={value}" for name, value in own if name not in VERSION_1[type(run.shape)])
    return f"{shape}{variant} batch {run.batch_tokens}"


def speeds_of(runs: Path) -> dict[str, float]:
    """Read the tokens per second of packs trained before, by `speed_key`."""
    path = runs / SPEEDS
    return read_json(path) if path.exists() else {}


def record_speeds(folder: Path, packs: Iterable[Pack]) -> None:
    """Remember how fast the packs of a sweep went, for the next plan's estimates."""
    speeds = speeds_of(folder.parent)
    before = dict(speeds)
    for pack in packs:
        line = last_timing(folder, pack.runs[0].run_id)
        if line and line["seconds"] > 5 and (speed := mean_speed(line)):
            speeds[speed_key(pack, line["lanes"])] = speed
    if speeds != before:
        write_json(folder.parent / SPEEDS, speeds)


def mean_speed(line: dict[str, Any]) -> int:
    """Return tokens per second from a process's first step to this line, compilation and evaluations included."""
    return max(0, round(line["tokens"] / max(line["seconds"], 1e-9)))


def last_timing(folder: Path, run_id: str) -> dict[str, Any] | None:
    """Read the last line of a run's timing.jsonl, if it has one."""
    path = folder / run_id / "timing.jsonl"
    try:
        lines = path.read_text().splitlines()
        return json.loads(lines[-1]) if lines else None
    except (OSError, ValueError):
        return None
