"""`python -m analysis forecast TABLE --at params=...,tokens=...`: a prediction registered before its run."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.forecasting.defaults import RECIPE
from analysis.verbs import Answer
from analysis.verbs.extrapolate import point
from analysis.verbs.fit import add_fit_options, fit_options

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `forecast`, and those of `fit`."""
    request = parser.add_mutually_exclusive_group(required=True)
    request.add_argument("--at", metavar="NAME=VALUE,...", help="params=1e9,tokens=2e10")
    request.add_argument(
        "--rung", metavar="DIAL[,TOKENS]", help="a planned rung of a run folder (longest horizon)"
    )
    request.add_argument("--run", metavar="RUN_ID", help="a planned run of a run folder")
    request.add_argument("--budget", type=float, metavar="FLOPS", help="compute, split for the least loss")
    parser.add_argument(
        "--cut",
        type=float,
        metavar="FACTOR",
        help="use runs of at most 1/FACTOR of the target's compute (all)",
    )
    add_out(parser, "--out")
    add_fit_options(parser, RECIPE)


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the option that says where forecasts are."""
    parser.add_argument(
        name, metavar="FOLDER", help="where the forecasts are (TABLE/forecasts, or forecasts beside a file)"
    )


def forecasts_folder(table: str, given: str | None) -> Path:
    """Return the folder of a table's forecasts."""
    if given:
        return Path(given)
    path = Path(table)
    return (path if path.is_dir() else path.parent) / "forecasts"


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Forecast, register, and say so."""
    from analysis.forecasting.promise import Request, promise
    from analysis.forecasting.registry import head, register
    from analysis.tables.load import load_table, tasks_of

    folder = forecasts_folder(args.table, args.out)
    source = {
        "table": os.path.relpath(args.table, folder),
        **{name: getattr(args, name) for name in ("columns", "where", "same")},
    }
    request = Request(
        at=point(args.at, args.columns) if args.at else None,
        budget=args.budget,
        rung=_rung(args.rung) if args.rung else None,
        run=args.run,
    )
    # A filter of the rows to use may leave out the run that is planned.
    plans = load_table(args.table, columns=args.columns) if args.where else table
    tasks = tasks_of(args.table)
    content = promise(
        table, request, cut=args.cut, tasks=tasks, plans=plans, source=source, **fit_options(args)
    )
    made, before = register(folder, content)
    (target,) = made["targets"]
    low, high = target["intervals"]["0.9"]
    floor = made["floor"]
    said = [task for task in target["tasks"] if task["accuracy"] is not None]
    lines = [
        f"{'registered before' if before else 'registered'} {made['registered_at']}: {folder / made['id']}.json",
        f"params {target['params']:.4g}, tokens {target['tokens']:.4g}, {target['flops']:.4g} FLOPs, "
        f"{made['flops_ratio']:.3g} times the largest run used",
        f"loss {target['loss']:.4f} [{low:.4f}, {high:.4f}] 90%; {target['status']}; {made['form']}, "
        f"floor {floor['kind']}",
        f"rows: {made['rule']}",
    ]
    if target["tasks"]:
        lines.append(f"tasks: {len(said)} forecast, {len(target['tasks']) - len(said)} cannot be said")
    lines += [f"{warn['code']}: {warn['message']}" for warn in made["warnings"]]
    lines.append(
        f"last line of the log: {head(folder)[:16]} (keep it elsewhere to show that none was rewritten)"
    )
    return Answer(made, "\n".join(lines))


def _rung(text: str) -> tuple[float, float | None]:
    """Read DIAL[,TOKENS]."""
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UserError(f"--rung {text}: write DIAL or DIAL,TOKENS, e.g. --rung 128,7.2e6")
    return numbers[0], numbers[1] if len(numbers) > 1 else None
