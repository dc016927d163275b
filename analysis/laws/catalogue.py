"""The laws by name. Farseer, the data-constrained and the broken laws are written out in modules of their own."""

import copyreg
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Array, Columns
from analysis.errors import UserError, nearest
from analysis.laws.broken import BROKEN, BROKEN2
from analysis.laws.data_constrained import DATA_CONSTRAINED
from analysis.laws.farseer import FARSEER
from analysis.laws.law import Form, Parameter, PowerSum, Private, Term

# Exponents above 3 would mean that ten times the data removes a thousandth of the term: no language
# model came near. Below .01 a term is a constant and belongs to the irreducible loss.
EXPONENT = (0.01, 3.0)


def _log(column: str) -> Callable[[Columns], Array]:
    return lambda x: np.log(x[column])


def _log_ratio(x: Columns) -> Array:
    return np.log(x["params"] / x["params_active"])


FLOOR = Parameter("E", 0.0, np.inf, "irreducible loss")
A = Parameter("A", 0.0, np.inf, "size of the parameter term", scale=True)
B = Parameter("B", 0.0, np.inf, "size of the data term", scale=True)
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
)

_POWER_CONST = Form(
    name="power_const",
    equation="E + a x^-b",
    reference="Henighan et al. 2020, arXiv 2010.14701, the power law plus a constant",
    parameters=(FLOOR, *_POWER.parameters),
    columns=("x",),
    law=lambda p, x: p.E + p.a * x.x**-p.b,
    structure=PowerSum((Term("a", (("b", _log("x")),)),), floor="E"),
)

_CHINCHILLA = Form(
    name="chinchilla",
    equation="E + A / N^alpha + B / D^beta",
    reference="Hoffmann et al. 2022, arXiv 2203.15556, approach 3",
    parameters=(FLOOR, A, B, ALPHA, BETA),
    columns=("params", "tokens"),
    law=lambda p, x: p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta,
    structure=PowerSum((_N, _D), floor="E"),
)

_CHINCHILLA6 = Form(
    name="chinchilla6",
    equation="E + (A / N^alpha + B / D^beta)^k",
    reference="Hoffmann et al. 2022 (approach 3) with the outer power of Kaplan et al. 2020 in L(N, D)",
    parameters=(*_CHINCHILLA.parameters, POWER),
    columns=("params", "tokens"),
    law=lambda p, x: p.E + (p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta) ** p.k,
    structure=PowerSum((_N, _D), floor="E", outer="k"),
)

_TIED = Form(
    name="tied",
    equation="E + A / N^alpha + B / D^alpha",
    reference="Gadre et al. 2024, arXiv 2403.08540, L(C, M): alpha = 2 eta, A = a 6^-eta, B = b 6^-eta for C = 6ND",
    parameters=(FLOOR, A, B, ALPHA),
    columns=("params", "tokens"),
    law=lambda p, x: p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.alpha,
    structure=PowerSum((_N, Term("B", (("alpha", _log("tokens")),))), floor="E"),
)

_KAPLAN = Form(
    name="kaplan",
    equation="((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    reference="Kaplan et al. 2020, arXiv 2001.08361, the joint law L(N, D)",
    parameters=(
        Parameter("N_c", 0.0, np.inf, "parameters at which the parameter term alone gives 1 nat", scale=True),
        Parameter("D_c", 0.0, np.inf, "tokens at which the data term alone gives 1 nat", scale=True),
        Parameter("alpha_N", *EXPONENT, "exponent of parameters"),
        Parameter("alpha_D", *EXPONENT, "exponent of tokens"),
    ),
    columns=("params", "tokens"),
    law=lambda p, x: ((p.N_c / x.params) ** (p.alpha_N / p.alpha_D) + p.D_c / x.tokens) ** p.alpha_D,
    # (A N^-g + B D^-1)^k with g = alpha_N / alpha_D, A = N_c^g, B = D_c, k = alpha_D.
    structure=PowerSum(
        (Term("A", (("g", _log("params")),)), Term("B", ((1.0, _log("tokens")),))),
        floor=None,
        outer="k",
        public=lambda v: {
            "log N_c": v["log A"] / v["g"],
            "log D_c": v["log B"],
            "alpha_N": v["g"] * v["k"],
            "alpha_D": v["k"],
        },
        private=lambda v: {
            "g": v["alpha_N"] / v["alpha_D"],
            "k": v["alpha_D"],
            "log A": v["log N_c"] * v["alpha_N"] / v["alpha_D"],
            "log B": v["log D_c"],
        },
        bounds={"g": (0.01, 30.0), "k": EXPONENT},
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
    form.name: form
    for form in (
        _POWER,
        _POWER_CONST,
        _KAPLAN,
        _CHINCHILLA,
        _CHINCHILLA6,
        _TIED,
        FARSEER,
        DATA_CONSTRAINED,
        _MOE,
        BROKEN,
        BROKEN2,
    )
}


def own_form(
    law: Callable[[Any, Any], Any],
    bounds: Mapping[str, tuple[float, float]],
    *,
    columns: Sequence[str] = ("params", "tokens"),
    linear: Sequence[str] = (),
    name: str = "own",
    equation: str = "",
) -> Form:
    """Make a law of one's own from `law(p, x) -> loss`, written with operators and numpy functions.

    `p.E`, `p.A`, ... are its parameters, `x.params`, `x.tokens`, ... the table's columns. `bounds` gives each
    parameter's finite range (`name` and `equation` are what answers call the law); a range of positive numbers
    that spans a factor above 100 is searched in logarithms. `linear` names non-negative parameters that the law
    is linear in together (zero in all gives zero loss): they are solved for, and the search is the better for
    it. Derivatives are automatic.

    >>> import pandas as pd
    >>> from analysis import fit, own_form
    >>> bounds = {"E": (0, 3), "A": (1, 1e4), "a": (0.1, 1)}
    >>> mine = own_form(lambda p, x: p.E + p.A / x.params**p.a, bounds, columns=["params"], linear=["E", "A"])
    >>> table = pd.DataFrame({"params": [1e6, 2e6, 4e6, 8e6, 2e7, 5e7], "tokens": 1e9})
    >>> table["loss"] = 1.7 + 400 / table["params"] ** 0.34
    >>> round(fit(table, mine, bootstrap=0).params["a"], 2)
    0.34
    """
    wrong = [n for n, (low, high) in bounds.items() if not (np.isfinite([low, high]).all() and low < high)]
    if wrong:
        raise UserError(
            f"{name}: the bounds of {wrong[0]} are {bounds[wrong[0]]}; give two finite numbers, low < high"
        )
    strange = [n for n in linear if n not in bounds]
    if strange:
        raise UserError(f"{name}: linear names {strange[0]}, which has no bounds ({', '.join(bounds)} have)")
    parameters = tuple(
        Parameter(n, float(low), float(high), "", scale=low > 0 and high / low > 100)
        for n, (low, high) in bounds.items()
    )
    return Form(
        name=name,
        equation=equation
        or (law.__doc__ or f"a function of {', '.join((*bounds, *columns))}").strip().splitlines()[0],
        reference="one's own",
        parameters=parameters,
        columns=tuple(columns),
        law=law,
        searched=Private(parameters, law, lambda v, x: v, lambda v, x: v, linear=tuple(linear)),
    )


def get_form(form: str | Form) -> Form:
    """Find the form of that name; a `Form` is returned as it is. UserError lists the names.

    `FILE.py:NAME` is the Form called NAME in a Python file (see `own_form`).
    """
    if isinstance(form, Form):
        return form
    path, colon, attribute = form.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), attribute)
    if form not in FORMS:
        near = nearest(form, FORMS)
        raise UserError(f"form = {form}: {near}choose one of {', '.join(FORMS)}, auto, or FILE.py:NAME")
    return FORMS[form]


def _from_file(path: Path, name: str) -> Form:
    """Run a Python file and take its Form `name`."""
    if not path.is_file():
        raise UserError(f"form = {path}:{name}: no such file")
    scope: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_text(), str(path), "exec"), scope)
    except Exception as error:
        raise UserError(f"form = {path}:{name}: the file fails: {type(error).__name__}: {error}") from None
    found = scope.get(name)
    if not isinstance(found, Form):
        laws = [known for known, value in scope.items() if isinstance(value, Form)]
        meant = f"{nearest(name, laws)}it has {', '.join(laws)}" if laws else "analysis.own_form makes one"
        raise UserError(f"form = {path}:{name}: {name} is no law of this file; {meant}")
    return found


def _by_name(form: Form) -> tuple[Any, ...]:
    """Pickle a law of the catalogue by its name: its lambdas cannot be."""
    if FORMS.get(form.name) is form:
        return get_form, (form.name,)
    return Form, tuple(getattr(form, part.name) for part in fields(form))


copyreg.pickle(Form, _by_name)
