"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

from analysis.emergence import Emergence, emergence
from analysis.errors import UserError, Warn
from analysis.fit import Fit, fit
from analysis.forecast import Forecast, extrapolate
from analysis.forms import own_form
from analysis.isoflop import IsoFlop, isoflop
from analysis.runs import load_table

__all__ = [
    "Emergence",
    "Fit",
    "Forecast",
    "IsoFlop",
    "UserError",
    "Warn",
    "emergence",
    "extrapolate",
    "fit",
    "isoflop",
    "load_table",
    "own_form",
]
