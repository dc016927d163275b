"""`python -m analysis cite TABLE`: what a paper that uses the fit must state, and the BibTeX of its law."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.fitting.options import FitOptions
from analysis.forecasting.defaults import RECIPE
from analysis.verbs import Answer
from analysis.verbs.fit import add_fit_options, fit_options

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fit`, with the report's defaults."""
    add_fit_options(parser, replace(FitOptions(), form=RECIPE.form, regime=RECIPE.regime, level=RECIPE.level))


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Fit, and say what must be stated."""
    from analysis.report.cite import cite
    from analysis.report.source import Source

    said = cite(table, Source(args.table, args.columns, args.where, args.same), **fit_options(args))
    return Answer(said.to_json(), said.summary())
