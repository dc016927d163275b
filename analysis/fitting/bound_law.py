"""A power-sum law bound to a table: internal parameters, the objective with two derivatives, the grid.

Everything carries a leading axis S of independent problems (starts, resamples): one call moves them all.
Internal parameters: the floor, each term's logarithm at the middle of the table (centred, so that
amplitudes and exponents do not trade off), the exponents, the outer power.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from analysis.arrays import Array
from analysis.laws.law import Form


@dataclass(frozen=True)
class Expansion:
    """Value [S], gradient [S, p] and Hessian [S, p, p] of the objective."""

    value: Array
    gradient: Array
    hessian: Array


@dataclass(frozen=True)
class Grid:
    """Points eta [G, q] over the non-linear parameters and the law's linear basis there, [G, m, n].

    `fixed`: the basis is the law itself, one column, with nothing left to solve for.
    """

    eta: Array
    basis: Array
    fixed: bool = False


class Model(Protocol):
    """What the search and the solver need of a law bound to a table of n rows."""

    form: Form
    lower: Array
    upper: Array
    # What `analysis.search` made of the grid for an objective and a seed: searches of one table share it.
    starts: dict[Any, Any]

    def predict(self, theta: Array) -> Array: ...

    def expand(self, theta: Array, weight: Array, target: Array, scale: str, width: float) -> Expansion: ...

    def grid(self, rows: np.ndarray) -> Grid: ...

    def assemble(self, eta: Array, coefficients: Array) -> Array: ...

    def public(self, theta: Array) -> Array: ...

    def private(self, params: Mapping[str, float]) -> Array: ...
