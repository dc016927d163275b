"""The size at which an exact match will take off, said from sizes below its threshold by the answer's NLL.

An answer of nll nats is produced with probability exp(-nll), and that moves long before the exact match does
(Schaeffer et al. 2023; Hu et al. 2024 read small scores the same way). It can also not be said.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.detection.curves import Curve
from analysis.detection.verdict import Verdict

# The exact match has taken off where it is this far above chance.
TAKE_OFF = 0.1
# Greedy answers are right more often than sampled ones: the exact match is taken to lie between exp(-nll)
# and exp(-nll / 2). A guesser's nll is -log(chance) and his score chance: the upper end lies no higher than
# half-way from there to the bar.
GREEDY = 2.0
# Past this many times the log range of the sizes seen, nothing is said.
FARTHEST = 1.0
SAMPLES = 400


@dataclass(frozen=True)
class TakeOff:
    """`size` at which the score is expected `TAKE_OFF` above chance, with an interval; None and a `reason`
    where it cannot be said. `seen_to` is the largest size that was looked at; `observed` the size at which it
    did, where the table goes on."""

    task: str
    variant: str
    seen_to: float
    size: float | None
    interval: tuple[float, float] | None
    observed: float | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """The forecast, or why there is none, in one line."""
        task = f"{self.task} ({self.variant})" if self.variant else self.task
        head = f"{task}: from sizes up to {self.seen_to:.3g}"
        if self.size is None or self.interval is None:
            return f"{head} it cannot be said where it takes off: {self.reason}"
        seen = "" if self.observed is None else f"; it did at {self.observed:.3g}"
        return (
            f"{head} it takes off at {self.size:.3g} ({self.interval[0]:.3g} to {self.interval[1]:.3g}){seen}"
        )


def take_offs(rows: pd.DataFrame, verdicts: Sequence[Verdict], level: float = 0.9) -> list[TakeOff]:
    """Forecast the tasks of `rows` (as scores gives them, with a column nll, nats an answer).

    Those that are flat at their largest size, and emergent ones, from the sizes before they took off, so that the
    answer can be checked.
    """
    if "nll" not in rows.columns:
        return []
    rows = rows[np.isfinite(rows["nll"])]
    found = []
    for verdict in verdicts:
        curve = verdict.curve
        if curve.scale != 1 or curve.metric == "byte_accuracy" or verdict.label not in ("flat", "emergent"):
            continue
        chance = 0.0 if np.isnan(curve.chance) else curve.chance
        mean = np.nanmean(curve.score, axis=0)
        if verdict.label == "flat" and mean[-1] > chance + TAKE_OFF:
            continue
        past = curve.size[mean >= chance + TAKE_OFF]
        ends = [past.min()] if len(past) else []
        ends += [verdict.threshold_interval[0]] if verdict.threshold_interval else []
        top = min(ends, default=np.inf)
        mine = rows[rows["task"].eq(curve.task) & rows["variant"].eq(curve.variant) & (rows["size"] < top)]
        if mine["size"].nunique() >= 1:
            seen = mine.groupby("size")["nll"].mean()
            size, nll = seen.index.to_numpy(dtype=float), seen.to_numpy(dtype=float)
            found.append(_take_off(curve, mean, size, nll, chance + TAKE_OFF, level))
    return found


def _take_off(curve: Curve, mean: Array, size: Array, nll: Array, bar: float, level: float) -> TakeOff:
    past = np.flatnonzero(mean >= bar)
    observed = float(curve.size[past[0]]) if len(past) and past[0] > 0 else None

    def answer(at: float | None, interval: tuple[float, float] | None, reason: str) -> TakeOff:
        return TakeOff(curve.task, curve.variant, float(size[-1]), at, interval, observed, reason)

    if len(size) < 4:
        return answer(None, None, f"{len(size)} sizes below the threshold; four or more are needed")
    x = np.log(size)
    slope, error = _slope(x, nll)
    if slope > -3 * error:
        return answer(
            None, None, f"the answer's NLL does not fall: {slope:+.3f} +- {error:.3f} nats per e-fold"
        )
    latest, guess = -np.log(bar), -np.log(max(bar - TAKE_OFF, 1e-9))
    crossings = _crossings(x, nll, latest, min(GREEDY * latest, (latest + guess) / 2))
    # Lines that do not fall cross at infinity, between which nothing can be interpolated.
    ends = [(1 - level) / 2, 0.5, (1 + level) / 2]
    low, middle, high = np.quantile(crossings, ends, method="inverted_cdf")
    farthest = x[-1] + FARTHEST * (x[-1] - x[0])
    if not np.isfinite(middle) or middle > farthest:
        return answer(None, None, f"not within {np.exp(farthest):.3g}, as far again as the sizes seen")
    return answer(
        float(np.exp(middle)), (float(np.exp(low)), float(np.exp(min(high, farthest)))), "NLL falls steadily"
    )


def _slope(x: Array, y: Array) -> tuple[float, float]:
    centred = x - x.mean()
    slope = (centred * y).sum() / (centred**2).sum()
    residual = y - y.mean() - slope * centred
    variance = (residual**2).sum() / (len(x) - 2) / (centred**2).sum()
    return float(slope), float(np.sqrt(variance) + 1e-12)


def _crossings(x: Array, nll: Array, latest: float, earliest: float) -> Array:
    """Log sizes at which resampled curves fall to an nll drawn between `latest` and `earliest`: straight in
    log size, and straight in log NLL, over all sizes and over the later half, residuals resampled."""
    rng = np.random.default_rng(0)
    found = []
    for later in (0, len(x) // 2 if len(x) >= 6 else 0):
        for logarithm in (False, True):
            at, values = x[later:], np.log(np.maximum(nll[later:], 1e-3)) if logarithm else nll[later:]
            centred = at - at.mean()
            slope = (centred * values).sum() / (centred**2).sum()
            fit = values.mean() + slope * centred
            inflated = (values - fit) * np.sqrt(len(at) / max(len(at) - 2, 1))
            drawn = fit + rng.choice(inflated, (SAMPLES, len(at)))
            slopes = (drawn * centred).sum(1) / (centred**2).sum()
            bars = rng.uniform(latest, earliest, SAMPLES)
            goal = np.log(bars) if logarithm else bars
            with np.errstate(divide="ignore"):
                crossing = at.mean() + (goal - drawn.mean(1)) / slopes
            # The exact match has not taken off within the sizes seen, whatever the line says.
            found.append(np.where(slopes < 0, np.maximum(crossing, x[-1]), np.inf))
    return np.concatenate(found)
