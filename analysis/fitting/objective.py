"""Robust losses of a residual and their derivatives: Huber, least squares, least absolute deviation.

What is minimised is the *sum* over rows of weight x penalty; the caller chooses the residual's scale.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError

LOSSES = ("huber", "l2", "lad")
SCALES = ("log", "linear")
# The least absolute deviation is reached as the limit of Huber losses; below this width its parameters
# have stopped moving in the sixth digit on every table tried.
LAD_DELTA = 1e-8


@dataclass(frozen=True)
class Objective:
    """The objective of a fit: the sum over rows of weight x penalty of the residual.

    `loss`: huber (r^2/2 within `delta`, delta (|r| - delta/2) outside), l2 (r^2/2) or lad (|r|).
    `scale`: the residual is log(prediction / loss) or prediction - loss.
    """

    loss: str = "huber"
    scale: str = "log"
    delta: float = 1e-3

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"loss = {self.loss}: choose one of {', '.join(LOSSES)}")
        if self.scale not in SCALES:
            raise UserError(f"scale = {self.scale}: choose one of {', '.join(SCALES)}")
        if not 0 < self.delta < np.inf:
            raise UserError(f"delta = {self.delta}: the Huber width must be a positive number")

    @property
    def width(self) -> float:
        """The Huber width that the optimiser works with: infinite for l2, almost zero for lad."""
        return {"huber": self.delta, "l2": np.inf, "lad": LAD_DELTA}[self.loss]

    def target(self, loss: Float[Array, " n"]) -> Float[Array, " n"]:
        """Put the observed loss on the scale of the residual."""
        return np.log(loss) if self.scale == "log" else loss

    def spare(self, residual: Float[Array, " n"], loss: Float[Array, " #n"], parameters: int) -> float:
        """Count the degrees of freedom left in the sum of squares of a fit's residuals of log loss.

        Each parameter takes 2 - e of them, from one (least squares) to .43 (least absolute deviation), e the
        variance of such estimates over that of least squares under normal noise (Huber 1964): to first order
        a residual is noise - leverage x psi(noise) / E psi', whose covariance with the noise is the leverage's.
        """
        sigma = float(np.sqrt(np.mean(residual**2)))
        width = self.width if self.scale == "log" else self.width / float(np.median(loss))
        return len(residual) - parameters * (2.0 - _excess_variance(width / max(sigma, 1e-300)))

    def noise(
        self,
        residual: Float[Array, " n"],
        loss: Float[Array, " n"],
        weight: Float[Array, " n"],
        parameters: int,
    ) -> tuple[float, float]:
        """Estimate the standard deviation of a fit's residuals (on its scale, at weight one on average), and the
        degrees of freedom that it rests on."""
        log = residual if self.scale == "log" else residual / loss
        spare = max(self.spare(log, loss, parameters), 1.0)
        return float(np.sqrt(np.sum(weight * residual**2) / np.sum(weight) * len(residual) / spare)), spare

    def report(self, residual: Float[Array, " n"], weight: Float[Array, " n"]) -> float:
        """Sum the objective over rows as a person would write it (lad: the plain sum of |r|)."""
        if self.loss == "lad":
            return float(np.sum(weight * np.abs(residual)))
        return float(np.sum(weight * huber(residual, self.width)))


def temperature(width: float, sigma: float) -> float:
    """Compute what one nat of log posterior is worth in Huber losses of `width`, for normal noise of `sigma`.

    Their sum's minimum scatters by E psi^2 / (E psi')^2 (J'J)^-1 (Huber 1964), and its Hessian is E psi' J'J: it
    stands for a log likelihood in units of E psi^2 / E psi', at which curvature and scatter agree (Lyddon, Holmes
    and Walker 2019, Biometrika 106, 465). For least squares that is sigma^2.
    """
    ratio = width / max(sigma, 1e-300)
    return sigma**2 * _excess_variance(ratio) * math.erf(min(ratio, 10.0) / math.sqrt(2.0))


def _excess_variance(width: float) -> float:
    """Compute the asymptotic variance of a Huber estimate, its width in standard deviations of normal noise, over
    that of least squares: E psi^2 / (E psi')^2, pi / 2 for a vanishing width (Huber 1964)."""
    if width < 1e-4:
        return 0.5 * math.pi
    if width > 10.0:
        return 1.0
    inside = math.erf(width / math.sqrt(2.0))
    density = math.exp(-0.5 * width * width) / math.sqrt(2.0 * math.pi)
    return (inside - 2.0 * width * density + width * width * (1.0 - inside)) / inside**2


def huber(residual: Float[Array, "*shape"], width: float | Float[Array, "*#shape"]) -> Float[Array, "*shape"]:
    """Compute r^2/2 within `width`, width (|r| - width/2) outside (Huber 1964); infinite: least squares."""
    if not np.all(np.isfinite(width)):
        return 0.5 * residual * residual
    size = np.abs(residual)
    inside = np.minimum(size, width)
    return inside * (size - 0.5 * inside)


def huber_slope(residual: Float[Array, "*shape"], width: float) -> Float[Array, "*shape"]:
    """Compute the derivative of `huber` (psi)."""
    return residual if not np.isfinite(width) else np.clip(residual, -width, width)


def huber_curvature(residual: Float[Array, "*shape"], width: float) -> Float[Array, "*shape"]:
    """Compute the second derivative of `huber`: one inside, zero outside."""
    if not np.isfinite(width):
        return np.ones_like(residual)
    return (np.abs(residual) <= width).astype(np.float64)


def huber_weight(
    residual: Float[Array, "*shape"], width: float | Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """Compute the weight whose least squares has the same slope (iteratively re-weighted least squares)."""
    if not np.all(np.isfinite(width)):
        return np.ones_like(residual)
    return width / np.maximum(np.abs(residual), width)
