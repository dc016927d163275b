"""Compare recipes as docs/compare.md does: each tuned at two rungs, trained over a ladder, and trained again.

    python -m benchmarks.recipes train gelu
    python -m benchmarks.recipes train swiglu family.kind=swiglu
    python -m benchmarks.recipes train lion optim=lion
    python -m benchmarks.recipes table swiglu/gelu lion/gelu            rows of docs/compare.md, B/A
    python -m benchmarks.recipes keep losses.csv                        the losses of all that was trained
    python -m benchmarks.recipes table swiglu/gelu --kept losses.csv    the same rows without seconds

The rule, written down before the first run: text alone, four heads, d 8 to 32, .9 and 1.8 million tokens. Rates of
.5, 1, 2, 4 and 8 times the transfer rule's are tried at d 16 and 32 with seed 300, and further ones while the best
is at an edge; the factor with the least sum of losses at 1.8 million tokens is that of the whole ladder, seeds 300
to 302, and of its repetition, seeds 310 to 312.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

from analysis import compare, load_table
from analysis.forecasting.compare import Comparison
from analysis.forecasting.recipes import with_seconds

FACTORS = (0.5, 1, 2, 4, 8)
TUNED_AT, TUNED_WITH = (16, 32), 300
LADDER, SEEDS, AGAIN = (8, 16, 24, 32), (300, 301, 302), (310, 311, 312)
SETTINGS = (
    "experiment=smoke",
    "tasks=none",
    "data.rows=14",
    "data.heldout_rows=1024",
    "one_seed=[]",
    "horizon={tokens:1.8e6,exponent:0,multiples:[.5,1]}",
    "evaluation.first_tokens=9e5",
    "evaluation.per_doubling=1",
    "schedule.warmup_steps=40",
    "plan=tune",
)
KEPT = (
    "recipe",
    "dial",
    "seed",
    "params",
    "params_active",
    "horizon_tokens",
    "tokens",
    "flops",
    "learning_rate",
    "loss",
    "group",
)
TARGET = 3e12  # FLOPs: seven times the largest run


def train(name: str, runs: Path, overrides: list[str]) -> None:
    """Train a recipe by the rule; what is there already is not trained again."""

    def sweep(folder: str, factors: tuple[float, ...], dial: tuple[int, ...], seed: tuple[int, ...]) -> None:
        lists = [("plan.factors", factors), ("dial", dial), ("seed", seed)]
        said = [f"{field}=[{','.join(f'{v:g}' for v in values)}]" for field, values in lists]
        command = [sys.executable, "-m", "lmscale.launch", f"name={folder}", f"runs={runs}"]
        subprocess.run([*command, *SETTINGS, *said, *overrides], check=True)

    tried = FACTORS
    while True:
        sweep(name, tried, TUNED_AT, (TUNED_WITH,))
        best = best_factor(runs / name, tried[0])
        if tried[0] < best < tried[-1]:
            break
        tried = (best / 2, *tried) if best == tried[0] else (*tried, 2 * best)
    sweep(name, (best,), LADDER, SEEDS)
    sweep(f"{name}_again", (best,), LADDER, AGAIN)


def best_factor(folder: Path, least_factor: float) -> float:
    """Return the factor of the rule's rate whose losses at the longer horizon have the least sum, and print all.
    least_factor: that of the lowest rate tried."""
    rows = finished(folder)
    rows = rows[rows["dial"].isin(TUNED_AT) & rows["seed"].eq(TUNED_WITH)]
    least = rows.groupby("dial")["learning_rate"].transform("min")
    rows = rows.assign(factor=(least_factor * rows["learning_rate"] / least).round(3))
    losses = rows.pivot_table("loss", ["dial", "horizon_tokens"], "factor")
    print(losses.round(4).to_string())
    longest = losses.index.get_level_values("horizon_tokens") == rows["horizon_tokens"].max()
    return float(str(losses[longest].sum().idxmin()))


def finished(folder: Path) -> pd.DataFrame:
    """Return the last rows of the runs that ended, of all rates."""
    table = load_table(folder)
    return table[table["final"]]


def losses_of(runs: Path) -> pd.DataFrame:
    """Return the finished runs of all recipes in a folder."""
    tables = []
    for folder in sorted({spec.parents[1] for spec in runs.glob("*/*/spec.json")}):
        tables.append(finished(folder).assign(recipe=folder.name).reindex(columns=KEPT))
    return pd.concat(tables).dropna(axis=1, how="all").sort_values(["recipe", "dial", "tokens", "seed"])


def compared(
    pair: str, again: str, runs: Path, kept: pd.DataFrame | None, differs: tuple[str, ...]
) -> Comparison:
    """Compare B with A of `B/A`, from their folders or from the losses that were kept."""
    tables = []
    for name in reversed([f"{recipe}{again}" for recipe in pair.split("/")]):
        if kept is None:
            table = with_seconds(load_table(runs / name), runs / name)
        else:
            table = kept[kept["recipe"] == name].dropna(axis=1, how="all").reset_index(drop=True)
        tables.append(table)
    b, a = pair.split("/")
    return compare(*tables, targets=[TARGET], names=(a, b), differs=differs)


def row(name: str, found: Comparison) -> str:
    """Write a line of the table in docs/compare.md."""

    def said(value: float, lower: float, upper: float) -> str:
        return f"{value:.2f} [{lower:.2f}, {upper:.2f}]"

    near, far = found.multipliers[found.observed - 1], found.multipliers[-1]
    seconds = found.seconds.multipliers[-1] if found.seconds else None
    warned = ", ".join(dict.fromkeys(str(w.code) for w in found.warnings if w.code.grave))
    cells = [
        name,
        said(near.value, near.lower, near.upper),
        said(far.value, far.lower, far.upper),
        "x " + said(*found.trend),
        f"{found.probability_ahead:.2f}",
        "no" if found.crossing is None else f"{found.crossing['flops']:.1e}",
        said(seconds.value, seconds.lower, seconds.upper) if seconds else "-",
        " and ".join({True: "yes", False: "no", None: "-"}[v] for v in found.tuned.values()),
        found.verdict.replace("_", " ") + (f" ({warned})" if warned else ""),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train a recipe, print rows of the table, or keep the losses."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["train", "table", "keep"])
    parser.add_argument("words", nargs="+", help="a name and overrides; pairs B/A; a CSV file")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--kept", type=Path, help="a CSV file of losses in place of run folders")
    parser.add_argument("--differs", default="", help="fields in which the recipes are meant to differ")
    args = parser.parse_args()
    differs = tuple(name for name in args.differs.split(",") if name)
    if args.what == "train":
        return train(args.words[0], args.runs, args.words[1:])
    if args.what == "keep":
        return losses_of(args.runs).to_csv(args.words[0], index=False)
    kept = pd.read_csv(args.kept) if args.kept else None
    for pair in args.words:
        first, again = (compared(pair, mark, args.runs, kept, differs) for mark in ("", "_again"))
        interval, found = first.multipliers[first.observed - 1], again.multipliers[again.observed - 1]
        held = interval.lower <= found.value <= interval.upper
        print(row(pair, first))
        print(row("again: " + ("inside" if held else "outside"), again), flush=True)
    return None


if __name__ == "__main__":
    main()
