"""Which class a curve belongs to: marginal likelihoods of the shapes, over level, gain and scatter.

Gaussian with the binomial's variance and an unknown model-to-model scatter; every step is closed form
and vectorised over tasks. Whether a departure could be chance is left to emergence_bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, logsumexp

from analysis.detection.noise import SCATTER, SCATTER_PRIOR, Means, noise_variance, smoothed
from analysis.detection.shapes import RISING, Floats, Library

LEVEL_SD, GAIN_SD = 0.5, 0.4
# Gains that do not matter are drawn with this standard deviation, in units of the least effect.
DRIFT = 0.35
CLASSES = ("flat", "saturated", "smooth", "emergent", "inverse", "u_shaped")
# A hill (rises, then falls) is no class of its own: it competes, and is then named by where it ends.
HYPOTHESES = (*CLASSES, "hill")
HYPOTHESIS_PRIOR = np.array([1, 1, 1, 1, 1, 1, 0.3])
# The table's own frequencies enter the prior against this many tasks of the general one, or this share.
LEAST_WEIGHT, GENERAL_SHARE = 10.0, 0.25
# A jump is to be this probable, in the mean and in all seeds together. Frozen on simulated worlds.
LEAST_PROBABILITY = 0.8


@dataclass(frozen=True)
class Prior:
    """Frequencies of the scatters [W] and of the hypotheses [H] before a task is looked at."""

    scatter: Floats
    hypothesis: Floats


GENERAL = Prior(SCATTER_PRIOR / SCATTER_PRIOR.sum(), HYPOTHESIS_PRIOR / HYPOTHESIS_PRIOR.sum())


@dataclass(frozen=True)
class Evidence:
    """Log marginal likelihoods of T tasks: `hypothesis` [T, W, H]; within the rising kinds `shape`
    [T, W, J], with the posterior mean `gain` [T, W, J]; the level of the flat curve, `level` [T, W]."""

    hypothesis: Floats
    shape: Floats
    gain: Floats
    level: Floats


@dataclass(frozen=True)
class Posterior:
    """`probability` of the hypotheses [T, H] and of the `scatter` [T, W]; `log_joint` [T, W, J] of scatter
    and rising shape; `gain` [T, W, J]; `level` [T] of the flat curve."""

    probability: Floats
    scatter: Floats
    log_joint: Floats
    gain: Floats
    level: Floats


def evidence(means: Means, shapes: Library, min_effect: float) -> Evidence:
    """Marginal likelihoods of every hypothesis and scatter for every task.

    A gain counts for a rising, falling or U-shaped hypothesis from `min_effect` on; below, it is drift,
    and the curve flat.
    """
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
    hypothesis[..., 0] = np.logaddexp(log_flat, drifting) - np.log(2)
    for at, kind in ((1, "saturated"), (2, "smooth"), (3, "emergent"), (5, "u_shaped")):
        if len(of[kind]):
            hypothesis[..., at] = logsumexp(positive[..., of[kind]], axis=-1)
    rising = np.isin(shapes.kind, RISING)
    kinds = sum(len(of[kind]) > 0 for kind in RISING)
    hypothesis[..., 4] = logsumexp(negative[..., rising], axis=-1) - np.log(kinds)
    if len(of["u_shaped"]):
        hypothesis[..., 6] = logsumexp(negative[..., of["u_shaped"]], axis=-1)
    level = (weight * y).sum(-1) / weight.sum(-1) + 0.5
    return Evidence(hypothesis + log_noise, positive[..., rising] + log_noise, gain[..., rising], level)


def posterior(found: Evidence, prior: Prior = GENERAL) -> Posterior:
    """Posterior probabilities under a prior."""
    log_scatter = np.log(prior.scatter)[:, None]
    joint = found.hypothesis + log_scatter + np.log(prior.hypothesis)
    whole = logsumexp(joint, axis=(1, 2))[:, None]
    probability = np.exp(logsumexp(joint, axis=1) - whole)
    scatter = np.exp(logsumexp(joint, axis=2) - whole)
    return Posterior(
        probability, scatter, found.shape + log_scatter, found.gain, (found.level * scatter).sum(-1)
    )


def estimated_prior(found: Sequence[Evidence]) -> Prior:
    """Empirical Bayes: the frequencies of scatters and hypotheses over the tasks of the table.

    A few rounds of expectation-maximisation, held towards the general prior so that one task alone is
    judged by the latter and an odd task among many is not ruled out.
    """
    log = np.concatenate([one.hypothesis for one in found])
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


def _evidence(y: Floats, weight: Floats, values: Floats, gain_sd: float) -> tuple[Floats, Floats, Floats]:
    """Log evidence (without the noise's own normaliser), posterior mean and sd of the gain, each [T, W, J].

    Normal priors: level around 1/2 with LEVEL_SD, gain around 0 with gain_sd. y [T, 1, K], weight [T, W, K].
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


def _beyond(gain: Floats, sd: Floats, least: float) -> Floats:
    """Log of the posterior over the prior mass of gains of at least `least`: the evidence's truncation."""
    return np.asarray(log_ndtr((gain - least) / sd) - log_ndtr(-least / GAIN_SD))


def best_curve(
    means: Means, shapes: Library, post: Posterior, task: int, hypothesis: str, ceiling: float
) -> Floats:
    """The likeliest curve [K] of a hypothesis for one task, at the likeliest scatter, cut at what a score can
    be: 0 and the ceiling (which is infinite where the score has no such bounds)."""
    scatter = SCATTER[int(post.scatter[task].argmax())]
    score = means.score[task]
    weight = 1 / (noise_variance(means, smoothed(means.score))[task] + scatter**2)
    centre = float((weight * score).sum() / weight.sum())
    of = {"inverse": np.isin(shapes.kind, RISING), "hill": shapes.kind == "u_shaped"}
    values = shapes.values[of.get(hypothesis, shapes.kind == hypothesis)]
    if hypothesis == "flat" or not len(values):
        return np.full_like(score, centre)
    centred = values - (values @ weight / weight.sum())[:, None]
    gain = (centred @ (weight * score)) / ((centred**2) @ weight)
    downward = hypothesis in ("inverse", "hill")
    curves = centre + (np.minimum(gain, 0) if downward else np.maximum(gain, 0))[:, None] * centred
    if np.isfinite(ceiling):
        curves = np.clip(curves, 0, ceiling)
    return np.asarray(curves[int(((curves - score) ** 2 @ weight).argmin())])
