"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

import importlib
import sys
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

# What `from analysis import fit` gives, and where it stands: imported when it is asked for, for pandas, scipy and
# matplotlib take more than a second.
_HOMES = {
    "Curves": "analysis.curves.curves",
    "curves": "analysis.curves.curves",
    "Emergence": "analysis.detection.emergence",
    "emergence": "analysis.detection.emergence",
    "UserError": "analysis.errors",
    "Warn": "analysis.errors",
    "fit": "analysis.fitting.fit",
    "fit_shared": "analysis.fitting.fit",
    "Fit": "analysis.fitting.result",
    "Comparison": "analysis.forecasting.compare",
    "compare": "analysis.forecasting.compare",
    "Design": "analysis.forecasting.design",
    "design": "analysis.forecasting.design",
    "Forecast": "analysis.forecasting.forecast",
    "extrapolate": "analysis.forecasting.forecast",
    "IsoFlop": "analysis.forecasting.isoflop",
    "isoflop": "analysis.forecasting.isoflop",
    "Request": "analysis.forecasting.promise",
    "forecast": "analysis.forecasting.promise",
    "Ranking": "analysis.forecasting.ranking",
    "compare_all": "analysis.forecasting.ranking",
    "Verification": "analysis.forecasting.score",
    "verify": "analysis.forecasting.score",
    "Tuning": "analysis.forecasting.tune",
    "tune": "analysis.forecasting.tune",
    "own_form": "analysis.laws.catalogue",
    "Citation": "analysis.report.cite",
    "cite": "analysis.report.cite",
    "load_table": "analysis.tables.load",
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
