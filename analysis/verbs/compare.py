"""`python -m analysis compare A B`: does what helps a small model help a large one?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd

    from analysis.forecasting.compare import Comparison
    from analysis.forecasting.ranking import Ranking
    from analysis.forecasting.thresholds import Moved

# Draws of a task's tests: enough for a least p of a thousandth.
TASK_DRAWS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument(
        "others", metavar="B", nargs="*", help="the tables of the recipes compared with TABLE"
    )
    parser.add_argument(
        "--by", metavar="FIELD", default="", help="a column, or a field such as optim.kind, that splits TABLE"
    )
    parser.add_argument(
        "--target", type=float, action="append", default=[], metavar="FLOPS", help="compute beyond the tables"
    )
    parser.add_argument(
        "--differs",
        metavar="FIELD,...",
        default="",
        help="in what the recipes are meant to differ (optim.kind)",
    )
    parser.add_argument("--level", type=float, default=0.9, metavar="P", help="of the intervals (0.9)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument("--plots", metavar="FOLDER", help="write compare.svg and compare.png there")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Compare, and say so."""
    from analysis.forecasting.compare import compare
    from analysis.forecasting.ranking import compare_all

    tables = _split(table, args.by, args.others) if args.by else _loaded(table, args)
    differs = [name.strip() for name in args.differs.split(",") if name.strip()]
    if args.by and not differs and args.by not in table:
        differs = [args.by]
    found: Comparison | Ranking
    if len(tables) > 2:
        ranked = compare_all(tables, targets=args.target, differs=differs, level=args.level, seed=args.seed)
        found, best = ranked, ranked.comparisons[0]
    else:
        (a, first), (b, second) = tables.items()
        tasks = (
            () if args.by else _tasks((args.table, first), (args.others[0], second), args.level, args.seed)
        )
        best = found = compare(
            first,
            second,
            targets=args.target,
            names=(a, b),
            differs=differs,
            tasks=tasks,
            level=args.level,
            seed=args.seed,
        )
    text = found.summary()
    if args.plots:
        # Matplotlib takes longer to import than the answer takes.
        from analysis.figures.compare import write_comparison

        text += "\n" + "\n".join(f"wrote {path}" for path in write_comparison(best, args.plots))
    return Answer(found.to_json(), text)


def _loaded(table: "pd.DataFrame", args: argparse.Namespace) -> "dict[str, pd.DataFrame]":
    from analysis.forecasting.recipes import with_seconds
    from analysis.tables.load import is_run_folder, load_table

    if not args.others:
        raise UserError(
            "one table: name another (analysis compare A B), or a column that splits it (--by COLUMN)"
        )
    sources = [args.table, *args.others]
    loaded = [table, *(load_table(s, "runs", args.columns, args.where, args.same) for s in args.others)]
    names = [Path(source).name or source for source in sources]
    if len(set(names)) < len(names):
        names = [str(source) for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"{' '.join(sources)}: a table is named twice; give every recipe its own")
    return {
        name: with_seconds(t, Path(source)) if is_run_folder(source) else t
        for name, t, source in zip(names, loaded, sources, strict=True)
    }


def _split(table: "pd.DataFrame", by: str, others: list[str]) -> "dict[str, pd.DataFrame]":
    """Split a table by a column, or by a field of its runs' sciences; the first value is the baseline."""
    from analysis.tables.science import COLUMN
    from analysis.tables.where import no_such_column

    if others:
        raise UserError(
            f"--by {by}: splits one table, and {' '.join(others)} is given besides; give one or the other"
        )
    about = table.attrs.get("sciences", {})
    if by in table:
        value = table[by]
    elif any(by in said for said in about.values()):
        value = table[COLUMN].map(lambda label: about.get(label, {}).get(by, "none"))
    else:
        raise no_such_column(
            by, [*table.columns, *{n: 0 for said in about.values() for n in said}], f"--by {by}"
        )
    found = {}
    for name in value.dropna().unique():
        found[str(name)] = table[value == name]
        found[str(name)].attrs = table.attrs
    if len(found) < 2:
        raise UserError(f"--by {by}: it has one value ({', '.join(found)}); a comparison needs two")
    return found


def _tasks(
    first: "tuple[str, pd.DataFrame]", second: "tuple[str, pd.DataFrame]", level: float, seed: int
) -> "tuple[Moved, ...]":
    """The thresholds of the runs that are compared, for two folders with tasks."""
    from analysis.detection.emergence import emergence
    from analysis.forecasting.thresholds import moved_thresholds
    from analysis.tables.load import tasks_of

    tables = []
    for source, runs in (first, second):
        scores = tasks_of(source)
        if scores is None or "run_id" not in runs:
            return ()
        tables.append(scores[scores["run_id"].isin(runs["run_id"])])
    try:
        found = [emergence(scores, level=level, seed=seed, draws=TASK_DRAWS) for scores in tables]
    except UserError:
        # Runs of several sciences, or sizes too few for a curve: the losses are compared all the same.
        return ()
    return moved_thresholds(*found)
