"""A mixture of experts in the place of a block's MLP: arrays, FLOPs, forward pass and the router's balance.

Dropless: a token goes to `top_k` of `n_expert` experts however full they are, and to `n_shared` that all have. The
experts of a token are together as wide as the dense MLP, so its FLOPs are the dense ones' and the router's. A plan
imports this, so jax is imported where a forward pass is traced and not before.

Letters of arrays: N tokens, D d_model, E experts, K top_k, F an expert's width, M slots, C blocks, R slots a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lmscale.errors import UserError
from lmscale.shape import Parameter, Shape
from lmscale.typed import at_least, at_most

if TYPE_CHECKING:
    import jax

BLOCK = 32  # slots that one product has: fewer are slow, more are empty (docs/compare.md)
STARVED = 0.1  # of an even share of the tokens, below which an expert learns next to nothing
MOST_EXPERTS = 2**12


class Routing(NamedTuple):
    """What a layer's router did with N tokens. load: the share of the N K choices that each expert got [E].
    balance: E sum_e load_e affinity_e, at least 1 where they agree; affinity_e is the mean share of expert e in a
    token's affinities, by which the gradient goes (Fedus et al. 2022, eq. 4; DeepSeek-V3, eq. 17)."""

    load: jax.Array
    balance: jax.Array


def shape_fields(family: Any, d_mlp: int) -> dict[str, Any]:
    """Give the fields of Shape that the experts of a FamilyConfig decide. UserError where they cannot be."""
    names = ("n_expert", "top_k", "n_shared", "balance_bias", "balance_loss")
    fields = {name: getattr(family, name) for name in names}
    if family.kind != "experts":
        for name, value in fields.items():
            if value != getattr(type(family), name):
                raise UserError(
                    f"family.{name}={value}: family.kind={family.kind} has no experts; family=experts"
                )
        return {}
    for name, least in (
        ("n_expert", 1),
        ("top_k", 1),
        ("n_shared", 0),
        ("balance_bias", 0),
        ("balance_loss", 0),
    ):
        at_least(f"family.{name}", fields[name], least)
    at_most("family.n_expert", family.n_expert, MOST_EXPERTS)
    at_most("family.balance_bias", family.balance_bias, 1.0)
    at_most("family.balance_loss", family.balance_loss, 1e3)
    if family.top_k > family.n_expert:
        raise UserError(f"family.top_k={family.top_k}: must be at most family.n_expert={family.n_expert}")
    each = family.top_k + family.n_shared
    if d_mlp % each:
        fit = [n for n in range(1, min(d_mlp, 64) + 1) if d_mlp % n == 0]
        raise UserError(
            f"family.top_k={family.top_k}, family.n_shared={family.n_shared}: an MLP of {d_mlp} channels is not "
            f"divisible among the {each} experts of a token; their number must be one of {fit}"
        )
    return fields


def width(shape: Shape) -> int:
    """Compute an expert's hidden channels."""
    return shape.d_mlp // (shape.top_k + shape.n_shared)


def parameters(shape: Shape) -> dict[str, Parameter]:
    """List the router and its bias, the experts' matrices in one array each, those of the shared experts likewise.

    The ways out start as those of a dense MLP, of which the experts of a token are the slices.
    """
    d, e, f = shape.d_model, shape.n_expert, width(shape)
    out = (shape.d_mlp * 2 * shape.n_layer) ** -0.5
    found = {
        "router": Parameter("router", (d, e), d**-0.5),
        "bias": Parameter("router", (e,), 0.0),
        "in": Parameter("mlp", (e, d, f), d**-0.5),
        "out": Parameter("mlp", (e, f, d), out),
    }
    if shape.n_shared:
        found["shared_in"] = Parameter("mlp", (d, shape.n_shared * f), d**-0.5)
        found["shared_out"] = Parameter("mlp", (shape.n_shared * f, d), out)
    return found


def flops(shape: Shape) -> int:
    """Count the products of a token: its router and its experts, whatever else a block computes in empty slots."""
    return 2 * shape.d_model * shape.n_expert + 2 * 2 * shape.d_model * shape.d_mlp


def idle(shape: Shape) -> int:
    """Count the parameters of a layer that a token does not meet."""
    return (shape.n_expert - shape.top_k) * 2 * shape.d_model * width(shape)


def forward(shape: Shape, arrays: Mapping[str, jax.Array], x: jax.Array) -> tuple[jax.Array, Routing]:
    """Add up the outputs of a token's experts, each times its gate: x [..., D] -> [..., D].

    An expert's affinity is the sigmoid of its logit, and the greatest K of affinity + bias are chosen (DeepSeek-V3,
    eq. 12 to 16). The gate is twice the affinity and not normalised: so a router of one expert learns as well, and
    gates that begin at 1 make the experts' slices the dense MLP. The router is in float32.
    """
    import jax
    import jax.numpy as jnp

    k, x_ND = shape.top_k, x.reshape(-1, shape.d_model)
    affinity_NE = jax.nn.sigmoid(x_ND.astype(jnp.float32) @ arrays["router"])
    _, chosen_NK = jax.lax.top_k(affinity_NE + arrays["bias"], k)
    picked_NKE = jax.nn.one_hot(chosen_NK, shape.n_expert)
    gate_NK = 2 * jnp.sum(picked_NKE * affinity_NE[:, None], axis=-1)
    way_in, way_out = (arrays[name].astype(x.dtype) for name in ("in", "out"))
    y_ND = grouped(way_in, way_out, x_ND, chosen_NK, gate_NK.astype(x.dtype))
    if shape.n_shared:
        shared_in, shared_out = (arrays[name].astype(x.dtype) for name in ("shared_in", "shared_out"))
        y_ND += jax.nn.gelu(x_ND @ shared_in) @ shared_out
    load_E = jnp.mean(picked_NKE, axis=(0, 1))
    share_E = jnp.mean(affinity_NE / jnp.sum(affinity_NE, axis=-1, keepdims=True), axis=0)
    return y_ND.reshape(x.shape), Routing(load_E, shape.n_expert * jnp.sum(load_E * share_E))


def grouped(
    in_EDF: jax.Array, out_EFD: jax.Array, x_ND: jax.Array, chosen_NK: jax.Array, gate_NK: jax.Array
) -> jax.Array:
    """Apply to each token its experts alone: choices are sorted by expert into blocks, each of one expert, and the
    last of an expert filled up. There are blocks enough for any routing."""
    import jax.numpy as jnp

    (n, k), e = chosen_NK.shape, len(in_EDF)
    expert_of = chosen_NK.reshape(-1)
    one_hot = (expert_of[:, None] == jnp.arange(e)).astype(jnp.int32)
    counted = jnp.cumsum(one_hot, axis=0)
    blocks_E = -(-counted[-1] // BLOCK)
    ends_E = jnp.cumsum(blocks_E)
    # the slot of each choice: where its expert's blocks begin, and behind the choices of that expert before it
    slot = jnp.sum(one_hot * (counted - 1 + (ends_E - blocks_E) * BLOCK), axis=1)
    n_blocks = (n * k + e * (BLOCK - 1)) // BLOCK
    choice_M = jnp.full(n_blocks * BLOCK, n * k).at[slot].set(jnp.arange(n * k), unique_indices=True)
    expert_C = jnp.minimum(jnp.sum(jnp.arange(n_blocks)[:, None] >= ends_E, axis=1), e - 1)
    x_MD = _moved(x_ND, choice_M // k, slot.reshape(n, k))
    y_CRD = _blocks(in_EDF, out_EFD, x_MD.reshape(n_blocks, BLOCK, -1), expert_C)
    y_MD = y_CRD.reshape(n_blocks * BLOCK, -1)
    y_NKD = _moved(y_MD, slot, choice_M[:, None]).reshape(n, k, -1)
    return jnp.sum(y_NKD * gate_NK[:, :, None], axis=1)


def _moved(x: jax.Array, source: jax.Array, targets: jax.Array) -> jax.Array:
    """Take the rows `source` [m] of x [n, ...]; zeros where it is n. targets [n, k]: the rows of the result that
    each row of x went to, m for none. The gradient goes by them: a gather, where that of a gather is a scatter."""
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def moved(x: jax.Array, source: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.take(x, source, axis=0, mode="fill", fill_value=0)

    def forth(x: jax.Array, source: jax.Array, targets: jax.Array) -> Any:
        return moved(x, source, targets), targets

    def back(targets: jax.Array, gradient: jax.Array) -> Any:
        return jnp.sum(jnp.take(gradient, targets, axis=0, mode="fill", fill_value=0), axis=1), None, None

    moved.defvjp(forth, back)
    result: jax.Array = moved(x, source, targets)
    return result


def _blocks(in_EDF: jax.Array, out_EFD: jax.Array, x_CRD: jax.Array, expert_C: jax.Array) -> jax.Array:
    """Apply to each block its expert, one after another: [C, R, D] and [C] -> [C, R, D].

    On a CPU a loop of products beats a product with a batch axis and its copies of weights, and a gradient that is
    added up in place beats that of a gather (docs/compare.md).
    """
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def blocks(w: Any, x_CRD: jax.Array, expert_C: jax.Array) -> jax.Array:
        return forth(w, x_CRD, expert_C)[0]

    def forth(w: Any, x_CRD: jax.Array, expert_C: jax.Array) -> Any:
        def block(_: None, item: Any) -> Any:
            x_RD, expert = item
            hidden_RF = x_RD @ w[0][expert]
            return None, (jax.nn.gelu(hidden_RF) @ w[1][expert], hidden_RF)

        _, (y_CRD, hidden_CRF) = jax.lax.scan(block, None, (x_CRD, expert_C))
        return y_CRD, (w, x_CRD, expert_C, hidden_CRF)

    def back(kept: Any, gradient_CRD: jax.Array) -> Any:
        w, x_CRD, expert_C, hidden_CRF = kept

        def block(sums: Any, item: Any) -> Any:
            x_RD, expert, hidden_RF, gradient_RD = item
            active_RF, through = jax.vjp(jax.nn.gelu, hidden_RF)
            (of_hidden_RF,) = through(gradient_RD @ w[1][expert].T)
            own = x_RD.T @ of_hidden_RF, active_RF.T @ gradient_RD
            sums = tuple(total.at[expert].add(one) for total, one in zip(sums, own, strict=True))
            return sums, of_hidden_RF @ w[0][expert].T

        of_w, of_x_CRD = jax.lax.scan(
            block, tuple(map(jnp.zeros_like, w)), (x_CRD, expert_C, hidden_CRF, gradient_CRD)
        )
        return of_w, of_x_CRD, None

    blocks.defvjp(forth, back)
    result: jax.Array = blocks((in_EDF, out_EFD), x_CRD, expert_C)
    return result


def starving(load: Sequence[Sequence[float]]) -> str | None:
    """Give a sentence where experts have less than a tenth of an even share. load: by layer [n_layer][E]."""
    few = [sum(share < STARVED / len(layer) for share in layer) for layer in load]
    if not any(few):
        return None
    return (
        f"the router starves {sum(few)} of {sum(map(len, load))} experts: they have less than {STARVED:g} of an"
        f" even share (by layer {few}): give more family.balance_bias or family.balance_loss, or fewer experts"
    )


def balance_loss(shape: Shape, routings: Sequence[Routing]) -> jax.Array | float:
    """Add up `balance_loss` x (balance - 1) of the layers: 0 where every router is even."""
    return shape.balance_loss * sum(routing.balance - 1 for routing in routings)


def rebalanced(shape: Shape, params: Any, routings: Sequence[Routing]) -> Any:
    """Raise the bias of experts with less than an even load by `balance_bias`, and lower that of the others
    (DeepSeek-V3, section 2.1.2; Wang et al. 2024, arXiv 2408.15664). No optimiser moves it: its gradient is 0."""
    import jax.numpy as jnp

    moved = {
        name: {
            **params[name],
            "bias": params[name]["bias"] + shape.balance_bias * jnp.sign(1 / shape.n_expert - r.load),
        }
        for name, r in ((f"mlp_{layer}", routing) for layer, routing in enumerate(routings))
    }
    return {**params, **moved}
