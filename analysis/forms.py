"""Scaling laws as data: parameters, bounds, equation, source; no fitting here.

Most laws are an irreducible loss plus a sum of power terms, perhaps raised to a power: `PowerSum` states
those for the fast path. Any other is one Python function of named parameters and columns, which the same
fit takes (`analysis.jet` differentiates it).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import UserError

Array = NDArray[np.float64]
Columns = Mapping[str, Array]

# Exponents above 3 would mean that ten times the data removes a thousandth of the term: no language
# model came near. Below .01 a term is a constant and belongs to the irreducible loss.
EXPONENT = (0.01, 3.0)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law: its bounds, and whether its logarithm is what is searched (`scale`)."""

    name: str
    lower: float
    upper: float
    meaning: str
    scale: bool = False


@dataclass(frozen=True)
class Term:
    """coefficient x exp(-sum of exponent x feature); an exponent may be a parameter's name or a number.

    Features are functions of the table's columns, usually the logarithm of one.
    """

    coefficient: str
    exponents: tuple[tuple[str | float, Callable[[Columns], Array]], ...]


@dataclass(frozen=True)
class PowerSum:
    """floor + (sum of terms)^outer; `floor` and `outer` name parameters, or are None (0 and 1)."""

    terms: tuple[Term, ...]
    floor: str | None
    outer: str | None = None


@dataclass(frozen=True)
class Form:
    """A scaling law.

    `parameters` are in reporting order. `columns` are the table's columns it reads. `structure` is its
    power-sum statement, or None; `law(p, x)` computes the loss from named parameters and columns with
    numpy functions only. `linear` names positive parameters the law is linear in once the others are
    given, so that a search can solve for them. `public` turns the structure's parameters into the
    reported ones where the two differ.
    """

    name: str
    equation: str
    reference: str
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    law: Callable[[Any, Any], Any]
    structure: PowerSum | None = None
    linear: tuple[str, ...] = ()
    one_variable: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    def predict(self, params: Mapping[str, float], x: Columns) -> Array:
        """Loss in the table's units (nats per token) at the columns `x`, each [n]."""
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


def _log(column: str) -> Callable[[Columns], Array]:
    return lambda x: np.log(x[column])


def _log_ratio(x: Columns) -> Array:
    return np.log(x["params"] / x["params_active"])


FLOOR = Parameter("E", 0.0, np.inf, "irreducible loss, nats per token")
A = Parameter("A", 0.0, np.inf, "size of the parameter term, nats", scale=True)
B = Parameter("B", 0.0, np.inf, "size of the data term, nats", scale=True)
ALPHA = Parameter("alpha", *EXPONENT, "exponent of parameters")
BETA = Parameter("beta", *EXPONENT, "exponent of tokens")
POWER = Parameter("k", 0.05, 10.0, "power of the reducible loss")

_N = Term("A", (("alpha", _log("params")),))
_D = Term("B", (("beta", _log("tokens")),))

_POWER = Form(
    name="power",
    equation="a x^-b",
    reference="Hestness et al. 2017, arXiv 1712.00409",
    parameters=(
        Parameter("a", 0.0, np.inf, "loss at x = 1", scale=True),
        Parameter("b", *EXPONENT, "exponent of x"),
    ),
    columns=("x",),
    law=lambda p, x: p.a * x.x**-p.b,
    structure=PowerSum((Term("a", (("b", _log("x")),)),), floor=None),
    one_variable=True,
)

_POWER_CONST = Form(
    name="power_const",
    equation="E + a x^-b",
    reference="Henighan et al. 2020, arXiv 2010.14701, eq. 1.1",
    parameters=(FLOOR, *_POWER.parameters),
    columns=("x",),
    law=lambda p, x: p.E + p.a * x.x**-p.b,
    structure=PowerSum((Term("a", (("b", _log("x")),)),), floor="E"),
    one_variable=True,
)

_CHINCHILLA = Form(
    name="chinchilla",
    equation="E + A / N^alpha + B / D^beta",
    reference="Hoffmann et al. 2022, arXiv 2203.15556, eq. 2",
    parameters=(FLOOR, A, B, ALPHA, BETA),
    columns=("params", "tokens"),
    law=lambda p, x: p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta,
    structure=PowerSum((_N, _D), floor="E"),
)

_CHINCHILLA6 = Form(
    name="chinchilla6",
    equation="E + (A / N^alpha + B / D^beta)^k",
    reference="Hoffmann et al. 2022 with the outer power of Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.5)",
    parameters=(*_CHINCHILLA.parameters, POWER),
    columns=("params", "tokens"),
    law=lambda p, x: p.E + (p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta) ** p.k,
    structure=PowerSum((_N, _D), floor="E", outer="k"),
)

_TIED = Form(
    name="tied",
    equation="E + A / N^alpha + B / D^alpha",
    reference="Gadre et al. 2024, arXiv 2403.08540, eq. 4 (their lambda is b 6^(-eta/2) in place of B)",
    parameters=(FLOOR, A, B, ALPHA),
    columns=("params", "tokens"),
    law=lambda p, x: p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.alpha,
    structure=PowerSum((_N, Term("B", (("alpha", _log("tokens")),))), floor="E"),
)

_KAPLAN = Form(
    name="kaplan",
    equation="((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    reference="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
    parameters=(
        Parameter("N_c", 0.0, np.inf, "parameters at which the parameter term alone gives 1 nat", scale=True),
        Parameter("D_c", 0.0, np.inf, "tokens at which the data term alone gives 1 nat", scale=True),
        Parameter("alpha_N", *EXPONENT, "exponent of parameters"),
        Parameter("alpha_D", *EXPONENT, "exponent of tokens"),
    ),
    columns=("params", "tokens"),
    law=lambda p, x: ((p.N_c / x.params) ** (p.alpha_N / p.alpha_D) + p.D_c / x.tokens) ** p.alpha_D,
    # (A N^-g + B D^-1)^k with g = alpha_N / alpha_D, A = N_c^g, B = D_c, k = alpha_D: see `public_kaplan`.
    structure=PowerSum(
        (Term("A", (("g", _log("params")),)), Term("B", ((1.0, _log("tokens")),))), floor=None, outer="k"
    ),
)

_MOE = Form(
    name="moe",
    equation="E + A r^delta N_a^-(alpha + gamma ln r) + B r^omega D^-(beta + zeta ln r), r = N / N_a",
    reference="Ludziejewski et al. 2025, arXiv 2502.05172, with the ratio of total to active parameters",
    parameters=(
        FLOOR,
        A,
        B,
        ALPHA,
        BETA,
        Parameter("gamma", -1.0, 1.0, "change of alpha with ln r"),
        Parameter("delta", -3.0, 3.0, "exponent of r in the parameter term"),
        Parameter("omega", -3.0, 3.0, "exponent of r in the data term"),
        Parameter("zeta", -1.0, 1.0, "change of beta with ln r"),
    ),
    columns=("params", "params_active", "tokens"),
    law=lambda p, x: (
        p.E
        + p.A
        * np.exp(
            (p.delta - p.gamma * np.log(x.params_active)) * np.log(x.params / x.params_active)
            - p.alpha * np.log(x.params_active)
        )
        + p.B
        * np.exp(
            (p.omega - p.zeta * np.log(x.tokens)) * np.log(x.params / x.params_active)
            - p.beta * np.log(x.tokens)
        )
    ),
    structure=PowerSum(
        (
            Term(
                "A",
                (
                    ("alpha", _log("params_active")),
                    ("gamma", lambda x: _log_ratio(x) * np.log(x["params_active"])),
                    ("delta", lambda x: -_log_ratio(x)),
                ),
            ),
            Term(
                "B",
                (
                    ("beta", _log("tokens")),
                    ("omega", lambda x: -_log_ratio(x)),
                    ("zeta", lambda x: _log_ratio(x) * np.log(x["tokens"])),
                ),
            ),
        ),
        floor="E",
    ),
)

FORMS: dict[str, Form] = {
    form.name: form for form in (_POWER, _POWER_CONST, _KAPLAN, _CHINCHILLA, _CHINCHILLA6, _TIED, _MOE)
}


def get_form(form: str | Form) -> Form:
    """The form of that name; a `Form` is returned as it is. UserError lists the names."""
    if isinstance(form, Form):
        return form
    if form not in FORMS:
        raise UserError(f"form = {form}: choose one of {', '.join(FORMS)}, or auto")
    return FORMS[form]
