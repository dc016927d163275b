"""Classes of task curves over size: flat, smooth, emergent, and what not to believe.

Axes, in docstrings and annotations:

    T  tasks (a variant and a metric each)      W  scatters from model to model, noise.SCATTER
    S  seeds                                    H  hypotheses, posterior.HYPOTHESES
    J  sizes, ascending                         L  shapes of the library; R of them rise
    B  draws of a bootstrap

x is the log of size, 0 at the smallest and 1 at the largest.

From a task's counts to its class: `curves` reads them, `noise` says how far a mean may be off, `shapes` are the
curves that it may follow, `posterior` says which are likely, `bootstrap` whether chance or a smooth curve could
have made it, `seeds` what each seed shows alone, `verdict` decides. `metrics`, `shortcut`, `twins`, `alignment`
and `take_off` say what a table has besides.
"""
