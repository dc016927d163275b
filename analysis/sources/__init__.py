"""Other people's runs: trackers, trainers' logs and harnesses, each read into runs or task scores.

A format is a module that ends in `SOURCE` and an entry of `registry`; `runs_table` makes the analysis' table.
"""
