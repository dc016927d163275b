"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.curves.curves import Curves as Curves
    from analysis.curves.curves import curves as curves
    from analysis.detection.emergence import Emergence as Emergence
    from analysis.detection.emergence import emergence as emergence
    from analysis.errors import UserError as UserError
    from analysis.errors import Warn as Warn
    from analysis.fitting.fit import fit as fit
    from analysis.fitting.fit import fit_shared as fit_shared
    from analysis.fitting.result import Fit as Fit
    from analysis.forecasting.compare import Comparison as Comparison
    from analysis.forecasting.compare import compare as compare
    from analysis.forecasting.design import Design as Design
    from analysis.forecasting.design import design as design
    from analysis.forecasting.forecast import Forecast as Forecast
    from analysis.forecasting.forecast import extrapolate as extrapolate
    from analysis.forecasting.isoflop import IsoFlop as IsoFlop
    from analysis.forecasting.isoflop import isoflop as isoflop
    from analysis.forecasting.promise import Request as Request
    from analysis.forecasting.promise import forecast as forecast
    from analysis.forecasting.ranking import Ranking as Ranking
    from analysis.forecasting.ranking import compare_all as compare_all
    from analysis.forecasting.score import Verification as Verification
    from analysis.forecasting.score import verify as verify
    from analysis.forecasting.tune import Tuning as Tuning
    from analysis.forecasting.tune import tune as tune
    from analysis.laws.catalogue import own_form as own_form
    from analysis.report.cite import Citation as Citation
    from analysis.report.cite import cite as cite
    from analysis.tables.load import load_table as load_table

# `from analysis import fit` imports what it asks for and no more, for pandas, scipy and matplotlib take more than a
# second. The list above is the only one: type checkers read it, and so does this.
_HOMES = {
    alias.name: str(node.module)
    for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
    if alias.asname
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Package(ModuleType):
    """`curves` is a function here and a folder too: importing from the folder leaves the function in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
