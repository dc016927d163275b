"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

from analysis.detection.emergence import Emergence, emergence
from analysis.errors import UserError, Warn
from analysis.fitting.fit import fit
from analysis.fitting.result import Fit
from analysis.forecasting.design import Design, design
from analysis.forecasting.forecast import Forecast, extrapolate
from analysis.forecasting.isoflop import IsoFlop, isoflop
from analysis.forecasting.tune import Tuning, tune
from analysis.laws.catalogue import own_form
from analysis.tables.load import load_table

__all__ = [
    "Design",
    "Emergence",
    "Fit",
    "Forecast",
    "IsoFlop",
    "Tuning",
    "UserError",
    "Warn",
    "design",
    "emergence",
    "extrapolate",
    "fit",
    "isoflop",
    "load_table",
    "own_form",
    "tune",
]
