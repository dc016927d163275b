"""The command line `python -m analysis VERB TABLE`: options common to the verbs, errors, exit codes.

What a verb does is in its module under `analysis.verbs`, imported only when it is asked for.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import keyword
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import UserError, as_command, nearest
from analysis.progress import Bars
from analysis.tables.atomic import as_json, check_target, write_text
from analysis.verbs.catalogue import VERBS

if TYPE_CHECKING:
    from analysis.tables.load import Kind

EXIT = "exit status: 0, or 2 with one line that says what is wrong and where"


@as_command()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 0, 2 with one line on stderr that says what is wrong and where, or 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        complete()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no × shows a question mark in its place.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        args = _parsed(argv)
        if args.json and args.json != "-":
            check_target("--json", Path(args.json))
        _whose_analysis()
        verb = importlib.import_module(_module(args.verb))
        kind: Kind | None = getattr(verb, "TABLE", "runs")
        # A verb that reads no table serves until it is stopped.
        with Bars(args.verb) if kind is not None else contextlib.nullcontext():
            answer = verb.run(_table(args, kind), args)
        if args.json:
            _write_json(args.json, answer.json)
        if args.json != "-":
            print(answer.text)
        sys.stdout.flush()
    except UserError as error:
        print(f"analysis: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("analysis: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `... | head` has read enough; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _table(args: argparse.Namespace, kind: "Kind | None") -> Any:
    """Read the table that a verb asks for, and say what was found wrong in it; None for a verb that reads none."""
    if kind is None:
        return None
    # pandas takes as long to import as most answers take
    load = importlib.import_module("analysis.tables.load")
    reading = {name: value for name, value in vars(args).items() if name in ("source_kind", "loss_at")}
    table = load.load_table(args.table, kind, args.columns, args.where, args.same, **reading)
    for problem in ([] if reading else table.attrs["took"]) + table.attrs["problems"]:
        print(f"analysis: note: {problem}", file=sys.stderr)
    return table


def complete() -> None:
    """Answer a shell that asks how the line goes on (argcomplete), and end."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(_parser(words[1] if len(words) > 1 else ""))


def _module(verb: str) -> str:
    return f"analysis.verbs.{verb}_" if keyword.iskeyword(verb) else f"analysis.verbs.{verb}"


def _command() -> str:
    """Return the command as it was typed, for examples and hints."""
    name = Path(sys.argv[0]).name
    return name if name == "lmscale-analysis" else "python -m analysis"


def _whose_analysis() -> None:
    """Say so where the working folder has another program of our name: `python -m analysis` would run that one."""
    for other in (Path("analysis.py"), Path("analysis/__init__.py"), Path("analysis/__main__.py")):
        if other.exists() and other.resolve().parent != Path(__file__).resolve().parent:
            print(
                f"analysis: note: {other} in this folder is another program; this is lmscale's, and the command "
                "lmscale-analysis always is",
                file=sys.stderr,
            )


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; a word that is none of ours is told with the nearest that is."""
    asked = argv[0] if argv else ""
    if asked and not asked.startswith("-") and asked not in VERBS:
        raise UserError(f"{asked}: no such verb; {nearest(asked, VERBS)}there are {', '.join(VERBS)}")
    parser = _parser(asked)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        word = unknown[0].partition("=")[0]
        if not word.startswith("-"):
            raise UserError(
                f"{args.verb}: {word}: one word too many; a value with blanks goes between quotes"
            )
        options = [name for name in parser.options if name.startswith("--")]
        meant = nearest(word, options).strip() or f"there are {', '.join(options)}"
        raise UserError(f"{args.verb}: {word}: no such option; {meant}")
    return args


def _parser(asked: str) -> "_Parser":
    """Make the parser, with the options of the verb that is asked for."""
    parser = _Parser(
        prog=_command(),
        description="Fits, forecasts and flags from a table of runs.",
        epilog=f"{_command()} VERB --help has its options and examples. {EXIT}",
    )
    parser.add_argument("--version", action="version", version=f"analysis {_version()}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, about in VERBS.items():
        examples = "\n".join(f"  {_command()} {line}" for line in about.examples)
        sub = subparsers.add_parser(
            name,
            help=about.what,
            description=about.what,
            epilog=f"examples:\n{examples}\n\n{EXIT}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == asked:
            _add_arguments(sub)
            importlib.import_module(_module(name)).add_arguments(sub)
            parser.options = list(sub._option_string_actions)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    table = "a run folder, a CSV, JSON or Parquet file, or an export of a tracker, trainer or harness"
    add("table", metavar="TABLE", help=table)
    add("--json", metavar="FILE", help="write the answer as JSON ('-' for stdout)")
    add("--columns", metavar="NAME=COLUMN,...", default="", help="e.g. params=N,tokens=D")
    add("--where", metavar="EXPRESSION", default="", help='rows to keep, e.g. "flops < 1e21"')
    same = "columns that must agree over all rows of a fit (science, for a run folder)"
    add("--same", metavar="COLUMN,...", default="", help=same)


def _version() -> str:
    try:
        return importlib.metadata.version("lmscale")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: read from its source)"


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line and no usage block. options: those of the verb that is asked for."""

    options: Sequence[str] = ()

    def error(self, message: str) -> Any:
        raise UserError(f"{message} (see `{self.prog} --help`)")


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
