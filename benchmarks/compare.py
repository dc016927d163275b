"""Intervals, trends and verdicts of `compare` on made and published pairs: `python -m benchmarks.compare`.

Made pairs have known multipliers (constant, shrinking, crossing, none); `--made N --seed S` makes N of each kind
from seed S on, and 5 N without a difference. `--published` fits public pairs below C/10 and judges above. Widths
are beside those of an oracle that knows the law's form and the noise (the Cramer-Rao bound at the truth).
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.forecasting.compare import Comparison, compare
from analysis.forecasting.joint_law import TwoLadders, _Prior, _prior, _solve, _value_and_slopes
from analysis.forecasting.multiplier import _split, curve, grid, log_multipliers
from analysis.forecasting.pairing import two_ladders
from benchmarks.splits import PUBLISHED

KINDS = ("constant", "shrinking", "crossing", "null")
# Runs of a ladder: sizes x horizons x seeds.
DESIGNS = ((3, 2, 1), (6, 1, 1), (3, 3, 1), (4, 3, 1), (6, 2, 1), (4, 2, 2), (4, 2, 3), (6, 4, 1), (5, 4, 2))
# A 90% interval in standard errors.
REACH = 1.645


@dataclass(frozen=True)
class Pair:
    """Two made ladders, the target, and the truth: the log multiplier there and its trend a decade."""

    kind: str
    a: pd.DataFrame
    b: pd.DataFrame
    target: float
    truth: float
    trend: float
    laws: tuple[dict[str, float], dict[str, float]]
    noise: float
    share: float


def loss_of(law: dict[str, float], params: Array, tokens: Array) -> Array:
    """E + A / N^alpha + B / D^beta."""
    return np.asarray(law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"])


def true_multiplier(first: dict[str, float], second: dict[str, float], at: Array) -> Array:
    """The log of the compute `at` over what the second law needs for the first's loss, both best split (6ND)."""

    def frontier(law: dict[str, float], budgets: Array) -> Array:
        params = np.sqrt(budgets[:, None] / 6.0) * np.geomspace(1e-3, 1e3, 1201)
        return loss_of(law, params, budgets[:, None] / 6.0 / params).min(axis=1)

    budgets = np.geomspace(at.min() / 1e4, at.max() * 1e4, 1500)
    needed = np.interp(-frontier(first, at), -frontier(second, budgets), np.log(budgets))
    return np.asarray(np.log(at) - needed)


def made(kind: str, seed: int) -> Pair:
    """Make a pair: 6 to 40 runs a ladder, noise of .3 to 1.5% (half of its variance shared by the runs of one place
    and seed, in every second pair), a target 3 to 30 times beyond the largest run.

    B is A with its sizes and tokens replaced by powers of them, N' = m^u N^p: the multiplier is a power law of
    compute, or where p is of one of the two alone is computed.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    first = {"E": rng.uniform(1.4, 2.0), "alpha": rng.uniform(0.28, 0.42), "beta": rng.uniform(0.28, 0.42)}
    sizes, horizons, seeds = DESIGNS[rng.integers(len(DESIGNS))]
    low = 10 ** rng.uniform(6.5, 7.5)
    n = np.geomspace(low, low * rng.uniform(6, 20), sizes)
    ratio = 20 * 2.0 ** (np.arange(horizons) - (horizons - 1) / 2) * rng.uniform(0.5, 2)
    fixed = horizons > 1 and rng.random() < 0.5
    d = np.outer(np.ones(sizes) * np.sqrt(n[0] * n[-1]) if fixed else n, ratio)
    params, tokens = (np.repeat(v, seeds) for v in (np.repeat(n, horizons), d.ravel()))
    middle = np.exp(np.log(params).mean()), np.exp(np.log(tokens).mean())
    first["A"] = rng.uniform(0.4, 1.2) * middle[0] ** first["alpha"]
    first["B"] = rng.uniform(0.4, 1.2) * middle[1] ** first["beta"]
    target = 6 * (params * tokens).max() * float(rng.choice([3, 10, 30]))
    between, power, gain = 6 * middle[0] * middle[1], 1.0, float(np.exp(rng.uniform(-0.3, 0.6)))
    if kind == "null":
        gain = 1.0
    elif kind == "shrinking":
        gain, power = float(np.exp(rng.uniform(0.1, 0.8))), rng.uniform(0.85, 0.98)
    elif kind == "crossing":
        power = rng.uniform(0.82, 0.95)
        gain = float(np.exp((1 - power) * rng.uniform(np.log(1.5), np.log(target / between))))
    u = float(rng.choice([0.0, 0.5, 1.0])) if power != 1.0 else 0.5
    powers = (power if u > 0 else 1.0, power if u < 1 else 1.0)
    second = dict(first)
    terms = (("A", "alpha", powers[0], u, middle[0]), ("B", "beta", powers[1], 1 - u, middle[1]))
    for name, exponent, p, part, at in terms:
        second[exponent] = first[exponent] * p
        second[name] = first[name] / (gain**part * at ** (1 - p)) ** first[exponent]
    noise, share = rng.uniform(0.003, 0.015), float(rng.choice([0.0, 0.5]))
    common = rng.standard_normal(len(params))
    tables = []
    for law in (first, second):
        own = np.sqrt(share) * common + np.sqrt(1 - share) * rng.standard_normal(len(params))
        loss = loss_of(law, params, tokens) * np.exp(noise * own)
        number = np.tile(np.arange(seeds), sizes * horizons)
        columns = {
            "params": params,
            "tokens": tokens,
            "seed": number,
            "flops": 6 * params * tokens,
            "loss": loss,
        }
        tables.append(pd.DataFrame(columns))
    ends = true_multiplier(first, second, np.asarray([tables[0].flops.min(), target]))
    trend = float((ends[1] - ends[0]) / np.log10(target / tables[0].flops.min()))
    return Pair(kind, *tables, target, float(ends[1]), trend, (first, second), noise, share)


def oracle(pair: Pair, found: Comparison, *, shared: bool) -> float:
    """The width of a 90% interval of the log multiplier at the target, by the Cramer-Rao bound: the form, one floor
    for both and the noise are known, and with `shared` that the exponents are the same."""
    rows: TwoLadders = two_ladders(found.a, found.b, alone=found.paths.alone, seed=0)
    k, p, n = rows.x.shape[1], rows.size, len(pair.a)
    tables = (pair.a, pair.b)
    clean = [
        loss_of(law, t.params.to_numpy(), t.tokens.to_numpy())
        for law, t in zip(pair.laws, tables, strict=True)
    ]
    prior = _prior(rows, True, True)
    wide = _Prior(prior.mean, 50.0 * prior.error)
    theta = _solve(
        rows,
        wide,
        np.eye(2 * n),
        prior.mean[None],
        np.log(np.concatenate(clean))[None],
        wide.mean[None],
        np.asarray([1e-3]),
    )[0]
    slopes = _value_and_slopes(rows, theta[None])[1][0]
    free = np.r_[np.arange(p), p + 1 + np.arange(k if shared else 2 * k)]
    covariance = np.eye(2 * n)
    covariance[np.arange(n), n + np.arange(n)] = covariance[n + np.arange(n), np.arange(n)] = pair.share
    information = slopes[:, free].T @ np.linalg.solve(covariance, slopes[:, free]) / pair.noise**2
    at = np.asarray([pair.target])
    split = [None if found.paths.alone else _split(recipe) for recipe in (found.a, found.b)]

    def log_multiplier(theta: Array) -> float:
        budgets = grid(at)
        first, second = (
            curve(law[None], rows.centre, budgets, s)
            for law, s in zip((theta[:p], theta[:p] + theta[p:]), split, strict=True)
        )
        return float(log_multipliers(first, second, budgets, at)[0, 0])

    steps = 1e-3 * np.eye(2 * p)[free]
    gradient = np.asarray([(log_multiplier(theta + h) - log_multiplier(theta - h)) / 2e-3 for h in steps])
    return float(
        2 * REACH * np.sqrt(gradient @ np.linalg.pinv(information, rcond=1e-13, hermitian=True) @ gradient)
    )


def judge(kind: str, seed: int) -> dict[str, object]:
    """Compare one made pair, and say what was right."""
    pair = made(kind, seed)
    started = time.process_time()
    found = compare(pair.a, pair.b, targets=[pair.target])
    seconds = time.process_time() - started
    last = found.multipliers[-1]
    value, low, high = np.log([last.value, last.lower, last.upper])
    trend, trend_low, trend_high = np.log(found.trend)
    spread = (trend_high - trend_low) / (2 * REACH)
    return {
        "kind": kind, "runs": len(pair.a), "inside": low <= pair.truth <= high, "below": pair.truth < low,
        "trend_inside": trend_low <= pair.trend <= trend_high,
        "seen": abs(trend) >= 2 * spread and kind in ("shrinking", "crossing"),
        "sign": np.sign(trend) == np.sign(pair.trend), "better": found.verdict == "better",
        "worse": found.verdict == "worse", "same": found.verdict == "no_difference",
        "right": (found.verdict == "better") == (pair.truth > 0), "width": high - low,
        "error": abs(value - pair.truth), "oracle": oracle(pair, found, shared=False),
        "oracle_knowing": oracle(pair, found, shared=kind in ("constant", "null")), "seconds": seconds,
        "misfit": found.a.wrong or found.b.wrong,
    }  # fmt: skip


def judged(count: int, seed: int) -> Iterator[dict[str, object]]:
    """Judge `count` pairs of each kind, and five times as many without a difference."""
    for i in range(seed, seed + count):
        for kind in KINDS[:3]:
            yield judge(kind, i)
        for k in range(5):
            yield judge("null", 5 * i + k)


def show_made(rows: Iterable[dict[str, object]]) -> None:
    """Print what the made pairs say."""
    frame = pd.DataFrame(rows)
    frame["ratio"], frame["knowing"] = frame.width / frame.oracle, frame.width / frame.oracle_knowing
    groups = {kind: frame[frame.kind == kind] for kind in KINDS}
    for name, part in {**groups, "with a multiplier": frame[frame.kind != "null"]}.items():
        seen = part[part.seen]
        called = ", ".join(f"{verdict} {part[verdict].mean():.1%}" for verdict in ("better", "worse", "same"))
        widths = f"median width {part.width.median():.3f}, over the oracle's {part.oracle.median():.3f}"
        widths += (
            f" (median of ratios {part.ratio.median():.2f}), over that of one who knows which exponents are"
        )
        widths += f" shared {part.knowing.median():.2f}"
        print(
            f"{name}: {len(part)} pairs; target inside {part.inside.mean():.1%} (below the interval "
            f"{part.below.mean():.1%}), trend inside {part.trend_inside.mean():.1%}, its sign right in "
            f"{seen.sign.sum()} of {len(seen)} seen; called {called}; {widths}; misfit seen in "
            f"{part.misfit.mean():.1%}; {part.seconds.mean():.2f} s of CPU",
            flush=True,
        )
    by_runs = frame[frame.kind != "null"].groupby("runs")
    print(
        by_runs.agg(
            inside=("inside", "mean"), width=("width", "median"), oracle=("oracle", "median")
        ).to_string()
    )


PORIAN = {
    "tuned": [
        ("rw|base|short|kaplan|standard|val", "rw|tuned|short|const|standard|val"),
        ("rw|base|short|chinchilla|standard|val", "rw|tuned|short|const|standard|val"),
        ("owt2|base|short|kaplan|standard|val", "owt2|tuned|short|const|standard|val"),
        ("owt2|base|short|chinchilla|standard|val", "owt2|tuned|short|const|standard|val"),
        ("rw|base|long|kaplan|kaplan|train", "rw|tuned|long|const|kaplan|train"),
        ("rw|base|short|kaplan|attention|train", "rw|tuned|short|const|attention|train"),
        ("rw|base|short|chinchilla|attention|train", "rw|tuned|short|const|attention|train"),
    ],
    "corpus": [
        (f"rw|{rest}", f"owt2|{rest}")
        for rest in (
            "base|long|kaplan|kaplan|train", "base|long|kaplan|standard|val", "base|short|chinchilla|standard|val",
            "base|short|kaplan|standard|val", "tuned|short|const|standard|val",
        )
    ],
}  # fmt: skip
GADRE = (("rpj", "c4_original"), ("rpj", "rw_original"), ("rw_original", "c4_original"))


def published() -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame, Array, Array]]:
    """Kind, name, both tables below C/10, budgets above it and the log multipliers measured there.

    Porian's: the loss at each budget's best size (their own optima), and the compute at which B's best loss is
    that, a line in the logs between budgets. Gadre's have no budgets: laws of all runs, at three budgets.
    """
    points = pd.read_csv(PUBLISHED / "porian_isoflop_points.csv")
    points = points.rename(columns={"N": "params", "D": "tokens", "C": "flops"})
    optima = pd.read_csv(PUBLISHED / "porian_optimal_pairs.csv")
    for kind, pairs in PORIAN.items():
        for names in pairs:
            best_a, best_b = (optima[optima.set == name].sort_values("flops") for name in names)
            top = min(best_a.flops.max(), best_b.flops.max())
            at = best_a.flops[(best_a.flops > top / 10 * 1.001) & (best_a.flops <= top * 1.001)].to_numpy()
            wanted = -np.interp(np.log(at), np.log(best_a.flops), np.log(best_a.loss))
            x, y = -np.log(best_b.loss.to_numpy()), np.log(best_b.flops.to_numpy())
            beyond = y[-1] + (wanted - x[-1]) * (y[-1] - y[-3]) / (x[-1] - x[-3])
            needed = np.where(wanted > x[-1], beyond, np.interp(wanted, x, y))
            cheap = points[points.flops <= top / 10 * 1.001]
            low = [cheap[cheap.set == name].drop(columns="set") for name in names]
            yield kind, f"{names[0]} > {names[1]}", low[0], low[1], at, np.log(at) - needed
    runs = pd.read_csv(PUBLISHED / "gadre_overtraining.csv").rename(columns={"N": "params", "D": "tokens"})
    for names in GADRE:
        tables = [
            runs[runs.dataset_name == name].rename(columns={"loss_c4_val": "loss"})[
                ["params", "tokens", "flops", "loss"]
            ]
            for name in names
        ]
        tables = [table.dropna().astype(np.float64).reset_index(drop=True) for table in tables]
        top = min(table.flops.max() for table in tables)
        at = np.geomspace(top / 10, top, 4)[1:]
        truth = np.median(compare(*tables).paths.multipliers(at), axis=0)
        low = [table[table.flops <= top / 10 * 1.001] for table in tables]
        yield "gadre", " > ".join(names), low[0], low[1], at, truth


def show_published() -> None:
    """Print whether the multipliers measured above C/10 lie in the intervals fitted below it."""
    inside = []
    for kind, name, a, b, at, truth in published():
        found = compare(a.reset_index(drop=True), b.reset_index(drop=True), targets=at.tolist())
        last = found.multipliers[found.observed :]
        held = [m.lower <= np.exp(t) <= m.upper for m, t in zip(last, truth, strict=True)]
        inside.append({"kind": kind, "all": all(held), "last": held[-1], "share": np.mean(held)})
        ends = [f"{m.value:.2f} [{m.lower:.2f}, {m.upper:.2f}]" for m in (last[0], last[-1])]
        print(
            f"{kind:6} {name:74} measured {np.exp(truth[0]):.2f} to "
            f"{np.exp(truth[-1]):.2f}, fitted {' to '.join(ends)}, "
            f"{sum(held)} of {len(held)} inside, {found.verdict}",
            flush=True,
        )
    frame = pd.DataFrame(inside)
    print(f"{frame['all'].sum()} of {len(frame)} pairs hold every budget, {frame['last'].sum()} the last")
    print(frame.groupby("kind")[["all", "last", "share"]].mean().to_string())


def main() -> None:
    """Print what docs/compare.md reports."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--made", type=int, default=0, metavar="N", help="N made pairs of each kind, 5 N null ones"
    )
    parser.add_argument("--seed", type=int, default=1000, help="the first seed of the made pairs (1000)")
    parser.add_argument("--published", action="store_true", help="the public pairs")
    args = parser.parse_args()
    if not (args.made or args.published):
        parser.error("say what: --made N, --published")
    if args.published and not PUBLISHED.is_dir():
        sys.exit(f"the published tables are not at {PUBLISHED}: nothing is measured")
    if args.published:
        show_published()
    if args.made:
        show_made(judged(args.made, args.seed))


if __name__ == "__main__":
    main()
