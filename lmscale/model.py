"""The network, and nothing else: a decoder-only transformer. Everything about its shape comes from `Shape`, and
its arrays are those that `family` lists.

Dimension letters, used in array names here and nowhere else:
B rows, T positions, D d_model, H heads, K d_head, V vocabulary, W positions that a cache holds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lmscale.family import attention_parameters, norm_parameters, parameters
from lmscale.mlp import KINDS
from lmscale.shape import Parameter, Shape

Params = Any  # a plain pytree of arrays
Cache = tuple[jax.Array, jax.Array]  # keys and values, [B, W, H, K] each
ROTARY_BASE = 10_000.0


class Decoder(NamedTuple):
    """One model's way to go on by a token. start(params, rows, length) -> cache; step(params, cache,
    tokens [B], position) -> (logits of the next token [B, V], cache). All rows stand at one position."""

    start: Callable[[Any, int, int], Any]
    step: Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


def _made(module: nn.Module, name: str, arrays: dict[str, Parameter]) -> jax.Array:
    """A module's array of this name, as `family` describes it."""
    _, shape, std = arrays[name]
    if module.has_variable("params", name):
        # `param` would trace the initialiser again for its shape: a tenth of a step's trace
        found: jax.Array = module.get_variable("params", name)
        assert found.shape == shape, f"{name} {found.shape}, not {shape}"
        return found
    init = nn.initializers.ones if std is None else nn.initializers.normal(std)
    array: jax.Array = module.param(name, init, shape)
    return array


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis with a learned gain (Zhang & Sennrich 2019)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gain = _made(self, "gain", norm_parameters(x.shape[-1]))
        x32 = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + 1e-6)
        return (x32 * scale * gain).astype(x.dtype)


def rotary(x_BTHK: jax.Array, positions_T: jax.Array) -> jax.Array:
    """Rotate pairs of channels by an angle proportional to position (Su et al. 2021, RoFormer, eq. 34)."""
    half = x_BTHK.shape[-1] // 2
    frequency_K = ROTARY_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_TK = positions_T[:, None].astype(jnp.float32) * frequency_K
    cos, sin = jnp.cos(angle_TK)[:, None, :], jnp.sin(angle_TK)[:, None, :]
    first, second = x_BTHK[..., :half], x_BTHK[..., half:]
    rotated = jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return rotated.astype(x_BTHK.dtype)


class Attention(nn.Module):
    """Causal multi-head attention with normed queries and keys (Henry et al. 2020; Dehghani et al. 2023)."""

    shape: Shape
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, cache: Cache | None = None, position: jax.Array | int = 0
    ) -> tuple[jax.Array, Cache]:
        """Over all positions of x; or, with the keys and values [B, W, H, K] of the positions before, over
        the one position of x. Returns the keys and values with those of x in them."""
        h, k, arrays = self.shape.n_head, self.shape.d_head, attention_parameters(self.shape)
        w_qkv, w_out = _made(self, "qkv", arrays), _made(self, "out", arrays)
        rows, length, _ = x_BTD.shape
        qkv = (x_BTD @ w_qkv.astype(self.dtype)).reshape(rows, length, 3, h, k)
        q, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        positions_T = position + jnp.arange(length)
        q = rotary(RMSNorm(name="q_norm")(q), positions_T)
        key = rotary(RMSNorm(name="k_norm")(key), positions_T)
        if cache is None:
            mixed = jax.nn.dot_product_attention(q, key, value, is_causal=True)
        else:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new, position, axis=1)
                for old, new in zip(cache, (key, value), strict=True)
            )
            seen_W = jnp.arange(key.shape[1]) <= position
            mixed = jax.nn.dot_product_attention(q, key, value, mask=seen_W[None, None, None, :])
        return mixed.reshape(rows, length, h * k) @ w_out.astype(self.dtype), (key, value)


class MLP(nn.Module):
    """The MLP of the shape's kind."""

    shape: Shape
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        kind = KINDS[self.shape.mlp]
        table = kind.parameters(self.shape)
        arrays = {name: _made(self, name, table) for name in table}
        if kind.routed:
            y_BTD, routing = kind.routed(self.shape, arrays, x_BTD)
            self.sow("routing", "of", routing, reduce_fn=lambda _, new: new, init_fn=lambda: None)
            return y_BTD
        assert kind.forward is not None
        return kind.forward({name: array.astype(self.dtype) for name, array in arrays.items()}, x_BTD)


class Transformer(nn.Module):
    """tokens [B, T] -> logits [B, T, V] in float32, and each layer's keys and values. Pre-norm residual
    blocks, untied unembedding. caches, position: see `Attention`."""

    shape: Shape
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens_BT: jax.Array, caches: list[Cache] | None = None, position: jax.Array | int = 0
    ) -> tuple[jax.Array, list[Cache]]:
        arrays = parameters(self.shape)
        embedding = _made(self, "embedding", arrays)
        x_BTD = embedding[tokens_BT].astype(self.dtype)
        filled = []
        for layer in range(self.shape.n_layer):
            attention = Attention(self.shape, self.dtype, name=f"attention_{layer}")
            normed_BTD = RMSNorm(name=f"attention_norm_{layer}")(x_BTD)
            attended_BTD, cache = attention(normed_BTD, caches[layer] if caches else None, position)
            filled.append(cache)
            x_BTD = x_BTD + attended_BTD
            mlp = MLP(self.shape, self.dtype, name=f"mlp_{layer}")
            x_BTD = x_BTD + mlp(RMSNorm(name=f"mlp_norm_{layer}")(x_BTD))
        unembedding = _made(self, "unembedding", arrays)
        x_BTD = RMSNorm(name="final_norm")(x_BTD)
        return (x_BTD @ unembedding.astype(self.dtype)).astype(jnp.float32), filled


def init(shape: Shape, key: jax.Array) -> Params:
    """Make fresh parameters in float32, a plain pytree."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    return Transformer(shape).init(key, tokens)["params"]


def shapes(shape: Shape) -> Params:
    """Make the pytree of `init` with each array's shape and type in its place."""
    return _listed(shape, lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32))


def groups(shape: Shape) -> Params:
    """Make the pytree of `init` with each array's group name in its place."""
    return _listed(shape, lambda leaf: leaf.group)


def _listed(shape: Shape, what: Callable[[Parameter], Any]) -> Params:
    return jax.tree.map(what, parameters(shape), is_leaf=lambda leaf: isinstance(leaf, Parameter))


def forward(shape: Shape, dtype: Any = jnp.float32) -> Callable[..., jax.Array]:
    """Make (params, tokens [B, T]) -> logits [B, T, V], for one model. routings: a list that gets the
    `experts.Routing` of each layer as it is traced."""
    network = Transformer(shape, dtype)

    def logits(params: Params, tokens: jax.Array, routings: list[Any] | None = None) -> jax.Array:
        if routings is None or KINDS[shape.mlp].routed is None:
            answer, _ = network.apply({"params": params}, tokens)
        else:
            (answer, _), state = network.apply({"params": params}, tokens, mutable=["routing"])
            routings += [state["routing"][f"mlp_{layer}"]["of"] for layer in range(shape.n_layer)]
        assert isinstance(answer, jax.Array)
        return answer

    return logits


def load(shape: Shape, dtype: Any = jnp.float32) -> Callable[[Params, jax.Array], jax.Array] | None:
    """Make (params, tokens [B, T]) -> the share of each layer's experts [n_layer, E]; None without experts."""
    if KINDS[shape.mlp].routed is None:
        return None
    logits = forward(shape, dtype)

    def shares(params: Params, tokens: jax.Array) -> jax.Array:
        routings: list[Any] = []
        logits(params, tokens, routings)
        return jnp.stack([routing.load for routing in routings])

    return shares


def decoder(shape: Shape, dtype: Any = jnp.float32) -> Decoder:
    """Make the decoder of one model, which goes on by a token at a time and keeps the keys and values before."""
    network = Transformer(shape, dtype)

    def start(params: Params, rows: int, length: int) -> list[Cache]:
        empty = jnp.zeros((rows, length, shape.n_head, shape.d_head), dtype)
        return [(empty, empty)] * shape.n_layer

    def step(params: Params, cache: list[Cache], tokens_B: jax.Array, position: jax.Array) -> Any:
        logits, filled = network.apply({"params": params}, tokens_B[:, None], cache, position)
        return logits[:, 0], filled

    return Decoder(start, step)
