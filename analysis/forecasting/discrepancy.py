"""The discrepancy: how wrong a law itself is beyond the data, learnt from rolling hold-outs within the table.

A law that holds misses held-out runs by as much as its parameters and noise allow; what is missed besides is
weighed against that chance. The posterior is carried on to new runs by `forecasting.interval`.

The model, in log loss: a held-out run at distance d (log factor of compute beyond the largest run kept) is missed
by  e = parameters + seed noise + s d^GROWTH z,  z standard normal, s the slope. The first two have variances that
resamples and residuals tell (`_missed`); s has a prior that is a spike at zero (the law holds) and a half-Cauchy.
Structure in the residuals speaks against the spike (`fitting.structure`), and each cut of the table gives a
likelihood (`Missed.log_likelihood`). After Kennedy and O'Hagan 2001 (JRSS B 63, 425), whose discrepancy is a
Gaussian process; here it is one slope, for a table has a handful of cuts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.fitting.observations import Observations
from analysis.fitting.resampling import resample_weights
from analysis.fitting.result import Member
from analysis.fitting.search import search

# Compute of the largest run over that of the largest run kept, for what is missed with distance.
CUTS = (1.5, 2.0, 3.0, 5.0, 8.0)
# Resamples of every cut: a spread, not a percentile.
RESAMPLES = 60
# A law is off by normal errors of log loss of standard deviation slope x distance^GROWTH. The slope is zero with
# probability TRUE, but never where the rolling hold-outs show a bend (rows were left out for what they spoil, so
# the others' hold-outs look better than they are), and half-Cauchy of scale PRIOR otherwise (Gelman 2006).
# TRUE is chosen on made tables, PRIOR and GROWTH by `benchmarks/coverage.py --settings`, each publication left out
# in turn.
GROWTH = 4.0 / 3.0
TRUE = 0.95
PRIOR = 0.015
# Slopes that are tried besides zero.
SLOPES = np.geomspace(5e-4, 0.15, 40)
# Power of each cut's likelihood: the cuts of a table hold out the same rows over, and err together.
EVIDENCE = 0.5
# More than FAR x beyond the tested distance, in compute, the slope is at least FAR_PRIOR: the mean over four
# publications (not OLMo's) of the median growth beyond parameters and noise.
FAR = 10.0
FAR_PRIOR = 0.004


@dataclass(frozen=True)
class Cut:
    """One law fitted to the rows of one cut, and what it says of the others.

    `weight` is the law's share of the mixture, `predicted` and `draws` the log losses that it and its resamples
    predict, `noise` the variance of its residuals of log loss and `spare` their degrees of freedom.
    """

    weight: float
    predicted: Float[Array, " m"]
    draws: Float[Array, "R m"]
    noise: float
    spare: float


@dataclass(frozen=True)
class Missed:
    """The errors of one cut: `error` log(observed / predicted), `distance` log compute beyond the largest run kept,
    and what a law that holds would miss: `spread`, a standard deviation (root mean square over the rows).

    The errors of a cut go together, for one fit misses them all: their mean square has `freedom` degrees of
    freedom (Satterthwaite 1946, Biometrics Bulletin 2, 110), its expectation the `spare` ones of the rows
    kept.
    """

    error: Float[Array, " m"]
    distance: Float[Array, " m"]
    spread: float
    freedom: float
    spare: float

    def log_likelihood(self, slopes: Float[Array, " s"]) -> Float[Array, " s"]:
        """Compute the log likelihood of each slope, up to a constant.

        The mean squared error over its expectation under a slope, spread^2 + slope^2 mean(distance^(2 GROWTH)),
        is a ratio of two independent mean squares: an F variable of `freedom` and `spare` degrees of freedom. Its
        density at ratio x is x^(a/2 - 1) (1 + a x / b)^(-(a + b)/2); the last term is the Jacobian of the
        scaling, one over the expectation.
        """
        expected = max(self.spread**2, 1e-30)
        growth = 1.0 + slopes**2 * float(np.mean(self.distance ** (2.0 * GROWTH))) / expected
        ratio = max(float(np.mean(self.error**2)) / expected, 1e-12) / growth
        a, b = self.freedom, self.spare
        density = (0.5 * a - 1.0) * np.log(ratio) - 0.5 * (a + b) * np.log1p(a * ratio / b)
        return np.asarray(density - np.log(growth))


def hold_out(members: Sequence[Member], seed: int) -> list[Missed]:
    """Measure what the laws, weighted, miss at each cut of their rows (of the subset of a large table's)."""
    return missed_at(members, cut_laws(members, seed))


def cut_laws(members: Sequence[Member], seed: int) -> dict[float, list[Cut]]:
    """Fit the laws to the rows kept at each cut, by its factor."""
    fits = [member.joint or member.fit for member in members]
    observations = fits[0].observations.small
    kept = dict(cuts(observations.size))
    drawn = resample_weights(observations.group, RESAMPLES, seed)
    found: dict[float, list[Cut]] = {}
    for member, fitted in zip(members, fits, strict=True):
        problem = fitted.problem.small
        p = problem.parameters
        masks = {factor: mask for factor, mask in kept.items() if problem.carries(mask)}
        if not masks:
            continue
        keep = np.asarray(list(masks.values()), dtype=np.float64) * observations.weight
        base = search(problem, keep, starts=3)
        weights = (drawn[None] * keep[:, None]).reshape(-1, len(observations))
        centres = problem.centres(RESAMPLES, seed)
        centres = None if centres is None else np.tile(centres, (len(masks), 1))
        resampled = search(problem, weights, starts=1, near=base.theta, centres=centres)
        # A resample's loss may vanish or overflow: then it is far off, but a number.
        predicted, draws = (
            np.log(np.clip(problem.model.predict(theta), 1e-300, 1e300))
            for theta in (base.theta, resampled.theta)
        )
        draws = draws.reshape(len(masks), RESAMPLES, -1)
        for j, (factor, mask) in enumerate(masks.items()):
            inside = np.log(observations.loss[mask]) - predicted[j][mask]
            spare = max(problem.objective.spare(inside, observations.loss[mask], p), 1.0)
            noise = float(np.sum(inside**2)) / spare
            cut = Cut(member.weight, predicted[j][~mask], draws[j][:, ~mask], noise, spare)
            found.setdefault(factor, []).append(cut)
    return found


def missed_at(members: Sequence[Member], found: Mapping[float, list[Cut]]) -> list[Missed]:
    """Measure what the laws of `cut_laws`, weighted, miss."""
    observations = (members[0].joint or members[0].fit).observations.small
    kept = dict(cuts(observations.size))
    return [_missed(observations, kept[factor], parts) for factor, parts in found.items()]


def _missed(observations: Observations, kept: Bool[np.ndarray, " n"], parts: Sequence[Cut]) -> Missed:
    """Put together one cut of every law.

    The errors' covariance is that of resamples and of laws about their mean, V = deviations' deviations, with
    noise on its diagonal: V + noise I. A sum of squares of such errors has the mean trace(V + noise I) and twice
    the trace of the square as its variance; Satterthwaite's degrees of freedom, mean^2 / (variance / 2), are those
    of the chi square of the same two moments. The squares' trace is had from deviations deviations', which is
    smaller than V where a cut holds out many rows.
    """
    share = np.asarray([cut.weight for cut in parts])
    share = share / share.sum()
    predicted = share @ np.asarray([cut.predicted for cut in parts])
    deviations = [np.sqrt(share)[:, None] * (np.asarray([cut.predicted for cut in parts]) - predicted)]
    for w, cut in zip(share, parts, strict=True):
        deviations.append(np.sqrt(w / len(cut.draws)) * (cut.draws - cut.draws.mean(axis=0)))
    together = np.concatenate(deviations)
    noise = float(share @ [cut.noise for cut in parts])
    m = len(predicted)
    parameters = float(np.sum(together**2))
    trace = parameters + m * noise
    squares = float(np.sum((together @ together.T) ** 2)) + 2.0 * noise * parameters + m * noise**2
    size = observations.size
    return Missed(
        np.log(observations.loss[~kept]) - predicted,
        np.log(size[~kept] / size[kept].max()),
        float(np.sqrt(trace / m)),
        trace**2 / squares if squares > 0 else 1.0,
        min(cut.spare for cut in parts),
    )


def cuts(size: Float[Array, " n"]) -> list[tuple[float, Bool[np.ndarray, " n"]]]:
    """List the rows kept at each of CUTS of compute; cuts that keep the same rows count once."""
    found: list[tuple[float, np.ndarray]] = []
    for factor in CUTS:
        mask = size <= size.max() / factor * (1 + 1e-9)
        if not mask.all() and not (found and np.array_equal(found[-1][1], mask)):
            found.append((factor, mask))
    return found


def distance_of(observations: Observations, wanted: pd.DataFrame) -> Float[Array, " m"]:
    """Compute the log factor by which each target lies beyond the rows in compute, params or tokens."""
    distance = np.zeros(len(wanted))
    for name, seen in (("flops", observations.flops), *observations.x.items()):
        if name not in wanted:
            continue
        values = wanted[name].to_numpy(np.float64)
        beyond = np.maximum(np.log(values / seen.max()), np.log(seen.min() / values))
        distance = np.fmax(distance, beyond)
    return np.maximum(distance, 0.0)


@dataclass(frozen=True)
class Discrepancy:
    """The law is off beyond the data by one of `slopes` x distance^GROWTH of log loss, with `probability`.

    `tested` is the log compute up to which hold-outs have tried it; far beyond (`FAR`) the slope is at least
    `FAR_PRIOR`.
    """

    slopes: Float[Array, " s"]
    probability: Float[Array, " s"]
    tested: float

    @property
    def slope(self) -> float:
        """The mean over the posterior."""
        return float(self.slopes @ self.probability)

    def draw(
        self, distance: Float[Array, " m"], count: int, rng: np.random.Generator
    ) -> Float[Array, "{count} m"]:
        """Draw errors of log loss at log distances; none inside the data."""
        slope = rng.choice(self.slopes, size=(count, 1), p=self.probability)
        slope = np.where(self.far(distance), np.maximum(slope, FAR_PRIOR), slope)
        normal = rng.standard_normal((count, len(distance)))
        return normal * slope * np.maximum(distance, 0.0) ** GROWTH

    def far(self, distance: Float[Array, " m"]) -> Bool[np.ndarray, " m"]:
        """Tell which distances are more than FAR x beyond what was tested."""
        return distance > self.tested + np.log(FAR)


NONE = Discrepancy(np.zeros(1), np.ones(1), np.inf)


def discrepancy_of(missed: Sequence[Missed], *, bent: bool, structure: float = 0.0) -> Discrepancy:
    """Compute the posterior of the slope after the hold-outs.

    `bent`: they chose which rows to keep, or should have; then the law is never taken to hold. `structure`: the log
    Bayes factor that its residuals give against it (`fitting.structure`). Each cut's likelihood is taken to the
    power EVIDENCE, for the cuts of a table hold the same rows out over and over.
    """
    slopes = np.concatenate([[0.0], SLOPES])
    # Half-Cauchy, times the slope for a grid that is even in its logarithm.
    wrong = (SLOPES / PRIOR) / (1.0 + (SLOPES / PRIOR) ** 2)
    true = 0.0 if bent else TRUE
    with np.errstate(divide="ignore"):
        log_posterior = np.log(np.concatenate([[true], (1.0 - true) * wrong / wrong.sum()]))
    # Residuals without structure say nothing for the law where there are no rows.
    log_posterior[1:] += max(structure, 0.0)
    tested = 0.0
    for cut in missed:
        log_posterior = log_posterior + EVIDENCE * cut.log_likelihood(slopes)
        tested = max(tested, float(cut.distance.max()))
    probability = np.exp(log_posterior - log_posterior.max())
    return Discrepancy(slopes, probability / probability.sum(), tested)
