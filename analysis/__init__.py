"""Scaling laws, forecasts and emergence from a table of runs: anybody's runs, no training code needed."""

from analysis.errors import UserError, Warn
from analysis.runs import load_table

__all__ = ["UserError", "Warn", "load_table"]
