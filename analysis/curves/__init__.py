"""Whole loss curves under their learning-rate schedules: laws, forecasts of schedules not trained, the collapse.

Axes: n evaluations, K equal steps of a fall of the rate, R resamples, m targets, s shares of a horizon.
"""
