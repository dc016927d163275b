"""Replay designs on public tables: `python -m benchmarks.design`, or `--settings` to choose the settings again.

The runs that a table has are the candidates, its most expensive ones the targets, a tenth of all the candidates'
cost the budget. Three ways to choose begin with nothing measured: the belief of `analysis.forecasting.design`,
replanned as losses come in; V-optimal design, the same with the variance of a law that is true, linear around its
fit; and chance. Then `extrapolate` predicts the targets from what was chosen. The settings are chosen on CHOSEN_ON
and reported on the other tables.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import fit_members
from analysis.fitting.options import FitOptions
from analysis.fitting.result import Member
from analysis.forecasting.design import FEWEST, MISFIT, PRIOR_NOISE, REACH, believe
from analysis.forecasting.forecast import LEAST_WEIGHT, extrapolate
from analysis.forecasting.spending import Belief, spend
from benchmarks.splits import PUBLISHED, tables

SHARE, LEVEL, ROUNDS = 0.1, 0.9, 3
# Each table is replayed so often, a random fifth of its candidates missing; chance draws so often in each.
REPEATS, KEPT, DRAWS = 2, 0.8, 4
# Targets: runs of the largest compute over this, and three at least.
TOP, FEWEST_TARGETS = 1.5, 3
CHOSEN_ON = ("gadre rpj", "porian rw|base|")
SETTINGS = [(0.01, 2.3), (0.02, 1.2), (0.02, 2.3), (0.03, 2.3)]
Believe = Callable[[list[Member] | None, pd.DataFrame, pd.DataFrame, int], Belief]


def cut(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the candidates and the targets of a table."""
    table = table.sort_values("flops", ascending=False, kind="stable").reset_index(drop=True)
    target = (table.flops >= table.flops.max() / TOP) | (table.index < FEWEST_TARGETS)
    return table[~target].reset_index(drop=True), table[target].reset_index(drop=True)


def ours(misfit: float = MISFIT, reach: float = REACH) -> Believe:
    """Believe as `design` does."""
    return lambda members, _, runs, targets: believe(
        members, runs, targets, seed=0, misfit=misfit, reach=reach
    )


def v_optimal(
    members: list[Member] | None, measured: pd.DataFrame, runs: pd.DataFrame, targets: int
) -> Belief:
    """Believe in E + A / N^alpha + B / D^beta, linear in its parameters around the fit (before it, around that of
    Besiroglu et al. 2024 with equal terms), each known to within 1 (A and B: a factor e) beforehand."""
    middle = np.exp(np.log(runs[["params", "tokens"]]).mean())
    p = {"E": 1.8, "alpha": 0.35, "beta": 0.37}
    p |= {"A": 0.5 * middle.params ** p["alpha"], "B": 0.5 * middle.tokens ** p["beta"]}
    noise = PRIOR_NOISE**2
    if members:
        p = dict(members[0].fit.params)
        noise = max(float(np.mean(members[0].fit.residuals() ** 2)), 1e-8)

    def jacobian(rows: pd.DataFrame) -> Array:
        n, d = rows.params.to_numpy(np.float64), rows.tokens.to_numpy(np.float64)
        a, b = p["A"] * n ** -p["alpha"], p["B"] * d ** -p["beta"]
        loss = p["E"] + a + b
        slopes = [np.ones_like(a), a, -a * np.log(n / middle.params), b, -b * np.log(d / middle.tokens)]
        return np.stack(slopes, axis=1) / loss[:, None]

    old, new = jacobian(measured), jacobian(runs)
    covariance = new @ np.linalg.solve(np.eye(5) + old.T @ old / noise, new.T)
    return Belief(covariance, np.zeros_like(covariance), np.full(len(runs), noise), targets)


def replay(
    pool: pd.DataFrame, target: pd.DataFrame, budget: float, belief: Believe, form: str = "auto"
) -> pd.DataFrame:
    """Choose rows of `pool` in ROUNDS: plan for all that is left, run the cheaper half, fit, plan again."""
    sizes = pd.concat([pool, target], ignore_index=True)[["params", "tokens"]]
    cost = pool.flops.to_numpy(np.float64)
    have = np.zeros(len(pool), dtype=bool)
    members = None
    for turn in range(ROUNDS):
        bought = spend(
            belief(members, pool[have], sizes, len(target)), cost, budget - cost[have].sum(),
            most=(~have).astype(int), first=FEWEST if members is None else 0,
        )  # fmt: skip
        plan = sorted(bought.runs, key=lambda i: cost[i])
        if not plan:
            break
        last = turn == ROUNDS - 1
        have[plan if last else plan[: max(FEWEST if turn == 0 else 1, len(plan) // 2)]] = True
        if not last:
            options = FitOptions(form=form, bootstrap=40)
            try:
                members = fit_members(pool[have], options, least_weight=LEAST_WEIGHT, fractional=True)
            except UserError:
                # A tenth of the cost does not buy the rows of a law.
                break
    return pool[have]


def chance(pool: pd.DataFrame, budget: float, rng: np.random.Generator) -> pd.DataFrame:
    """Take rows in random order, each that the budget still holds."""
    chosen, left = [], budget
    for i in rng.permutation(len(pool)):
        if pool.flops[i] <= left:
            chosen.append(i)
            left -= pool.flops[i]
    return pool.iloc[chosen]


def judge(chosen: pd.DataFrame, target: pd.DataFrame) -> dict[str, float]:
    """Predict the targets from the chosen rows: mean absolute error and half-width in percent, share inside."""
    try:
        found = extrapolate(chosen, targets=target[["params", "tokens", "flops"]], bootstrap=60, level=LEVEL)
    except UserError:
        # Too few rows for a law: as wrong as a guess.
        return {"error": np.nan, "half-width": np.nan, "inside": 0.0, "runs": len(chosen)}
    frame, loss = found.to_frame(), target.loss.to_numpy()
    inside = (frame.lower <= loss) & (loss <= frame.upper)
    return {
        "error": 100 * float(np.mean(np.abs(np.log(frame.loss / loss)))),
        "half-width": 50 * float(np.mean(np.log(frame.upper / frame.lower))),
        "inside": 100 * float(inside.mean()),
        "runs": len(chosen),
    }


def repeats(name: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, float, np.random.Generator]]:
    """Yield the candidates, the targets, the budget and a generator of each replay of a table."""
    every, target = cut(tables()[name][1])
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        pool = every[rng.permutation(len(every)) < KEPT * len(every)].reset_index(drop=True)
        yield pool, target, SHARE * float(pool.flops.sum()), rng


def report(names: Sequence[str]) -> pd.DataFrame:
    """Judge the three ways on the named tables, one row each: means over its replays."""
    rows = []
    for name in names:
        found: dict[str, list[dict[str, float]]] = {"ours": [], "V-opt": [], "random": []}
        for pool, target, budget, rng in repeats(name):
            found["ours"].append(judge(replay(pool, target, budget, ours()), target))
            found["V-opt"].append(judge(replay(pool, target, budget, v_optimal, "chinchilla"), target))
            found["random"] += [judge(chance(pool, budget, rng), target) for _ in range(DRAWS)]
        means = {way: pd.DataFrame(values).mean() for way, values in found.items()}
        row = {"table": name, "source": tables()[name][0]}
        row |= {f"{way} {what}": float(v) for way, mean in means.items() for what, v in mean.items()}
        rows.append(row)
        said = [
            f"{way} {m['error']:5.2f} +-{m['half-width']:5.2f} ({m['runs']:.0f}, {m['inside']:.0f}%)"
            for way, m in means.items()
        ]
        print(f"{name:46} x{float(target.flops.max() / budget):6.3g}", *said, flush=True)
    return pd.DataFrame(rows)


def choose_settings(names: Sequence[str]) -> None:
    """Print the mean error of each of SETTINGS on the named tables, and of V-optimal design."""
    for misfit, reach in (*SETTINGS, (0.0, 0.0)):
        belief, form = (ours(misfit, reach), "auto") if misfit else (v_optimal, "chinchilla")
        errors = []
        for name in names:
            for pool, target, budget, _ in repeats(name):
                rows = replay(pool, target, budget, belief, form)
                options = FitOptions(form="auto", regime="auto", bootstrap=0)
                members = fit_members(rows, options, least_weight=LEAST_WEIGHT)
                centre = np.sum([m.weight * np.log(m.fit.predict(target)) for m in members], axis=0)
                errors.append(100 * float(np.mean(np.abs(centre - np.log(target.loss)))))
        said = f"misfit {misfit:g}, reach {reach:g}" if misfit else "V-opt"
        print(
            f"{said}: mean {np.mean(errors):.2f} (s.e. {np.std(errors) / np.sqrt(len(errors)):.2f}), median "
            f"{np.median(errors):.2f}, worst {np.max(errors):.2f}",
            flush=True,
        )


def main() -> None:
    """Print errors and widths by table and their means; without the published tables, say so and stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", action="store_true", help="choose the settings again")
    args = parser.parse_args()
    if not PUBLISHED.is_dir():
        print(f"the published tables are not at {PUBLISHED}: nothing is measured")
        return
    chosen_on = [name for name in tables() if name.startswith(CHOSEN_ON)]
    if args.settings:
        choose_settings(chosen_on)
        return
    for said, names in (
        ("reported on", [name for name in tables() if name not in chosen_on]),
        ("settings chosen on", chosen_on),
    ):
        print(f"\n{said} {len(names)} tables; error and half-width in % of loss (runs, targets inside)")
        frame = report(names)
        columns = [name for name in frame if name.endswith(("error", "half-width", "inside"))]
        print("each table once:     ", frame[columns].mean().round(2).to_dict())
        print("each publication once:", frame.groupby("source")[columns].mean().mean().round(2).to_dict())
        for other in ("V-opt", "random"):
            better = frame["ours error"] <= frame[f"{other} error"]
            print(f"ours no worse than {other} on {int(better.sum())} of {len(frame)} tables")


if __name__ == "__main__":
    main()
