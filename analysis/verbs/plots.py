"""`python -m analysis plots TABLE`: every picture of the report as SVG and PNG, its data as CSV and JSON."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report.source import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where they go."""
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the option that `plots` and `report` share."""
    parser.add_argument(
        "--out", metavar="FOLDER", help="where the files go (TABLE/report for a folder of runs)"
    )


def out_folder(args: argparse.Namespace) -> Path:
    """Return the folder to write into, made if it is not there."""
    from analysis.tables.load import is_run_folder

    if args.out is None and not is_run_folder(args.table):
        raise UserError(f"--out: name a folder for what is written about {args.table}, e.g. --out report")
    folder = Path(args.out) if args.out is not None else Path(args.table) / "report"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); name another") from None
    return folder


def source_of(args: argparse.Namespace) -> "Source":
    """Return the table as it was asked for, so that the answer can say how to ask again."""
    from analysis.report.source import Source

    return Source(args.table, args.columns, args.where, args.same, args.out or "")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Draw them all, and say which files were written."""
    from analysis.figures import style
    from analysis.report.beside import figures_in
    from analysis.report.findings import ladders
    from analysis.report.pictures import every_picture

    folder = out_folder(args)
    told = ladders(table, source_of(args))
    with style.styled():
        files = [
            path
            for shown in every_picture(told)
            for path in style.write(shown.figure, shown.data, figures_in(folder), shown.name)
        ]
    return Answer({"files": [str(path) for path in files]}, "\n".join(str(path) for path in files))
