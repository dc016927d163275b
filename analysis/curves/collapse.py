"""The collapse of normalised curves: (L(t T) - E) / (L(T) - E) against t is one curve for all sizes that are scaled
alike (Qiu et al. 2025, arXiv 2507.02119); a rung that leaves it by more than seeds do is named.

They collapse of themselves at compute-optimal horizons. At one horizon for all sizes the law's own curves differ
a little and smoothly; what is judged is the distance from the law's, so that only a rung's own deviation counts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student

from analysis.arrays import Array
from analysis.curves.fitted import CurveFit
from analysis.curves.points import Points
from analysis.errors import Code, Warn

# Shares of the horizon that curves are compared at, where all of them have been evaluated.
SHARES = 24
# False alarms, of a ladder.
ALARM = 0.01


@dataclass(frozen=True)
class RungCurve:
    """The normalised curve of one size, mean of its runs, at `share` of the horizon.

    deviation: of its logarithm from the law's, the mean over the shares, less the other sizes' median; noise: what
    that may be by seeds and by how the other sizes scatter (one standard deviation); left: beyond chance.
    """

    params: float
    runs: int
    share: Float[Array, " s"]
    measured: Float[Array, " s"]
    law: Float[Array, " s"]
    deviation: float
    noise: float
    left: bool


@dataclass(frozen=True)
class Collapse:
    """Curves of all sizes that reached one horizon (in tokens)."""

    horizon: float
    floor: float
    rungs: tuple[RungCurve, ...]

    @property
    def warnings(self) -> tuple[Warn, ...]:
        """One for each rung that left the collapse."""
        return tuple(
            Warn(
                Code.MIS_SCALED,
                f"the rung of {rung.params:,.0f} params leaves the collapse at {self.horizon:.3g} tokens by "
                f"{100 * rung.deviation:+.1f}% of its reducible loss, {abs(rung.deviation) / rung.noise:.1f} times "
                "what seeds and the other sizes leave open: look at its rate, its batch and its shape",
            )
            for rung in self.rungs
            if rung.left
        )


def collapse(points: Points, fitted: CurveFit) -> Collapse | None:
    """Compare the normalised curves of the sizes at the horizon that most of them reached, the longest of those.

    None where fewer than four sizes share one, or their evaluations do not overlap.
    """
    floor = fitted.params["E"]
    horizons = np.unique(points.horizon[points.ended])
    reached = [len(np.unique(points.size[points.ended & (points.horizon == h)])) for h in horizons]
    if not reached or max(reached) < 4:
        return None
    horizon = float(horizons[np.flatnonzero(np.array(reached) == max(reached))[-1]])
    curves = [c for run in np.unique(points.run).tolist() if (c := _curve(points, run, horizon)) is not None]
    first = max(points.x["tokens"][rows].min() for rows in curves) / horizon
    if first > 0.7 or points.loss.min() <= floor:
        return None
    share = np.geomspace(first, 1.0, SHARES)
    predicted = np.log(points.loss) - fitted.residual[0]
    measured = np.array(
        [_normalised(points, rows, np.log(points.loss), floor, horizon, share) for rows in curves]
    )
    by_law = np.array([_normalised(points, rows, predicted, floor, horizon, share) for rows in curves])
    size = np.array([points.size[rows[0]] for rows in curves])
    return Collapse(horizon, floor, _judged(points, size, share, measured, by_law))


def _curve(points: Points, run: int, horizon: float) -> Int[np.ndarray, " k"] | None:
    """Find the rows of one run's way to the horizon: its constant rate, then its fall; None without an end."""
    mine = points.run == run
    fall = mine & (points.horizon == horizon)
    if not (fall & points.ended).any():
        return None
    tokens = points.x["tokens"]
    falling = tokens[fall & points.falling].min()
    rows = np.flatnonzero(fall | (mine & np.isinf(points.horizon) & (tokens < falling)))
    rows = rows[np.argsort(tokens[rows], kind="stable")]
    return rows if len(rows) > 2 else None


def _normalised(
    points: Points,
    rows: Int[np.ndarray, " k"],
    log_loss: Float[Array, " n"],
    floor: float,
    horizon: float,
    share: Float[Array, " s"],
) -> Float[Array, " s"]:
    """Interpolate the logarithm of the normalised curve at shares of the horizon."""
    reducible = np.log(np.maximum(np.exp(log_loss[rows]) - floor, 1e-6))
    return np.interp(np.log(share), np.log(points.x["tokens"][rows] / horizon), reducible - reducible[-1])


def _judged(
    points: Points,
    size: Int[np.ndarray, " c"],
    share: Float[Array, " s"],
    measured: Float[Array, "c s"],
    by_law: Float[Array, "c s"],
) -> tuple[RungCurve, ...]:
    own = (measured - by_law).mean(axis=1)
    sizes = np.unique(size)
    mean = np.array([own[size == s].mean() for s in sizes])
    count = np.array([(size == s).sum() for s in sizes])
    inside = np.concatenate([own[size == s] - own[size == s].mean() for s in sizes])
    spare = len(own) - len(sizes)
    seeds = float(np.sqrt(np.sum(inside**2) / spare)) if spare else 0.0
    rungs = []
    for i, s in enumerate(sizes):
        others = np.delete(mean, i)
        scatter = 1.4826 * float(np.median(np.abs(others - np.median(others))))
        deviation = float(mean[i] - np.median(others))
        # The others' scatter holds their seeds' noise already; of exact curves there is none.
        noise = max(scatter, seeds / float(np.sqrt(count[i])), 1e-6)
        limit = student.ppf(1.0 - 0.5 * ALARM / len(sizes), max(len(others) - 1, 1))
        params = float(points.x["params"][points.size == s][0])
        rows = size == s
        rungs.append(
            RungCurve(
                params,
                int(count[i]),
                share,
                np.exp(measured[rows].mean(axis=0)),
                np.exp(by_law[rows].mean(axis=0)),
                deviation,
                noise,
                bool(abs(deviation) > limit * noise),
            )
        )
    return tuple(rungs)
