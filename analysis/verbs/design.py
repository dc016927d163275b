"""`python -m analysis design TABLE --candidates FILE --at ... --budget F`: what to run next."""

import argparse
import math
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.forecasting.defaults import EXTRAPOLATED, MOST_SEEDS
from analysis.verbs import Answer
from analysis.verbs.extrapolate import point
from analysis.verbs.fit import add_fit_options, fit_options

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `design`, and those of `fit`."""
    parser.add_argument(
        "--candidates",
        metavar="FILE",
        help="runs that could be made (params, tokens, flops); without it they are TABLE, and nothing is measured",
    )
    parser.add_argument("--at", metavar="NAME=VALUE,...", help="the target: params=1e9,tokens=2e10")
    parser.add_argument(
        "--budget", type=float, default=math.inf, metavar="FLOPS", help="to be spent, in the cost's units"
    )
    parser.add_argument(
        "--width", type=float, default=0.0, metavar="W", help="half-width wanted: .03 is +-3%% of loss"
    )
    parser.add_argument("--cost-column", default="flops", metavar="COLUMN", help="what a run costs (flops)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=MOST_SEEDS,
        metavar="N",
        help=f"most runs of one candidate ({MOST_SEEDS})",
    )
    add_fit_options(parser, EXTRAPOLATED)


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Choose the runs, and say so."""
    from analysis.forecasting.design import design
    from analysis.tables.load import load_table

    if not args.at:
        raise UserError("nothing to aim at: give the target, --at params=NUMBER,tokens=NUMBER")
    candidates = table
    if args.candidates:
        candidates = load_table(args.candidates, columns=args.columns, partial=True)
    found = design(
        table if args.candidates else None,
        candidates,
        at=point(args.at, args.columns),
        budget=args.budget,
        width=args.width,
        cost_column=args.cost_column,
        most_seeds=args.seeds,
        **fit_options(args),
    )
    return Answer(found.to_json(), found.summary())
