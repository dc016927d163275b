"""Losses of runs that were not made: cost, discrepancy, intervals, compute-optimal sizes.

Axes: R resamples, n rows of the table, p parameters (as in `fitting`); m targets or held-out rows, s slopes of the
discrepancy, B budgets.
"""
