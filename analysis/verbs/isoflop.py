"""`python -m analysis isoflop TABLE`: compute-optimal sizes and their exponents."""

import argparse
from typing import TYPE_CHECKING

from analysis.fitting.options import FitOptions
from analysis.forecasting.defaults import METHODS
from analysis.verbs import Answer
from analysis.verbs.fit import add_fit_options, fit_options

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `isoflop`, most of them `fit`'s."""
    parser.add_argument(
        "--method", default="parabola", metavar="NAME", help=f"{', '.join(METHODS)} (parabola)"
    )
    add_fit_options(parser, FitOptions(), ("bootstrap", "group", "seed", "level"))


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Find the optima, and say so."""
    from analysis.forecasting.isoflop import isoflop

    found = isoflop(table, method=args.method, **fit_options(args))
    return Answer(found.to_json(), found.summary())
