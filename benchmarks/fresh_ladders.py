"""How good are forecasts of fresh ladders: seeds that chose nothing, each forecast from its own runs alone.

    python -m lmscale.launch experiment=ladders part=text name=fresh seed=[100,101,102] \\
        "target={dial:null,tokens:null,cuts:[],options:[]}"
    python -m lmscale.launch experiment=ladders part=text name=fresh seed=[100] dial=[88] horizon.most_flops=null \\
        "target={dial:null,tokens:null,cuts:[],options:[]}"
    python -m benchmarks.fresh_ladders runs/fresh --together 1 3

Every `--together` seeds are one ladder. Its targets are the runs of the widest rung, each forecast from the
ladder's runs of at most 1/10 and 1/30 of its compute. Few seeds of that rung serve the ladders in turn: those with
one target share its luck. Law and rows are the experiment's, written down before the first of these runs trained.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import load_table
from analysis.forecasting.forecast import extrapolate
from analysis.forecasting.score import binomial
from analysis.tables.finished import finished_rows

CUTS = (10.0, 30.0)
FEWEST = 6  # runs below a cut: a law of four parameters and two to spare
TEXT = {
    "floor": "prior",
    "floor_value": 1.05,
    "floor_error": 0.1,
    "floor_source": "the ladder of 25 November 2026",
}
KEPT = ("dial", "seed", "params", "params_nonembedding", "tokens", "flops", "loss", "floor_heldout")


def ladders(rows: pd.DataFrame, together: int) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Give the name, the runs and the targets of each ladder of `together` seeds."""
    top = rows["dial"].max()
    small, targets = rows[rows["dial"] < top], rows[rows["dial"] == top]
    seeds = sorted(int(seed) for seed in small["seed"].unique())
    for n in range(len(seeds) // together):
        mine = seeds[n * together : (n + 1) * together]
        there = sorted(targets["seed"].unique())
        of = targets[targets["seed"].isin([s for s in mine if s in there] or [there[n % len(there)]])]
        yield "+".join(map(str, mine)), small[small["seed"].isin(mine)], of


def judged(
    rows: pd.DataFrame, target: "pd.Series[Any]", cut: float, options: Mapping[str, Any]
) -> dict[str, float]:
    """Forecast one target from the rows below a cut, and compare."""
    used = rows[rows["flops"] <= target["flops"] / cut * 1.005].reset_index(drop=True)
    point = {name: float(target[name]) for name in ("params", "tokens", "flops")}
    made = extrapolate(used, at=[point], regime="all", form="auto", level=0.9, **options)
    (said,) = made.predictions
    floor = made.fit.to_json()["floor"]
    return {
        "runs": len(used),
        "error": 100 * (said.loss / target["loss"] - 1),
        "half": 50 * (said.upper - said.lower) / said.loss,
        "inside": said.lower <= target["loss"] <= said.upper,
        "E": floor.get("value") or np.nan,
    }


def summary(found: Sequence[Mapping[str, float]]) -> str:
    """One line: errors, widths and the share inside."""
    table = pd.DataFrame(found)
    count, n = int(table["inside"].sum()), len(table)
    low, high = binomial(count, n)
    return (
        f"{n} forecasts: mean |error| {table['error'].abs().mean():.2f}%, bias {table['error'].mean():+.2f}%, "
        f"median 90% half-width {table['half'].median():.1f}%, {count} inside "
        f"({100 * count / n:.0f}%, binomial {100 * low:.0f} to {100 * high:.0f}%)"
    )


def main() -> None:
    """Print a line a forecast, and one a cut."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, help="a folder of runs, or the CSV that --keep wrote")
    parser.add_argument("--together", type=int, nargs="+", default=[1], help="seeds a ladder")
    parser.add_argument(
        "--known", type=float, metavar="NATS", help="the floor of a text that has a known one"
    )
    parser.add_argument("--free", action="store_true", help="leave the floor free")
    parser.add_argument("--keep", type=Path, metavar="CSV", help="write the finished runs there")
    args = parser.parse_args()
    rows, _ = finished_rows(load_table(args.table))
    if args.keep:
        kept = rows[[name for name in KEPT if name in rows]]
        kept.sort_values(["dial", "tokens", "seed"]).to_csv(args.keep, index=False)
    options: dict[str, Any] = {} if args.free else TEXT
    if args.known is not None:
        options = {"floor": "known", "floor_value": args.known, "floor_source": "the text's source"}
    rows = rows.assign(params=rows["params_nonembedding"])
    rows = rows[[name for name in (*KEPT, "group") if name in rows and name != "floor_heldout"]]
    for together in args.together:
        found: dict[float, list[dict[str, float]]] = {cut: [] for cut in CUTS}
        for name, runs, targets in ladders(rows, together):
            for _, target in targets[targets["tokens"] > 3e6].iterrows():
                for cut in CUTS:
                    if (runs["flops"] <= target["flops"] / cut).sum() < FEWEST:
                        continue
                    one = judged(runs, target, cut, options)
                    found[cut].append(one)
                    print(
                        f"{name:>12} {target['tokens'] / 1e6:4.1f}M C/{cut:<3g} {one['runs']:3d} runs "
                        f"{one['error']:+6.2f}% +- {one['half']:5.1f}% {'in' if one['inside'] else 'OUT'}",
                        flush=True,
                    )
        for cut in (cut for cut in CUTS if found[cut]):
            print(f"{together} seeds, C/{cut:g}: {summary(found[cut])}", flush=True)


if __name__ == "__main__":
    main()
