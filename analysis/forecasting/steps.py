"""Accuracy of runs that were not made: in one step (a sigmoid of compute) or two (loss, then a sigmoid of it).

The two steps are those of the OLMo ladder (Bhagia et al. 2024, arXiv 2412.04403): a law of the task's own loss in
params and tokens, and accuracy as a sigmoid of that loss. Which is better is for hold-outs to say (`downstream`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import fit_members
from analysis.fitting.options import FitOptions
from analysis.fitting.result import Member
from analysis.forecasting.accuracy_curve import Curves, Scored, fit_curves
from analysis.forecasting.discrepancy import Cut, cut_laws, cuts, discrepancy_of, missed_at
from analysis.forecasting.interval import noise_of
from analysis.forecasting.task_rows import Scale, TaskRows

METHODS = ("one_step", "two_step")
RESAMPLES = 60
# Fewer runs, or scales, leave a sigmoid of four parameters free.
LEAST_ROWS, LEAST_SCALES = 5, 4
# A law of params and tokens needs as many values of each; one of compute does with less.
LEAST_VALUES = 3
# Losses are far from any that a law of resampled parameters can put out; their logarithm is kept a number.
MOST_LOG_LOSS = 20.0


@dataclass(frozen=True)
class Held:
    """What a method misses at one cut: the `error` of each held-out run (measured less predicted), the log factor
    of compute that they lie beyond on average (`distance`) and at most (`farthest`), and the `variance` that their
    mean error was to have."""

    error: Float[Array, " m"]
    distance: float
    farthest: float
    variance: float


@dataclass(frozen=True)
class LossLaw:
    """A law of the task's own loss, and what it says at each cut of its rows."""

    member: Member
    cut: Mapping[float, list[Cut]]

    def draws(self, wanted: Scale, distance: Float[Array, " m"], seed: int) -> Float[Array, "R m"]:
        """Draw the losses of one new run at each target: parameters, seeds, and how far the law may be off."""
        fit, rng = self.member.fit, np.random.default_rng(seed)
        noise = noise_of(fit)
        with np.errstate(divide="ignore"):
            log = np.log(fit.predict_draws(wanted.columns))
        residual = rng.choice(noise.standard, log.shape) * noise.scale(fit.predict(wanted.columns))
        off = discrepancy_of(missed_at([self.member], self.cut), bent=False)
        return np.exp(
            np.clip(log + residual + off.draw(distance, len(log), rng), -MOST_LOG_LOSS, MOST_LOG_LOSS)
        )


def loss_law(rows: TaskRows, seed: int) -> LossLaw | None:
    """Fit E + A/N^alpha + B/D^beta to the task's own loss (E + A C^-b where params or tokens hardly vary).

    None where the loss was not measured in every run, or no law can be fitted to it.
    """
    columns = rows.scale.columns
    values = [columns[name].nunique() for name in ("params", "tokens") if name in columns]
    form = "chinchilla" if len(values) == 2 and min(values) >= LEAST_VALUES else "power_const"
    if not (np.isfinite(rows.loss).all() and (rows.loss > 0).all()):
        return None
    table = columns.assign(loss=rows.loss, final=True)
    try:
        member = fit_members(table, FitOptions(form=form, bootstrap=RESAMPLES, seed=seed))[0]
        # Settings that another beats are left out of a law: then its rows are not those of the scores.
        return (
            LossLaw(member, cut_laws([member], seed)) if len(member.fit.observations) == len(table) else None
        )
    except UserError:
        return None


def one_step(
    rows: TaskRows, kept: Bool[np.ndarray, " n"], wanted: Scale, rng: np.random.Generator
) -> Float[Array, "K m"]:
    """Draw the scores of runs at the scale `wanted` from the rows `kept`: a sigmoid of log compute, with a weight
    of log tokens per parameter."""
    x = np.log(rows.scale.compute)
    first, width = x[kept].min(), np.ptp(x[kept])
    middle = rows.scale.ratio[kept].mean()
    ratio = (rows.scale.ratio - middle) / width
    curves = fit_curves(rows.scored.of(kept), (x[kept] - first) / width, ratio[kept], rng)
    return _scores(curves, (np.log(wanted.compute) - first) / width, (wanted.ratio - middle) / width, rng)


def two_step(
    rows: TaskRows, kept: Bool[np.ndarray, " n"], loss: Float[Array, "R m"], rng: np.random.Generator
) -> Float[Array, "K m"] | None:
    """Draw the scores of runs whose loss has the draws `loss`: a sigmoid of the measured loss of the rows `kept`.

    None where the loss does not vary.
    """
    highest, width = rows.loss[kept].max(), np.ptp(rows.loss[kept])
    if not width > 0:
        return None
    curves = fit_curves(
        rows.scored.of(kept), (highest - rows.loss[kept]) / width, np.zeros(int(kept.sum())), rng
    )
    drawn = loss[rng.integers(len(loss), size=len(curves.low))]
    return _scores(curves, (highest - drawn) / width, np.zeros(loss.shape[1]), rng)


def _scores(
    curves: Curves, x: Float[Array, "... m"], r: Float[Array, " m"], rng: np.random.Generator
) -> Float[Array, "K m"]:
    mean = curves.at(x, r)
    return np.asarray(mean + curves.scatter[:, None] * rng.standard_normal(mean.shape))


def held_out_accuracies(rows: TaskRows, law: LossLaw | None, seed: int) -> dict[str, dict[float, Held]]:
    """Measure what each method misses at each cut of the rows by compute: method -> factor -> misses."""
    found: dict[str, dict[float, Held]] = {method: {} for method in METHODS}
    compute, rng = rows.scale.compute, np.random.default_rng(seed)
    for factor, kept in cuts(compute):
        if kept.sum() < LEAST_ROWS or len(np.unique(compute[kept])) < LEAST_SCALES:
            continue
        ahead = rows.scale.of(~kept)
        drawn = {"one_step": one_step(rows, kept, ahead, rng)}
        if law is not None and factor in law.cut:
            cut = law.cut[factor][0]
            noise = np.sqrt(cut.noise) * rng.standard_normal(cut.draws.shape)
            loss = np.exp(np.clip(cut.draws + noise, -MOST_LOG_LOSS, MOST_LOG_LOSS))
            two = two_step(rows, kept, loss, rng)
            if two is not None:
                drawn["two_step"] = two
        for method, draws in drawn.items():
            found[method][factor] = _held(
                rows.scored.of(~kept), draws, np.log(ahead.compute / compute[kept].max())
            )
    return found


def _held(scored: Scored, draws: Float[Array, "K m"], distance: Float[Array, " m"]) -> Held:
    centre = np.median(draws, axis=0)
    items = scored.variance(np.clip(centre, 0, 1))
    variance = float(np.var(draws.mean(axis=1)) + items.sum() / len(items) ** 2)
    return Held(scored.score - centre, float(distance.mean()), float(distance.max()), variance)
