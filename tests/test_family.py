"""Shapes from one dial; parameters and FLOPs against the network's own arrays and the compiler's own count."""

import jax
import jax.numpy as jnp
import pytest

from lmscale import model
from lmscale.errors import UserError
from lmscale.family import GROUPS, FamilyConfig, parameter_conventions, parameter_groups, shape_of
from lmscale.flops import conventions, forward_terms, training_flops_per_token
from lmscale.shape import Shape


def shape(dial: int, **changes: object) -> Shape:
    heads: dict[str, object] = {} if "n_head" in changes else {"n_head": None, "d_head": 16}
    family = FamilyConfig(**heads, **changes)  # type: ignore[arg-type]
    return shape_of(family, dial, context=64, vocab_size=260)


@pytest.mark.parametrize("dial", [2, 8, 12, 48, 96])
def test_parameter_groups_are_the_arrays_the_network_makes(dial: int) -> None:
    network = jax.eval_shape(lambda: model.init(shape(dial), jax.random.key(0)))
    assert network == model.shapes(shape(dial))
    names = model.groups(shape(dial))
    counted = dict.fromkeys(GROUPS, 0)
    for array, group in zip(jax.tree.leaves(network), jax.tree.leaves(names), strict=True):
        counted[group] += array.size
    assert counted == parameter_groups(shape(dial))


def test_every_parameter_is_in_one_group_and_the_conventions_differ_by_the_embeddings() -> None:
    groups, counts = parameter_groups(shape(64)), parameter_conventions(shape(64))
    assert counts["params"] == sum(groups.values())
    assert counts["params"] - counts["params_nonembedding"] == 2 * 260 * 64
    # 12 d^2 a layer (Kaplan et al. 2020, table 1) and the gains
    assert counts["params_nonembedding"] == 2 * 12 * 64**2 + groups["norm"]


def test_exact_flops_are_the_compilers_on_unrolled_layers() -> None:
    wide = shape(256, n_layer=3)
    rows = 4
    tokens = jnp.zeros((rows, wide.context), jnp.int32)
    params = jax.eval_shape(lambda: model.init(wide, jax.random.key(0)))
    forward = model.forward(wide)
    cost = jax.jit(forward).lower(params, tokens).compile().cost_analysis()
    assert isinstance(cost, dict)
    ours = sum(forward_terms(wide).values()) * rows * wide.context
    assert ours == pytest.approx(cost["flops"], rel=0.05)
    step = jax.jit(jax.grad(lambda p: jnp.sum(forward(p, tokens)))).lower(params).compile().cost_analysis()
    assert isinstance(step, dict)
    assert training_flops_per_token(wide) * rows * wide.context == pytest.approx(step["flops"], rel=0.05)


def test_six_n_d_and_exact_c_differ_greatly_for_small_byte_models() -> None:
    small = conventions(shape(16), 1000)
    # worked by hand for d 16, V 260, T 64: forward 2 (12 d^2 + 2 T d) x 2 layers + 2 d V, three times
    assert small["flops"] == 3 * (2 * (2 * 12 * 256 + 4 * 64 * 16) + 2 * 16 * 260) * 1000
    assert small["flops"] / small["flops_6nd_nonembedding"] > 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_head": 3}, "d_model 16 is not divisible by family.n_head=3"),
        ({"n_head": 0}, "family.n_head=0: must be positive"),
        ({"n_layer": None}, "give one of them"),
        ({"n_layer": 2, "aspect": 64.0}, "give one of them"),
        ({"n_head": 16}, "is odd"),
        ({"n_head": 4, "d_head": 8}, "family.n_head=4, family.d_head=8: give one of them"),
    ],
)
def test_an_impossible_shape_is_refused_by_name(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        shape(16, **changes)
