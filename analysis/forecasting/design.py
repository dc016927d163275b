"""Choose the next runs: those that shrink the interval of a target most for what they cost.

What is believed of a run's loss is the law under its resamples (before anything is measured, under laws drawn from
published ranges), how far the law itself may be off there, and seed noise. The choice is `forecasting.spending`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError, Warn
from analysis.fitting.fit import fit_members
from analysis.fitting.result import Member, html_of, notes
from analysis.forecasting.cost import cost_model
from analysis.forecasting.defaults import EXTRAPOLATED, MOST_SEEDS
from analysis.forecasting.discrepancy import discrepancy_of, hold_out
from analysis.forecasting.forecast import FEWEST_RESAMPLES, LEAST_WEIGHT
from analysis.forecasting.interval import DRAWS, noise_of
from analysis.forecasting.spending import Belief, Purchase, spend
from analysis.laws.catalogue import get_form
from analysis.shown import Shown
from analysis.tables.columns import positive_numbers

# A law is off by MISFIT of loss (a standard deviation), and alike where runs differ by less than REACH in the
# logarithms of params and tokens; chosen by `benchmarks.design --settings`.
MISFIT, REACH = 0.01, 2.3
# What a first design holds, twice the parameters of a law of N and D (`too_few_runs`).
FEWEST = 10
# Of a table's rows, those that say where the law has been tried.
MOST_ROWS = 1500
# Laws that stand for what is published before anything is measured: exponents of Kaplan et al. 2020 (.076, .095) to
# Besiroglu et al. 2024 (.35, .37) and of small ladders above them; the terms beside the floor, at the middle of the
# candidates, from a tenth of it to twice.
PRIOR_LAWS, PRIOR_EXPONENT, PRIOR_TERM, PRIOR_NOISE = 2000, (0.07, 0.7), (0.1, 2.0), 0.005


@dataclass(frozen=True, repr=False)
class Design(Shown):
    """The next runs: `runs` is a table of candidates with their `seeds`, in the order they were first bought.

    Half-widths are half of log(upper / lower): .03 is an interval of about +-3%, of one new run at the target.
    `cost` is in the units of the candidates' column. `stop`: after these no more runs are wanted; `why` says so.
    """

    runs: pd.DataFrame
    target: Mapping[str, float]
    level: float
    width_before: float
    width_after: float
    cost: float
    cost_column: str
    stop: bool
    why: str
    belief: str
    warnings: tuple[Warn, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis design`, which `plan=design` reads."""
        records = self.runs.astype(object).where(self.runs.notna(), None).to_dict("records")
        flops = self.runs.get("flops")
        return {
            "runs": records,
            "target": dict(self.target),
            "level": self.level,
            "width_before": self.width_before,
            "width_after": self.width_after,
            "flops": None if flops is None else float((flops * self.runs["seeds"]).sum()),
            "cost": self.cost,
            "cost_column": self.cost_column,
            "stop": self.stop,
            "why": self.why,
            "belief": self.belief,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return the table of the next runs."""
        return self.runs

    def _repr_html_(self) -> str:
        headline = [self.summary().splitlines()[1], f"{'stop' if self.stop else 'go on'}: {self.why}"]
        return html_of(headline, self.to_frame(), (), self.warnings)

    def summary(self) -> str:
        """Write the design as a table for a person, each run with its cost."""
        at = ", ".join(f"{name} {value:.4g}" for name, value in self.target.items())
        lines = [
            f"target: {at}",
            f"{100 * self.level:g}% interval +-{100 * self.width_before:.3g}% of loss, after these runs "
            f"+-{100 * self.width_after:.3g}%; {int(self.runs['seeds'].sum())} runs for {self.cost:.4g} "
            f"{self.cost_column}",
            f"believed: {self.belief}",
        ]
        shown = [name for name in ("dial", "params", "tokens", self.cost_column) if name in self.runs]
        lines.append(" ".join(f"{name:>12}" for name in (*shown, "seeds", "cost")))
        for _, row in self.runs.iterrows():
            cells = [float(row[name]) for name in shown]
            cells += [float(row["seeds"]), float(row["seeds"] * row[self.cost_column])]
            lines.append(" ".join(f"{value:12.4g}" for value in cells))
        stop = "stop" if self.stop else "go on"
        return "\n".join([*lines, f"{stop}: {self.why}", *notes((), self.warnings)])


def design(
    table: pd.DataFrame | None,
    candidates: pd.DataFrame,
    *,
    at: Mapping[str, float],
    budget: float = np.inf,
    width: float = 0.0,
    cost_column: str = "flops",
    most_seeds: int = MOST_SEEDS,
    **options: Any,
) -> Design:
    """Choose among `candidates` (columns params, tokens, flops, ...) what to run next for a forecast of `at`.

    `table` is what has been measured (columns of `fit`), or None: then laws drawn from published ranges stand for a
    fit. Runs are bought until `budget` is spent (in `cost_column`: FLOPs, seconds), the half-width `width` is
    reached, or none is worth its cost. A candidate may be run `most_seeds` times. `options` are the fields of
    `FitOptions`. Raises UserError.

    >>> import pandas as pd
    >>> from analysis import design
    >>> candidates = pd.DataFrame({"params": [1e6, 4e6, 2e7], "tokens": [2e7, 8e7, 4e8]})
    >>> found = design(None, candidates, at={"params": 1e9, "tokens": 2e10}, budget=1e18)
    >>> 0 < found.cost <= 1e18, found.to_frame()["seeds"].sum() > 1
    (True, np.True_)
    """
    chosen = replace(EXTRAPOLATED, **options)
    _check(candidates, budget, width, cost_column, most_seeds, chosen.bootstrap)
    members = None
    if table is not None:
        members = fit_members(table, chosen, least_weight=LEAST_WEIGHT, fractional=True)
    target = _target(at, members)
    if cost_column == "flops" and "flops" not in candidates:
        candidates = candidates.assign(flops=_flops(candidates, members))
    cost = positive_numbers(candidates, cost_column)
    if budget < cost.min():
        raise UserError(
            f"budget = {budget:g} (--budget) buys no candidate: the cheapest costs {cost.min():.4g} {cost_column}"
        )
    sizes = pd.concat([_sizes(candidates), _sizes(target)], ignore_index=True)
    belief = believe(members, sizes, 1, seed=chosen.seed)
    bought = spend(belief, cost, budget, most=most_seeds, first=FEWEST if members is None else 0)
    half_widths = expected_half_widths(members, belief, sizes, bought, level=chosen.level, seed=chosen.seed)
    enough = np.flatnonzero(half_widths <= width)
    if len(enough) and (members is not None or enough[0] >= FEWEST):
        half_widths = half_widths[: enough[0] + 1]
        kept = bought.runs[: enough[0]]
        bought = replace(bought, runs=kept, cost=float(cost[list(kept)].sum()))
    stop, why = _verdict(bought, float(half_widths[-1]), cost, budget, width)
    counts = pd.Series(bought.runs, dtype=int).value_counts(sort=False)
    runs = candidates.iloc[counts.index].reset_index(drop=True).assign(seeds=counts.to_numpy())
    fitted = None if members is None else members[0].fit
    said = f"laws of published exponents, {100 * PRIOR_NOISE:g}% of noise: nothing is measured yet"
    if fitted is not None:
        said = f"{fitted.form.name} on {len(fitted.observations)} runs"
    return Design(
        runs,
        {str(name): float(value) for name, value in target.iloc[0].items()},
        chosen.level,
        float(half_widths[0]),
        float(half_widths[-1]),
        bought.cost,
        cost_column,
        stop,
        why,
        f"{said}; the law off by {100 * MISFIT:g}% of loss",
        () if fitted is None else fitted.warnings,
    )


def believe(
    members: Sequence[Member] | None,
    runs: pd.DataFrame,
    targets: int,
    *,
    seed: int,
    misfit: float = MISFIT,
    reach: float = REACH,
) -> Belief:
    """Give the belief about `runs` (params, tokens; the last `targets` are to be predicted) after a fit, or before
    any where `members` is None.

    The covariance is that of the resampled laws' log losses, with that of the law's misfit: a Gaussian process over
    log params and log tokens (Kennedy and O'Hagan 2001, JRSS B 63, 425) that the fitted rows have pinned where they
    are. So a run near the target says more of it than a law that held everywhere would let it say.
    """
    place = np.log(runs[["params", "tokens"]].to_numpy(np.float64))
    if members is None:
        draws, noise = _prior_laws(runs, seed), np.full(len(runs), PRIOR_NOISE**2)
        seen, seen_noise = np.empty((0, 2)), np.empty(0)
    else:
        with np.errstate(divide="ignore", over="ignore"):
            draws = np.concatenate([np.log(m.fit.predict_draws(runs)) for m in members])
        scatter = noise_of(members[0].fit)
        fitted = members[0].fit.observations.small
        few = np.random.default_rng(seed).permutation(len(fitted))[:MOST_ROWS]
        seen = np.log(np.stack([fitted.x["params"], fitted.x["tokens"]], axis=1))[few]
        one = float(np.mean(scatter.standard**2))
        noise = one * scatter.scale(np.exp(np.median(draws, axis=0))) ** 2
        seen_noise = one * scatter.scale(fitted.loss[few]) ** 2
    # A wild resample, of a vanished term or an exponent at its bound, would be most of a variance.
    low, high = np.percentile(np.nan_to_num(draws, posinf=1e3, neginf=-1e3), (2.5, 97.5), axis=0)
    law = np.clip(draws, low, high)
    law = law - law.mean(axis=0)
    every = np.concatenate([seen, place])
    apart = np.sum((every[:, None] - every[None]) ** 2, axis=-1)
    wrong = misfit**2 * np.exp(-0.5 * apart / reach**2)
    rows, new = slice(len(seen)), slice(len(seen), None)
    pinned = np.linalg.solve(wrong[rows, rows] + np.diag(seen_noise + 1e-12), wrong[rows, new])
    return Belief(law.T @ law / len(law), wrong[new, new] - wrong[new, rows] @ pinned, noise + 1e-12, targets)


def expected_half_widths(
    members: Sequence[Member] | None,
    belief: Belief,
    runs: pd.DataFrame,
    bought: Purchase,
    *,
    level: float,
    seed: int,
) -> Float[Array, " s"]:
    """Give the half-width that `extrapolate` is expected to have before any run and after each (mean over targets).

    Made as its intervals are: what the parameters leave, one run's noise, and the discrepancy at the distance that
    is left between the largest run and the target.
    """
    k = belief.targets
    missed = [] if members is None else hold_out(members, seed)
    bent = members is not None and bool(members[0].fit.provenance["bent"])
    discrepancy = discrepancy_of(missed, bent=bent)
    sizes = runs[["params", "tokens"]].assign(flops=_flops(runs, members)).to_numpy(np.float64)
    largest = np.zeros(3)
    if members is not None:
        seen = members[0].fit.observations
        largest = np.asarray([seen.x["params"].max(), seen.x["tokens"].max(), seen.flops.max()])
    found = []
    for count in range(len(bought.runs) + 1):
        if count:
            largest = np.maximum(largest, sizes[bought.runs[count - 1]])
        # Before any run the laws alone are known, and there is nothing to be distant from.
        beyond = np.log(sizes[-k:] / largest).max(axis=1) if largest.all() else np.zeros(k)
        rng = np.random.default_rng(seed)
        wrong = discrepancy.draw(np.maximum(beyond, 0.0), DRAWS, rng)
        spread = np.sqrt(bought.law[count] + belief.noise[-k:])
        tail = 50.0 * (1.0 - level)
        low, high = np.percentile(
            wrong + spread * rng.standard_normal(wrong.shape), (tail, 100.0 - tail), axis=0
        )
        found.append(0.5 * float(np.mean(high - low)))
    return np.asarray(found)


def _prior_laws(runs: pd.DataFrame, seed: int) -> Float[Array, "R m"]:
    """Draw the log losses of `runs` under laws E + A / N^alpha + B / D^beta of published ranges, with E = 1."""
    rng = np.random.default_rng(seed)

    def between(ends: tuple[float, float]) -> Array:
        return np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), (PRIOR_LAWS, 1)))

    form, middle = get_form("chinchilla"), np.exp(np.log(runs[["params", "tokens"]]).mean())
    alpha, beta = between(PRIOR_EXPONENT), between(PRIOR_EXPONENT)
    params = {
        "E": np.ones((PRIOR_LAWS, 1)),
        "A": between(PRIOR_TERM) * middle["params"] ** alpha,
        "B": between(PRIOR_TERM) * middle["tokens"] ** beta,
        "alpha": alpha,
        "beta": beta,
    }
    # The floor's own level moves all losses alike.
    level = rng.normal(0.0, 0.5, (PRIOR_LAWS, 1))
    return level + np.log(
        form.predict(params, {name: runs[name].to_numpy(np.float64) for name in form.columns})
    )


def _verdict(bought: Purchase, reached: float, cost: Array, budget: float, width: float) -> tuple[bool, str]:
    if reached <= width:
        return True, f"the half-width {100 * width:.3g}% is reached"
    affordable = cost <= budget - bought.cost
    if not affordable.any():
        return False, "the budget is spent"
    worth = "narrows the interval by what its cost must"
    if not affordable.all():
        return False, f"no candidate that the rest of the budget holds {worth}"
    return True, f"no candidate {worth}"


def _check(
    candidates: pd.DataFrame, budget: float, width: float, cost_column: str, seeds: int, bootstrap: int
) -> None:
    if not (np.isfinite(budget) or width):
        raise UserError(
            "nothing says when to stop: give a budget (--budget FLOPS) or a half-width (--width .03)"
        )
    if not budget > 0:
        raise UserError(f"budget = {budget:g} (--budget): give a positive number, e.g. 1e18")
    if not 0 <= width < 1:
        raise UserError(
            f"width = {width:g} (--width): half the interval as a share of loss, e.g. .03 for +-3%"
        )
    if seeds < 1:
        raise UserError(f"most_seeds = {seeds} (--seeds): each candidate is run at least once")
    if bootstrap < FEWEST_RESAMPLES:
        raise UserError(f"bootstrap = {bootstrap}: a design needs at least {FEWEST_RESAMPLES} resamples")
    for name in ("params", "tokens", *([] if cost_column == "flops" else [cost_column])):
        if name not in candidates:
            have = ", ".join(map(str, candidates.columns[:12]))
            raise UserError(f"candidates have no column {name} (there are {have}): every run needs one")


def _sizes(runs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({name: positive_numbers(runs, name) for name in ("params", "tokens")})


def _target(at: Mapping[str, float], members: Sequence[Member] | None) -> pd.DataFrame:
    """The target as a row of params, tokens and flops; UserError where it is no forecast."""
    for name in ("params", "tokens"):
        value = at.get(name, np.nan)
        if not (np.isfinite(value) and value > 0):
            raise UserError(f"the target has {name} = {value:g}: give both, --at params=NUMBER,tokens=NUMBER")
    target = pd.DataFrame([{"params": at["params"], "tokens": at["tokens"]}])
    target["flops"] = _flops(target, members)
    if members is not None:
        form, fitted = members[0].fit.form, members[0].fit.observations
        if form.columns != ("params", "tokens"):
            raise UserError(
                f"form = {form.name}: a design needs a law of params and tokens, e.g. --form auto"
            )
        largest = float(fitted.flops.max())
        if target["flops"].iloc[0] <= largest:
            raise UserError(
                f"the target's {target['flops'].iloc[0]:.4g} flops are inside the data (the largest run has "
                f"{largest:.4g}): ask `extrapolate` for it, or give a larger one"
            )
    return target


def _flops(runs: pd.DataFrame, members: Sequence[Member] | None) -> Array:
    """Compute FLOPs by the table's own cost, by 6ND before there is one."""
    if members is None:
        return 6.0 * runs["params"].to_numpy(np.float64) * runs["tokens"].to_numpy(np.float64)
    return cost_model(members[0].fit.observations).flops(runs)
