"""A law bound to a table, as the search needs it: predictions, the objective with two derivatives, a grid.

Everything carries a leading axis S of independent problems (starts, resamples): one call moves them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array
from analysis.laws.law import Form


@dataclass(frozen=True)
class Expansion:
    """Value, gradient and Hessian of the objective at each of S points."""

    value: Float[Array, " S"]
    gradient: Float[Array, "S p"]
    hessian: Float[Array, "S p p"]


@dataclass(frozen=True)
class Grid:
    """Points eta over the non-linear parameters and the law's linear basis there.

    `fixed`: the basis is the law itself, one column, with nothing left to solve for.
    """

    eta: Float[Array, "G q"]
    basis: Float[Array, "G m n"]
    fixed: bool = False


@runtime_checkable
class Expandable(Protocol):
    """What is minimised, in internal parameters within a box [`lower`, `upper`]."""

    @property
    def lower(self) -> Float[Array, " p"]: ...

    @property
    def upper(self) -> Float[Array, " p"]: ...

    def expand(
        self,
        theta: Float[Array, "S p"],
        weight: Float[Array, "S w"],
        target: Float[Array, " n"],
        scale: str,
        width: float,
    ) -> Expansion:
        """Expand the objective, the sum of weight x huber(residual), to second order at theta.

        `target` is on the residual's scale.
        """
        ...


@runtime_checkable
class Model(Expandable, Protocol):
    """A law bound to the n rows of a table, whose weights are [S, n]."""

    form: Form

    def predict(self, theta: Float[Array, "S p"]) -> Float[Array, "S n"]:
        """Compute the losses at internal parameters."""
        ...

    def public(self, theta: Float[Array, "S p"]) -> Float[Array, "S p2"]:
        """Translate internal parameters into reported ones, in the order of `form.names`."""
        ...

    def private(self, params: Mapping[str, float]) -> Float[Array, " p"]:
        """Translate reported parameters into internal ones."""
        ...


@runtime_checkable
class Gridded(Model, Protocol):
    """A bound law that a grid of starts can be laid out for."""

    def grid(self, rows: Int[np.ndarray, " r"]) -> Grid:
        """Lay out points of the non-linear parameters, with the law's linear basis at `rows`."""
        ...

    def assemble(self, eta: Float[Array, "S q"], coefficients: Float[Array, "S m"]) -> Float[Array, "S p"]:
        """Make internal parameters of grid points and their linear coefficients."""
        ...
