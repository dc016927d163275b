"""Rolling hold-outs: fit the cheap runs, predict the dear ones, within the table; choose by what is missed.

Nothing here sees a target: forms are weighed, and the rows of another regime left out, by errors within the
table alone. What the errors say about intervals is `analysis.discrepancy`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting.bound_law import Model
from analysis.fitting.objective import Objective
from analysis.fitting.observations import Observations
from analysis.fitting.search import search
from analysis.laws.law import Form

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
# A form's weight is its rolling error to minus this: 10% less error is nearly twice the weight.
SHARPNESS = 6.0
# Rows beyond the parameters that a regime must keep.
SPARE_ROWS = 4


@dataclass(frozen=True)
class Candidate:
    """A form on the rows of loss up to `ceiling`: `error` is its mean absolute rolling error of log loss
    (infinite where no cut leaves enough rows), `objective` its value on all its rows."""

    form: Form
    keep: np.ndarray
    ceiling: float
    error: float
    objective: float


@dataclass(frozen=True)
class Choice:
    """All candidates, and the regime that the rule takes: `keep` [n] with losses up to `ceiling`.

    `improvement` is the rolling error of all rows over that of the best regime with fewer; `bent` says that
    it is large enough to leave rows out.
    """

    found: tuple[Candidate, ...]
    everything: float
    ceiling: float
    keep: np.ndarray
    improvement: float

    @property
    def bent(self) -> bool:
        return self.ceiling != self.everything

    def weigh(self, ceiling: float) -> list[tuple[Candidate, float]]:
        """The forms on the rows up to `ceiling`, best first, with weights that sum to one."""
        ranked = sorted((c for c in self.found if c.ceiling == ceiling), key=lambda c: c.error)
        errors = np.asarray([c.error for c in ranked])
        if np.isfinite(errors).any():
            # An error of zero, of runs without noise, outweighs all others.
            errors = np.maximum(errors, 1e-15)
            weights = np.where(np.isfinite(errors), (errors / errors.min()) ** -SHARPNESS, 0.0)
        else:
            # Too few rows to hold any out: the first form that was asked for.
            weights = np.eye(len(ranked))[0]
        return list(zip(ranked, (weights / weights.sum()).tolist(), strict=True))


def choose(
    observations: Observations,
    models: Sequence[tuple[Form, Model]],
    objective: Objective,
    *,
    regimes: bool = True,
) -> Choice:
    """Try the forms on all rows and (`regimes`) on those below some loss, where a law may have bent.

    A ladder's small or short runs are in an earlier stage of learning, which shows in their loss: the rule
    ranks rows by loss and leaves out the highest.
    """
    options = ceilings(observations) if regimes else ceilings(observations)[:1]
    found = [
        candidate
        for form, model in models
        for candidate in _candidates(observations, form, model, objective, options)
    ]
    best = {
        ceiling: min(c.error for c in found if c.ceiling == ceiling) for ceiling in {c.ceiling for c in found}
    }
    everything = options[0][0]
    least = min(best, key=lambda ceiling: (best[ceiling], -ceiling))
    fewer = min((error for ceiling, error in best.items() if ceiling != everything), default=np.inf)
    improvement = best[everything] / fewer if np.isfinite(fewer) and fewer > 0 else 0.0
    ceiling = least if improvement > MARGIN else everything
    keep = next(rows for at, rows in options if at == ceiling)
    return Choice(tuple(found), everything, ceiling, keep, float(improvement))


def ceilings(observations: Observations) -> list[tuple[float, np.ndarray]]:
    """Losses up to which rows count, and the rows; the first keeps them all."""
    loss = observations.loss
    order = np.sort(loss)[::-1]
    found: list[tuple[float, np.ndarray]] = []
    for drop in sorted({round(share * len(loss)) for share in SHARES}):
        keep = loss <= order[drop]
        if not found or keep.sum() < found[-1][1].sum():
            found.append((float(order[drop]), keep))
    return found


def cheapest(size: np.ndarray, keep: np.ndarray, share: float) -> np.ndarray:
    """The rows of `keep` without the `share` of them of largest compute, and whatever ties with those."""
    if share == 0.0:
        return keep
    ordered = np.sort(size[keep])[::-1]
    return keep & (size < ordered[round(share * len(ordered))] * (1 - 1e-9))


def _candidates(
    observations: Observations,
    form: Form,
    model: Model,
    objective: Objective,
    options: Sequence[tuple[float, np.ndarray]],
) -> list[Candidate]:
    """One form under every regime: all the fits of all the cuts are one batch."""
    size, loss = observations.flops, observations.loss
    p = len(form.names)
    masks: list[np.ndarray] = []
    owners: list[tuple[int, float]] = []
    for i, (_, keep) in enumerate(options):
        if i and keep.sum() < p + SPARE_ROWS:
            continue
        for share in (0.0, *HELD_OUT):
            mask = cheapest(size, keep, share)
            if mask.sum() >= p + 2 or share == 0.0:
                masks.append(mask)
                owners.append((i, share))
    weight = np.asarray(masks, dtype=np.float64) * observations.weight
    result = search(model, loss, weight, objective, starts=3)
    off = np.abs(np.log(loss / model.predict(result.theta)))
    errors: dict[int, list[float]] = {}
    values: dict[int, float] = {}
    for (i, share), mask, value, miss in zip(owners, masks, result.value, off, strict=True):
        held = options[i][1] & ~mask
        if share == 0.0:
            values[i] = float(value)
            errors.setdefault(i, [])
        elif held.any():
            errors[i].append(float(np.mean(miss[held])))
    return [
        Candidate(
            form,
            options[i][1],
            options[i][0],
            float(np.mean(errors[i])) if len(errors[i]) == len(HELD_OUT) else np.inf,
            values[i],
        )
        for i in errors
    ]
