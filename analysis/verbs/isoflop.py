"""`python -m analysis isoflop TABLE`: compute-optimal sizes and their exponents."""

import argparse

import pandas as pd

from analysis.forecasting.isoflop import METHODS, isoflop
from analysis.verbs import Answer

HELP = "compute-optimal params and tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `isoflop`."""
    parser.add_argument(
        "--method", default="parabola", metavar="NAME", help=f"{', '.join(METHODS)} (parabola)"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples (1000)")
    parser.add_argument(
        "--group", metavar="COLUMN", help="rows to resample together (group, where there is one)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (0)")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (0.95)")


def run(table: pd.DataFrame, args: argparse.Namespace) -> Answer:
    """Find the optima, and say so."""
    found = isoflop(
        table,
        method=args.method,
        bootstrap=args.bootstrap,
        group=args.group,
        seed=args.seed,
        level=args.level,
    )
    return Answer(found.to_json(), found.summary())
