"""How wrong a law itself is beyond the data, learnt from rolling hold-outs within the table.

A law that holds misses held-out runs by as much as its parameters and noise allow; what is missed besides is
weighed against that chance. The posterior is carried on to new runs by `analysis.uncertainty`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.fitting.fit import Fit
from analysis.fitting.observations import Observations
from analysis.fitting.resampling import bind, resample_weights, thinned
from analysis.fitting.search import search

# Compute of the largest run over that of the largest run kept, for what is missed with distance.
CUTS = (1.5, 2.0, 3.0, 5.0, 8.0)
# Resamples of every cut: a spread, not a percentile.
RESAMPLES = 60
# A law is off by normal errors of log loss of standard deviation slope x distance^GROWTH. The slope is nought with
# probability TRUE, but never where the rolling hold-outs show a bend (rows were left out for what they spoil, so
# the others' hold-outs look better than they are), and half-Cauchy of scale PRIOR otherwise (Gelman 2006).
# TRUE is chosen on made tables, PRIOR and GROWTH by `benchmarks/coverage.py --settings`, each publication left out
# in turn.
GROWTH = 4.0 / 3.0
TRUE = 0.95
PRIOR = 0.015
# Slopes that are tried besides nought.
SLOPES = np.geomspace(5e-4, 0.15, 40)
# Power of each cut's likelihood: the cuts of a table hold out the same rows over, and err together.
EVIDENCE = 0.5
# More than FAR x beyond the tested distance, in compute, the slope is at least FAR_PRIOR: the mean over four
# publications (not OLMo's) of the median growth beyond parameters and noise.
FAR = 10.0
FAR_PRIOR = 0.004


@dataclass(frozen=True)
class HeldOut:
    """One cut: `error` log(observed / predicted) [m], `distance` [m], log compute beyond the largest run kept, and
    what a law that holds would miss: `spread`, a standard deviation (root mean square over the rows).

    The errors of a cut go together, for one fit misses them all: their mean square has `freedom` degrees of
    freedom (Satterthwaite 1946, Biometrics Bulletin 2, 110), its expectation the `spare` ones of the rows
    kept.
    """

    error: Array
    distance: Array
    spread: float
    freedom: float
    spare: float


def hold_out(members: Sequence[tuple[Fit, float]], seed: int) -> list[HeldOut]:
    """What the forms, weighted, miss at each cut of the rows they were fitted to (a subset of a large table's)."""
    observations = thinned(members[0][0].observations, seed)
    found: dict[float, list[tuple[float, Array, Array, float, float]]] = {}
    kept = dict(cuts(observations))
    for fitted, weight in members:
        model = bind(fitted.form, observations)
        p = len(fitted.params)
        masks = {factor: mask for factor, mask in kept.items() if mask.sum() >= p + 2}
        if not masks:
            continue
        keep = np.asarray(list(masks.values()), dtype=np.float64) * observations.weight
        base = search(model, observations.loss, keep, fitted.objective, starts=3)
        drawn = resample_weights(observations.group, RESAMPLES, seed)
        weights = (drawn[None] * keep[:, None]).reshape(-1, len(observations))
        resampled = search(model, observations.loss, weights, fitted.objective, starts=1, near=base.theta)
        draws = _log(model.predict(resampled.theta)).reshape(len(masks), RESAMPLES, -1)
        predicted = _log(model.predict(base.theta))
        for j, (factor, mask) in enumerate(masks.items()):
            inside = np.log(observations.loss[mask]) - predicted[j][mask]
            spare = max(fitted.objective.spare(inside, observations.loss[mask], p), 1.0)
            noise = float(np.sum(inside**2)) / spare
            found.setdefault(factor, []).append(
                (weight, predicted[j][~mask], draws[j][:, ~mask], noise, spare)
            )
    return [_held_out(observations, kept[factor], parts) for factor, parts in found.items()]


def _held_out(
    observations: Observations, kept: np.ndarray, parts: Sequence[tuple[float, Array, Array, float, float]]
) -> HeldOut:
    """One cut from each form's weight, prediction [m], resampled predictions [R, m], noise and spare rows.

    The errors' covariance is that of resamples and of forms about their mean, deviations' * deviations, with
    noise on its diagonal.
    """
    share = np.asarray([weight for weight, *_ in parts])
    share = share / share.sum()
    predicted = share @ np.asarray([p for _, p, *_ in parts])
    deviations = [np.sqrt(share)[:, None] * (np.asarray([p for _, p, *_ in parts]) - predicted)]
    for w, (_, _, draws, _, _) in zip(share, parts, strict=True):
        deviations.append(np.sqrt(w / len(draws)) * (draws - draws.mean(axis=0)))
    together = np.concatenate(deviations)
    noise = float(share @ [part[3] for part in parts])
    m = len(predicted)
    parameters = float(np.sum(together**2))
    trace = parameters + m * noise
    squares = float(np.sum((together @ together.T) ** 2)) + 2.0 * noise * parameters + m * noise**2
    size = observations.flops
    return HeldOut(
        np.log(observations.loss[~kept]) - predicted,
        np.log(size[~kept] / size[kept].max()),
        float(np.sqrt(trace / m)),
        trace**2 / squares if squares > 0 else 1.0,
        min(part[4] for part in parts),
    )


def _log(loss: Array) -> Array:
    """log of losses of which a resample's may vanish or overflow: then far off, but a number."""
    return np.asarray(np.log(np.clip(loss, 1e-300, 1e300)))


def cuts(observations: Observations) -> list[tuple[float, np.ndarray]]:
    """The rows kept at each of CUTS; cuts that keep the same rows count once."""
    size = observations.flops
    found: list[tuple[float, np.ndarray]] = []
    for factor in CUTS:
        mask = size <= size.max() / factor * (1 + 1e-9)
        if not mask.all() and not (found and np.array_equal(found[-1][1], mask)):
            found.append((factor, mask))
    return found


@dataclass(frozen=True)
class Discrepancy:
    """How wrong the law may be: off by `slopes` [k] x distance^GROWTH of log loss with `probability` [k].

    `tested` is the log compute up to which hold-outs have tried it; far beyond (`FAR`) the slope is at least
    `FAR_PRIOR`.
    """

    slopes: Array
    probability: Array
    tested: float

    @property
    def slope(self) -> float:
        """The mean over the posterior."""
        return float(self.slopes @ self.probability)

    def draw(self, distance: Array, count: int, rng: np.random.Generator) -> Array:
        """Errors of log loss [count, m] at log distances [m]; none inside the data."""
        slope = rng.choice(self.slopes, size=(count, 1), p=self.probability)
        slope = np.where(self.far(distance), np.maximum(slope, FAR_PRIOR), slope)
        normal = rng.standard_normal((count, len(distance)))
        return normal * slope * np.maximum(distance, 0.0) ** GROWTH

    def far(self, distance: Array) -> np.ndarray:
        """Which distances [m] are more than FAR x beyond what was tested."""
        return distance > self.tested + np.log(FAR)


NONE = Discrepancy(np.zeros(1), np.ones(1), np.inf)


def discrepancy_of(held_out: Sequence[HeldOut], *, bent: bool) -> Discrepancy:
    """The posterior of the slope after the hold-outs; `bent`: they chose which rows to keep, or should have."""
    slopes = np.concatenate([[0.0], SLOPES])
    # Half-Cauchy, times the slope for a grid that is even in its logarithm.
    wrong = (SLOPES / PRIOR) / (1.0 + (SLOPES / PRIOR) ** 2)
    true = 0.0 if bent else TRUE
    with np.errstate(divide="ignore"):
        log_posterior = np.log(np.concatenate([[true], (1.0 - true) * wrong / wrong.sum()]))
    tested = 0.0
    for cut in held_out:
        log_posterior = log_posterior + EVIDENCE * _log_likelihood(cut, slopes)
        tested = max(tested, float(cut.distance.max()))
    probability = np.exp(log_posterior - log_posterior.max())
    return Discrepancy(slopes, probability / probability.sum(), tested)


def _log_likelihood(cut: HeldOut, slopes: Array) -> Array:
    """Of each slope [k], up to a constant: the mean squared error over its expectation is an F variable."""
    expected = max(cut.spread**2, 1e-30)
    growth = 1.0 + slopes**2 * float(np.mean(cut.distance ** (2.0 * GROWTH))) / expected
    ratio = max(float(np.mean(cut.error**2)) / expected, 1e-12) / growth
    a, b = cut.freedom, cut.spare
    density = (0.5 * a - 1.0) * np.log(ratio) - 0.5 * (a + b) * np.log1p(a * ratio / b)
    return np.asarray(density - np.log(growth))
