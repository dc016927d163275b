"""Fit a law to a table, look at its intervals and warnings, predict a run that was not made.

    python examples/fit_a_table.py [runs.csv]

Expect the law of examples/data/make.py (E 1.70, alpha .34, beta .30) inside the intervals.
"""

import sys
from pathlib import Path

from analysis import extrapolate, fit, load_table

TABLE = Path(__file__).parent / "data" / "runs.csv"


def main(path: Path = TABLE) -> None:
    table = load_table(path, columns="params=N,tokens=D,loss=val_loss")
    law = fit(table, form="chinchilla")
    print(law.summary())
    low, high = law.conf_int()["alpha"]
    print(f"\nalpha = {law.params['alpha']:.3f}, 95% interval {low:.3f} to {high:.3f}; {law.status}")
    # A run of 10 billion parameters and 400 billion tokens, and the best split of 1e23 FLOPs.
    print(
        extrapolate(table, form="chinchilla", at=[{"params": 1e10, "tokens": 4e11}], budgets=[1e23]).summary()
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
