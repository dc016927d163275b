"""The network, and nothing else: a decoder-only transformer. Everything about its shape comes from `Shape`, and
its arrays are those that `family` lists.

Dimension letters, used in array names here and nowhere else:
B rows, T positions, D d_model, H heads, K d_head, V vocabulary, W positions of keys.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lmscale.attention import causal
from lmscale.family import attention_parameters, parameters
from lmscale.mlp import KINDS
from lmscale.norm import NORMS
from lmscale.parametrisation import multipliers, started, times
from lmscale.positions import POSITIONS, check_length, position_parameters
from lmscale.product import product
from lmscale.shape import Parameter, Shape

Params = Any  # a plain pytree of arrays
Cache = tuple[jax.Array, jax.Array]  # keys and values, [B, W, H, K] each


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
    start = nn.initializers
    init = start.ones if std is None else start.normal(std) if std else start.zeros
    array: jax.Array = module.param(name, init, shape)
    return array


class Norm(nn.Module):
    """The norm of this kind over the last axis."""

    kind: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kind = NORMS[self.kind]
        table = kind.parameters(x.shape[-1])
        return kind.forward({name: _made(self, name, table) for name in table}, x)


class Attention(nn.Module):
    """Causal attention with as many heads of keys and values as of queries, or fewer (Ainslie et al. 2023)."""

    shape: Shape
    dtype: Any
    # cudnn of jax.nn.dot_product_attention; blocks: `attention.causal`. A bias, and what is not causal, go without
    kernel: Literal["cudnn", "blocks"] | None = None

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        cache: Cache | None = None,
        position: jax.Array | int = 0,
        visible: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Over all positions of x, where each sees those before it or what `visible` [B, 1, T, T] says; or, with
        the keys and values [B, W, H, K] of the positions before, over the one position of x. Returns the keys and
        values with those of x in them."""
        h, k, arrays = self.shape.n_head, self.shape.d_head, attention_parameters(self.shape)
        w_qkv, w_out = _made(self, "qkv", arrays), _made(self, "out", arrays)
        rows, length, _ = x_BTD.shape
        scale = multipliers(self.shape).attention
        qkv = product(x_BTD, w_qkv.astype(self.dtype))
        if self.shape.n_kv_head is None:
            qkv = qkv.reshape(rows, length, 3, h, k)
            q, key, value = (part[:, :, 0] for part in jnp.split(qkv, 3, axis=2))
        else:
            heads = qkv.reshape(rows, length, -1, k)
            q, key, value = jnp.split(heads, [h, h + self.shape.n_kv_head], axis=2)
        positions_T = position + jnp.arange(length)
        kind = POSITIONS[self.shape.positions]

        def placed(x_BTHK: jax.Array, norm: str) -> jax.Array:
            x_BTHK = Norm(self.shape.norm, name=norm)(x_BTHK) if self.shape.qk_norm else x_BTHK
            return kind.turned(x_BTHK, positions_T) if kind.turned else x_BTHK

        def bias(keys_W: jax.Array) -> jax.Array | None:
            return kind.bias(h, positions_T, keys_W)[None] if kind.bias else None

        q, key = placed(q, "q_norm"), placed(key, "k_norm")
        if visible is not None:
            mixed = jax.nn.dot_product_attention(q, key, value, bias(positions_T), mask=visible, scale=scale)
        elif cache is None:
            kernel = None if kind.bias else self.kernel
            if kernel == "blocks":
                mixed = causal(q * (k**-0.5 if scale is None else scale), key, value)
            else:
                mixed = jax.nn.dot_product_attention(
                    q, key, value, bias(positions_T), is_causal=True, scale=scale, implementation=kernel
                )
        else:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new, position, axis=1)
                for old, new in zip(cache, (key, value), strict=True)
            )
            keys_W = jnp.arange(key.shape[1])
            seen_W = (keys_W <= position)[None, None, None, :]
            mixed = jax.nn.dot_product_attention(q, key, value, bias(keys_W), mask=seen_W, scale=scale)
        return product(mixed.reshape(rows, length, h * k), w_out.astype(self.dtype)), (key, value)


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
    """tokens [B, T] -> logits [B, T, V] in float32, or what is unembedded to them [B, T, D], and each layer's
    keys and values. Pre-norm residual blocks. head: whether logits. kernel, caches, position, visible: see
    `Attention`."""

    shape: Shape
    dtype: Any = jnp.float32
    head: bool = True
    kernel: Literal["cudnn", "blocks"] | None = None

    @nn.compact
    def __call__(
        self,
        tokens_BT: jax.Array,
        caches: list[Cache] | None = None,
        position: jax.Array | int = 0,
        visible: jax.Array | None = None,
    ) -> tuple[jax.Array, list[Cache]]:
        arrays = parameters(self.shape)
        embedding = _made(self, "embedding", arrays)
        x_BTD = embedding[tokens_BT].astype(self.dtype)
        scales = multipliers(self.shape)
        length = tokens_BT.shape[1]
        check_length(self.shape, length)
        if added := POSITIONS[self.shape.positions].added:
            own = {name: _made(self, name, arrays) for name in position_parameters(self.shape)}
            positions_T = position + jnp.arange(length)
            x_BTD = x_BTD + added(own, positions_T, self.shape.d_model).astype(self.dtype)
        filled = []
        for layer in range(self.shape.n_layer):
            attention = Attention(self.shape, self.dtype, self.kernel, name=f"attention_{layer}")
            normed_BTD = Norm(self.shape.norm, name=f"attention_norm_{layer}")(x_BTD)
            attended_BTD, cache = attention(normed_BTD, caches[layer] if caches else None, position, visible)
            filled.append(cache)
            x_BTD = x_BTD + times(attended_BTD, scales.residual)
            mlp = MLP(self.shape, self.dtype, name=f"mlp_{layer}")
            x_BTD = x_BTD + times(
                mlp(Norm(self.shape.norm, name=f"mlp_norm_{layer}")(x_BTD)), scales.residual
            )
        unembedding = embedding.T if self.shape.tied_embeddings else _made(self, "unembedding", arrays)
        x_BTD = times(Norm(self.shape.norm, name="final_norm")(x_BTD), scales.output)
        if not self.head:
            return x_BTD, filled
        return product(x_BTD, unembedding.astype(self.dtype)).astype(jnp.float32), filled


def init(shape: Shape, key: jax.Array) -> Params:
    """Make fresh parameters in float32, a plain pytree."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    return started(shape, Transformer(shape).init(key, tokens)["params"])


def shapes(shape: Shape) -> Params:
    """Make the pytree of `init` with each array's shape and type in its place."""
    return _listed(shape, lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32))


def groups(shape: Shape) -> Params:
    """Make the pytree of `init` with each array's group name in its place."""
    return _listed(shape, lambda leaf: leaf.group)


def _listed(shape: Shape, what: Callable[[Parameter], Any]) -> Params:
    return jax.tree.map(what, parameters(shape), is_leaf=lambda leaf: isinstance(leaf, Parameter))


def forward(shape: Shape, dtype: Any = jnp.float32) -> Callable[..., jax.Array]:
    """Make (params, tokens [B, T], visible: see `Attention`) -> logits [B, T, V], for one model."""
    network = Transformer(shape, dtype)

    def logits(params: Params, tokens: jax.Array, visible: jax.Array | None = None) -> jax.Array:
        answer, _ = network.apply({"params": params}, tokens, visible=visible)
        assert isinstance(answer, jax.Array)
        return answer

    return logits


def routed(
    shape: Shape, dtype: Any = jnp.float32, head: bool = True, kernel: Any = None
) -> Callable[..., Any]:
    """Make (params, tokens [B, T], visible) -> logits, or what is unembedded, and the `experts.Routing` of each
    layer, none without experts. kernel: see `Attention`."""
    network = Transformer(shape, dtype, head, kernel)
    mutable = ["routing"] if KINDS[shape.mlp].routed else False

    def logits(params: Params, tokens: jax.Array, visible: jax.Array | None = None) -> Any:
        answer = network.apply({"params": params}, tokens, visible=visible, mutable=mutable)
        if not mutable:
            return answer[0], []
        (out, _), state = answer
        return out, [state["routing"][f"mlp_{layer}"]["of"] for layer in range(shape.n_layer)]

    return logits


def unembedding(shape: Shape, params: Params) -> jax.Array:
    """Find the matrix [D, V] to the logits."""
    found: jax.Array = params["embedding"].T if shape.tied_embeddings else params["unembedding"]
    return found


def load(shape: Shape, dtype: Any = jnp.float32) -> Callable[[Params, jax.Array], jax.Array] | None:
    """Make (params, tokens [B, T]) -> the share of each layer's experts [n_layer, E]; None without experts."""
    network = routed(shape, dtype)
    if KINDS[shape.mlp].routed is None:
        return None
    return lambda params, tokens: jnp.stack([routing.load for routing in network(params, tokens)[1]])


def decoder(shape: Shape, dtype: Any = jnp.float32) -> Decoder:
    """Make the decoder of one model, which goes on by a token at a time and keeps the keys and values before."""
    network = Transformer(shape, dtype)

    def start(params: Params, rows: int, length: int) -> list[Cache]:
        check_length(shape, length - 1)  # the last token is written and not read
        empty = jnp.zeros((rows, length, shape.n_kv_head or shape.n_head, shape.d_head), dtype)
        return [(empty, empty)] * shape.n_layer

    def step(params: Params, cache: list[Cache], tokens_B: jax.Array, position: jax.Array) -> Any:
        logits, filled = network.apply({"params": params}, tokens_B[:, None], cache, position)
        return logits[:, 0], filled

    return Decoder(start, step)
