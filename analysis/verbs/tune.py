"""`python -m analysis tune TABLE`: the best rate of every rung and horizon, and how far a rule was from it."""

import argparse
from typing import TYPE_CHECKING

from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tune`."""
    parser.add_argument(
        "--rule",
        default="",
        metavar="RATE",
        help="what a law's runs used: a column, a rate, or RATE/COLUMN (.3/d_model)",
    )
    parser.add_argument("--level", type=float, default=0.9, metavar="P", help="of the intervals (0.9)")
    parser.add_argument("--plots", metavar="FOLDER", help="write tune.svg and tune.png there")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Find the optima, and say so."""
    from analysis.forecasting.tune import tune

    found = tune(table, rule=args.rule, level=args.level)
    text = found.summary()
    if args.plots:
        # Matplotlib takes longer to import than the answer takes.
        from analysis.figures.tune import write_tuning

        text += "\n" + "\n".join(f"wrote {path}" for path in write_tuning(found, args.plots))
    return Answer(found.to_json(), text)
