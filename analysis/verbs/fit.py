"""`python -m analysis fit TABLE`: a scaling law with its intervals and warnings."""

import argparse

import pandas as pd

from analysis.fitting.fit import fit
from analysis.fitting.objective import LOSSES, SCALES
from analysis.laws.catalogue import FORMS
from analysis.verbs import Answer

HELP = "fit a scaling law"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fit`."""
    add_fit_options(parser, form="chinchilla", regime="all", level=0.95)
    parser.add_argument("--plots", metavar="FOLDER", help="write fit, residuals, profile and contours there")


def add_fit_options(parser: argparse.ArgumentParser, *, form: str, regime: str, level: float) -> None:
    """The options that `fit` and `extrapolate` share, with the defaults of the one that asks."""
    parser.add_argument("--form", default=form, metavar="NAME", help=f"{', '.join(FORMS)}, or auto ({form})")
    parser.add_argument("--loss", default="huber", metavar="NAME", help=f"{', '.join(LOSSES)} (huber)")
    parser.add_argument("--scale", default="log", metavar="NAME", help=f"{', '.join(SCALES)} (log)")
    parser.add_argument("--delta", type=float, default=1e-3, help="width of the Huber loss (1e-3)")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples (1000)")
    parser.add_argument(
        "--group", metavar="COLUMN", help="rows to resample together (group, where there is one)"
    )
    parser.add_argument(
        "--regime", default=regime, metavar="NAME", help=f"all, or auto: leave out a bend ({regime})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (0)")
    parser.add_argument("--level", type=float, default=level, help=f"of the intervals ({level})")
    parser.add_argument("--x", metavar="COLUMN", help="what a one-variable form reads (flops)")


def fit_options(args: argparse.Namespace) -> dict[str, object]:
    """The parsed options of `add_fit_options`, as keywords."""
    names = ("form", "loss", "scale", "delta", "bootstrap", "group", "regime", "seed", "level", "x")
    return {name: getattr(args, name) for name in names}


def run(table: pd.DataFrame, args: argparse.Namespace) -> Answer:
    """Fit, and say so."""
    fitted = fit(table, **fit_options(args))  # type: ignore[arg-type]
    text = fitted.summary()
    if args.plots:
        # Matplotlib takes longer to import than a fit takes.
        from analysis.figures.law import write_law_plots

        text += "\n" + "\n".join(f"wrote {path}" for path in write_law_plots(fitted, args.plots))
    return Answer(fitted.to_json(), text)
