"""Make wandb_project/ beside this file: a project as W&B exports it, of a law that is known, with the usual dirt.

24 runs of nanoGPT's settings (six shapes, four lengths) of E 1.80, A 480, B 2,100, alpha .35, beta .37, noise .2%
(seed 0); a run that crashed half-way, and one that tested the set-up and never evaluated.
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "wandb_project"
SHAPES = ((4, 128), (6, 192), (6, 256), (8, 384), (10, 512), (12, 640))
STEPS = (500, 2000, 8000, 32000)
BATCH, ACCUMULATION, CONTEXT, VOCAB = 12, 40, 1024, 50304


def tables() -> dict[str, pd.DataFrame]:
    """The table of runs and the chart of val/loss over iter."""
    rng = np.random.default_rng(0)
    rows, curves = [], {}
    for layers, width in SHAPES:
        params = layers * (12 * width**2 + 2 * width) + width + (VOCAB + CONTEXT) * width
        for steps in STEPS:
            tokens = steps * BATCH * ACCUMULATION * CONTEXT
            loss = (1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37) * np.exp(rng.normal(0, 0.002))
            at = np.linspace(steps / 10, steps, 10).astype(int)
            name = f"gpt-l{layers}-d{width}-{steps}"
            curves[name] = pd.Series(loss + 2.2 * (1 - at / steps) ** 2, at)
            rows.append(row(name, "finished", layers, width, steps, curves[name]))
    crashed = next(iter(curves.values())).iloc[:4] + 0.02
    curves["gpt-l4-d128-500-again"] = crashed
    rows.append(row("gpt-l4-d128-500-again", "crashed", 4, 128, 500, crashed))
    rows.append(row("test-setup", "finished", 2, 64, 10, pd.Series(dtype=float)))
    steps = sorted({step for curve in curves.values() for step in curve.index})
    chart = {"iter": steps}
    for name, curve in curves.items():
        for bound in ("", "__MIN", "__MAX"):
            chart[f"{name} - val/loss{bound}"] = curve.round(4).reindex(steps).tolist()
    return {"runs": pd.DataFrame(rows), "chart": pd.DataFrame(chart)}


def row(name: str, state: str, layers: int, width: int, steps: int, curve: pd.Series) -> dict[str, object]:
    """A run in W&B's table of runs: its own columns, the settings, the last values."""
    last = {"iter": curve.index[-1], "val/loss": round(curve.iloc[-1], 4)} if len(curve) else {}
    return {
        **{"Name": name, "State": state, "Notes": "", "User": "ann", "Tags": ""},
        **{"Created": "2026-03-01T10:00:00.000Z", "Runtime": steps, "Sweep": ""},
        **{
            "n_layer": layers,
            "n_head": width // 32,
            "n_embd": width,
            "block_size": CONTEXT,
            "vocab_size": VOCAB,
        },
        **{"bias": "false", "batch_size": BATCH, "gradient_accumulation_steps": ACCUMULATION},
        **{"learning_rate": 6e-4, "max_iters": steps, "seed": 1337},
        **last,
        "train/loss": round(curve.iloc[-1] - 0.02, 4) if len(curve) else np.nan,
    }


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name, table in tables().items():
        table.to_csv(HERE / f"{name}.csv", index=False, quoting=1)
