"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

from analysis.curves.curves import Curves, curves
from analysis.detection.emergence import Emergence, emergence
from analysis.errors import UserError, Warn
from analysis.fitting.fit import fit, fit_shared
from analysis.fitting.result import Fit
from analysis.forecasting.compare import Comparison, compare
from analysis.forecasting.design import Design, design
from analysis.forecasting.forecast import Forecast, extrapolate
from analysis.forecasting.isoflop import IsoFlop, isoflop
from analysis.forecasting.promise import Request, forecast
from analysis.forecasting.ranking import Ranking, compare_all
from analysis.forecasting.score import Verification, verify
from analysis.forecasting.tune import Tuning, tune
from analysis.laws.catalogue import own_form
from analysis.report.cite import Citation, cite
from analysis.tables.load import load_table

__all__ = [
    "Citation",
    "Comparison",
    "Curves",
    "Design",
    "Emergence",
    "Fit",
    "Forecast",
    "IsoFlop",
    "Ranking",
    "Request",
    "Tuning",
    "UserError",
    "Verification",
    "Warn",
    "cite",
    "compare",
    "compare_all",
    "curves",
    "design",
    "emergence",
    "extrapolate",
    "fit",
    "fit_shared",
    "forecast",
    "isoflop",
    "load_table",
    "own_form",
    "tune",
    "verify",
]
