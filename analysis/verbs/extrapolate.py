"""`python -m analysis extrapolate TABLE --budget F`: the loss of runs that were not made."""

import argparse

import pandas as pd

from analysis.errors import UserError
from analysis.forecasting.forecast import extrapolate
from analysis.tables.load import load_table
from analysis.verbs import Answer
from analysis.verbs.fit import add_fit_options, fit_options

HELP = "predict the loss of larger runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `extrapolate`, and those of `fit`."""
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
    add_fit_options(parser, form="auto", regime="auto", level=0.9)


def run(table: pd.DataFrame, args: argparse.Namespace) -> Answer:
    """Fit, predict, and say so."""
    forecast = extrapolate(
        table,
        budgets=args.budget,
        at=[_point(text) for text in args.at],
        targets=load_table(args.targets, columns=args.columns, partial=True) if args.targets else None,
        **fit_options(args),  # type: ignore[arg-type]
    )
    return Answer(forecast.to_json(), forecast.summary())


def _point(text: str) -> dict[str, float]:
    """`params=1e9,tokens=2e10` as columns."""
    point = {}
    for item in text.split(","):
        name, equals, value = item.partition("=")
        try:
            point[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--at {text}: write NAME=NUMBER,..., e.g. --at params=1e9,tokens=2e10")
    return point
