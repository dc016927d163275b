"""Other people's runs: trackers, trainers' logs and harnesses, each read into runs or task scores.

A format is a module with `recognises` and `read`, and an entry of `kinds`; `runs_table` makes the analysis' table.
"""
