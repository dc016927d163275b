"""A project as a tracker keeps it, made from a law with known parameters, in the forms that W&B exports."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from known_laws import CHINCHILLA

BATCH, CONTEXT, VOCAB = 480, 1024, 50304
SHAPES = ((4, 128), (6, 192), (6, 256), (8, 384), (10, 512), (12, 640))
STEPS = (1000, 2000, 4000, 8000)


@dataclass(frozen=True)
class Made:
    """A run: nanoGPT's settings, its curve {step: held-out loss}, and what a correct import finds."""

    name: str
    config: Mapping[str, object]
    curve: Mapping[int, float]
    params: int
    tokens: float


def project(points: int = 10, scale: int = 1, noise: float = 0.001, seed: int = 0) -> list[Made]:
    """24 runs of six shapes and four lengths (x `scale`); the last loss of each is the law's, with noise."""
    rng = np.random.default_rng(seed)
    made = []
    for layers, width in SHAPES:
        # nanoGPT without biases: attention and MLP 12 width^2, two norms a layer and one at the end, two tables.
        params = layers * (12 * width**2 + 2 * width) + width + (VOCAB + CONTEXT) * width
        for steps in (scale * s for s in STEPS):
            tokens = float(steps * BATCH * CONTEXT)
            law = CHINCHILLA["E"] + CHINCHILLA["A"] / params ** CHINCHILLA["alpha"]
            end = (law + CHINCHILLA["B"] / tokens ** CHINCHILLA["beta"]) * np.exp(
                noise * rng.standard_normal()
            )
            at = np.unique(np.linspace(steps / points, steps, points).astype(int))
            curve = {int(s): float(end + 2.0 * (1.0 - s / steps)) for s in at}
            config = {
                "n_layer": layers,
                "n_embd": width,
                "block_size": CONTEXT,
                "vocab_size": VOCAB,
                "bias": "false",
                "batch_size": 12,
                "gradient_accumulation_steps": BATCH // 12,
                "learning_rate": 6e-4,
                "max_iters": steps,
                "seed": 1337,
            }
            made.append(Made(f"gpt-l{layers}-d{width}-{steps}", config, curve, params, tokens))
    return made


def write_chart(path: Path, runs: Sequence[Made], metric: str = "val/loss", x: str = "iter") -> Path:
    """Write the curves as W&B exports a chart: every field in quotes, three columns a run."""
    steps = sorted({step for run in runs for step in run.curve})
    with path.open("w", newline="") as file:
        out = csv.writer(file, quoting=csv.QUOTE_ALL)
        out.writerow(
            [x, *[f"{run.name} - {metric}{bound}" for run in runs for bound in ("", "__MIN", "__MAX")]]
        )
        for step in steps:
            cells = [repr(run.curve[step]) if step in run.curve else "" for run in runs]
            out.writerow([step, *[cell for cell in cells for _ in range(3)]])
    return path


def write_runs(
    path: Path, runs: Sequence[Made], states: Sequence[str] = (), **besides: Sequence[object]
) -> Path:
    """Write the table of runs as W&B exports it: its own columns, the settings, the last values."""
    with path.open("w", newline="") as file:
        out = csv.writer(file, quoting=csv.QUOTE_ALL)
        own = ["Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep"]
        out.writerow([*own, *runs[0].config, *besides, "iter", "val/loss"])
        for i, run in enumerate(runs):
            state = states[i] if states else "finished"
            meta = [run.name, state, "", "ann", "", "2026-03-01T10:00:00.000Z", "3600", ""]
            last = max(run.curve)
            more = [values[i] for values in besides.values()]
            out.writerow([*meta, *run.config.values(), *more, last, repr(run.curve[last])])
    return path
