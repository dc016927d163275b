"""A scaling law: parameters, bounds, equation, source, and how it is searched (the laws are in `catalogue`).

Most laws are an irreducible loss plus a sum of power terms, perhaps raised to a power: `PowerSum` states
those for the fast path. Any other is one Python function of named parameters and columns, which the same
fit takes (`fitting.jet` differentiates it).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.arrays import Array, Columns


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law: its bounds, and whether its logarithm is what is searched (`scale`).

    An infinite bound is narrowed to the table; `within` names a column whose range bounds it. `typical` is
    the range that random starts are drawn from, where that is narrower than the bounds.
    """

    name: str
    lower: float
    upper: float
    meaning: str
    scale: bool = False
    within: str | None = None
    typical: tuple[float, float] | None = None


@dataclass(frozen=True)
class Term:
    """coefficient x exp(-sum of exponent x feature); an exponent may be a parameter's name or a number.

    Features are functions of the table's columns, usually the logarithm of one.
    """

    coefficient: str
    exponents: tuple[tuple[str | float, Callable[[Columns], Array]], ...]


Values = dict[str, Any]


def _as_it_is(values: Values) -> Values:
    return values


@dataclass(frozen=True)
class PowerSum:
    """floor + (sum of terms)^outer; `floor` and `outer` name parameters, or are None (0 and 1).

    Where a law is reported in other parameters than the structure's, `public` and `private` translate
    (coefficients as logarithms, "log A") and `bounds` gives those of the structure.
    """

    terms: tuple[Term, ...]
    floor: str | None
    outer: str | None = None
    public: Callable[[Values], Values] = _as_it_is
    private: Callable[[Values], Values] = _as_it_is
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Private:
    """The parameters searched in place of a law's reported ones: well scaled, centred on the table.

    `law(p, x)` is the loss, where `x` has `log_<column>` and `mean_log_<column>` besides the columns;
    `public(values, x)` and `private(values, x)` translate. `linear` names parameters that the law is linear
    in and homogeneous; `basis(p, x)` may give approximate terms for them where it is not quite. `points` of
    the other parameters are tried before the best are polished; `solved(p, x, loss)` may give better values
    [G] of some of them at G random points, by a rule of its own.
    """

    parameters: tuple[Parameter, ...]
    law: Callable[[Any, Any], Any]
    public: Callable[[Values, Any], Values]
    private: Callable[[Values, Any], Values]
    linear: tuple[str, ...] = ()
    basis: Callable[[Any, Any], list[Any]] | None = None
    points: int = 8192
    solved: Callable[[Any, Any, Array], Values] | None = None


@dataclass(frozen=True)
class Form:
    """A scaling law.

    `parameters` are in reporting order. `columns` are the table's columns it reads. `law(p, x)` computes the
    loss from named parameters and columns with operators and numpy functions only. `structure` is its
    power-sum statement where it has one, else `searched` says what is searched (the parameters themselves
    unless given).
    """

    name: str
    equation: str
    reference: str
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    law: Callable[[Any, Any], Any]
    structure: PowerSum | None = None
    searched: Private | None = None

    @property
    def one_variable(self) -> bool:
        """True where the law reads a single column, named by the caller (`x`)."""
        return self.columns == ("x",)

    @property
    def floor(self) -> str | None:
        """The irreducible loss E: the first parameter, in which the law is linear; None where there is no such."""
        first = self.parameters[0]
        linear = self.structure is not None or (self.searched is not None and "E" in self.searched.linear)
        return "E" if first.name == "E" and not first.scale and linear else None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    def predict(self, params: Mapping[str, Any], x: Columns) -> Array:
        """Compute the loss in the table's units (nats per token) at columns `x` that broadcast with `params`."""
        with np.errstate(over="ignore"):
            return np.asarray(self.law(Named(params), Named(x)), dtype=np.float64)


class Named:
    """Attribute access to a mapping, so that a law reads as it is written: p.A * x.params ** -p.alpha."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"the law reads {name!r}, which is neither declared nor a column") from None


FLOOR = Parameter("E", 0.0, np.inf, "irreducible loss")
