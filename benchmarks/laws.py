"""Our fit beside the usual code, on the same rows: `python -m benchmarks.laws`, a minute and a half.

The usual code (Hoffmann et al. 2022, appendix D.3, as public repositories write it): L-BFGS from each of 4,500
starts in a Python loop, the best of them, then resamples that start from it. The rows are the published
Chinchilla points where they lie beside the checkout, a made table of the same size elsewhere.
"""

import subprocess
import sys
import tempfile
import time
from itertools import product

import numpy as np
import pandas as pd

from analysis.fitting.fit import fit
from analysis.laws.catalogue import get_form
from benchmarks.splits import PUBLISHED, tables

TRUTH = {"E": 1.82, "A": 480.0, "B": 2100.0, "alpha": 0.347, "beta": 0.367}
FITS = (
    ("chinchilla", 100, 0.3),
    ("chinchilla", 1000, 2.0),
    ("chinchilla6", 1000, 15.0),
)  # resamples, seconds asked


def rows() -> tuple[pd.DataFrame, str]:
    """Take or make 240 runs, and say where they come from."""
    if PUBLISHED.is_dir():
        return tables()["chinchilla"][1], "the 240 published Chinchilla points"
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"params": 10 ** rng.uniform(7.8, 10.2, 240), "tokens": 10 ** rng.uniform(9, 11.5, 240)}
    )
    x = {name: table[name].to_numpy() for name in table}
    loss = get_form("chinchilla").predict(TRUTH, x) * np.exp(0.005 * rng.standard_normal(240))
    return table.assign(loss=loss, flops=6 * table.params * table.tokens), "240 made points"


def usual(table: pd.DataFrame, resamples: int) -> tuple[float, float, int, int]:
    """Measure seconds, objective, starts that report success, starts within 1e-4 of the best objective."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    log_n, log_d = np.log(table.params.to_numpy()), np.log(table.tokens.to_numpy())
    log_l = np.log(table.loss.to_numpy())

    def objective(theta: np.ndarray, rows: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * log_n[rows], b - beta * log_d[rows], np.full(len(rows), e)])
        predicted = logsumexp(terms, axis=0)
        residual = predicted - log_l[rows]
        size = np.abs(residual)
        value = np.where(size <= 1e-3, 0.5 * size**2, 1e-3 * (size - 5e-4)).sum()
        slope = np.clip(residual, -1e-3, 1e-3)
        share = np.exp(terms - predicted) * slope
        gradient = [
            share[0].sum(), share[1].sum(), share[2].sum(), -(share[0] * log_n[rows]).sum(),
            -(share[1] * log_d[rows]).sum(),
        ]  # fmt: skip
        return float(value), np.asarray(gradient)

    start = time.perf_counter()
    everything = np.arange(len(table))
    grid = product(
        range(0, 30, 5),
        range(0, 30, 5),
        np.arange(-1, 1.5, 0.5),
        np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
    )
    ends = [minimize(objective, x0, args=(everything,), jac=True, method="L-BFGS-B") for x0 in grid]
    best = min(ends, key=lambda end: float(end.fun))
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        minimize(
            objective, best.x, args=(rng.choice(everything, len(everything)),), jac=True, method="L-BFGS-B"
        )
    seconds = time.perf_counter() - start
    there = sum(float(end.fun) <= best.fun * (1 + 1e-4) for end in ends)
    return seconds, float(best.fun), sum(bool(end.success) for end in ends), there


def timed(table: pd.DataFrame, form: str, resamples: int) -> tuple[float, float]:
    """Time the second of two fits (warm), and its objective."""
    fit(table, form, bootstrap=resamples)
    start = time.perf_counter()
    fitted = fit(table, form, bootstrap=resamples)
    return time.perf_counter() - start, fitted.value


def cold(table: pd.DataFrame, folder: str) -> float:
    """Time a whole new process that reads the rows, fits and resamples 100 times."""
    path = f"{folder}/rows.csv"
    table.to_csv(path, index=False)
    start = time.perf_counter()
    command = [sys.executable, "-m", "analysis", "fit", path, "--bootstrap", "100"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print each time beside what was asked and what the usual code takes."""
    table, source = rows()
    print(f"{source}; every resample has its own global search; its bend is looked for besides")
    print(f"{'':34}{'time':>9}{'asked':>9}   objective")
    for form, resamples, asked in FITS:
        seconds, value = timed(table, form, resamples)
        print(f"{f'{form}, {resamples} resamples, warm':34}{seconds:7.2f} s{asked:7g} s   {value:.13f}")
    with tempfile.TemporaryDirectory() as folder:
        seconds = cold(table, folder)
    print(f"{'chinchilla, 100, a cold process':34}{seconds:7.2f} s{6:7} s")
    seconds, value, success, there = usual(table, 100)
    print(f"{'the usual code, 100 local resamples':34}{seconds:6.1f} s{'':9}   {value:.13f}")
    print(f"of its 4500 starts {success} report success, {there} are at the optimum")


if __name__ == "__main__":
    main()
