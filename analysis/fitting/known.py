"""What is known of a law's parameters besides the rows, put into the problem and held against the rows.

A value is held, a prior is a penalty in units of the objective: both are part of the `Problem`, so that resamples,
hold-outs, discrepancy and profiles see them. A floor that groups of rows share is `fitting.sharing`'s.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.errors import Code, UserError, Warn
from analysis.fitting.floor import K_PRIOR, Floor, has_power
from analysis.fitting.objective import temperature
from analysis.fitting.problem import Prior, Problem
from analysis.fitting.search import search
from analysis.laws.shared import SHARE, SharedForm

# The chance of a warning where all is well.
UNLIKELY = 1e-3


def with_known(problem: Problem, floor: Floor) -> Problem:
    """Hold a known floor; UserError where it is above every row."""
    if floor.kind != "known" or floor.value is None:
        return problem
    most = float(problem.observations.loss.max())
    if floor.value >= most:
        raise UserError(
            f"floor_value = {floor.value:g} (--floor_value): every loss of the table is below it (at most "
            f"{most:.5g}); is it in the table's units?"
        )
    return replace(problem, held=((0, floor.value),))


def with_priors(problem: Problem, floor: Floor, power: str) -> Problem:
    """Add the priors of the floor and of the outer power.

    Their penalties need the noise, which comes from the fit without them (`objective.temperature`).
    """
    problem = replace(problem, priors=())
    wanted = [(0, floor)] if floor.kind == "prior" else []
    if power == "prior" and has_power(problem.form):
        wanted.append((problem.model.lower.size - 1, K_PRIOR))
    if not wanted:
        return problem
    _, sigma, _ = _unconstrained([problem.small])
    weight = float(np.mean(problem.observations.weight))
    return replace(
        problem,
        priors=tuple(
            Prior(slot, known.value, known.error, sigma, weight)
            for slot, known in wanted
            if known.value is not None and known.error is not None
        ),
    )


def disagreement(problem: Problem) -> list[Warn]:
    """Warn where the rows speak against what is known, or against one floor of all groups.

    Twice the rise of the objective over that of the fit without, in units of the noise (`objective.temperature`),
    is chi square for as many degrees of freedom as are taken (Schrader and Hettmansperger 1980, Biometrika 67, 93),
    an F variable where the residuals tell the noise.
    """
    small = problem.small
    if isinstance(small.form, SharedForm):
        rows = small.observations
        free = [
            Problem(small.form.base, rows.keep(rows.x[SHARE] == i), small.objective)
            for i in range(len(small.form.groups))
        ]
        taken, what = len(free) - 1, f"one E of {', '.join(small.form.groups)}"
    else:
        free = [replace(small, held=(), priors=())]
        taken, what = len(small.held) + len(small.priors), "what was given"
    if not taken:
        return []
    least, sigma, spare = _unconstrained(free)
    unit = float(np.mean(small.observations.weight)) * temperature(small.objective.width, sigma)
    value = float(search(small, small.observations.weight[None]).value[0])
    ratio = 2.0 * (value - least) / (taken * max(unit, 1e-300))
    # Of use to few fits: not imported for all.
    from scipy.special import fdtrc

    chance = float(fdtrc(taken, spare, ratio))
    if chance > UNLIKELY:
        return []
    said = f"the rows fit {what} as badly as noise does in {chance:.1g} of tables (F = {ratio:.3g})"
    return [Warn(Code.FLOOR_DISAGREES, f"{said}: another corpus, other units, or another law")]


def _unconstrained(problems: Sequence[Problem]) -> tuple[float, float, float]:
    """Fit laws to the rows alone: the objective, the noise, and its degrees of freedom."""
    objective = problems[0].objective
    least, residuals = 0.0, []
    for problem in problems:
        found = search(problem, problem.observations.weight[None])
        predicted = problem.model.predict(found.theta)[0]
        residuals.append((np.log(predicted) if objective.scale == "log" else predicted) - problem.target)
        least += float(found.value[0])
    residual = np.concatenate(residuals)
    loss = np.concatenate([problem.observations.loss for problem in problems])
    weight = np.concatenate([problem.observations.weight for problem in problems])
    return least, *objective.noise(residual, loss, weight, sum(p.parameters for p in problems))
