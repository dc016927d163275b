"""Percentiles of resampled parameters and losses, some of which a law may send to infinity."""

from collections.abc import Sequence

import numpy as np

from analysis.arrays import Array


def percentiles(draws: Array, wanted: Sequence[float]) -> Array:
    """The `wanted` percentiles of `draws` [R, ...] along its first axis, [len(wanted), ...].

    Interpolated where all draws are finite. Between infinite ones there is nothing to interpolate: then the
    least draw that has the share at or below it, which may itself be infinite (NaN counts as infinite).
    """
    if np.isfinite(draws).all():
        return np.asarray(np.percentile(draws, wanted, axis=0))
    ordered = np.sort(np.where(np.isnan(draws), np.inf, draws), axis=0)
    places = np.ceil(np.asarray(wanted) / 100.0 * len(ordered)).astype(int) - 1
    return np.asarray(ordered[np.clip(places, 0, len(ordered) - 1)])
