"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

from analysis.errors import UserError, Warn
from analysis.fit import Fit, fit
from analysis.forecast import Forecast, extrapolate
from analysis.forms import own_form
from analysis.isoflop import IsoFlop, isoflop
from analysis.runs import load_table

__all__ = [
    "Fit",
    "Forecast",
    "IsoFlop",
    "UserError",
    "Warn",
    "extrapolate",
    "fit",
    "isoflop",
    "load_table",
    "own_form",
]
