"""Make the tables beside this file (`python examples/data/make.py`). Their laws are known, to check answers by.

runs.csv: 40 runs of E 1.70, A 410, B 1,200, alpha .34, beta .30, noise .4% (seed 0), under names that trackers use.
scores.csv: three tasks over eight sizes and three seeds, 200 items: a jump at 3e9, a slope, chance of one in four.
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent


def runs() -> pd.DataFrame:
    """Ten sizes, four horizons each."""
    rng = np.random.default_rng(0)
    sizes, ratios = np.meshgrid(np.geomspace(2e7, 2e9, 10), [5.0, 10.0, 20.0, 40.0])
    n, d = sizes.ravel(), (sizes * ratios).ravel()
    loss = 1.70 + 410 * n**-0.34 + 1200 * d**-0.30
    loss *= np.exp(rng.normal(0, 0.004, len(n)))
    return pd.DataFrame({"N": n.round(-5), "D": d.round(-6), "val_loss": loss.round(4), "dataset": "c4"})


def scores() -> pd.DataFrame:
    """Correct answers of 200."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1e7, 3e10, 8).round(-5)
    x = np.log10(sizes)
    curves = {
        "three_digit_addition": 0.02 + 0.9 / (1 + np.exp(-8 * (x - np.log10(3e9)))),
        "trivia": 0.1 + 0.6 * (x - x.min()) / np.ptp(x),
        "coin_flips": np.full(len(x), 0.25),
    }
    rows = [
        {"task": task, "N": size, "seed": seed, "correct": rng.binomial(200, p), "total": 200}
        for task, curve in curves.items()
        for size, p in zip(sizes, curve, strict=True)
        for seed in range(3)
    ]
    table = pd.DataFrame(rows)
    return table.assign(chance=np.where(table["task"].eq("coin_flips"), 0.25, 0.0))


if __name__ == "__main__":
    runs().to_csv(HERE / "runs.csv", index=False)
    scores().to_csv(HERE / "scores.csv", index=False)
