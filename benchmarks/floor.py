"""What a known, a prior or a shared floor buys: `python -m benchmarks.floor`, some ten minutes on one core.

First the ladder of known entropy, where it lies beside the checkout: its largest run forecast from a third to a
thirtieth of its compute, the floor free, with a prior, known. Then made tables, each of a truth drawn anew: the
share of 90% intervals that hold, and their width.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.fitting.fit import fit, fit_members, fit_shared
from analysis.fitting.options import FitOptions
from analysis.forecasting.forecast import LEAST_WEIGHT, extrapolate
from analysis.laws.catalogue import get_form
from benchmarks.splits import PUBLISHED, splits

LADDER = PUBLISHED.parents[1] / "known_ladder.csv"
# The entropy of its source in windows of 64 bytes, nats a byte.
ENTROPY = 1.2763
SOURCE = "the entropy of the source"
KNOWN = {"floor": "known", "floor_value": ENTROPY, "floor_source": SOURCE}
PRIOR = {"floor": "prior", "floor_value": ENTROPY, "floor_error": 0.05, "floor_source": SOURCE}
# Of made tables: what tells their floors apart.
SPREAD = 0.05
TRUTH = {"E": 1.2763, "A": 50.0, "B": 300.0, "alpha": 0.5, "beta": 0.45}


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--made", type=int, default=100, help="made tables")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if LADDER.is_file():
        table = pd.read_csv(LADDER)
        ladder(table[table.final])
    else:
        print(f"{LADDER} is absent")
    made(args.made, args.seed)
    if PUBLISHED.is_dir():
        powers()


def powers() -> None:
    """Predict the public tables' runs beyond a tenth of their compute, with k free and with its prior."""
    errors = []
    for split in splits(factors=(10.0,)):
        row = []
        for form in ("chinchilla6", "auto"):
            for k in ("free", "prior"):
                options = FitOptions(form=form, regime="auto", bootstrap=0, k=k)
                members = fit_members(split.train, options, least_weight=LEAST_WEIGHT)
                centre = sum(m.weight * np.log(m.fit.predict(split.test)) for m in members)
                row.append(100 * float(np.mean(np.abs(np.expm1(centre - np.log(split.test.loss))))))
        errors.append(row)
        print(f"{split.table:28}" + "".join(f"{error:8.2f}%" for error in row), flush=True)
    print(f"{'mean':28}" + "".join(f"{error:8.2f}%" for error in np.mean(errors, axis=0)))
    print("chinchilla6 with k free and with the prior, auto with k free and with the prior")


def ladder(table: pd.DataFrame) -> None:
    """Forecast the largest run at its longest horizon from cheaper ones."""
    top = table.loc[table.flops.idxmax()]
    at = {"params": float(top.params), "tokens": float(top.tokens)}
    print(
        f"known_ladder.csv: {len(table)} runs, E = {ENTROPY}; error of the run of loss {top.loss:.4f}, and E"
    )
    print(
        f"{'cut':>5} {'runs':>4}  least squares: free, known        extrapolate, 90%: free, prior +-.05, known"
    )
    for cut in (3, 5, 10, 20, 30):
        rows = table[table.flops <= top.flops / cut * (1 + 1e-9)]
        cells = []
        for floor in ({}, KNOWN):
            fitted = fit(rows, loss="l2", bootstrap=0, **floor)
            loss = float(fitted.predict({name: np.array([value]) for name, value in at.items()})[0])
            cells.append(f"{100 * (loss / top.loss - 1):+.1f}% (E {fitted.params['E']:.2f})")
        for floor in ({}, PRIOR, KNOWN):
            forecast = extrapolate(rows, at=[at], form="chinchilla", regime="all", bootstrap=400, **floor)
            (p,) = forecast.predictions
            bounds = [100 * (bound / top.loss - 1) for bound in (p.loss, p.lower, p.upper)]
            cells.append("{:+.1f}% [{:+.1f}, {:+.1f}]".format(*bounds))
        print(f"{cut:5} {len(rows):4}  " + "  ".join(cells), flush=True)


def worlds(tables: int, seed: int) -> Iterator[tuple[dict[str, pd.DataFrame], dict[str, float], float]]:
    """Make two recipes' ladders of one floor; besides, the truth of the first and its loss at 30 x the compute."""
    rng = np.random.default_rng(seed)
    law = get_form("chinchilla")
    for _ in range(tables):
        floor = ENTROPY + SPREAD * rng.standard_normal()
        found: dict[str, pd.DataFrame] = {}
        truths = []
        for name in ("a", "b"):
            truth = {k: v * np.exp(0.1 * rng.standard_normal()) for k, v in TRUTH.items()}
            truth |= {"E": floor, "alpha": rng.uniform(0.4, 0.6), "beta": rng.uniform(0.4, 0.5)}
            n, d = (v.ravel() for v in np.meshgrid(np.geomspace(4e3, 8e4, 5), np.geomspace(1.8e6, 7.2e6, 3)))
            loss = law.predict(truth, {"params": n, "tokens": d}) * np.exp(
                0.005 * rng.standard_normal(len(n))
            )
            found[name] = pd.DataFrame({"params": n, "tokens": d, "loss": loss, "flops": 6 * n * d})
            truths.append(truth)
        far = law.predict(truths[0], {"params": np.array([8e5]), "tokens": np.array([2.2e7])})
        yield found, truths[0], float(far[0])


def made(tables: int, seed: int) -> None:
    """Count what intervals of E and of the law's loss at 30 times hold, under each kind of floor."""
    at = {"params": np.array([8e5]), "tokens": np.array([2.2e7])}
    rows: dict[str, list[list[float]]] = {}
    for pair, truth, far in worlds(tables, seed):
        how: dict[str, dict[str, Any]] = {
            "free": {},
            f"prior +-{SPREAD}": {**PRIOR, "floor_error": SPREAD},
            "known": {**KNOWN, "floor_value": truth["E"]},
        }
        fits = {name: fit(pair["a"], bootstrap=200, level=0.9, **floor) for name, floor in how.items()}
        fits["shared by two"] = fit_shared(pair, bootstrap=200, level=0.9)["a"]
        for name, fitted in fits.items():
            low, high = fitted.conf_int()["E"]
            below, above = np.percentile(fitted.predict_draws(at), [5.0, 95.0])
            rows.setdefault(name, []).append(
                [low <= truth["E"] <= high, high - low, below <= far <= above, 50 * (above - below) / far]
            )
    print(
        f"{tables} made ladders of 15 runs, noise .5%, --seed {seed}; 90% intervals of the parameters alone"
    )
    print(f"{'floor':15} {'E held':>8} {'width':>7} {'loss at 30 x held':>18} {'half-width':>11}")
    for name, found in rows.items():
        e, width, loss, half = np.mean(found, axis=0)
        print(f"{name:15} {e:8.0%} {width:7.3f} {loss:18.0%} {half:10.2f}%")


if __name__ == "__main__":
    main()
