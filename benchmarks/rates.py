"""Find the best rate of every rung and horizon of a rate sweep, and how it moves with the horizon.

The sweep of docs/transfer.md, and its answer:

python -m lmscale.launch plan=tune name=rates tasks=none data.rows=14 data.heldout_rows=768 'dial=[16,32]' \
    family.n_head=null family.d_head=8 'one_seed=[]' transfer.rate_cap=1 horizon.exponent=0 \
    'horizon.multiples=[.125,.5]' evaluation.first_tokens=1e7 evaluation.per_doubling=1 'seed=[0,1,2]' \
    'plan.factors=[.5,1,2]'
python -m benchmarks.rates runs/rates docs/img/rates.png

Of each rung and horizon a parabola in log rate with an offset a seed, least squares over the rates that every seed
has; one noise for all of them. The optimum with a 90% interval by the delta method and Student's t; what the rule's
rate (transfer.rate=.3) loses against it, by the parabola. Then the exponent p of the optimum in tokens, rate x
(T0/T)^p, of each rung, and their mean weighted by precision. The horizons of a rung share their seeds and are taken
as independent, which makes the interval of p too wide, if anything.
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


class Curve(NamedTuple):
    """at: log2 of the best rate x d_model. variance: of it, at unit noise. lost: nats at the rule's rate. squares,
    freedom: of the residuals. above: mean loss above the least by rate x d_model, offsets of seeds taken out."""

    at: float
    variance: float
    lost: float
    squares: float
    freedom: int
    above: pd.Series


def curve(rows: pd.DataFrame) -> Curve:
    """Fit loss = offset of the seed + b x + c x^2, x = log2(rate x d_model), to one rung and horizon."""
    rows = rows[rows.groupby("seed")["value"].transform("nunique") >= 3]  # others say nothing of a parabola
    seeds_of = rows.groupby("value")["seed"].nunique()
    rows = rows[rows["value"].isin(seeds_of.index[seeds_of == seeds_of.max()])]
    x, seeds = np.log2(rows["value"].to_numpy()), pd.get_dummies(rows["seed"]).to_numpy(float)
    design = np.column_stack([seeds, x, x**2])
    loss = rows["loss"].to_numpy()
    beta = np.linalg.lstsq(design, loss, rcond=None)[0]
    b, c = beta[-2:]
    slope = np.zeros(len(beta))
    slope[-2:] = -1 / (2 * c), b / (2 * c**2)
    at = -b / (2 * c)
    mean = (rows["loss"] - seeds @ beta[:-2]).groupby(rows["value"]).mean()
    return Curve(
        at,
        slope @ np.linalg.inv(design.T @ design) @ slope,
        c * (np.log2(RULE) - at) ** 2,
        float(np.sum((loss - design @ beta) ** 2)),
        len(loss) - design.shape[1],
        mean - mean.min(),
    )


def main(source: str, target: str) -> None:
    """Print the optima and the exponents, and write the picture."""
    table = load_table(source)
    table = table[(table["kind"] != "trunk") & table["final"] & (table["outcome"] == "done")]
    table = table.assign(
        value=(table["learning_rate"] * table["d_model"]).round(9), cell=table["horizon_tokens"].round(-5)
    )
    curves = {key: curve(rows) for key, rows in table.groupby(["d_model", "cell"])}
    freedom = sum(found.freedom for found in curves.values())
    noise = sum(found.squares for found in curves.values()) / freedom
    quantile = float(stats.t.ppf(0.5 + LEVEL / 2, freedom))
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    print(f"noise of a run {noise**0.5:.4f} nats, {freedom} degrees of freedom")
    print("| d_model | tokens | best rate x d_model | 90% interval | lost at .3 |\n|---|---|---|---|---|")
    for (d_model, tokens), found in curves.items():
        half = quantile * (noise * found.variance) ** 0.5
        low, at, high = (2 ** (found.at + side) for side in (-half, 0, half))
        edge = "" if found.above.index[0] < at < found.above.index[-1] else ", outside the rates"
        print(
            f"| {d_model} | {tokens / 1e6:.1f}M | {at:.2f}{edge} | {low:.2f} to {high:.2f} | {found.lost:.4f} |"
        )
        axes.plot(found.above, marker="o", label=f"d {d_model}, {tokens / 1e6:.1f}M tokens")
    slopes = []
    for d_model in table["d_model"].unique():
        (t1, first), *_, (t2, last) = [(t, found) for (d, t), found in curves.items() if d == d_model]
        octaves = np.log2(t2 / t1)
        slopes.append(((first.at - last.at) / octaves, noise * (first.variance + last.variance) / octaves**2))
        print(f"d_model {d_model}: p = {slopes[-1][0]:.2f} +- {quantile * slopes[-1][1] ** 0.5:.2f}")
    p, variance = np.array(slopes).T
    mean, error = np.sum(p / variance) / np.sum(1 / variance), np.sum(1 / variance) ** -0.5
    print(f"all: p = {mean:.2f} +- {quantile * error:.2f} ({LEVEL:.0%})")
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
