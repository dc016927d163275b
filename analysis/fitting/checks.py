"""Whether rows can carry a law at all: what is refused, and what is said before anything is fitted."""

import numpy as np

from analysis.errors import Code, UserError, Warn
from analysis.fitting.observations import Observations
from analysis.laws.law import Form


def check_enough(observations: Observations, form: Form) -> tuple[Warn, ...]:
    """Refuse what no fit can decide (fewer rows than parameters, a column of one value); warn if thin."""
    n, p = len(observations), len(form.names)
    if n < p + 1:
        raise UserError(
            f"{n} rows for the {p} parameters of {form.name} ({', '.join(form.names)}): "
            f"give at least {p + 1} runs, or a form with fewer parameters"
        )
    if np.ptp(observations.loss) == 0:
        raise UserError(
            f"column loss: every row has the value {observations.loss[0]:g}: there is nothing to explain; is it "
            "the right column?"
        )
    warnings = list(observations.warnings)
    for name in form.columns:
        distinct = len(np.unique(observations.x[name]))
        if distinct < 2:
            raise UserError(
                f"column {name}: every row has the value {observations.x[name][0]:g}, "
                f"so {form.name} cannot tell its effect from a constant; vary it, or choose a form without it"
            )
        if distinct < 3:
            warnings.append(
                Warn(
                    Code.FEW_BUDGETS,
                    f"only {distinct} values of {name}: an exponent and a floor cannot both be told",
                )
            )
    if n < 2 * p:
        warnings.append(Warn(Code.TOO_FEW_RUNS, f"{n} runs for {p} parameters: twice as many are a minimum"))
    flops = observations.flops
    if np.isfinite(flops).all():
        budgets = np.unique(np.round(np.log(flops) / 0.1))
        if len(budgets) < 3 and len(form.columns) > 1:
            warnings.append(
                Warn(
                    Code.FEW_BUDGETS, f"{len(budgets)} compute budget(s): growth with compute is hardly seen"
                )
            )
    if {"params", "tokens"} <= set(form.columns):
        ratio = np.log(observations.x["tokens"] / observations.x["params"])
        if np.ptp(ratio) < np.log(1.5):
            warnings.append(
                Warn(
                    Code.CONSTANT_RATIO,
                    f"tokens per parameter hardly vary "
                    f"({np.exp(ratio.min()):.3g} to {np.exp(ratio.max()):.3g}): "
                    "the effects of params and tokens cannot be told apart",
                )
            )
    return tuple(warnings)
