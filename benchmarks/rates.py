"""Find the best rate of every rung and horizon of a rate sweep, and how it moves with both.

The sweep of docs/transfer.md (some 25 CPU minutes), and its answer:

python -m lmscale.launch plan=tune name=rates tasks=none data.rows=14 data.heldout_rows=768 'dial=[16,32]' \
    family.n_head=null family.d_head=8 'one_seed=[]' transfer.rate_cap=1 horizon.exponent=0 \
    'horizon.multiples=[.125,.5]' evaluation.first_tokens=1e7 evaluation.per_doubling=1 'seed=[0,1,2]'
python -m benchmarks.rates runs/rates docs/img/rates.png

Of each rung and horizon: a parabola in log rate with an offset a seed, least squares over the rates that every seed
has; the optimum with a 90% interval by the delta method and Student's t; what the rule's rate (transfer.rate=.3)
loses against it, by the parabola. Then the exponent p of the optimum in tokens, rate x (T0/T)^p, of each rung, and
their mean weighted by precision. The horizons of a rung share their seeds; an interval of p that takes them as
independent is too wide, if anything.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from analysis import load_table

LEVEL = 0.9
RULE = 0.3  # transfer.rate of the default


class Optimum(NamedTuple):
    """at: log2 of the best rate x d_model, with its standard error and degrees of freedom. lost: nats at the rule's
    rate. edge: the best mean stands at an edge of the rates, or the parabola opens downwards."""

    at: float
    error: float
    freedom: int
    lost: float
    edge: bool


def optimum(rows: pd.DataFrame) -> Optimum:
    """Fit loss = offset of the seed + b x + c x^2, x = log2(rate x d_model), to one rung and horizon."""
    means = rows.groupby("value")["loss"].agg(["mean", "count"])
    means = means[means["count"] == means["count"].max()]["mean"]
    rows = rows[rows["value"].isin(means.index)]
    x, seeds = np.log2(rows["value"].to_numpy()), pd.get_dummies(rows["seed"]).to_numpy(float)
    design = np.column_stack([seeds, x, x**2])
    loss = rows["loss"].to_numpy()
    beta = np.linalg.lstsq(design, loss, rcond=None)[0]
    freedom = len(loss) - design.shape[1]
    sigma2 = np.sum((loss - design @ beta) ** 2) / max(freedom, 1)
    covariance = sigma2 * np.linalg.inv(design.T @ design)
    b, c = beta[-2:]
    at = -b / (2 * c)
    slope = np.array([-1 / (2 * c), b / (2 * c**2)])
    error = float(np.sqrt(slope @ covariance[-2:, -2:] @ slope))
    best = means.index.get_loc(means.idxmin())
    return Optimum(at, error, freedom, c * (np.log2(RULE) - at) ** 2, best in (0, len(means) - 1) or c <= 0)


def half_width(error: float, freedom: int) -> float:
    """Half of the interval at LEVEL."""
    return float(stats.t.ppf(0.5 + LEVEL / 2, max(freedom, 1)) * error)


def main(source: str, target: str) -> None:
    """Print the optima and the exponents, and write the picture."""
    table = load_table(source)
    table = table[table["kind"] != "trunk"].assign(value=lambda t: t["learning_rate"] * t["d_model"])
    table = table.sort_values("tokens").groupby("run_id").tail(1)
    slopes = []
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    print(
        "| d_model | tokens | runs | best rate x d_model | interval | lost at .3 |\n|---|---|---|---|---|---|"
    )
    for d_model, rung in table.groupby("d_model"):
        found: list[tuple[float, Optimum]] = []
        for tokens, rows in rung.groupby("horizon_tokens"):
            best = optimum(rows)
            found.append((np.log2(float(tokens)), best))  # type: ignore[arg-type]
            half = half_width(best.error, best.freedom)
            low, at, high = (2 ** (best.at + side) for side in (-half, 0, half))
            edge = " (at an edge)" if best.edge else ""
            print(
                f"| {d_model} | {tokens:.3g} | {len(rows)} | {at:.3f}{edge} | {low:.3f} to {high:.3f} "
                f"| {best.lost:.4f} |"
            )
            mean = rows.groupby("value")["loss"].mean()
            axes.plot(mean.index, mean - mean.min(), marker="o", label=f"d {d_model}, {tokens:.2g} tokens")
        (t1, first), (t2, last) = found[0], found[-1]
        error = float(np.hypot(first.error, last.error)) / (t2 - t1)
        slopes.append(((first.at - last.at) / (t2 - t1), error, first.freedom + last.freedom))
        print(f"d_model {d_model}: p = {slopes[-1][0]:.2f} +- {half_width(*slopes[-1][1:]):.2f}")
    p, errors, freedom = (np.array(column) for column in zip(*slopes, strict=True))
    weight = errors**-2.0
    pooled, error = float(weight @ p / weight.sum()), float(weight.sum() ** -0.5)
    print(f"all: p = {pooled:.2f} +- {half_width(error, int(freedom.sum())):.2f} ({LEVEL:.0%})")
    axes.set(
        xscale="log",
        xlabel="rate x d_model (transfer.rate of inverse_width)",
        ylabel="text loss above the best rate's (nats per byte)",
    )
    axes.legend()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] or ("runs/rates", "docs/img/rates.png")))
