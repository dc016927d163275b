"""Fit a scaling law to a table of runs: a global search, resampled intervals, and what not to believe.

What a law is lives in `laws`, how a minimum is found in `search`, how rows are resampled in `resampling`, the
answer in `result`; predictions of new runs in `forecasting`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import Warn
from analysis.fitting.diagnostics import diagnose
from analysis.fitting.holdouts import choose, untested
from analysis.fitting.observations import LARGE, observe
from analysis.fitting.options import FitOptions
from analysis.fitting.problem import Problem
from analysis.fitting.resampling import resample_counts, resample_weights
from analysis.fitting.result import Fit, Member, finite
from analysis.fitting.search import Found, descend, hop, search
from analysis.laws.catalogue import get_form
from analysis.laws.law import Form

# Joint laws that `auto` weighs; kaplan's has no floor and never came first on a public table.
AUTO = ("chinchilla", "chinchilla6", "tied")
AUTO_ONE_VARIABLE = ("power", "power_const")
# Cells of its own grid that every resample polishes, besides the optimum of the whole table; of so few rows,
# whose loss has more dents, it polishes more.
RESAMPLE_STARTS = 2
FEW_ROWS, FEW_ROWS_STARTS = 100, 4
# Cells that the whole table polishes: all of a regular grid's, and enough of the random points of a law
# that has none.
TABLE_STARTS = 40
# Newton steps over all the rows of a large table, from the optimum of the subset.
POLISH_STEPS = 8


def fit(table: pd.DataFrame, form: str | Form = "chinchilla", **options: Any) -> Fit:
    """Fit `form` to `table` (columns params, tokens, loss; optional flops, unique_tokens, weight, group).

    `options` are the fields of `FitOptions`. The objective is summed over rows. `bootstrap` resamples of rows
    (or of `group`s) each get their own global search. `form="auto"` takes the form of least rolling held-out
    error; `regime="auto"` leaves out the rows of highest loss where the law bends (`fitting.holdouts`; neither
    looks at a target). One-variable forms read the column `x` (flops unless said). Raises UserError.
    """
    return fit_members(table, FitOptions(form=form, **options))[0].fit


def fit_members(
    table: pd.DataFrame, options: FitOptions, *, least_weight: float = 1.0, fractional: bool = False
) -> list[Member]:
    """Fit the best form, and those of the others whose weight is at least `least_weight`, best first.

    Weights sum to one over what is returned. `fractional`: resamples weigh rows (`resample_weights`) in place
    of counting them.
    """
    forms = options.forms or _auto_forms(table.columns, options.x)
    observations = observe(
        table,
        forms[0].columns,
        x=options.x,
        group=options.group,
        seed=options.seed,
        parameters=min(len(form.names) for form in forms),
    )
    problems = [Problem(form, observations, options.objective) for form in forms]
    warnings = list(min(problems, key=lambda p: len(p.form.names)).warnings)
    problems = [p for p in problems if len(observations) > len(p.form.names)]
    # A bend is looked for where the search is quick; a law of one's own has to ask for it.
    quick = all(p.form.structure is not None for p in problems)
    leave_out = options.regime == "auto"
    choice = choose(problems, regimes=leave_out or quick)
    ranked = choice.weigh(choice.ceiling if leave_out else choice.everything)
    candidates = tuple(
        {
            "form": c.problem.form.name,
            "objective": c.objective,
            "rolling_error": finite(c.error),
            "weight": weight,
        }
        for c, weight in ranked
    )
    kept = [(c.problem, w) for i, (c, w) in enumerate(ranked) if i == 0 or w >= least_weight]
    total = sum(w for _, w in kept)
    bent = choice.bent and leave_out
    warnings += untested(ranked, len(observations))
    if choice.flagrant and not bent:
        warnings.append(choice.warning())
    if bent:
        observations = choice.unbent
    members = []
    for problem, weight in kept:
        # Resamples are shared out by weight: together they are draws from the mixture.
        resamples = round(options.bootstrap * weight / total) if len(kept) > 1 else options.bootstrap
        fitted = _fit(
            # The same rows have their grid already.
            problem if problem.observations is observations else replace(problem, observations=observations),
            replace(options, bootstrap=max(resamples, min(options.bootstrap, 2))),
            fractional=fractional,
            warnings=warnings,
            candidates=candidates,
            bent=choice.flagrant or bent,
        )
        members.append(Member(fitted, weight / total))
    return members


def _fit(
    problem: Problem,
    options: FitOptions,
    *,
    fractional: bool,
    warnings: Sequence[Warn],
    candidates: tuple[Mapping[str, Any], ...],
    bent: bool,
) -> Fit:
    """Fit a law to rows that have been checked and chosen; `bent`: rolling hold-outs showed a bend."""
    form, model, observations = problem.form, problem.model, problem.observations
    best, draws = solve(problem, options.bootstrap, options.seed, fractional=fractional)
    return Fit(
        problem=problem,
        params=dict(zip(form.names, model.public(best.theta)[0].tolist(), strict=True)),
        draws=model.public(draws),
        level=options.level,
        warnings=(*warnings, *diagnose(problem, best, draws)),
        candidates=candidates,
        provenance={
            "resamples": options.bootstrap,
            "resampled_by": observations.group_source,
            "resampled_with": "exponential weights" if fractional else "counts",
            "seed": options.seed,
            "starts": len(best.basins.value),
            "at_the_optimum": int(np.sum(best.basins.value <= best.value[0] * (1 + 1e-6))),
            "columns": list(form.columns),
            "flops": observations.flops_source,
            "bent": bent,
            "reference": form.reference,
        },
    )


def solve(
    problem: Problem, bootstrap: int, seed: int, *, fractional: bool = False
) -> tuple[Found, Float[Array, "R p"]]:
    """Find the global optimum of the table, and the internal parameters of `bootstrap` resamples.

    `fractional`: resamples weigh rows (`resample_weights`) in place of counting them.
    """
    observations = problem.observations
    if len(observations) > LARGE:
        return _solve_large(problem, bootstrap, seed, fractional)
    best = search(problem, observations.weight[None], starts=TABLE_STARTS)
    if problem.objective.loss == "huber":
        best = hop(problem, best, seed)
    if not bootstrap:
        return best, np.empty((0, best.theta.shape[1]))
    resampled = (resample_weights if fractional else resample_counts)(observations.group, bootstrap, seed)
    starts = FEW_ROWS_STARTS if len(observations) <= FEW_ROWS else RESAMPLE_STARTS
    starts = starts if problem.form.structure is not None else 1
    found = search(problem, resampled * observations.weight, starts=starts, near=best.theta)
    return best, found.theta


def _solve_large(
    problem: Problem, bootstrap: int, seed: int, fractional: bool
) -> tuple[Found, Float[Array, "R p"]]:
    """Search and resample the subset of m rows; polish on all n. Spread shrinks by sqrt(m / n).

    Resampling m out of n and rescaling is consistent where the plain bootstrap is (Politis and Romano 1994).
    """
    small = problem.small
    best, draws = solve(small, bootstrap, seed, fractional=fractional)
    names = problem.form.names

    def moved(theta: Float[Array, "S p"]) -> Float[Array, "S p"]:
        """Centre parameters on the whole table's columns in place of the subset's."""
        public = small.model.public(theta)
        return np.stack(
            [problem.model.private(dict(zip(names, row.tolist(), strict=True))) for row in public]
        )

    full = descend(problem, moved(best.theta), problem.observations.weight[None], steps=POLISH_STEPS)
    polished = Found(full.theta, full.value, full.converged, full)
    if not bootstrap:
        return polished, np.empty((0, full.theta.shape[1]))
    spread = (moved(draws) - moved(best.theta)) * np.sqrt(len(small.observations) / len(problem.observations))
    return polished, np.clip(full.theta + spread, problem.model.lower, problem.model.upper)


def _auto_forms(columns: Iterable[object], x: str | None) -> list[Form]:
    """List the forms that `auto` weighs: joint laws where there are params and tokens and no `x` is asked for, else
    laws of one variable."""
    joint = x is None and {"params", "tokens"} <= set(columns)
    return [get_form(name) for name in (AUTO if joint else AUTO_ONE_VARIABLE)]
