"""Fit a scaling law to a table of runs: a global search, resampled intervals, and what not to believe.

What a law is lives in `laws`, how a minimum is found in `search`, its resamples in `resampling`, the answer in
`result`; predictions of new runs in `forecasting`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import Warn
from analysis.fitting.diagnostics import diagnose
from analysis.fitting.holdouts import choose, untested
from analysis.fitting.observations import observe
from analysis.fitting.options import FitOptions, auto_forms
from analysis.fitting.problem import Problem
from analysis.fitting.resampling import solve
from analysis.fitting.result import Fit, Member, finite
from analysis.laws.law import Form


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
    forms = options.forms or auto_forms(table.columns, options.x)
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
    if choice.bent and leave_out:
        observations = choice.without_bend(observations)
    elif choice.flagrant:
        warnings.append(choice.warning())
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
    warnings += untested(ranked, len(observations))
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
            bent=choice.flagrant or (choice.bent and leave_out),
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
    predicted = model.predict(best.theta)[0]
    residual = (np.log(predicted) if problem.objective.scale == "log" else predicted) - problem.target
    return Fit(
        problem=problem,
        value=problem.objective.report(residual, observations.weight),
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
