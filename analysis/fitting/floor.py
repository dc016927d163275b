"""What is known of a law's irreducible loss (and of chinchilla6's outer power) besides the rows.

A value is held, a prior is a penalty in units of the objective: both are part of the `Problem`, so that resamples,
hold-outs, discrepancy and profiles see them. A floor that groups of rows share is `fitting.shared`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.errors import Code, UserError, Warn
from analysis.fitting.objective import temperature
from analysis.fitting.problem import Prior, Problem
from analysis.fitting.search import search
from analysis.laws.law import Form
from analysis.laws.shared import SHARE, SharedForm

KINDS = ("free", "prior", "shared", "known")
POWERS = ("free", "prior")
# The chance of a warning where all is well.
UNLIKELY = 1e-3


@dataclass(frozen=True)
class Floor:
    """The irreducible loss E of a fit, in nats: `known` to be `value`, a normal `prior` of `value` +- `error`,
    `shared` by groups of rows, or `free`; of the last two, `value` and `error` are what was found.

    UserError names what a kind lacks, or what it has no use for.
    """

    kind: str = "free"
    value: float | None = None
    error: float | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"floor = {self.kind}: choose one of {', '.join(KINDS)}")
        if self.kind not in ("prior", "known"):
            return
        if self.value is None or not 0.0 <= self.value < np.inf:
            raise UserError(
                f"floor = {self.kind} (--floor {self.kind}): floor_value = {self.value}; give the irreducible "
                "loss, zero or more, in the table's units (--floor_value NATS)"
            )
        if not (self.source or "").strip():
            raise UserError(
                f"floor = {self.kind} (--floor {self.kind}): floor_source is missing; say where "
                f'{self.value:g} comes from (--floor_source "TEXT"): the answer prints it'
            )
        if self.kind == "prior" and (self.error is None or not 0.0 < self.error < np.inf):
            raise UserError(
                f"floor = prior (--floor prior): floor_error = {self.error}; give the prior's standard deviation, "
                "a positive number in the table's units (--floor_error NATS), or floor = known for none"
            )
        if self.kind == "known" and self.error is not None:
            raise UserError(
                f"floor = known (--floor known): floor_error = {self.error:g}: a known floor has none; "
                "give floor = prior"
            )

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.3g}"
        value = "" if self.value is None else f", {self.value:.5g}{error}"
        return f"{self.kind}{value} ({self.source})"

    def to_json(self) -> dict[str, Any]:
        """Make the `floor` of a JSON."""
        return dict(self.__dict__)


# As the prior of k: half the range of published fits as its standard deviation.
K_PRIOR = Floor("prior", 0.38, 0.07, "published fits of the outer power: 0.31 to 0.45")


def forms_with(forms: Sequence[Form], floor: Floor, power: str) -> list[Form]:
    """Keep the forms that the floor can be given to; UserError where none is, or where a prior of k has no k."""
    able = [form for form in forms if floor.kind == "free" or form.floor is not None]
    if not able:
        raise UserError(
            f"floor = {floor.kind} (--floor {floor.kind}): {forms[0].name} has no irreducible loss E of its own; "
            "choose power_const, chinchilla, chinchilla6, tied, data_constrained or moe, or leave the floor free"
        )
    if power not in POWERS:
        raise UserError(f"k = {power} (--k {power}): choose one of {', '.join(POWERS)}")
    if power == "prior" and not any(_has_power(form) for form in able):
        raise UserError(
            f"k = prior (--k prior): {able[0].name} has no outer power k; choose chinchilla6, or k = free"
        )
    return able


def _has_power(form: Form) -> bool:
    return form.structure is not None and form.structure.outer == "k" and "k" in form.names


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
    if power == "prior" and _has_power(problem.form):
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
