"""Which class a curve belongs to: marginal likelihoods of the shapes, over level, gain and scatter.

Gaussian with the binomial's variance and an unknown model-to-model scatter; every step is closed form
and vectorised over tasks. Whether a departure could be chance is left to emergence_bootstrap.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, logsumexp

from analysis.emergence_shapes import RISING, Floats, Library

# Grid of the scatter's standard deviation (score units) and its prior: half of the mass at .015 or less,
# a tail up to .15, so that neither a clean simulation nor a rough real grid is off it.
SCATTER = np.array([0.0, 0.006, 0.012, 0.018, 0.025, 0.035, 0.05, 0.075, 0.11, 0.16])
SCATTER_PRIOR = np.array([0.22, 0.13, 0.13, 0.12, 0.11, 0.1, 0.08, 0.06, 0.03, 0.02])
LEVEL_SD, GAIN_SD = 0.5, 0.4
# Gains that do not matter are drawn with this standard deviation, in units of the least effect.
DRIFT = 0.35
CLASSES = ("flat", "saturated", "smooth", "emergent", "inverse", "u_shaped")
# A hill (rises, then falls) is no class of its own: it competes, and is then named by where it ends.
HYPOTHESES = (*CLASSES, "hill")
HYPOTHESIS_PRIOR = np.array([1, 1, 1, 1, 1, 1, 0.3])


@dataclass(frozen=True)
class Means:
    """T tasks at the same K sizes, seeds averaged: `score` [T, K]; its variance is
    f (1 - f) / `items` where `items` is finite, `variance` elsewhere, plus `extra` (scatter of the seeds
    beyond the binomial, over their number), each [T, K]."""

    score: Floats
    items: Floats
    variance: Floats
    extra: Floats


@dataclass(frozen=True)
class Posterior:
    """Over hypotheses [T, H], and for each task over scatter and shape within the rising kinds."""

    probability: Floats
    log_joint: Floats  # [T, W, J] rising shapes, positive gain of at least the least effect
    gain: Floats  # [T, W, J] posterior mean of the gain, untruncated
    scatter: Floats  # [T, W] posterior of the scatter, all hypotheses together
    level: Floats  # [T] posterior mean level of the flat curve


def average_seeds(score: Floats, items: Floats, stderr: Floats) -> Means:
    """Means over the first axis of [S, T, K] arrays with NaN where a seed was not run."""
    there = np.isfinite(score)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, score, 0).sum(0) / count
    inverse = np.where(there & np.isfinite(items), 1 / np.where(np.isfinite(items), items, 1), 0).sum(0)
    with np.errstate(divide="ignore"):
        pooled_items = np.where(inverse > 0, count**2 / inverse, np.nan)
    variance = np.where(there & np.isfinite(stderr), np.nan_to_num(stderr) ** 2, 0).sum(0) / count**2
    own = np.where(np.isfinite(pooled_items), mean * (1 - mean) / (pooled_items / count), variance * count)
    spread = np.where(there, (score - mean) ** 2, 0).sum(0)
    freedom = (count - 1).astype(float)
    # The variance between seeds beyond the binomial, each size's own drawn towards the task's mean with
    # the weight of three seeds: seeds part near a threshold and agree elsewhere, and two seeds say little.
    beyond = spread - freedom * own
    task = np.maximum(beyond.sum(-1, keepdims=True) / np.maximum(freedom.sum(-1, keepdims=True), 1), 0)
    each = np.maximum((beyond + 3 * task) / (freedom + 3), 0)
    return Means(mean, pooled_items, variance, np.where(freedom > 0, each / count, 0))


def noise_variance(means: Means, at: Floats) -> Floats:
    """Variance of the means [..., K] under a curve `at` [..., K], without the scatter of sizes."""
    bounded = np.clip(at, 0, 1)
    # Half an item of either kind is added: no proportion is known without error.
    with np.errstate(invalid="ignore"):
        shrunk = (bounded * means.items + 0.5) / (means.items + 1)
        binomial = shrunk * (1 - shrunk) / means.items
    return np.where(np.isfinite(means.items), binomial, means.variance) + means.extra


def smoothed(score: Floats) -> Floats:
    """Scores averaged with their neighbours (1/4, 1/2, 1/4): a stand-in for the curve in its variance."""
    inner = np.concatenate([score[..., :1], score, score[..., -1:]], axis=-1)
    return np.asarray(inner[..., :-2] / 4 + score / 2 + inner[..., 2:] / 4)


def posterior(
    means: Means, shapes: Library, min_effect: float, scatter_prior: Floats | None = None
) -> Posterior:
    """Posterior of every hypothesis for every task. `scatter_prior` [W] or [T, W] over SCATTER."""
    prior = SCATTER_PRIOR if scatter_prior is None else scatter_prior
    prior = np.broadcast_to(prior / prior.sum(-1, keepdims=True), (len(means.score), len(SCATTER)))
    variance = noise_variance(means, smoothed(means.score))[:, None, :] + (SCATTER**2)[None, :, None]
    weight = 1 / variance
    y = means.score[:, None, :] - 0.5
    log_noise = 0.5 * np.log(weight / (2 * np.pi)).sum(-1)
    rising = np.isin(shapes.kind, RISING)
    log_flat = _evidence(y, weight, np.zeros((1, y.shape[-1])), GAIN_SD)[0][..., 0]
    drift_log, _, _ = _evidence(y, weight, shapes.values[shapes.kind == "smooth"], DRIFT * min_effect)
    up_log, up_gain, up_sd = _evidence(y, weight, shapes.values, GAIN_SD)
    positive = _beyond(up_gain, up_sd, min_effect)
    negative = _beyond(-up_gain, up_sd, min_effect)
    log_weight = np.log(shapes.weight)
    of = {kind: shapes.of(kind) for kind in (*RISING, "u_shaped")}
    drift = logsumexp(drift_log + log_weight[of["smooth"]], axis=-1)
    log_hypothesis = np.full((*log_flat.shape, len(HYPOTHESES)), -np.inf)
    log_hypothesis[..., 0] = np.logaddexp(log_flat, drift) - np.log(2)
    for at, kind in ((1, "saturated"), (2, "smooth"), (3, "emergent"), (5, "u_shaped")):
        if len(of[kind]):
            log_hypothesis[..., at] = logsumexp((up_log + positive + log_weight)[..., of[kind]], axis=-1)
    kinds = sum(len(of[kind]) > 0 for kind in RISING)
    log_hypothesis[..., 4] = logsumexp((up_log + negative + log_weight)[..., rising], axis=-1) - np.log(kinds)
    if len(of["u_shaped"]):
        log_hypothesis[..., 6] = logsumexp((up_log + negative + log_weight)[..., of["u_shaped"]], axis=-1)
    log_hypothesis += np.log(HYPOTHESIS_PRIOR) + (log_noise + np.log(prior))[..., None]
    whole = logsumexp(log_hypothesis, axis=(1, 2), keepdims=True)
    probability = np.exp(logsumexp(log_hypothesis, axis=1) - whole[:, 0])
    scatter = np.exp(logsumexp(log_hypothesis, axis=2) - whole[..., 0])
    joint = (up_log + positive + log_weight + (log_noise + np.log(prior))[..., None])[..., rising]
    level = ((weight * y).sum(-1) / weight.sum(-1) * scatter).sum(-1) + 0.5
    return Posterior(probability, joint, up_gain[..., rising], scatter, level)


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


def best_curve(means: Means, shapes: Library, post: Posterior, task: int, hypothesis: str) -> Floats:
    """The likeliest curve [K] of a hypothesis for one task, at the likeliest scatter."""
    scatter = SCATTER[int(post.scatter[task].argmax())]
    score = means.score[task]
    weight = 1 / (noise_variance(means, smoothed(means.score))[task] + scatter**2)
    centre = float((weight * score).sum() / weight.sum())
    of = {"inverse": np.isin(shapes.kind, RISING), "hill": shapes.kind == "u_shaped"}
    values = shapes.values[of.get(hypothesis, shapes.kind == hypothesis)]
    if hypothesis == "flat" or not len(values):
        return np.full_like(score, centre)
    centred = values - (values @ weight / weight.sum())[:, None]
    along = centred @ (weight * score)
    rest = (centred**2) @ weight
    downward = -1.0 if hypothesis in ("inverse", "hill") else 1.0
    best = int((np.maximum(downward * along, 0) ** 2 / rest).argmax())
    return np.asarray(centre + along[best] / rest[best] * centred[best])
