"""What the forecasting verbs take where nothing is asked for. --help prints it: nothing heavy is imported here."""

from analysis.fitting.options import FitOptions

# The options of a fit where `extrapolate` and `design` differ from `fit`.
EXTRAPOLATED = FitOptions(form="auto", regime="auto", level=0.9)
# One recipe for every ladder, so that none is chosen after looking.
# The joint law on every row below the cut: on four ladders of the default design (docs/log.md, 2026-11-22) it
# missed the target by 1% or less. Choosing forms or regimes by hold-outs among so few rows missed by up to 21%.
RECIPE = FitOptions(form="chinchilla", regime="all", level=0.9)
# Ways to the compute-optimal sizes of `isoflop`.
METHODS = ("parabola", "envelope", "parametric")
# Runs of one candidate that `design` may choose.
MOST_SEEDS = 5
