"""One law for two recipes: L = E + the sum of terms coefficient / column^exponent, and how the second's differs.

A normal belief about both laws is narrowed by the rows of both. Which rows those are, and what the difference means
in compute, is for others (`forecasting.compare`, `forecasting.multiplier`).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array

# What is believed beforehand, as centre and standard deviation: the log floor over the least loss, the log of a
# term in the middle of the rows likewise, the log exponents of size and tokens, and of compute.
FLOOR, TERM, EXPONENT, EXPONENT_OF_COMPUTE = (-0.35, 0.4), (-1.2, 1.5), (-1.05, 0.4), (-1.75, 0.45)
# ... and of the difference of two recipes: log coefficients, log exponents, the log floor.
COEFFICIENT_DIFFERS, EXPONENT_DIFFERS, FLOOR_DIFFERS = 0.5, 0.15, 0.1
# Which of the floor and the exponents two recipes may have of their own, and how likely that is beforehand.
MODELS = ((False, False, 0.3), (False, True, 0.5), (True, False, 0.05), (True, True, 0.15))
# Noise of one run's log loss before its residuals are seen, worth so many degrees of freedom.
NOISE, NOISE_ROWS = 0.005, 3.0
# Standard deviations, over that of a run's own noise, of what runs share (`TwoLadders.shared`).
SIZES = (0.0, 0.7, 1.4, 3.0)
# Log odds against each that is shared.
SHARING = 0.3
# Residuals beyond this many standard deviations weigh less.
WILD = 2.5
STEPS = 25


@dataclass(frozen=True)
class TwoLadders:
    """n rows of two recipes: logs `x` of the columns, about their middle `centre`, the log loss `y`, and which rows
    are of the `second`. `shared` are n x n matrices of what rows may have in common, 1 where all is."""

    x: Float[Array, "n k"]
    centre: Float[Array, " k"]
    y: Float[Array, " n"]
    second: Bool[np.ndarray, " n"]
    shared: tuple[Float[Array, "n n"], ...]
    of_compute: bool

    @property
    def size(self) -> int:
        """Parameters of one recipe: log floor, log terms, log exponents."""
        return 2 * self.x.shape[1] + 1


@dataclass(frozen=True)
class Believed:
    """Draws of both laws: parameters of the first and of the second at columns about `centre`, the `noise` of one
    run's log loss, and how probable a floor and exponents of the second's own are."""

    first: Float[Array, "R p"]
    second: Float[Array, "R p"]
    centre: Float[Array, " k"]
    noise: float
    own_floor: float
    own_exponents: float


def log_loss(own: Float[Array, "... p"], x: Float[Array, "*shape k"]) -> Float[Array, "..."]:
    """Compute the log loss of a law (parameters on the last axis) at centred logs x; shapes broadcast."""
    k = x.shape[-1]
    exponents = np.exp(own[..., k + 1 :])
    terms = [np.exp(own[..., 1 + i] - exponents[..., i] * x[..., i]) for i in range(k)]
    return np.asarray(np.log(np.exp(own[..., 0]) + sum(terms)))


def _value_and_slopes(
    rows: TwoLadders, theta: Float[Array, "R q"]
) -> tuple[Float[Array, "R n"], Float[Array, "R n q"]]:
    """Compute log loss, and its derivatives by the first law's parameters and by the second's differences."""
    p, k = rows.size, rows.x.shape[1]
    own = theta[:, None, :p] + rows.second[:, None] * theta[:, None, p:]
    exponent = np.exp(own[..., k + 1 :])
    parts = np.concatenate([own[..., :1], own[..., 1 : k + 1] - exponent * rows.x], axis=-1)
    top = parts.max(axis=-1, keepdims=True)
    share = np.exp(parts - top)
    total = share.sum(axis=-1, keepdims=True)
    share /= total
    slope = np.concatenate([share, -share[..., 1:] * exponent * rows.x], axis=-1)
    return (top + np.log(total))[..., 0], np.concatenate([slope, slope * rows.second[:, None]], axis=-1)


@dataclass(frozen=True)
class _Prior:
    mean: Float[Array, " q"]
    error: Float[Array, " q"]


def _prior(rows: TwoLadders, own_floor: bool, own_exponents: bool) -> _Prior:
    k, least = rows.x.shape[1], float(rows.y.min())
    exponent = EXPONENT_OF_COMPUTE if rows.of_compute else EXPONENT
    own = [(least + FLOOR[0], FLOOR[1]), *[(least + TERM[0], TERM[1])] * k, *[exponent] * k]
    # What is held is believed to within next to nothing: one shape of the problem for all models.
    differs = [
        (0.0, FLOOR_DIFFERS if own_floor else 1e-6),
        *[(0.0, COEFFICIENT_DIFFERS)] * k,
        *[(0.0, EXPONENT_DIFFERS if own_exponents else 1e-6)] * k,
    ]
    mean, error = np.asarray([*own, *differs]).T
    return _Prior(mean, error)


def _solve(
    rows: TwoLadders,
    prior: _Prior,
    white: Float[Array, "n n"],
    start: Float[Array, "R q"],
    target: Float[Array, "R n"],
    centre: Float[Array, "R q"],
    noise: Float[Array, " R"],
) -> Float[Array, "R q"]:
    """Minimise squares of whitened residuals over the noise's and of distances from the prior's centre
    (Levenberg and Marquardt), each row of `start` its own problem."""
    theta, damping = start.copy(), np.full(len(start), 1e-3)
    precision = 1.0 / prior.error**2
    eye = np.eye(start.shape[1])

    def at(theta: Array) -> tuple[Array, Array, Array]:
        value, slope = _value_and_slopes(rows, theta)
        off = (target - value) @ white.T / noise[:, None]
        away = theta - centre
        return np.sum(off**2, axis=1) + np.sum(away**2 * precision, axis=1), off, slope

    value, off, slope = at(theta)
    for _ in range(STEPS):
        leaning = (white @ slope) / noise[:, None, None]
        hessian = np.swapaxes(leaning, 1, 2) @ leaning + np.diag(precision)
        downhill = np.einsum("rnq,rn->rq", leaning, off) - (theta - centre) * precision
        scale = np.einsum("rqq->rq", hessian)
        step = np.linalg.solve(hessian + (damping[:, None] * scale)[:, :, None] * eye, downhill[..., None])
        tried = theta + np.clip(step[..., 0], -2.0, 2.0)
        new, new_off, new_slope = at(tried)
        better = new < value
        small = np.abs(value - new) < 1e-6 * (1.0 + np.abs(value))
        theta = np.where(better[:, None], tried, theta)
        value, off = np.where(better, new, value), np.where(better[:, None], new_off, off)
        slope = np.where(better[:, None, None], new_slope, slope)
        damping = np.clip(np.where(better, damping / 4.0, damping * 8.0), 1e-9, 1e9)
        if (small | (damping > 1e6)).all():
            break
    return theta


def believe_laws(rows: TwoLadders, draws: int, seed: int) -> Believed:
    """Draw both laws from what is believed of them after the rows.

    Every draw is the likeliest pair of laws for losses and a prior's centre that are moved at random, each by its
    own error: exact for a linear law (randomised maximum likelihood; Bardsley et al. 2014, SIAM J. Sci. Comput. 36,
    A1895). The models are weighed by their evidence (Laplace's approximation).
    """
    rng = np.random.default_rng(seed)
    full = _prior(rows, True, True)
    white, theta, noise, freedom = _noise(rows, full)
    found = []
    for own_floor, own_exponents, before in MODELS:
        prior = _prior(rows, own_floor, own_exponents)
        held = np.where(prior.error < 1e-5, prior.mean, theta)
        best = _solve(rows, prior, white, held[None], rows.y[None], prior.mean[None], np.asarray([noise]))[0]
        found.append((prior, best, np.log(before) + _evidence(rows, prior, white, best, noise)))
    weight = np.exp([e - max(e for _, _, e in found) for _, _, e in found])
    weight = weight / weight.sum()
    drawn = []
    counts = np.diff(np.round(np.cumsum([0.0, *weight]) * draws).astype(int))
    for (prior, best, _), count in zip(found, counts, strict=True):
        if count == 0:
            continue
        errors = noise * np.sqrt(freedom / rng.chisquare(freedom, count))
        back = np.linalg.inv(white)
        moved = rows.y + errors[:, None] * (rng.standard_normal((count, len(rows.y))) @ back.T)
        centre = prior.mean + prior.error * rng.standard_normal((count, len(prior.mean)))
        start = np.repeat(best[None], count, axis=0)
        start = np.where(prior.error < 1e-5, centre, start)
        drawn.append(_solve(rows, prior, white, start, moved, centre, errors))
    laws, p = np.concatenate(drawn), rows.size
    rng.shuffle(laws)
    own = weight @ np.asarray([model[:2] for model in MODELS], dtype=np.float64)
    return Believed(laws[:, :p], laws[:, :p] + laws[:, p:], rows.centre, noise, float(own[0]), float(own[1]))


def _evidence(rows: TwoLadders, prior: _Prior, white: Array, best: Array, noise: float) -> float:
    """Approximate the log evidence of a model, up to what all models share."""
    value, slope = _value_and_slopes(rows, best[None])
    off = white @ (rows.y - value[0]) / noise
    away = (best - prior.mean) / prior.error
    leaning = (white @ slope[0]) / noise * prior.error
    # det(prior) det(hessian), which the held parameters leave at one.
    volume = np.linalg.slogdet(leaning.T @ leaning + np.eye(len(best)))[1]
    return float(-0.5 * (off @ off + away @ away + volume))


def _noise(rows: TwoLadders, prior: _Prior) -> tuple[Array, Array, float, float]:
    """Estimate the noise: its whitening matrix, the laws fitted under it, and the standard deviation of one run's
    log loss with its degrees of freedom."""
    n = len(rows.y)
    white, noise, theta = np.eye(n), 2.0 * NOISE, prior.mean[None]
    for last in (False, False, True) if rows.shared else (True,):
        for _ in range(2):
            theta = _solve(rows, prior, white, theta, rows.y[None], prior.mean[None], np.asarray([noise]))
            value, slope = _value_and_slopes(rows, theta)
            residual = rows.y - value[0]
            leaning = white @ slope[0] / noise
            taken = leaning.T @ leaning
            spent = float(np.trace(np.linalg.solve(taken + np.diag(1.0 / prior.error**2), taken)))
            freedom = max(n - spent, 0.0) + NOISE_ROWS
            noise = float(np.sqrt((np.sum((white @ residual) ** 2) + NOISE_ROWS * NOISE**2) / freedom))
        if not last:
            white = np.linalg.inv(
                np.linalg.cholesky(_covariance(rows, residual, slope[0] * prior.error, noise))
            )
    # A wild run weighs less (Huber).
    weight = np.sqrt(np.minimum(1.0, WILD * noise / np.maximum(np.abs(residual), 1e-12)))
    return white * weight, theta[0], noise, freedom


def _covariance(
    rows: TwoLadders, residual: Float[Array, " n"], leaning: Float[Array, "n q"], noise: float
) -> Float[Array, "n n"]:
    """Average the noise's covariance, of mean variance one, over SIZES of each of `rows.shared` by likelihood.

    What the laws' parameters can take up (`leaning`: by what each moves the losses) is marginalised, so that few
    small residuals are not taken for small noise.
    """
    found, logs = [], []
    for sizes in product(SIZES, repeat=len(rows.shared)):
        covariance = np.eye(len(residual))
        for size, matrix in zip(sizes, rows.shared, strict=True):
            covariance = covariance + size * size * matrix
        root = np.linalg.cholesky(covariance)
        off, lean = np.linalg.solve(root, residual), np.linalg.solve(root, leaning)
        taken = lean.T @ lean / noise**2
        inner = np.eye(len(taken)) + taken
        squares = (
            off @ off - (off @ lean) @ np.linalg.solve(inner, lean.T @ off) / noise**2 + NOISE_ROWS * NOISE**2
        )
        freedom = len(residual) - float(np.trace(np.linalg.solve(inner, taken))) + NOISE_ROWS
        logs.append(
            -np.log(np.diag(root)).sum()
            - 0.5 * np.linalg.slogdet(inner)[1]
            - 0.5 * freedom * np.log(squares)
            - SHARING * sum(size > 0 for size in sizes)
        )
        found.append(covariance * squares / freedom)
    weight = np.exp(np.asarray(logs) - max(logs))
    covariance = np.tensordot(weight, np.asarray(found), axes=1)
    return np.asarray(covariance / np.mean(np.diag(covariance)))
