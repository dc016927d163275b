"""Which class a curve belongs to: marginal likelihoods of the shapes, over level, gain and scatter.

Gaussian with the binomial's variance and an unknown scatter from model to model; every step is closed form
and vectorised over tasks. Whether a departure could be chance is left to bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, logsumexp

from analysis.arrays import Array
from analysis.detection.curves import Curve
from analysis.detection.noise import SCATTER, SCATTER_PRIOR, Means, average_seeds, noise_variance, smoothed
from analysis.detection.shapes import RISING, Library, library, scaled_log

LEVEL_SD, GAIN_SD = 0.5, 0.4
# Gains that do not matter are drawn with this standard deviation, in units of the least effect.
DRIFT = 0.35
CLASSES = ("flat", "saturated", "smooth", "emergent", "inverse", "u_shaped")
# A hill (rises, then falls) is no class of its own: it competes, and is then named by where it ends.
HYPOTHESES = (*CLASSES, "hill")
HYPOTHESIS_PRIOR = np.array([1, 1, 1, 1, 1, 1, 0.3])
FLAT, EMERGENT, U_SHAPED = (HYPOTHESES.index(name) for name in ("flat", "emergent", "u_shaped"))
# The table's own frequencies enter the prior against this many tasks of the general one, or this share.
LEAST_WEIGHT, GENERAL_SHARE = 10.0, 0.25
# A jump is to be this probable, in the mean and in all seeds together. Frozen on simulated worlds.
LEAST_PROBABILITY = 0.8
# Power of the likelihood among emergent shapes for the threshold alone: the true shape is none of them, and
# without it the 90% intervals of simulated thresholds held 62 to 95%.
TEMPER = 0.55


@dataclass(frozen=True)
class Threshold:
    """Lower end, median and upper end of where a size lies."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Prior:
    """Frequencies of the scatters and of the hypotheses before a task is looked at."""

    scatter: Float[Array, " W"]
    hypothesis: Float[Array, " H"]


GENERAL = Prior(SCATTER_PRIOR / SCATTER_PRIOR.sum(), HYPOTHESIS_PRIOR / HYPOTHESIS_PRIOR.sum())


@dataclass(frozen=True)
class Evidence:
    """Log marginal likelihoods, of tasks at the same sizes or of one task: `hypothesis`, and within the rising
    kinds `shape` with the posterior mean `gain`; the `level` of the flat curve."""

    hypothesis: Float[Array, "*T W H"]
    shape: Float[Array, "*T W R"]
    gain: Float[Array, "*T W R"]
    level: Float[Array, "*T W"]

    def of(self, task: int) -> "Evidence":
        """Return the evidence of one of several tasks."""
        return Evidence(self.hypothesis[task], self.shape[task], self.gain[task], self.level[task])


@dataclass(frozen=True)
class Posterior:
    """Posterior of one task under `prior`: `probability` of the hypotheses and of the `scatter`, `log_joint` of
    scatter and rising shape, the mean `level` of the flat curve; `evidence` is what it was made of."""

    prior: Prior
    evidence: Evidence
    probability: Float[Array, " H"]
    scatter: Float[Array, " W"]
    log_joint: Float[Array, "W R"]
    level: float


@dataclass(frozen=True)
class TaskFit:
    """One task through all of its seeds, or some: its means, the shapes at its sizes, and what is likely."""

    curve: Curve
    means: Means
    shapes: Library
    posterior: Posterior

    @property
    def scatter(self) -> float:
        """Standard deviation of the scatter from model to model: the posterior mean."""
        return float((self.posterior.scatter * SCATTER).sum())

    @property
    def scatter_variance(self) -> float:
        """Variance of the scatter from model to model: the posterior mean."""
        return float((self.posterior.scatter * SCATTER**2).sum())


def fit_tasks(curves: Sequence[Curve], min_effect: float, prior: Prior | None = None) -> list[TaskFit]:
    """Fit every curve, those of the same sizes at once; a prior that is not given is estimated from all of them."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for at, curve in enumerate(curves):
        groups.setdefault(tuple(curve.size), []).append(at)
    parts: dict[int, tuple[Means, Library, Evidence]] = {}
    for size, members in groups.items():
        means = average_seeds(*_stacked([curves[at] for at in members]))
        shapes = library(scaled_log(np.array(size)))
        found = evidence(means, shapes, min_effect)
        parts |= {at: (means.of(t), shapes, found.of(t)) for t, at in enumerate(members)}
    ordered = [parts[at] for at in range(len(curves))]
    if prior is None:
        prior = estimated_prior([found for _, _, found in ordered])
    return [
        TaskFit(curve, means, shapes, posterior(found, prior))
        for curve, (means, shapes, found) in zip(curves, ordered, strict=True)
    ]


def _stacked(curves: Sequence[Curve]) -> tuple[Array, Array, Array]:
    """Scores, items and standard errors [S, T, J], NaN for the seeds that a curve does not have."""
    out = np.full((3, max(len(curve.seeds) for curve in curves), len(curves), len(curves[0].size)), np.nan)
    for t, curve in enumerate(curves):
        out[:, : len(curve.seeds), t] = curve.score, curve.items, curve.stderr
    return out[0], out[1], out[2]


def evidence(means: Means, shapes: Library, min_effect: float) -> Evidence:
    """Integrate level and gain out of every hypothesis, at every scatter, for tasks [T, J].

    A gain counts for a rising, falling or U-shaped hypothesis from `min_effect` on; below, it is drift,
    and the curve flat. Within a kind the shapes share its probability by their weights, so that a kind of many
    shapes is not likelier for it.
    """
    # The variance depends on the curve through f (1 - f); it is held at the smoothed scores, which is the first
    # step of iteratively reweighted least squares and makes all of this closed form.
    variance = noise_variance(means, smoothed(means.score))[:, None, :] + (SCATTER**2)[None, :, None]
    weight = 1 / variance
    y = means.score[:, None, :] - 0.5
    log_noise = 0.5 * np.log(weight / (2 * np.pi)).sum(-1)[..., None]
    log_flat = _evidence(y, weight, np.zeros((1, y.shape[-1])), GAIN_SD)[0][..., 0]
    up, gain, sd = _evidence(y, weight, shapes.values, GAIN_SD)
    log_weight = np.log(shapes.weight)
    positive = up + log_weight + _beyond(gain, sd, min_effect)
    negative = up + log_weight + _beyond(-gain, sd, min_effect)
    of = {kind: shapes.of(kind) for kind in (*RISING, "u_shaped")}
    drift, _, _ = _evidence(y, weight, shapes.values[of["smooth"]], DRIFT * min_effect)
    drifting = logsumexp(drift + log_weight[of["smooth"]], axis=-1)
    hypothesis = np.full((*log_flat.shape, len(HYPOTHESES)), -np.inf)
    # Flat is level or drifts, each as likely as the other.
    hypothesis[..., FLAT] = np.logaddexp(log_flat, drifting) - np.log(2)
    for kind in (*RISING, "u_shaped"):
        if len(of[kind]):
            hypothesis[..., HYPOTHESES.index(kind)] = logsumexp(positive[..., of[kind]], axis=-1)
    # An inverse task falls along any shape that rises; the weights sum to 1 in each kind.
    kinds = sum(len(of[kind]) > 0 for kind in RISING)
    fall = logsumexp(negative[..., shapes.rising], axis=-1) - np.log(kinds)
    hypothesis[..., HYPOTHESES.index("inverse")] = fall
    if len(of["u_shaped"]):
        hypothesis[..., HYPOTHESES.index("hill")] = logsumexp(negative[..., of["u_shaped"]], axis=-1)
    level = (weight * y).sum(-1) / weight.sum(-1) + 0.5
    rising = shapes.rising
    return Evidence(hypothesis + log_noise, positive[..., rising] + log_noise, gain[..., rising], level)


def posterior(found: Evidence, prior: Prior = GENERAL) -> Posterior:
    """Return the posterior of one task under a prior."""
    log_scatter = np.log(prior.scatter)[:, None]
    joint = found.hypothesis + log_scatter + np.log(prior.hypothesis)
    whole = logsumexp(joint)
    probability = np.exp(logsumexp(joint, axis=0) - whole)
    scatter = np.exp(logsumexp(joint, axis=1) - whole)
    level = float((found.level * scatter).sum())
    return Posterior(prior, found, probability, scatter, found.shape + log_scatter, level)


def estimated_prior(found: Sequence[Evidence]) -> Prior:
    """Estimate the frequencies of scatters and hypotheses from all tasks of a table (empirical Bayes).

    A few rounds of expectation-maximisation, held towards the general prior so that one task alone is
    judged by the latter and an odd task among many is not ruled out.
    """
    log = np.stack([one.hypothesis for one in found])
    weight = max(LEAST_WEIGHT, GENERAL_SHARE * len(log))
    prior = GENERAL
    for _ in range(20):
        joint = log + np.log(prior.scatter)[:, None] + np.log(prior.hypothesis)
        share = np.exp(joint - logsumexp(joint, axis=(1, 2), keepdims=True)).sum(0)
        prior = Prior(
            (share.sum(1) + weight * GENERAL.scatter) / (len(log) + weight),
            (share.sum(0) + weight * GENERAL.hypothesis) / (len(log) + weight),
        )
    return prior


def _evidence(
    y: Float[Array, "T 1 J"], weight: Float[Array, "T W J"], values: Float[Array, "L J"], gain_sd: float
) -> tuple[Float[Array, "T W L"], Float[Array, "T W L"], Float[Array, "T W L"]]:
    """Log evidence (without the noise's own normaliser), posterior mean and sd of the gain.

    The conjugate linear model (Bishop 2006, section 3.5): y = level + gain v + noise of precisions w, level
    ~ N(0, LEVEL_SD^2) about 1/2, gain ~ N(0, gain_sd^2). With the posterior precision
    A = [[a11, a12], [a12, a22]] of (level, gain) and c = (sum w y, sum w v y),

        log p(y) = const - (sum w y^2 - c' A^-1 c) / 2 - log det(A) / 2 - log(LEVEL_SD gain_sd).

    Eliminating the level first leaves the Schur complement `rest` = a22 - a12^2 / a11, the precision of the gain:
    det(A) = a11 rest, and c' A^-1 c = c1^2 / a11 + gain^2 rest.
    """
    a11 = weight.sum(-1)[..., None] + 1 / LEVEL_SD**2
    a12 = weight @ values.T
    a22 = weight @ (values**2).T + 1 / gain_sd**2
    c1 = (weight * y).sum(-1)[..., None]
    c2 = (weight * y) @ values.T
    rest = a22 - a12**2 / a11
    gain = (c2 - a12 * c1 / a11) / rest
    quadratic = (weight * y**2).sum(-1)[..., None] - c1**2 / a11 - gain**2 * rest
    log = -0.5 * quadratic - 0.5 * np.log(a11 * LEVEL_SD**2) - 0.5 * np.log(rest * gain_sd**2)
    return log, gain, 1 / np.sqrt(rest)


def _beyond(gain: Float[Array, "T W L"], sd: Float[Array, "T W L"], least: float) -> Float[Array, "T W L"]:
    """Log of what the evidence is multiplied by where only gains of at least `least` are allowed.

    The posterior mass of such gains over their prior mass (Klugkist, Kato and Hoijtink 2005: a constrained
    model's Bayes factor against the unconstrained one).
    """
    return np.asarray(log_ndtr((gain - least) / sd) - log_ndtr(-least / GAIN_SD))


def best_curve(fit: TaskFit, hypothesis: str) -> Float[Array, " J"]:
    """Return the likeliest curve of a hypothesis, at the likeliest scatter, cut at what a score can be: 0 and the
    ceiling (which is infinite where the score has no such bounds)."""
    shapes, score, ceiling = fit.shapes, fit.means.score, fit.curve.ceiling
    scatter = SCATTER[int(fit.posterior.scatter.argmax())]
    weight = 1 / (noise_variance(fit.means, smoothed(score)) + scatter**2)
    centre = float((weight * score).sum() / weight.sum())
    of = {"inverse": shapes.rising, "hill": shapes.of("u_shaped")}
    values = shapes.values[of.get(hypothesis, shapes.of(hypothesis))]
    if hypothesis == "flat" or not len(values):
        return np.full_like(score, centre)
    centred = values - (values @ weight / weight.sum())[:, None]
    gain = (centred @ (weight * score)) / ((centred**2) @ weight)
    downward = hypothesis in ("inverse", "hill")
    curves = centre + (np.minimum(gain, 0) if downward else np.maximum(gain, 0))[:, None] * centred
    if np.isfinite(ceiling):
        curves = np.clip(curves, 0, ceiling)
    return np.asarray(curves[int(((curves - score) ** 2 @ weight).argmin())])


def find_threshold(fit: TaskFit, level: float) -> Threshold | None:
    """Return the median of the threshold and the ends of its interval, mixed over all shapes that jump; None
    where the sizes can show no jump."""
    emergent = fit.shapes.rising_of("emergent")
    if not len(emergent):
        return None
    joint = fit.posterior.log_joint[:, emergent]
    mass = np.exp(TEMPER * (joint - joint.max())).sum(0)
    stretch = fit.shapes.threshold[fit.shapes.of("emergent")]
    grid = np.linspace(0, 1.2, 2401)
    inside = (grid[:, None] - stretch[:, 0]) / (stretch[:, 1] - stretch[:, 0])
    cumulative = inside.clip(0, 1) @ (mass / mass.sum())
    at = np.interp([(1 - level) / 2, 0.5, (1 + level) / 2], cumulative, grid)
    log = np.log(fit.curve.size)
    low, middle, high = (float(np.exp(log[0] + (log[-1] - log[0]) * min(x, 1.0))) for x in at)
    return Threshold(low, middle, high)
