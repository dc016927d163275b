"""One law of curves, fitted to points and to what it leaves; what it says of other points; how well, when tried.

The search is `fitting.search`'s. A fit of the ends alone goes the same way, for comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.arrays import Array, Columns
from analysis.curves.laws import CURVE_LAWS
from analysis.curves.points import Points
from analysis.curves.residual import CurveNoise, Places, curve_noise
from analysis.errors import UserError
from analysis.fitting.objective import Objective
from analysis.fitting.observations import Observations
from analysis.fitting.problem import Problem
from analysis.fitting.resampling import resample_weights
from analysis.fitting.search import search
from analysis.laws.catalogue import get_form
from analysis.laws.law import Form

# Seeds' noise is .3 to 1% of a loss: least squares for that, least absolute deviation for what is wilder.
OBJECTIVE = Objective("huber", "log", 0.01)
# Cells of the grid that are polished; of 8, nearly all ended in one basin on every table tried.
STARTS = 4
ENDS_ALONE = get_form("chinchilla6")
# Schedules and horizons that are held out in turn, the longest.
MOST_HELD_OUT = 4
LARGEST = "largest size"


@dataclass(frozen=True)
class CurveFit:
    """A law and what it leaves. params: by name; draws: of resampled runs, the table's own first; residual: of log
    loss at `places`, a row a draw."""

    law: Form
    params: dict[str, float]
    draws: Float[Array, "R p"]
    noise: CurveNoise
    places: Places
    residual: Float[Array, "R n"]

    def predict(
        self, x: Columns, size: Int[np.ndarray, " m"], run: Int[np.ndarray, " m"]
    ) -> tuple[Float[Array, "R m"], Float[Array, " m"]]:
        """Predict log losses at the columns `x` under each draw, and the deviation of one evaluation from them.

        What is known of a rung and of a run is in both; size -1 or run -1 is a new one.
        """
        wanted = _places(self.law, self.params, x, size, run)
        mean, covariance = self.noise.krige(self.residual, self.places, wanted)
        deviation = np.sqrt(np.diag(covariance) + self.noise.deviations[-1] ** 2)
        return _log_law(self.law, self.draws, x) + mean, deviation


def fit_curves(law: Form, points: Points, resamples: int = 0, seed: int = 0) -> CurveFit:
    """Fit `law` to the points, then the components of its noise; runs are resampled whole. UserError if too few."""
    n = len(points)
    if n <= len(law.names):
        raise UserError(
            f"{n} evaluations for the {len(law.names)} parameters of {law.name}: give more, or longer runs"
        )
    run = np.unique(points.run, return_inverse=True)[1]
    nothing = np.full(n, np.nan)
    observations = Observations(
        x={name: points.x[name] for name in law.columns},
        x_name="params",
        loss=points.loss,
        weight=np.ones(n),
        group=run,
        group_source="run",
        flops=nothing,
        flops_source="none",
        labels=points.table.index.to_numpy(),
    )
    problem = Problem(law, observations, OBJECTIVE)
    best = search(problem, observations.weight[None], starts=STARTS)
    theta = best.theta
    if resamples:
        weight = resample_weights(run, resamples, seed)
        theta = np.concatenate([theta, search(problem, weight, starts=1, near=best.theta).theta])
    draws = problem.model.public(theta)
    params = dict(zip(law.names, draws[0].tolist(), strict=True))
    residual = np.log(points.loss) - _log_law(law, draws, points.x)
    places = _places(law, params, points.x, points.size, points.run)
    return CurveFit(law, params, draws, curve_noise(residual[0], places), places, residual)


def _log_law(law: Form, draws: Float[Array, "R p"], x: Columns) -> Float[Array, "R n"]:
    read = {name: x[name] for name in law.columns}
    return np.log(law.predict({name: draws[:, i, None] for i, name in enumerate(law.names)}, read))


def _places(
    law: Form, params: dict[str, float], x: Columns, size: Int[np.ndarray, " n"], run: Int[np.ndarray, " n"]
) -> Places:
    gain = np.zeros(len(size))
    if "C" in params:
        gain = np.log(law.predict({**params, "C": 0.0}, x) / law.predict(params, x))
    return Places(size, run, np.log(x["area"]), gain)


@dataclass(frozen=True)
class HeldOut:
    """One trial: what was held out, the runs of it, and of each law the errors of log loss at their ends with the
    standard deviations that it had said (NaN where a law could not be fitted without them)."""

    what: str
    ends: int
    errors: dict[str, Float[Array, " m"]]
    said: dict[str, Float[Array, " m"]]

    def mean_error(self, law: str) -> float:
        """The mean size of the error, as a share of the loss."""
        return float(np.abs(self.errors[law]).mean())


def held_out(points: Points) -> list[HeldOut]:
    """Hold out the falls of each schedule and horizon in turn, with the trunks left in, then the largest size
    with all its runs, and predict the ends. The law of ends alone is tried beside, on ends of one schedule."""
    label = np.array([s.label for s in points.schedules])
    falls = np.isfinite(points.horizon)
    groups = sorted(
        {(h, name) for h, name in zip(points.horizon[falls], label[falls], strict=True)}, reverse=True
    )
    trials = [
        _held_out(
            points, f"{name} to {h:.4g}", falls & (points.horizon == h) & (label == name), label == name
        )
        for h, name in groups[:MOST_HELD_OUT]
    ]
    trials.append(_held_out(points, LARGEST, points.size == points.size.max(), falls))
    return [trial for trial in trials if trial is not None]


def _held_out(
    points: Points, what: str, out: Bool[np.ndarray, " n"], alike: Bool[np.ndarray, " n"]
) -> HeldOut | None:
    """Try all laws; None where what is left cannot carry a law of curves."""
    rest, ends = points.keep(~out), points.keep(out & points.ended)
    if not len(ends) or not rest.falling.any() or len(np.unique(rest.size)) < 2:
        return None
    errors, said = {}, {}
    for law in (*CURVE_LAWS, ENDS_ALONE):
        seen = points.keep(~out & points.ended & alike) if law is ENDS_ALONE else rest
        errors[law.name] = said[law.name] = np.full(len(ends), np.nan)
        if len(seen) < 2 * len(law.names):
            if law is ENDS_ALONE:
                continue
            return None
        logs, said[law.name] = fit_curves(law, seen).predict(ends.x, ends.size, ends.run)
        errors[law.name] = logs[0] - np.log(ends.loss)
    return HeldOut(what, len(ends), errors, said)


def overall(trials: Sequence[HeldOut], law: str, beside: str = "") -> float:
    """Average the mean errors over the trials of schedules and horizons (over all, where there are no others) that
    the law `beside` was tried in too; NaN without any."""
    fair = [t for t in trials if not np.isnan(t.mean_error(beside or law))]
    errors = [t.mean_error(law) for t in fair if t.what != LARGEST] or [t.mean_error(law) for t in fair]
    return float(np.mean(errors)) if errors else np.nan


def best_law(trials: Sequence[HeldOut]) -> Form:
    """Choose the law of curves whose forecasts of held-out ends were the best; the last where nothing was tried."""
    return min(CURVE_LAWS, key=lambda law: overall(trials, law.name)) if trials else CURVE_LAWS[-1]


def missed(trials: Sequence[HeldOut], law: str, new_size: bool) -> float:
    """How many times the said standard deviation the errors were, root mean square, at least one."""
    ratios = [t.errors[law] / t.said[law] for t in trials if (t.what == LARGEST) == new_size]
    return max(1.0, float(np.sqrt(np.mean(np.concatenate(ratios) ** 2)))) if ratios else 1.0


def at_sizes(params: Float[Array, " m"], points: Points) -> Int[np.ndarray, " m"]:
    """Number the rungs of `params` as `points` does; -1 for a size that has no run."""
    known = dict(zip(points.x["params"].tolist(), points.size.tolist(), strict=True))
    return np.array([known.get(float(p), -1) for p in params])
