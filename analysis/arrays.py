"""The array types that every wing shares, and the percentiles of draws of which some are infinite."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = Mapping[str, Array]


def percentiles(draws: Float[Array, "R ..."], wanted: Sequence[float]) -> Float[Array, "q ..."]:
    """Return the `wanted` percentiles of `draws` along its first axis.

    Interpolated where all draws are finite. Between infinite ones there is nothing to interpolate: then the
    least draw that has the share at or below it, which may itself be infinite (NaN counts as infinite).
    """
    if np.isfinite(draws).all():
        return np.asarray(np.percentile(draws, wanted, axis=0))
    known = np.where(np.isnan(draws), np.inf, draws)
    return np.asarray(np.percentile(known, wanted, axis=0, method="inverted_cdf"))
