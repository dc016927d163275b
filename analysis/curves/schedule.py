"""The learning rate over a run, as a share of its peak: what it has swept, and how long ago it fell.

All in closed form, in tokens. `lmscale.schedule` decides the rate of a step; this is the same rate, read from a
table.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array

# Points of a fall that stand for all of it (Gauss and Legendre's, in the rate), and their weights, of sum one.
STEPS = 8
POINTS, WEIGHTS = (
    (np.polynomial.legendre.leggauss(STEPS)[0] + 1.0) / 2.0,
    np.polynomial.legendre.leggauss(STEPS)[1] / 2.0,
)


@dataclass(frozen=True)
class Fall:
    """A shape of the fall. left: share of it that is done, 0 to 1 -> what is left of the rate, 1 to 0. done: the
    inverse. area: the integral of `left` from 0. whole: it begins where the warm-up ends."""

    left: Callable[[Array], Array]
    done: Callable[[Array], Array]
    area: Callable[[Array], Array]
    whole: bool


_LINE = (lambda d: 1.0 - d, lambda left: 1.0 - left, lambda d: d - 0.5 * d * d)
FALLS = {
    "wsd": Fall(*_LINE, whole=False),
    "linear": Fall(*_LINE, whole=True),
    "cosine": Fall(
        lambda d: 0.5 * (1.0 + np.cos(np.pi * d)),
        lambda left: np.arccos(np.clip(2.0 * left - 1.0, -1.0, 1.0)) / np.pi,
        lambda d: 0.5 * d + np.sin(np.pi * d) / (2.0 * np.pi),
        whole=True,
    ),
}
CONSTANT = "constant"


@dataclass(frozen=True)
class Schedule:
    """A rate that rises in a line over `warmup`, stays, and falls as `FALLS[kind]` from `start` to `horizon`.

    All in tokens. kind: constant, or an entry of FALLS. floor: the last rate as a share of the peak.
    """

    kind: str = CONSTANT
    warmup: float = 0.0
    start: float = np.inf
    horizon: float = np.inf
    floor: float = 0.0

    @property
    def label(self) -> str:
        """Name it apart from its horizon: wsd 0.2 falls over the last fifth."""
        partial = self.kind in FALLS and not FALLS[self.kind].whole
        return f"{self.kind} {1.0 - self.start / self.horizon:.2g}" if partial else self.kind

    def _done(self, tokens: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return np.clip((tokens - self.start) / (self.horizon - self.start), 0.0, 1.0)

    def rate(self, tokens: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Compute the rate at `tokens`, as a share of the peak."""
        risen = np.minimum(1.0, tokens / self.warmup) if self.warmup else np.ones_like(tokens)
        if self.kind == CONSTANT:
            return risen
        return risen * (self.floor + (1.0 - self.floor) * FALLS[self.kind].left(self._done(tokens)))

    def area(self, tokens: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Integrate the rate up to `tokens`: what the peak rate would have swept in so many tokens."""
        rising = np.minimum(tokens, self.warmup)
        risen = 0.5 * rising * rising / self.warmup if self.warmup else np.zeros_like(tokens)
        level = np.maximum(np.minimum(tokens, self.start) - self.warmup, 0.0)
        if self.kind == CONSTANT:
            return risen + level
        done, length = self._done(tokens), self.horizon - self.start
        falling = self.floor * done + (1.0 - self.floor) * FALLS[self.kind].area(done)
        return risen + level + length * falling

    def columns(self, tokens: float) -> dict[str, float]:
        """Make what a law of curves reads of a run at `tokens`.

        area: tokens at the peak rate (S1). fallen: the share of the peak that is gone. Where the rate had fallen by
        POINTS[j] of that, since_j: tokens since; swept_j: area since; rate_j: the rate there. Without a fall
        `fallen` is as good as zero, for a law's columns are positive.
        """
        at = np.array([float(tokens)])
        area = float(self.area(at)[0])
        fallen = 0.0 if self.kind == CONSTANT or tokens <= self.start else float(1.0 - self.rate(at)[0])
        found = {"area": area, "fallen": max(fallen, 1e-12)}
        level = 1.0 - fallen * POINTS
        if fallen > 0:
            left = (level - self.floor) / (1.0 - self.floor)
            when = self.start + (self.horizon - self.start) * FALLS[self.kind].done(left)
            since, swept = tokens - when, area - self.area(when)
        else:
            since, swept = np.ones(STEPS), np.ones(STEPS)
        for j in range(STEPS):
            found[f"since_{j}"] = max(float(since[j]), 1e-9)
            found[f"swept_{j}"] = max(float(swept[j]), 1e-9)
            found[f"rate_{j}"] = float(level[j])
        return found
