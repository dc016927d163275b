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
from analysis.fitting.floor import K_PRIOR, Floor, forms_with
from analysis.fitting.holdouts import Candidate, Choice, choose, untested
from analysis.fitting.known import disagreement, with_known, with_priors
from analysis.fitting.observations import LARGE, Observations, observe
from analysis.fitting.options import FitOptions
from analysis.fitting.problem import Problem
from analysis.fitting.resampling import resample_counts, resample_weights
from analysis.fitting.result import Fit, Member, finite
from analysis.fitting.search import Found, descend, hop, search
from analysis.fitting.sharing import groups_of, own_fit, together
from analysis.laws.catalogue import get_form
from analysis.laws.law import Form
from analysis.laws.shared import SharedForm, shared_form

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

    >>> import pandas as pd
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> runs = [(n, d, law(n, d)) for n in (1e6, 4e6, 2e7) for d in (2e7, 1e8, 6e8)]
    >>> table = pd.DataFrame(runs, columns=["params", "tokens", "loss"])
    >>> from analysis import fit
    >>> fitted = fit(table, bootstrap=20)
    >>> fitted
    <Fit: chinchilla: L = E + A / N^alpha + B / D^beta>
    >>> round(fitted.params["alpha"], 2)
    0.34
    """
    return fit_members(table, FitOptions(form=form, **options))[0].fit


def fit_shared(
    tables: Mapping[str, pd.DataFrame], form: str | Form = "chinchilla", **options: Any
) -> dict[str, Fit]:
    """Fit `form` to each of several `tables`, with one irreducible loss for all; all else is each one's own.

    The objective is the sum over all rows. Draw r of every fit is of the same resample, with the same E.
    `options` are those of `fit` without those of the floor. Raises UserError.

    >>> import pandas as pd
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> runs = [(n, d, law(n, d)) for n in (1e6, 4e6, 2e7) for d in (2e7, 1e8, 6e8)]
    >>> table = pd.DataFrame(runs, columns=["params", "tokens", "loss"])
    >>> from analysis import fit_shared
    >>> other = table.assign(loss=table["loss"] + 50 / table["params"] ** 0.34)
    >>> found = fit_shared({"a": table, "b": other}, bootstrap=20)
    >>> round(found["a"].params["E"], 2), round(found["b"].params["E"], 2)
    (1.7, 1.7)
    """
    rows, members = _shared_members(tables, FitOptions(form=form, **options))
    return {name: own_fit(members[0].fit, name, own) for name, own in rows.items()}


def fit_members(
    table: pd.DataFrame, options: FitOptions, *, least_weight: float = 1.0, fractional: bool = False
) -> list[Member]:
    """Fit the best form, and those of the others whose weight is at least `least_weight`, best first.

    Weights sum to one over what is returned. `fractional`: resamples weigh rows (`resample_weights`) in place
    of counting them.
    """
    if options.share is not None:
        tables, wanted = groups_of(table, options.share)
        rows, joint = _shared_members(tables, options, least_weight=least_weight, fractional=fractional)
        return [Member(own_fit(m.fit, wanted, rows[wanted]), m.weight, m.fit) for m in joint]
    forms = _forms(table, options)
    problems, warnings = _posed(table, forms, options)
    choice, observations, said = _regime(problems, options)
    ranked = choice.weigh(choice.ceiling if options.regime == "auto" else choice.everything)
    return _fitted(
        ranked,
        observations,
        options,
        least_weight=least_weight,
        fractional=fractional,
        warnings=[*warnings, *untested(ranked, len(problems[0].observations)), *said],
        bent=choice.flagrant or len(observations) < len(problems[0].observations),
    )


def _shared_members(
    tables: Mapping[str, pd.DataFrame],
    options: FitOptions,
    *,
    least_weight: float = 1.0,
    fractional: bool = False,
) -> tuple[dict[str, Observations], list[Member]]:
    """Fit the laws of several tables jointly, as `fit_members` those of one; besides, each table's rows.

    Which rows of a table are of another regime is decided within that table.
    """
    rows: dict[str, Observations] = {}
    warnings: list[Warn] = []
    bent = False
    for name, table in tables.items():
        forms = _forms(table, options)
        problems, said = _posed(table, forms, options)
        choice, rows[name], bend = _regime(problems, options)
        bent |= choice.flagrant or len(rows[name]) < len(problems[0].observations)
        warnings += [replace(warn, message=f"{name}: {warn.message}") for warn in (*said, *bend)]
    joint = together(rows)
    problems = [Problem(shared_form(f, tuple(rows)), joint, options.objective) for f in forms]
    problems = [p for p in problems if p.carries(np.ones(len(joint), dtype=bool))] or problems[:1]
    choice = choose(problems, regimes=False)
    ranked = choice.weigh(choice.everything)
    members = _fitted(
        ranked,
        joint,
        options,
        least_weight=least_weight,
        fractional=fractional,
        warnings=[*warnings, *untested(ranked, len(joint))],
        bent=bent,
    )
    return rows, members


def _forms(table: pd.DataFrame, options: FitOptions) -> list[Form]:
    """List the forms that are asked for and can be given what is known; UserError where none can."""
    return forms_with(options.forms or _auto_forms(table.columns, options.x), options.given_floor, options.k)


def _posed(
    table: pd.DataFrame, forms: Sequence[Form], options: FitOptions
) -> tuple[list[Problem], list[Warn]]:
    """Pose the forms that the table's rows can carry, with what is known besides, and the caveats on the rows."""
    observations = observe(
        table,
        forms[0].columns,
        x=options.x,
        group=options.group,
        seed=options.seed,
        parameters=min(len(form.names) for form in forms),
    )
    floor = options.given_floor
    problems = [with_known(Problem(form, observations, options.objective), floor) for form in forms]
    warnings = list(min(problems, key=lambda p: p.parameters).warnings)
    problems = [p for p in problems if len(observations) > p.parameters]
    return [with_priors(p, floor, options.k) for p in problems], warnings


def _regime(problems: Sequence[Problem], options: FitOptions) -> tuple[Choice, Observations, list[Warn]]:
    """Look for a bend: the choice, the rows that are to be fitted, and what has to be said of those kept."""
    # It is looked for where the search is quick; a law of one's own has to ask for it.
    quick = all(p.form.structure is not None for p in problems)
    leave_out = options.regime == "auto"
    choice = choose(problems, regimes=leave_out or quick)
    if choice.bent and leave_out:
        return choice, choice.unbent, []
    return choice, problems[0].observations, [choice.warning()] if choice.flagrant else []


def _fitted(
    ranked: Sequence[tuple[Candidate, float]],
    observations: Observations,
    options: FitOptions,
    *,
    least_weight: float,
    fractional: bool,
    warnings: Sequence[Warn],
    bent: bool,
) -> list[Member]:
    """Fit the forms of enough weight to the rows that were chosen."""
    everything = ranked[0][0].problem.observations
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
    members = []
    for problem, weight in kept:
        # Resamples are shared out by weight: together they are draws from the mixture.
        resamples = round(options.bootstrap * weight / total) if len(kept) > 1 else options.bootstrap
        # The same rows have their grid already; of others the noise, and a prior's penalty, are others.
        if observations is not everything:
            problem = with_priors(replace(problem, observations=observations), options.given_floor, options.k)
        fitted = _fit(
            problem,
            replace(options, bootstrap=max(resamples, min(options.bootstrap, 2))),
            fractional=fractional,
            warnings=warnings,
            candidates=candidates,
            bent=bent,
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
    params = dict(zip(form.names, model.public(best.theta)[0].tolist(), strict=True))
    floor = options.given_floor
    if floor.kind == "free" and form.floor is not None:
        floor = Floor("free", params["E"], float(draws[:, 0].std(ddof=1)) if len(draws) else None, "fitted")
    return Fit(
        problem=problem,
        params=params,
        draws=model.public(draws),
        level=options.level,
        warnings=(*warnings, *disagreement(problem), *diagnose(problem, best, draws)),
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
            **({"k": str(K_PRIOR)} if any(prior.slot for prior in problem.priors) else {}),
        },
        floor=floor,
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
    form = problem.form
    quick = (form.base if isinstance(form, SharedForm) else form).structure is not None
    found = search(
        problem,
        resampled * observations.weight,
        starts=starts if quick else 1,
        near=best.theta,
        centres=problem.centres(bootstrap, seed),
    )
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

    weight = problem.extended(problem.observations.weight[None])
    full = descend(problem, moved(best.theta), weight, steps=POLISH_STEPS)
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
