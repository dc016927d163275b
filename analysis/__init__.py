"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

from analysis.detection.emergence import Emergence, emergence
from analysis.errors import UserError, Warn
from analysis.fitting.fit import fit
from analysis.fitting.result import Fit
from analysis.forecasting.forecast import Forecast, extrapolate
from analysis.forecasting.isoflop import IsoFlop, isoflop
from analysis.forecasting.promise import Wish, forecast
from analysis.forecasting.score import Verification, verify
from analysis.laws.catalogue import own_form
from analysis.tables.load import load_table

__all__ = [
    "Emergence",
    "Fit",
    "Forecast",
    "IsoFlop",
    "UserError",
    "Verification",
    "Warn",
    "Wish",
    "emergence",
    "extrapolate",
    "fit",
    "forecast",
    "isoflop",
    "load_table",
    "own_form",
    "verify",
]
