"""Where a loss's noise comes from: initialisation, order of the data, their interplay.

`python -m lmscale.launch experiment=ladders part=text name=noise data.order_seed=0,1,2 seed=[0,1,2]` trains the
runs, `python -m benchmarks.noise [runs/noise]` prints a line a rung and horizon. Components of variance of a
two-way table without repeats (Searle, Casella and McCulloch 1992, section 4.3): the rest is interplay and
rounding.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import load_table
from analysis.tables.finished import last_rows


def components(losses: np.ndarray) -> tuple[float, float, float]:
    """Estimate the variances of rows, columns and the rest of a table [rows, columns]; below 0 is 0."""
    rows, columns = losses.shape
    centred = losses - losses.mean()
    of_rows, of_columns = centred.mean(axis=1), centred.mean(axis=0)
    rest = centred - of_rows[:, None] - of_columns
    left = float((rest**2).sum() / ((rows - 1) * (columns - 1)))
    row = float(columns * (of_rows**2).sum() / (rows - 1))
    column = float(rows * (of_columns**2).sum() / (columns - 1))
    return max(0.0, (row - left) / columns), max(0.0, (column - left) / rows), left


def main(folder: Path) -> None:
    """Print the standard deviations, in nats and as a share of the loss."""
    table = last_rows(load_table(folder))
    print(f"{'dial':>5} {'tokens':>9} {'loss':>7}  {'initialisation':>15} {'order':>15} {'rest':>15}")
    for (dial, tokens), rows in table.groupby(["dial", "horizon_tokens"]):
        losses = pd.pivot_table(rows, "loss", "seed", "order_seed").to_numpy()
        if min(losses.shape) < 2 or np.isnan(losses).any():
            continue
        shown = [f"{np.sqrt(v):.4f} ({100 * np.sqrt(v) / losses.mean():.2f}%)" for v in components(losses)]
        print(
            f"{dial:>5.0f} {tokens / 1e6:>8.2f}M {losses.mean():>7.4f}  "
            + " ".join(f"{s:>15}" for s in shown)
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/noise"))
