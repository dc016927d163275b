"""Every variant of the network against a plain implementation in float64, and its FLOPs against the compiler's.

The plain one shares no code with lmscale's: numpy, a loop over heads, rotation by complex numbers. Its gradients
are differences along random directions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.variants import VARIANTS
from lmscale import model
from lmscale.errors import UserError
from lmscale.family import GROUPS, FamilyConfig, parameter_conventions, parameter_groups, shape_of
from lmscale.flops import forward_terms, training_flops_per_token
from lmscale.lanes import over_lanes
from lmscale.loss import token_losses
from lmscale.shape import Shape

# every axis, in few programs; the slow set has each variant by itself
TOGETHER: dict[str, dict[str, Any]] = {
    "GPT-2 with SwiGLU": {
        "norm": "layer",
        "positions": "learned",
        "qk_norm": False,
        "kind": "swiglu",
        "tied_embeddings": True,
    },
    "alibi, grouped": {"positions": "alibi", "n_kv_head": 2, "kind": "relu2"},
    "sinusoidal, one key": {"positions": "sinusoidal", "n_kv_head": 1, "norm": "layer"},
}
CASES = [
    *(pytest.param(changes, id=name) for name, changes in TOGETHER.items()),
    *(
        pytest.param(changes, id=name, marks=pytest.mark.slow)
        for name, changes in {"default": {"n_layer": 2}, **VARIANTS}.items()
    ),
]
V, T = 20, 12


def small(changes: dict[str, Any]) -> Shape:
    return shape_of(FamilyConfig(**{"n_layer": 1, **changes}), 24, context=T, vocab_size=V)


def made(shape: Shape, seed: int) -> Any:
    """Parameters of which none is at its start: gains are not one, biases not zero."""
    rng = np.random.default_rng(seed)

    def array(leaf: Any) -> np.ndarray:
        drawn = rng.normal(size=leaf.shape)
        return (1 + 0.3 * drawn if len(leaf.shape) == 1 else drawn / np.sqrt(leaf.shape[0])).astype(
            np.float32
        )

    return jax.tree.map(array, model.shapes(shape))


def plain(shape: Shape, p: Any, tokens: np.ndarray) -> np.ndarray:
    """The logits [B, T, V] of parameters in float64."""
    d, h, k = shape.d_model, shape.n_head, shape.d_head
    kv = shape.n_kv_head or h
    length = tokens.shape[1]
    at = np.arange(length)

    def norm(x: np.ndarray, own: Any) -> np.ndarray:
        if shape.norm == "layer":
            return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * own[
                "gain"
            ] + own["bias"]
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * own["gain"]

    def placed(x: np.ndarray, name: str, own: Any) -> np.ndarray:
        x = norm(x, own[name]) if shape.qk_norm else x
        if shape.positions != "rotary":
            return x
        z = x[..., : k // 2] + 1j * x[..., k // 2 :]
        z = z * np.exp(1j * at[:, None] * 10_000.0 ** (-np.arange(k // 2) / (k // 2)))
        return np.concatenate([z.real, z.imag], -1)

    def attention(x: np.ndarray, own: Any) -> np.ndarray:
        columns = np.split(x @ own["qkv"], h + 2 * kv, axis=-1)  # heads of queries, of keys, of values
        mixed = []
        for head in range(h):
            group = head // (h // kv)
            q, key = placed(columns[head], "q_norm", own), placed(columns[h + group], "k_norm", own)
            scores = q @ key.swapaxes(-1, -2) / np.sqrt(k)
            if shape.positions == "alibi":
                scores = scores - 2 ** (-8 * (head + 1) / h) * np.abs(at[:, None] - at[None, :])
            scores = np.where(at[:, None] >= at[None, :], np.exp(scores), 0)
            mixed.append(scores / scores.sum(-1, keepdims=True) @ columns[h + kv + group])
        return np.concatenate(mixed, -1) @ own["out"]

    def mlp(x: np.ndarray, own: Any) -> np.ndarray:
        if shape.mlp == "swiglu":
            gate = x @ own["gate"]
            return (gate / (1 + np.exp(-gate)) * (x @ own["in"])) @ own["out"]
        z = x @ own["in"]
        if shape.mlp == "relu2":
            return np.maximum(z, 0) ** 2 @ own["out"]
        return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) @ own["out"]

    x = p["embedding"][tokens]
    if shape.positions == "learned":
        x = x + p["positions"][:length]
    if shape.positions == "sinusoidal":  # the paper's sum, over the root of d_model
        angle = at[:, None] / 10_000.0 ** (2 * np.arange(d // 2) / d)
        x = (x * np.sqrt(d) + np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, d)) / np.sqrt(d)
    for layer in range(shape.n_layer):
        x = x + attention(norm(x, p[f"attention_norm_{layer}"]), p[f"attention_{layer}"])
        x = x + mlp(norm(x, p[f"mlp_norm_{layer}"]), p[f"mlp_{layer}"])
    return norm(x, p["final_norm"]) @ (p["embedding"].T if shape.tied_embeddings else p["unembedding"])


def plain_loss(shape: Shape, p: Any, tokens: np.ndarray) -> float:
    logits = plain(shape, p, tokens[:, :-1])
    target = np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    return float((np.log(np.exp(logits).sum(-1)) - target).mean())


@pytest.mark.parametrize("kernel", [None, "blocks"])
@pytest.mark.parametrize("changes", CASES)
def test_logits_and_gradients_of_two_lanes_are_those_of_a_plain_network(
    changes: dict[str, Any], kernel: str | None
) -> None:
    shape = small(changes)
    if kernel and (shape.positions == "alibi" or shape.n_kv_head):
        return  # a plan gives it no such kernel
    both = [made(shape, 1), made(shape, 2)]
    tokens = np.random.default_rng(3).integers(0, V, (3, T + 1))
    forward = model.routed(shape, kernel=kernel)

    def loss(params: Any) -> Any:
        logits, _ = forward(params, tokens[:, :-1])
        return token_losses(logits, tokens[:, 1:]).mean(), logits

    step = jax.jit(over_lanes(jax.value_and_grad(loss, has_aux=True)))
    (_, logits), gradients = step(jax.tree.map(lambda *leaves: jnp.stack(leaves), *both))
    exact = [jax.tree.map(lambda leaf: leaf.astype(np.float64), params) for params in both]
    for lane, params in enumerate(exact):
        np.testing.assert_allclose(logits[lane], plain(shape, params, tokens[:, :-1]), atol=1e-5)
    rng = np.random.default_rng(4)
    leaves, tree = jax.tree.flatten(exact[1])
    for index, leaf in enumerate(leaves):
        ours = np.asarray(jax.tree.leaves(gradients)[index][1], np.float64)
        for _ in range(2):
            way = rng.normal(size=leaf.shape)
            ends = [
                plain_loss(
                    shape, tree.unflatten([*leaves[:index], leaf + e * way, *leaves[index + 1 :]]), tokens
                )
                for e in (1e-5, -1e-5)
            ]
            # what a softmax takes out, a bias of keys, has no gradient but rounding
            assert (ours * way).sum() == pytest.approx(
                (ends[0] - ends[1]) / 2e-5, abs=1e-4 * np.linalg.norm(ours) + 1e-7
            )


@pytest.mark.parametrize("changes", CASES)
def test_a_token_at_a_time_gives_the_logits_of_a_whole_pass(changes: dict[str, Any]) -> None:
    shape = small(changes)
    params = jax.tree.map(jnp.asarray, made(shape, 5))
    tokens = np.random.default_rng(6).integers(0, V, (2, T))
    decoder = model.decoder(shape)

    def step(cache: Any, position: jax.Array) -> Any:
        logits, cache = decoder.step(params, cache, jnp.asarray(tokens)[:, position], position)
        return cache, logits

    _, logits = jax.jit(lambda: jax.lax.scan(step, decoder.start(params, 2, T), jnp.arange(T)))()
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    np.testing.assert_allclose(logits.swapaxes(0, 1), plain(shape, exact, tokens), atol=1e-5)


@pytest.mark.parametrize("changes", CASES)
def test_parameters_are_the_arrays_and_flops_the_compilers(changes: dict[str, Any]) -> None:
    shape = shape_of(FamilyConfig(**changes), 256, context=64, vocab_size=260)
    network = jax.eval_shape(lambda: model.init(shape, jax.random.key(0)))
    assert network == model.shapes(shape)
    counted = dict.fromkeys(GROUPS, 0)
    for array, group in zip(jax.tree.leaves(network), jax.tree.leaves(model.groups(shape)), strict=True):
        counted[group] += array.size
    assert counted == parameter_groups(shape)
    tokens = jnp.zeros((4, shape.context), jnp.int32)
    assert jax.eval_shape(model.forward(shape, jnp.bfloat16), network, tokens).dtype == jnp.float32
    forward = model.forward(shape)
    cost = jax.jit(forward).lower(network, tokens).cost_analysis()
    assert sum(forward_terms(shape).values()) * tokens.size == pytest.approx(cost["flops"], rel=0.05)
    step = jax.jit(jax.grad(lambda p: jnp.sum(forward(p, tokens)))).lower(network).cost_analysis()
    assert training_flops_per_token(shape) * tokens.size == pytest.approx(step["flops"], rel=0.05)


def test_what_a_variant_costs_by_hand() -> None:
    """d 48, four heads of 12, two layers, V 260, T 64."""
    default, *others = (
        shape_of(FamilyConfig(**changes), 48, context=64, vocab_size=260)
        for changes in (
            {},
            {"n_kv_head": 1},
            {"kind": "swiglu"},
            {"tied_embeddings": True},
            {"positions": "learned"},
            {"norm": "layer"},
            {"qk_norm": False},
        )
    )
    more = [
        {
            name: parameter_groups(other)[name] - parameter_groups(default)[name]
            for name in GROUPS
            if parameter_groups(other)[name] != parameter_groups(default)[name]
        }
        for other in others
    ]
    assert more == [
        {"attention": -2 * 2 * 48 * 36},  # three of four heads of keys and of values, in two layers
        {},
        {"embedding": -260 * 48},  # the one array is the unembedding: it is multiplied with, and decays
        {"embedding": 64 * 48},
        {"norm": 5 * 48 + 4 * 12},
        {"norm": -4 * 12},
    ]
    saved = [training_flops_per_token(default) - training_flops_per_token(other) for other in others]
    assert saved == [3 * 2 * 2 * 2 * 48 * 36, 0, 0, 0, 0, 0]
    tied, learned = parameter_conventions(others[2]), parameter_conventions(others[3])
    assert (
        tied["params_matmul"] == learned["params_matmul"] == parameter_conventions(default)["params_matmul"]
    )


def test_a_group_of_one_head_is_the_same_network_as_none() -> None:
    assert small({"n_kv_head": 4}) == small({})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_kv_head": 3}, r"family.n_kv_head=3: the 4 query heads of dial 24 are not .* fit: \[1, 2, 4\]"),
        ({"n_kv_head": 8}, r"family.n_kv_head=8: the 4 query heads"),
        ({"n_kv_head": 0}, "family.n_kv_head=0: must be positive"),
        ({"norm": "layr"}, r"family.norm=layr: no such norm; did you mean layer\? there are rms, layer"),
        ({"positions": "rope"}, "no such positions; there are rotary, learned, sinusoidal, alibi, none"),
        ({"kind": "swigl"}, r"did you mean swiglu\? there are dense, relu2, swiglu"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_name(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        small(changes)


def test_positions_that_were_not_learned_are_refused() -> None:
    shape = small({"positions": "learned"})
    params = model.shapes(shape)
    long = jax.ShapeDtypeStruct((1, T + 1), jnp.int32)
    with pytest.raises(UserError, match=r"family.positions=learned: a row has 13 tokens, .* data.context=12"):
        jax.eval_shape(model.forward(shape), params, long)
    with pytest.raises(UserError, match="a row has 13 tokens"):
        model.decoder(shape).start(params, 1, T + 2)
    assert jax.eval_shape(
        model.forward(small({"positions": "alibi"})), model.shapes(small({"positions": "alibi"})), long
    )
