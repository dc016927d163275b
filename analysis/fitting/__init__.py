"""Fits of a law to a table: observations, objective, search, resamples, hold-outs, diagnostics."""
