"""Checks that rows can carry a law: what is refused, and what is said before anything is fitted."""

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import Code, UserError, Warn
from analysis.fitting.observations import Observations
from analysis.laws.law import Form

# A rank correlation of loss with the inputs of a law above this is a rise, of FEWEST_RANKED rows or more.
RISE, FEWEST_RANKED = 0.7, 5
# ln of a vocabulary of 300,000, in nats; a run that has learnt anything is below it. Bits are 1.44 times as many.
MOST_NATS = 12.6
# Exact counts of compute are within a factor of some ten of 6ND; a unit is a factor of a thousand or more.
UNIT = 100.0
# No model has fewer parameters or tokens than this, as its largest.
FEWEST_PARAMS, FEWEST_TOKENS = 1e3, 1e4


def check_enough(observations: Observations, form: Form, p: int) -> tuple[Warn, ...]:
    """Refuse what no fit can decide (fewer rows than the `p` parameters that are not held, a column of one value);
    warn of what is thin or looks like something else."""
    n = len(observations)
    names = form.names[len(form.names) - p :]
    if n < p + 1:
        raise UserError(
            f"{n} rows for the {p} parameters of {form.name} ({', '.join(names)}): "
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
        if distinct < 3 and p == len(form.names):
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
    return (*warnings, *_looks_like(observations, form), *_units(observations))


def _looks_like(observations: Observations, form: Form) -> list[Warn]:
    """Warn of a loss that rises, as scores do, or that is beyond any in nats, as perplexities are."""
    loss = observations.loss
    name = observations.x_name if form.one_variable else "flops"
    size = observations.x["x"] if form.one_variable else observations.flops
    rise = _rank_correlation(size, loss) if np.isfinite(size).all() else 0.0
    if len(loss) >= FEWEST_RANKED and rise > RISE:
        return [
            Warn(
                Code.RISING_LOSS,
                f"loss rises with {name} (rank correlation {rise:.2f}): is it a score? A law falls "
                "towards its floor: give a loss, or an error such as 1 - accuracy",
            )
        ]
    if np.percentile(loss, 75) > MOST_NATS:
        return [
            Warn(
                Code.PERPLEXITY,
                f"losses from {loss.min():.4g} to {loss.max():.4g}: a model that knows nothing has ln(vocabulary), "
                f"at most {MOST_NATS} nats a token; is it a perplexity? Fit its logarithm",
            )
        ]
    return []


def _rank_correlation(a: Float[Array, " n"], b: Float[Array, " n"]) -> float:
    """Compute Spearman's correlation; zero where either does not vary."""
    a, b = (np.unique(v, return_inverse=True)[1].astype(np.float64) for v in (a, b))
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def _units(observations: Observations) -> list[Warn]:
    """Warn of columns that cannot be in units of one: compute far from 6ND, or sizes too small for any model."""
    x = observations.x
    if not {"params", "tokens"} <= set(x):
        return []
    params, tokens = x.get("params_active", x["params"]), x["tokens"]
    where = "Give plain numbers of parameters, tokens and FLOPs: a budget means nothing otherwise"
    if observations.flops_source == "flops":
        ratio = float(np.nanmedian(observations.flops / (6.0 * params * tokens)))
        if not 1.0 / UNIT < ratio < UNIT:
            said = f"flops are {ratio:.2g} of 6 x params x tokens in the median: they are no FLOPs, or params or "
            return [Warn(Code.UNITS, f"{said}tokens are in thousands, millions or billions. {where}")]
    for name, values, fewest in (("params", x["params"], FEWEST_PARAMS), ("tokens", tokens, FEWEST_TOKENS)):
        if np.nanmax(values) < fewest:
            said = f"{name} are {np.nanmax(values):.4g} at most: in millions or billions?"
            return [Warn(Code.UNITS, f"{said} {where}")]
    per = float(np.nanmedian(tokens / x["params"]))
    if not 1e-3 < per < 1e6:
        said = f"{per:.2g} tokens per parameter in the median: one of the two is in millions or billions?"
        return [Warn(Code.UNITS, f"{said} {where}")]
    return []
