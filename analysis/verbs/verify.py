"""`python -m analysis verify TABLE`: every registered forecast against what was measured."""

import argparse
from typing import TYPE_CHECKING

from analysis.verbs import Answer
from analysis.verbs.forecast import add_out, forecasts_folder

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    add_out(parser, "--forecasts")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Score, draw, and say so."""
    from analysis.forecasting.score import verify_table

    folder = forecasts_folder(args.table, args.forecasts)
    found = verify_table(args.table, table, folder)
    text = found.summary()
    if found.scores:
        # Matplotlib takes longer to import than the scores take.
        from analysis.figures.calibration import write_calibration

        text += "".join(f"\nwritten: {path}" for path in write_calibration(found, folder))
    return Answer(found.to_json(), text)
