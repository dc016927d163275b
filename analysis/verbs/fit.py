"""`python -m analysis fit TABLE`: a scaling law with its intervals and warnings."""

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from analysis.fitting.options import FitOptions
from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fit`."""
    add_fit_options(parser, FitOptions())
    parser.add_argument("--plots", metavar="FOLDER", help="write fit, residuals, profile and contours there")


def add_fit_options(
    parser: argparse.ArgumentParser, defaults: FitOptions, names: tuple[str, ...] = ()
) -> None:
    """Add an option for each field of `FitOptions` (or for `names` alone), with the defaults of the verb."""
    for field in fields(FitOptions):
        if names and field.name not in names:
            continue
        default = getattr(defaults, field.name)
        said = "" if default is None else f" ({default:g})" if isinstance(default, float) else f" ({default})"
        parser.add_argument(
            f"--{field.name}",
            default=default,
            type=field.metadata["type"] if default is None else type(default),
            metavar=field.metadata["metavar"],
            help=f"{field.metadata['help']}{said}",
        )


def fit_options(args: argparse.Namespace) -> dict[str, Any]:
    """Collect the parsed options of `add_fit_options`, as keywords."""
    names = {field.name for field in fields(FitOptions)}
    return {name: value for name, value in vars(args).items() if name in names}


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Fit, and say so."""
    from analysis.fitting.fit import fit

    fitted = fit(table, **fit_options(args))
    text = fitted.summary()
    if args.plots:
        # Matplotlib takes longer to import than a fit takes.
        from analysis.figures.law import write_law_plots

        text += "\n" + "\n".join(f"wrote {path}" for path in write_law_plots(fitted, args.plots))
    return Answer(fitted.to_json(), text)
