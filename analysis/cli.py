"""The command line `python -m analysis VERB TABLE`: options common to the verbs, errors, exit codes.

What a verb does is in its module under `analysis.verbs`, imported only when it is asked for.
"""

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import UserError
from analysis.tables.atomic import as_json, write_text
from analysis.tables.load import Kind, load_table

VERBS = (
    "fit",
    "extrapolate",
    "isoflop",
    "curves",
    "tune",
    "design",
    "compare",
    "emergence",
    "forecast",
    "verify",
    "plots",
    "report",
    "cite",
    "watch",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 0, or 2 with one line on stderr that says what is wrong and where."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no × shows a question mark in its place.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        args = _parser(argv).parse_args(argv)
        _check_target(args.json)
        verb = importlib.import_module(f"analysis.verbs.{args.verb}")
        kind: Kind | None = getattr(verb, "TABLE", "runs")
        table = pd.DataFrame()
        if kind is not None:
            table = load_table(args.table, kind, args.columns, args.where, args.same)
        for problem in table.attrs.get("problems", ()):
            print(f"analysis: note: {problem}", file=sys.stderr)
        answer = verb.run(table, args)
        if args.json:
            _write_json(args.json, answer.json)
        if args.json != "-":
            print(answer.text)
        sys.stdout.flush()
    except UserError as error:
        print(f"analysis: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `... | head` has read enough; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="analysis", description="Fits, forecasts and flags from a table of runs.")
    parser.add_argument("--version", action="version", version=f"analysis {_version()}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asked = argv[0] if argv else ""
    for name in VERBS:
        # Importing a verb costs up to a second (scipy, matplotlib): only the one that was asked for is.
        wanted = importlib.import_module(f"analysis.verbs.{name}") if name == asked else None
        sub = subparsers.add_parser(name, help=wanted.HELP if wanted else None, add_help=True)
        sub.add_argument("table", metavar="TABLE", help="a run folder, or a CSV, JSON or Parquet file")
        sub.add_argument("--json", metavar="FILE", help="write the answer as JSON ('-' for stdout)")
        sub.add_argument("--columns", metavar="NAME=COLUMN,...", default="", help="e.g. params=N,tokens=D")
        sub.add_argument(
            "--where", metavar="EXPRESSION", default="", help='rows to keep, e.g. "flops < 1e21"'
        )
        sub.add_argument(
            "--same",
            metavar="COLUMN,...",
            default="",
            help="columns that must agree over all rows of a fit (science, for a run folder)",
        )
        if wanted:
            wanted.add_arguments(sub)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("lmscale")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: read from its source)"


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line and no usage block."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message} (see `python -m {self.prog} --help`)")


def _check_target(target: str | None) -> None:
    """Raise UserError, before any work, where the answer could not be written."""
    if not target or target == "-":
        return
    path = Path(target)
    if not path.parent.is_dir():
        raise UserError(f"--json {target}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise UserError(f"--json {target}: a folder; name a file in it")


def _write_json(target: str, answer: Any) -> None:
    text = as_json(answer)
    path = Path(target)
    try:
        if target == "-":
            sys.stdout.write(text)
        elif path.exists() and not path.is_file():
            # A pipe or a device is written to, never replaced.
            path.write_text(text)
        else:
            write_text(path, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"--json {target}: cannot be written ({error.strerror}); name another") from None
