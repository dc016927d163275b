"""`python -m analysis cite TABLE`: what a paper that uses the fit must state, and the BibTeX of its law."""

import argparse
from dataclasses import replace

import pandas as pd

from analysis.fitting.options import FitOptions
from analysis.forecasting.target import RECIPE
from analysis.report.cite import cite
from analysis.report.source import Source
from analysis.verbs import Answer
from analysis.verbs.fit import add_fit_options, fit_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fit`, with the report's defaults."""
    add_fit_options(parser, replace(FitOptions(), form=RECIPE.form, regime=RECIPE.regime, level=RECIPE.level))


def run(table: pd.DataFrame, args: argparse.Namespace) -> Answer:
    """Fit, and say what must be stated."""
    said = cite(table, Source(args.table, args.columns, args.where, args.same), **fit_options(args))
    return Answer(said.to_json(), said.summary())
