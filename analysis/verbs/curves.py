"""`python -m analysis curves TABLE`: laws of whole loss curves, forecasts of other schedules, the collapse."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `curves`."""
    add = parser.add_argument
    add(
        "--at",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="an end to predict: params=1e6,tokens=2e8[,schedule=cosine][,decay_share=.1][,seed=0]",
    )
    add(
        "--schedule",
        default="",
        metavar="NAME=VALUE,...",
        help="columns that the table lacks, the same for all rows",
    )
    add("--bootstrap", type=int, default=100, help="resamples of runs (100)")
    add("--seed", type=int, default=0, help="of the resamples (0)")
    add("--level", type=float, default=0.9, help="of the intervals (0.9)")
    add("--pictures", metavar="FOLDER", help="draw the curves and their collapse there")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Fit, predict, and say so."""
    from analysis.curves.curves import curves

    if args.pictures and not Path(args.pictures).is_dir():
        raise UserError(f"--pictures {args.pictures}: no such folder")
    found = curves(
        table,
        at=[pairs(text, "--at") for text in args.at],
        schedule=pairs(args.schedule, "--schedule"),
        bootstrap=args.bootstrap,
        seed=args.seed,
        level=args.level,
    )
    text = found.summary()
    if args.pictures:
        # Matplotlib takes longer to import than a fit takes.
        from analysis.figures.curves import write_curves

        text += "".join(f"\nwritten: {path}" for path in write_curves(found, Path(args.pictures)))
    return Answer(found.to_json(), text)


def pairs(text: str, option: str) -> dict[str, str]:
    """Read NAME=VALUE,... into a dict."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not equals or not value.strip() for _, equals, value in pairs):
        raise UserError(f"{option} {text}: write NAME=VALUE,NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}
