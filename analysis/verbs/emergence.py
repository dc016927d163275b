"""`python -m analysis emergence TABLE`: the class of every task over size."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd

TABLE = "tasks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--min-effect", type=float, default=0.05, help="the least change of score that matters (0.05)")
    add("--fdr", type=float, default=0.05, help="false-discovery level of the emergent calls (0.05)")
    add("--level", type=float, default=0.9, help="level of the threshold's interval (0.9)")
    add("--draws", type=int, default=8000, help="most bootstrap draws a test may take (8000)")
    add("--seed", type=int, default=0, help="of the bootstrap (0)")
    metrics = "of these metrics (tasks, where the table names no metric), whose names do not say it"
    add("--lower-is-better", metavar="METRIC,...", default="", help=f"less is better {metrics}")
    add("--higher-is-better", metavar="METRIC,...", default="", help=f"more is better {metrics}")
    add("--pictures", metavar="FOLDER", help="draw the curves, the twins and the scores against loss there")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    from analysis.detection.emergence import emergence
    from analysis.tables.run_folder import answer_lengths

    lengths = answer_lengths(Path(args.table)) if Path(args.table).is_dir() else None
    found = emergence(
        table,
        min_effect=args.min_effect,
        fdr=args.fdr,
        level=args.level,
        draws=args.draws,
        seed=args.seed,
        lengths=lengths,
        lower_is_better=_names(args.lower_is_better),
        higher_is_better=_names(args.higher_is_better),
    )
    text = found.summary()
    if args.pictures:
        # Drawing is asked for seldom, and importing matplotlib takes as long as the classes do.
        from analysis.figures.tasks import write_pictures

        text += "".join(f"\nwritten: {path}" for path in write_pictures(found, Path(args.pictures)))
    return Answer(found.to_json(), text)


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())
