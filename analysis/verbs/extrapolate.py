"""`python -m analysis extrapolate TABLE --budget F`: the loss of runs that were not made."""

import argparse
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.forecasting.defaults import EXTRAPOLATED
from analysis.verbs import Answer
from analysis.verbs.fit import add_fit_options, fit_options

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `extrapolate`, and those of `fit`."""
    parser.add_argument(
        "--budget",
        type=float,
        action="append",
        default=[],
        metavar="FLOPS",
        help="compute, split for the least loss",
    )
    parser.add_argument(
        "--at", action="append", default=[], metavar="NAME=VALUE,...", help="params=1e9,tokens=2e10"
    )
    parser.add_argument("--targets", metavar="FILE", help="a table of runs to predict (params, tokens)")
    add_fit_options(parser, EXTRAPOLATED)


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Fit, predict, and say so."""
    from analysis.forecasting.forecast import extrapolate
    from analysis.tables.load import load_table

    forecast = extrapolate(
        table,
        budgets=args.budget,
        at=[point(text, args.columns) for text in args.at],
        # The future has no loss: columns that are not there are passed over.
        targets=load_table(args.targets, columns=args.columns, partial=True) if args.targets else None,
        **fit_options(args),
    )
    return Answer(forecast.to_json(), forecast.summary())


def point(text: str, columns: str) -> dict[str, float]:
    """Read `params=1e9,tokens=2e10` as columns, under their own names or those that --columns renames."""
    import pandas as pd

    from analysis.tables.renaming import parse_columns

    point = {}
    for item in text.split(","):
        name, equals, value = item.partition("=")
        try:
            point[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--at {text}: write NAME=NUMBER,..., e.g. --at params=1e9,tokens=2e10")
    renames = parse_columns(columns, pd.DataFrame(columns=list(point)), partial=True) if columns else {}
    names = {column: name for name, column in renames.items()}
    return {names.get(name, name): value for name, value in point.items()}
