"""`python -m analysis verify TABLE`: every registered forecast against what was measured."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.forecasting.score import verify
from analysis.tables.begun import first_steps
from analysis.tables.load import is_run_folder, load_table
from analysis.verbs import Answer
from analysis.verbs.forecast import add_out, forecasts_folder, tasks_of

HELP = "score registered forecasts against the runs they were of"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    add_out(parser, "--forecasts")


def run(table: pd.DataFrame, args: argparse.Namespace) -> Answer:
    """Score, draw, and say so."""
    folder = forecasts_folder(args.table, args.forecasts)

    def source(said: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame | None] | None:
        path = folder / said["table"] if "table" in said else None
        if path is None or not path.exists():
            return None
        made_of = load_table(path, columns=said["columns"], where=said["where"], same=said["same"])
        return made_of, tasks_of(str(path))

    began = first_steps(Path(args.table)) if is_run_folder(args.table) else {}
    found = verify(folder, table, tasks=tasks_of(args.table), began=began, source=source)
    text = found.summary()
    if found.scores:
        # Matplotlib takes longer to import than the scores take.
        from analysis.figures.calibration import write_calibration

        text += "".join(f"\nwritten: {path}" for path in write_calibration(found, folder))
    return Answer(found.to_json(), text)
