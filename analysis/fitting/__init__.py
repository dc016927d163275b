"""Fits of a law to a table: observations, objective, search, resamples, hold-outs, diagnostics.

Axes, in every annotation of this wing and of `forecasting`:

S  independent problems (starts x resamples) that are moved at once     R  resamples or weightings of the rows
n  rows of the table                                                    p  parameters, internal or reported
G  grid points     q  parameters that the grid is over     m  linear coefficients, or targets (`forecasting`)
k  terms of a sum of powers, or starts of a resample
"""
