"""mup and completep: the base is the standard network, their tables by array, and the coordinate check, which names
what is wrong."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_identity import composed, specs

from lmscale import coordinates, model, parametrisation
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.optim import OPTIMISERS, OptimConfig
from lmscale.parametrisation import (
    BASE_LAYERS,
    BASE_WIDTH,
    checked,
    fitted,
    multipliers,
    parametrised,
    rate_factors,
)
from lmscale.shape import Shape


def shape(width: int, layers: int, kind: str) -> Shape:
    return parametrised(shape_of(FamilyConfig(n_layer=layers), width, context=16, vocab_size=50), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", parametrisation.PARAMETRISATIONS)
def test_at_the_base_there_is_one_network_and_one_optimiser(kind: str) -> None:
    """Same start, same logits and the same rates: what a rung of the base's size trains is the standard run."""
    ours, standard = (shape(BASE_WIDTH, BASE_LAYERS, name) for name in (kind, "inverse_width"))
    assert ours.parametrisation == kind and standard.parametrisation == "standard"
    tokens = jnp.arange(32).reshape(2, 16)
    logits = []
    for one in (ours, standard):
        params = jax.jit(lambda key, one=one: model.init(one, key))(jax.random.key(0))
        logits.append(jax.jit(model.forward(one))(params, tokens))
    np.testing.assert_allclose(*logits, atol=1e-6)
    assert all(factor == 1 for factor in jax.tree.leaves(rate_factors(ours, OptimConfig())))
    assert fitted(ours, OptimConfig()) == OptimConfig()


def test_the_tables_of_the_papers() -> None:
    """Starts, multipliers, rates and eps at four times the base's width and depth, AdamW (Dey et al. 2025, table 1:
    m_N = m_L = 4; mup is the same with m_L = 1 and this project's start by depth)."""
    params, starts = {}, {}
    for kind in ("mup", "completep"):
        big = shape(4 * BASE_WIDTH, 4 * BASE_LAYERS, kind)
        params[kind] = jax.eval_shape(lambda key, big=big: model.init(big, key), jax.random.key(0))
        ones = jax.tree.map(lambda leaf: np.ones(()), params[kind])
        starts[kind] = parametrisation.started(big, ones)
        rates = rate_factors(big, OptimConfig())
        assert rates["embedding"] == rates["unembedding"] == rates["final_norm"]["gain"] == 1
        assert rates["attention_3"]["qkv"] == rates["mlp_0"]["out"] == 1 / 4
        assert rates["attention_3"]["q_norm"]["gain"] == 1
        assert multipliers(big).output == 1 / 4
        assert multipliers(big).residual == (1 / 4 if kind == "completep" else 1)
        assert multipliers(big).attention == 8**0.5 / 32
        assert fitted(big, OptimConfig()).eps == pytest.approx(1e-8 / (16 if kind == "completep" else 4))
        # d^-1/2 times this is (base width)^-1/2
        assert starts[kind]["embedding"] == starts[kind]["unembedding"] == 2
        assert starts[kind]["mlp_1"]["in"] == starts[kind]["attention_1"]["q_norm"]["gain"] == 1
    # the way out starts by 2 layers x (base), whatever the depth
    assert starts["mup"]["mlp_1"]["out"] == 1 and starts["completep"]["mlp_1"]["out"] == pytest.approx(2)


def test_transfer_kind_selects_it_and_no_other_run_moves() -> None:
    before = specs(composed("experiment=smoke"))
    ours = specs(composed("experiment=smoke", "transfer=mup", "transfer.rate=.02"))
    assert {spec.learning_rate for spec in ours} == {0.02}
    assert {spec.shape.parametrisation for spec in ours} == {"mup"}
    # to a report the rungs are of one science: nothing but the shape and the rate is the rung's own
    assert {spec.optim for spec in ours} == {OptimConfig()}
    assert not {spec.run_id for spec in ours} & {spec.run_id for spec in before}
    assert {spec.shape.parametrisation for spec in before} == {"standard"}
    assert [spec.dial for spec in ours] == [spec.dial for spec in before]


@pytest.mark.parametrize(
    ("name", "kind", "exponent"),
    [
        ("adamw", "inverse_width", 1.0),
        ("lion", "inverse_width", 1.0),
        ("muon", "constant", 0.0),
        ("adafactor", "inverse_root_width", 0.5),
        ("sgd", "inverse_root_width", 0.5),
    ],
)
def test_an_optimiser_brings_its_own_rule_and_another_may_be_given(
    name: str, kind: str, exponent: float
) -> None:
    values = composed("experiment=smoke", f"optim={name}")
    assert (values["optim"]["kind"], values["transfer"]["kind"]) == (name, kind)
    rates = {spec.dial: spec.learning_rate for spec in specs(values)}
    assert rates[8] / rates[16] == pytest.approx(2**exponent)
    given = composed("experiment=smoke", f"optim={name}", "transfer=mup")
    assert (given["optim"]["kind"], given["transfer"]["kind"]) == (name, "mup")


def test_every_optimiser_states_its_rates_by_role() -> None:
    for name, entry in OPTIMISERS.items():
        roles = {"hidden", "readout", "lookup", "vector"}
        assert set(entry.standard) | set(entry.mup or {}) <= roles, name


def test_a_parametrisation_without_known_rates_is_refused_before_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"optim\.kind=sgd: .*transfer\.kind=completep.* adamw, lion, muon"):
        checked(shape(64, 4, "completep"), OptimConfig("sgd"))
    assert checked(shape(64, 4, "mup"), OptimConfig("sgd")) == OptimConfig("sgd")
    own = dataclasses.replace(OPTIMISERS["lion"], mup=None)
    monkeypatch.setitem(OPTIMISERS, "own", own)
    with pytest.raises(UserError, match=r"optim\.kind=own: .*transfer\.kind=mup are not known"):
        specs(composed("experiment=smoke", "transfer=mup", "optim.kind=own"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--transfer", "mpu"], ["--transfer=mpu", "did you mean mup?"]),
        (["--widths", "16"], ["--widths=[16]", "two sizes or more"]),
        (["--widths", "16", "30"], ["dial=30", "divisible"]),
        (["--optim", "sgd"], ["optim.kind=sgd", "completep"]),
    ],
)
def test_a_wrong_argument_of_the_check_is_one_line(
    arguments: list[str], words: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinates, "lane_step", lambda *_: pytest.fail("work began"))
    assert coordinates.main(arguments) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words) and said.count("\n") == 1


def test_what_is_not_flat_is_named_by_layer(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block that grows with the root of the width, among places that do not."""

    def made(one: Shape, *_: Any) -> coordinates.Scales:
        table = {"attention_0": 1.0, "mlp_1": (one.d_model / 16) ** 0.5, "logits": 0.9}
        return coordinates.Scales(table, dict.fromkeys(table, 0.1))

    monkeypatch.setattr(coordinates, "scales", made)
    assert coordinates.main(["--transfer", "mup", "--widths", "16", "64", "256"]) == 1
    assert capsys.readouterr().out.rstrip().endswith("not flat: mlp_1 (value over width)")


@pytest.mark.slow
def test_coordinates_are_flat_over_width_and_depth_and_not_without_a_parametrisation() -> None:
    """AdamW: mup over a factor of 16 in width; completep over 8 in depth, as it is over width; one rate for all is
    not flat over width, in every block."""
    found = coordinates.check("mup", OptimConfig(), 0.01, (16, 256), ())
    assert [slope for slope in found if not slope.flat] == []
    found = coordinates.check("completep", OptimConfig(), 0.01, (), (2, 16))
    assert [slope for slope in found if not slope.flat] == []
    found = coordinates.check("constant", OptimConfig(), 0.01, (16, 128), ())
    steep = {slope.place for slope in found if not slope.flat}
    assert {"mlp_0", "mlp_1", "attention_0", "attention_1", "stream before final"} <= steep
