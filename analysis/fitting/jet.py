"""Automatic differentiation in numpy: numbers that carry their gradient and Hessian through ufuncs.

A law written with operators and numpy functions is evaluated once on jets and gives exact first and second
derivatives in its parameters, for many parameter vectors and rows at a time (forward mode; Griewank and
Walther 2008, chapter 13). Ten parameters at most are expected: the Hessian is carried, without
what is zero in it.

Not jax: `jit(hessian(law))` compiles anew for every shape of a batch, .6 to 4.2 s each on one core, and the search
moves through dozens of shapes as problems converge and leave it; a whole fit of farseer by jets takes 1.5 s.
Padding to few shapes loses that again in rows that are computed for nothing, and analysis would start slower.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from analysis.arrays import Array
from analysis.errors import UserError

K = TypeVar("K")
Unary = Callable[[Array], tuple[Array, Array, Array]]


class Jet(NDArrayOperatorsMixin):
    """value [...], `gradient` by parameter and `hessian` by pair of parameters (i <= j), each [...], all
    broadcast against each other; what is not there is zero. A part of a law has few of the law's parameters,
    and what has no rows of the table in it has no axis for them."""

    def __init__(
        self, value: Array, gradient: dict[int, Array], hessian: dict[tuple[int, int], Array]
    ) -> None:
        self.value, self.gradient, self.hessian = value, gradient, hessian

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        """Apply an operator or function of numpy that meets a jet (numpy calls this)."""
        if method != "__call__" or keywords:
            return NotImplemented
        if ufunc in _UNARY:
            return _compose(inputs[0], _UNARY[ufunc])
        if ufunc in _BINARY:
            return _BINARY[ufunc](*inputs)
        raise UserError(
            f"the law uses numpy.{ufunc.__name__}, whose derivative is not known here; use "
            f"{', '.join(sorted(f.__name__ for f in (*_UNARY, *_BINARY)))}"
        )


def variables(values: Array) -> list[Jet]:
    """Make a jet of each row of `values` [p, ...]: the i-th has gradient one in direction i."""
    return [Jet(value, {i: np.ones((1,) * value.ndim)}, {}) for i, value in enumerate(values)]


def _compose(jet: Jet, rule: Unary) -> Jet:
    value, first, second = rule(jet.value)
    hessian = {}
    for i, a in jet.gradient.items():
        bent = second * a
        for j, b in jet.gradient.items():
            if i <= j:
                hessian[i, j] = bent * b
    for pair, h in jet.hessian.items():
        hessian[pair] = hessian[pair] + first * h
    return Jet(value, {i: first * a for i, a in jet.gradient.items()}, hessian)


def _sum(a: dict[K, Array], b: dict[K, Array]) -> dict[K, Array]:
    found = dict(a)
    for key, value in b.items():
        found[key] = found[key] + value if key in found else value
    return found


def _scaled(a: dict[K, Array], factor: Any) -> dict[K, Array]:
    return {key: value * factor for key, value in a.items()}


def _add(a: Any, b: Any) -> Jet:
    if not isinstance(b, Jet):
        return Jet(a.value + b, a.gradient, a.hessian)
    if not isinstance(a, Jet):
        return _add(b, a)
    return Jet(a.value + b.value, _sum(a.gradient, b.gradient), _sum(a.hessian, b.hessian))


def _multiply(a: Any, b: Any) -> Jet:
    if not isinstance(b, Jet):
        return Jet(a.value * b, _scaled(a.gradient, b), _scaled(a.hessian, b))
    if not isinstance(a, Jet):
        return _multiply(b, a)
    hessian = _sum(_scaled(a.hessian, b.value), _scaled(b.hessian, a.value))
    for i, first in a.gradient.items():
        for j, second in b.gradient.items():
            pair = (min(i, j), max(i, j))
            cross = first * second * (2.0 if i == j else 1.0)
            hessian[pair] = hessian[pair] + cross if pair in hessian else cross
    gradient = _sum(_scaled(a.gradient, b.value), _scaled(b.gradient, a.value))
    return Jet(a.value * b.value, gradient, hessian)


def _power(a: Any, b: Any) -> Jet:
    if not isinstance(b, Jet):
        return _compose(a, lambda u: (u**b, b * u ** (b - 1.0), b * (b - 1.0) * u ** (b - 2.0)))
    # The base of a law's power is positive: sizes and sums of positive terms.
    exponent = _multiply(b, np.log(a))
    return _compose(exponent, _exp)


def _pick(chosen: Callable[[Array, Array], Array]) -> Callable[[Any, Any], Jet]:
    """Make the rule of maximum or minimum: the derivatives of the argument that is taken."""

    def rule(a: Any, b: Any) -> Jet:
        a, b = (x if isinstance(x, Jet) else Jet(np.asarray(x, dtype=np.float64), {}, {}) for x in (a, b))
        first = chosen(a.value, b.value)
        return Jet(
            np.where(first, a.value, b.value),
            _either(first, a.gradient, b.gradient),
            _either(first, a.hessian, b.hessian),
        )

    return rule


def _either(first: np.ndarray, a: dict[K, Array], b: dict[K, Array]) -> dict[K, Array]:
    return {key: np.where(first, a.get(key, 0.0), b.get(key, 0.0)) for key in {**a, **b}}


def _logaddexp(a: Any, b: Any) -> Jet:
    """Apply log(e^a + e^b) = b + softplus(a - b)."""
    return _add(_compose(_add(a, -b), _softplus), b)


def _softplus(u: Array) -> tuple[Array, Array, Array]:
    s = 0.5 * (1.0 + np.tanh(0.5 * u))
    return np.logaddexp(u, 0.0), s, s * (1.0 - s)


def _exp(u: Array) -> tuple[Array, Array, Array]:
    e = np.exp(u)
    return e, e, e


def _tanh(u: Array) -> tuple[Array, Array, Array]:
    t = np.tanh(u)
    return t, 1.0 - t * t, -2.0 * t * (1.0 - t * t)


def _sqrt(u: Array) -> tuple[Array, Array, Array]:
    r = np.sqrt(u)
    return r, 0.5 / r, -0.25 / (r * u)


_UNARY: dict[np.ufunc, Unary] = {
    np.exp: _exp,
    np.expm1: lambda u: (np.expm1(u), np.exp(u), np.exp(u)),
    np.log: lambda u: (np.log(u), 1.0 / u, -1.0 / (u * u)),
    np.log1p: lambda u: (np.log1p(u), 1.0 / (1.0 + u), -1.0 / (1.0 + u) ** 2),
    np.sqrt: _sqrt,
    np.square: lambda u: (u * u, 2.0 * u, np.full_like(u, 2.0)),
    np.tanh: _tanh,
    np.negative: lambda u: (-u, np.full_like(u, -1.0), np.zeros_like(u)),
    np.positive: lambda u: (u, np.ones_like(u), np.zeros_like(u)),
    np.reciprocal: lambda u: (1.0 / u, -1.0 / u**2, 2.0 / u**3),
    np.absolute: lambda u: (np.abs(u), np.sign(u), np.zeros_like(u)),
}

_BINARY: dict[np.ufunc, Callable[[Any, Any], Jet]] = {
    np.add: _add,
    np.subtract: lambda a, b: _add(a, -b),
    np.multiply: _multiply,
    np.true_divide: lambda a, b: _multiply(a, np.reciprocal(b) if isinstance(b, Jet) else 1.0 / b),
    np.power: _power,
    np.float_power: _power,
    np.maximum: _pick(np.greater_equal),
    np.minimum: _pick(np.less_equal),
    np.logaddexp: _logaddexp,
}
