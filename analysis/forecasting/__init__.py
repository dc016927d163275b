"""Losses of runs that were not made: cost, discrepancy, intervals, compute-optimal sizes."""
