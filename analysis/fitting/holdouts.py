"""Rolling hold-outs: fit the cheap runs, predict the most expensive, within the table; choose by the errors.

Nothing here sees a target: forms are weighed, and the rows of another regime left out, by errors within the
table alone. What the errors say about intervals is `forecasting.discrepancy`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.errors import Code, Warn
from analysis.fitting.observations import Observations
from analysis.fitting.problem import Problem
from analysis.fitting.search import search
from analysis.fitting.structure import structure

# Settings, chosen by hand over several rounds of `benchmarks.coverage` on the public tables it names: its errors
# there are partly in-sample (docs/log.md).
# Cuts: the shares of rows, those of largest compute, that are held out. Few do better than many: far back,
# the rows in which a law is already bent the wrong way reward whatever bends back.
HELD_OUT = (0.1, 0.2)
# The shares of rows, those of highest loss, that may be left out: never more than half. With up to .6 a ladder of
# 36 rows was cut to 14, and its law missed by 14% (docs/log.md).
SHARES = tuple(0.05 * i for i in range(11))
# Rows are left out only where that divides the rolling error by this.
MARGIN = 1.5
# ... and where the plain form's residuals of all rows have structure, strongly (log 20: Kass and Raftery 1995): of
# ten regimes one divides a true law's error by MARGIN in a quarter of tables.
STRUCTURED = 3.0
# A form's weight is its rolling error to minus this: 10% less error is nearly twice the weight.
SHARPNESS = 6.0
# Rows beyond the parameters that a regime must keep.
SPARE_ROWS = 4
# Rolling hold-outs so many times better without some rows are a bend that a fit of all rows has to mention.
FLAGRANT = 3.0
# Intervals from fewer rows of one variable held 76% (7 rows) to 86% (8) of 100 made laws each, 90% asked.
FEWEST_TRIED = 9


@dataclass(frozen=True)
class Candidate:
    """A problem on the rows of loss up to `ceiling`: `error` is its mean absolute rolling error of log loss
    (infinite where no cut leaves enough rows), `objective` and `theta` its value and parameters on all rows."""

    problem: Problem
    ceiling: float
    error: float
    objective: float
    theta: Float[Array, " p"]


@dataclass(frozen=True)
class Choice:
    """All candidates, and the regime that the rule takes: `keep` with losses up to `ceiling`.

    `improvement` is the rolling error of all rows over that of the best regime with fewer.
    """

    found: tuple[Candidate, ...]
    everything: float
    ceiling: float
    keep: Bool[np.ndarray, " n"]
    improvement: float

    @property
    def bent(self) -> bool:
        """True where the improvement is large enough to leave rows out."""
        return self.ceiling != self.everything

    @property
    def flagrant(self) -> bool:
        """True where a fit of all rows has to mention the bend."""
        return self.bent and self.improvement > FLAGRANT

    def weigh(self, ceiling: float) -> list[tuple[Candidate, float]]:
        """Rank the forms on the rows up to `ceiling`, best first, with weights that sum to one."""
        ranked = sorted((c for c in self.found if c.ceiling == ceiling), key=lambda c: c.error)
        # An error of zero, of runs without noise, outweighs all others.
        errors = np.maximum([c.error for c in ranked], 1e-15)
        # A form that too few rows leave untested is as likely as the best of the others, if it has rows to spare.
        spare = np.asarray([len(self.keep) >= c.problem.parameters + 2 for c in ranked])
        errors = np.where(np.isinf(errors) & spare, errors[0] if np.isfinite(errors[0]) else 1.0, errors)
        if np.isinf(errors).all():
            errors[0] = 1.0
        weights = np.where(np.isfinite(errors), (errors / errors.min()) ** -SHARPNESS, 0.0)
        return list(zip(ranked, (weights / weights.sum()).tolist(), strict=True))

    @property
    def unbent(self) -> Observations:
        """The table's rows without those of another regime, with the reason."""
        observations = self.found[0].problem.observations
        reason = (
            f"another regime: loss above {self.ceiling:.5g}; without these rows the law predicts the table's "
            f"most expensive runs {self.improvement:.1f} times better (rolling hold-outs)"
        )
        return observations.keep(observations.loss <= self.ceiling, reason)

    def warning(self) -> Warn:
        """Say that rolling hold-outs show a bend and all rows were fitted."""
        return Warn(
            Code.BEND,
            f"within the table the law predicts its most expensive runs {self.improvement:.1f} times better "
            f"without the {int((~self.keep).sum())} rows of loss above {self.ceiling:.4g}: they are in another "
            'regime; leave them out, or let regime="auto" (--regime auto) do so',
        )


def untested(ranked: Sequence[tuple[Candidate, float]], rows: int) -> list[Warn]:
    """Say that forms could be tried on no rows that were held out, or on so few that it means little."""
    names = [c.problem.form.name for c, weight in ranked if weight > 0 and not np.isfinite(c.error)]
    if names:
        said = f"{rows} rows leave none to hold out and try {', '.join(names)} on"
    elif rows < FEWEST_TRIED:
        said = f"of {rows} rows one or two are held out at a time"
    else:
        return []
    return [Warn(Code.UNTESTED, f"{said}: which form it is, and how far it reaches, rests on the fit alone")]


def choose(problems: Sequence[Problem], *, regimes: bool = True) -> Choice:
    """Try the problems on all rows and (`regimes`) on those below some loss, where a law may have bent.

    The problems are of one table. A ladder's small or short runs are in an earlier stage of learning, which shows
    in their loss: the rule ranks rows by loss and leaves out the highest.
    """
    options = ceilings(problems[0].small.observations.loss)
    options = options if regimes else options[:1]
    found = [candidate for problem in problems for candidate in _candidates(problem, options)]
    best = {
        ceiling: min(c.error for c in found if c.ceiling == ceiling) for ceiling in {c.ceiling for c in found}
    }
    everything = options[0][0]
    least = min(best, key=lambda ceiling: (best[ceiling], -ceiling))
    fewer = min((error for ceiling, error in best.items() if ceiling != everything), default=np.inf)
    improvement = best[everything] / fewer if np.isfinite(fewer) and fewer > 0 else 0.0
    # The first form is the plain one: freer ones bend with the rows.
    bent = improvement > MARGIN and structure(found[0].problem, found[0].theta) > STRUCTURED
    ceiling = least if bent else everything
    keep = next(rows for at, rows in options if at == ceiling)
    return Choice(tuple(found), everything, ceiling, keep, float(improvement))


def ceilings(loss: Float[Array, " n"]) -> list[tuple[float, Bool[np.ndarray, " n"]]]:
    """List losses up to which rows count, with the rows; the first keeps them all."""
    order = np.sort(loss)[::-1]
    found: list[tuple[float, np.ndarray]] = []
    for drop in sorted({round(share * len(loss)) for share in SHARES}):
        keep = loss <= order[drop]
        if not found or keep.sum() < found[-1][1].sum():
            found.append((float(order[drop]), keep))
    return found


def cheapest(size: Float[Array, " n"], keep: Bool[np.ndarray, " n"], share: float) -> Bool[np.ndarray, " n"]:
    """Take the rows of `keep` without the `share` of them of largest compute, and whatever ties with those."""
    if share == 0.0:
        return keep
    ordered = np.sort(size[keep])[::-1]
    return keep & (size < ordered[round(share * len(ordered))] * (1 - 1e-9))


def _candidates(problem: Problem, options: Sequence[tuple[float, Bool[np.ndarray, " n"]]]) -> list[Candidate]:
    """Fit one form under every regime: all the fits of all the cuts are one batch."""
    small = problem.small
    size, loss = small.observations.size, small.observations.loss
    p = problem.parameters
    masks: list[np.ndarray] = []
    owners: list[tuple[int, float]] = []
    for i, (_, keep) in enumerate(options):
        if i and keep.sum() < p + SPARE_ROWS:
            continue
        for share in (0.0, *HELD_OUT):
            mask = cheapest(size, keep, share)
            if problem.small.carries(mask) or share == 0.0:
                masks.append(mask)
                owners.append((i, share))
    result = search(small, np.asarray(masks, dtype=np.float64) * small.observations.weight, starts=3)
    off = np.abs(np.log(loss / small.model.predict(result.theta)))
    errors: dict[int, list[float]] = {}
    whole: dict[int, tuple[float, np.ndarray]] = {}
    for (i, share), mask, value, theta, miss in zip(
        owners, masks, result.value, result.theta, off, strict=True
    ):
        held = options[i][1] & ~mask
        if share == 0.0:
            whole[i] = (float(value), theta)
            errors.setdefault(i, [])
        elif held.any():
            errors[i].append(float(np.mean(miss[held])))
    return [
        Candidate(
            problem,
            options[i][0],
            float(np.mean(errors[i])) if len(errors[i]) == len(HELD_OUT) else np.inf,
            *whole[i],
        )
        for i in errors
    ]
