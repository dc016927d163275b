"""`python -m analysis report TABLE`: one HTML file that opens offline, the answer first."""

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from analysis.verbs import Answer
from analysis.verbs.plots import add_out, out_folder, source_of

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where it goes."""
    add_out(parser)


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Write the page, and say its headline."""
    from analysis.report.page import report, summary, to_json

    path, told = report(table, source_of(args), out_folder(args), datetime.now(UTC).date())
    return Answer(to_json(told, path), summary(told, path))
