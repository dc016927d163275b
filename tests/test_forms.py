"""Each form computes what its paper says, with the right derivatives and translations."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_laws import TRUTHS, design, made

from analysis.errors import UserError
from analysis.fitting.jet import variables
from analysis.fitting.objective import Objective
from analysis.fitting.observations import observe
from analysis.fitting.problem import Problem
from analysis.laws.catalogue import FORMS, get_form, own_form
from analysis.laws.law import Form


def posed(form: Form, table: pd.DataFrame) -> Problem:
    """A law at the rows of a table."""
    return Problem(form, observe(table, form.columns), Objective())


def test_every_form_states_its_equation_source_and_parameters() -> None:
    assert set(FORMS) == set(TRUTHS)
    for form in FORMS.values():
        assert form.equation and form.reference
        assert all(p.meaning for p in form.parameters)
        assert set(form.names) == set(TRUTHS[form.name])


@pytest.mark.parametrize("name", FORMS)
def test_parameters_survive_the_translation_to_what_is_searched(name: str) -> None:
    table = made(name, 30, noise=0.0)
    model = posed(FORMS[name], table).model
    theta = model.private(TRUTHS[name])
    back = dict(zip(FORMS[name].names, model.public(theta[None])[0], strict=True))
    assert back == pytest.approx(TRUTHS[name], rel=1e-9)
    np.testing.assert_allclose(model.predict(theta[None])[0], table.loss, rtol=1e-9)


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("name", FORMS)
def test_gradient_and_hessian_are_those_of_the_objective(name: str, scale: str) -> None:
    table = made(name, 40, noise=0.05)
    model = posed(FORMS[name], table).model
    rng = np.random.default_rng(3)
    # Off the optimum, where residuals (and so the law's own curvature) matter.
    theta = model.private(TRUTHS[name])[None] + 0.02 * rng.standard_normal((3, len(FORMS[name].names)))
    theta = np.clip(theta, model.lower + 1e-3, model.upper - 1e-3)
    weight = rng.uniform(0.5, 1.5, (3, 40))
    target = np.log(table.loss.to_numpy()) if scale == "log" else table.loss.to_numpy()
    # Least squares: a Huber kink inside a finite difference would be the difference's fault.
    here = model.expand(theta, weight, target, scale, np.inf)
    size = np.abs(here.hessian).max()
    for i in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[i] = 1e-5
        up = model.expand(theta + step, weight, target, scale, np.inf)
        down = model.expand(theta - step, weight, target, scale, np.inf)
        np.testing.assert_allclose(
            (up.value - down.value) / 2e-5, here.gradient[:, i], rtol=1e-5, atol=1e-6 * size
        )
        np.testing.assert_allclose(
            (up.gradient - down.gradient) / 2e-5, here.hessian[:, i], rtol=1e-4, atol=1e-5 * size
        )


def test_moe_of_dense_models_is_chinchilla() -> None:
    x = {name: column.to_numpy() for name, column in design(20).items()}
    dense = {**x, "params_active": x["params"]}
    truth = TRUTHS["moe"]
    np.testing.assert_allclose(
        FORMS["moe"].predict(truth, dense),
        FORMS["chinchilla"].predict({name: truth[name] for name in FORMS["chinchilla"].names}, x),
    )


def test_data_constrained_without_repeats_is_chinchilla_up_to_the_optimal_size() -> None:
    tokens = np.geomspace(1e9, 1e12, 10)
    x = {"params": np.full(10, 1e7), "tokens": tokens, "unique_tokens": tokens}
    truth = TRUTHS["data_constrained"]
    plain = {name: truth[name] for name in FORMS["chinchilla"].names}
    np.testing.assert_allclose(
        FORMS["data_constrained"].predict(truth, x), FORMS["chinchilla"].predict(plain, x), rtol=1e-12
    )


def test_endless_repeats_are_worth_what_the_paper_says() -> None:
    # D' tends to U (1 + R_D): eq. 5 of Muennighoff et al. 2023 with R -> infinity.
    x = {"params": np.array([1e6]), "tokens": np.array([1e15]), "unique_tokens": np.array([1e9])}
    truth = TRUTHS["data_constrained"]
    plain = {name: truth[name] for name in FORMS["chinchilla"].names}
    worth = {"params": x["params"], "tokens": 1e9 * (1 + truth["R_D"]) * np.ones(1)}
    np.testing.assert_allclose(
        FORMS["data_constrained"].predict(truth, x), FORMS["chinchilla"].predict(plain, worth), rtol=1e-9
    )


@settings(max_examples=50, deadline=None)
@given(
    a=st.floats(0.2, 3.0),
    b=st.floats(-2.0, 2.0),
    c=st.floats(0.1, 2.0),
)
def test_jets_have_the_derivatives_of_differences(a: float, b: float, c: float) -> None:
    def law(v: list) -> object:
        x, y, z = v
        return (
            np.exp(-x * y) + x**z / (1.0 + z**2) + np.logaddexp(x, y * z) - np.tanh(y) * np.sqrt(x + z)
            + np.log1p(x * z) + 2.0 ** (y / 3) + np.expm1(y) * np.maximum(x, 0.1) + np.square(z - y)
        )  # fmt: skip

    point = np.array([a, b, c])

    def jet(at: np.ndarray) -> object:
        return law(variables(at[:, None]))

    here = jet(point)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-6
        up, down = jet(point + step), jet(point - step)
        assert (up.value - down.value)[0] / 2e-6 == pytest.approx(here.gradient[i][0], rel=1e-5, abs=1e-6)
        for j in range(3):
            difference = (up.gradient[j] - down.gradient[j])[0] / 2e-6
            second = here.hessian[min(i, j), max(i, j)][0]
            np.testing.assert_allclose(difference, second, rtol=1e-4, atol=1e-5)


def test_a_function_without_a_known_derivative_is_named() -> None:
    with pytest.raises(UserError, match=r"numpy\.arctan"):
        np.arctan(variables(np.ones((1, 1)))[0])


def test_an_unknown_form_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="chinchilla6"):
        get_form("chinchila")


def test_a_law_that_its_file_does_not_have_is_guessed(tmp_path: Path) -> None:
    file = tmp_path / "law.py"
    file.write_text("from analysis import own_form\n")
    with pytest.raises(UserError, match="product is no law of this file"):
        get_form(f"{file}:product")
    made_law = 'product = own_form(lambda p, x: p.E + p.G / x.params, {"E": (0, 5), "G": (1, 9)})\n'
    file.write_text("from analysis import own_form\n" + made_law)
    with pytest.raises(UserError, match="prodct is no law of this file; did you mean product"):
        get_form(f"{file}:prodct")
    assert isinstance(get_form(f"{file}:product"), Form)


@pytest.mark.parametrize(
    ("law", "says"),
    [
        (lambda p, x: p.E + p.b / x.params, "law reads 'b'"),
        (lambda p, x: p.E + math.exp(p.a) / x.params, "TypeError"),
        (lambda p, x: x.params, "law fails"),
    ],
)
def test_a_law_of_ones_own_that_fails_says_so(law: object, says: str) -> None:
    own = own_form(law, {"E": (0, 5), "a": (0.1, 3)})
    with pytest.raises(UserError, match=says):
        _ = posed(own, made("chinchilla", 20, noise=0.01)).model


def test_own_forms_are_checked() -> None:
    with pytest.raises(UserError, match="bounds of b"):
        own_form(lambda p, x: p.a * x.params**-p.b, {"a": (0, 1), "b": (2, 1)})
    with pytest.raises(UserError, match="linear names c"):
        own_form(lambda p, x: p.a * x.params**-p.b, {"a": (0, 1), "b": (0, 1)}, linear=["c"])
