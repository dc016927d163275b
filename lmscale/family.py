"""A family of models: one dial (the width) gives a rung's whole shape. Parameters counted by group.

No jax here: a plan of a thousand runs prints at once. `model.py` builds exactly what is counted here.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from lmscale.errors import UserError
from lmscale.experts import shape_fields
from lmscale.mlp import KINDS
from lmscale.norm import NORMS
from lmscale.positions import POSITIONS, position_parameters
from lmscale.shape import Parameter, Shape
from lmscale.typed import among, at_most

GROUPS = ("embedding", "unembedding", "attention", "mlp", "norm")
MOST_CHANNELS, MOST_LAYERS, MOST_RATIO = (
    2**20,
    2**12,
    2**10,
)  # a typing error beyond them would be planned for hours


@dataclass(frozen=True)
class FamilyConfig:
    """A rule by which the dial (d_model) sets the rest.

    kind: of the MLP of every block, an entry of `mlp.KINDS`.
    n_expert, top_k, n_shared: of kind=experts, the routed experts, those of them that a token goes to, and experts
    that every token goes to besides. balance_bias: the step of the router's bias, by which it is kept even without
    a loss (DeepSeek-V3); balance_loss: the weight of a loss that does it (Fedus et al. 2022); 0 is neither.
    Depth is `n_layer`, or d_model / aspect (at least one layer); heads are `n_head`, or as many as heads of about
    `d_head` channels fit. Of each pair one is given.
    norm: of every norm, an entry of `norm.NORMS`. positions: an entry of `positions.POSITIONS`. n_kv_head: heads of
    keys and values, each shared by as many query heads (null: one for each query head). qk_norm: norm queries and
    keys (Henry et al. 2020; Dehghani et al. 2023). tied_embeddings: one array is embedding and unembedding (Press &
    Wolf 2017).
    """

    kind: str = "dense"
    n_layer: int | None = 2
    aspect: float | None = None
    n_head: int | None = 4
    d_head: int | None = None
    mlp_ratio: int = 4
    norm: str = "rms"
    positions: str = "rotary"
    n_kv_head: int | None = None
    qk_norm: bool = True
    tied_embeddings: bool = False
    n_expert: int = 0
    top_k: int = 1
    n_shared: int = 0
    balance_bias: float = 0.01
    balance_loss: float = 0.0

    renamed: ClassVar = {"name": "kind"}


def shape_of(family: FamilyConfig, dial: int, *, context: int, vocab_size: int) -> Shape:
    """Make the shape of the rung `dial`. UserError where it cannot be."""
    _check(family)
    if dial > MOST_CHANNELS:
        raise UserError(f"dial={dial}: a rung's width must be at most {MOST_CHANNELS}")
    if dial < 2:
        raise UserError(f"dial={dial}: a rung's width must be at least 2")
    n_head = family.n_head or _heads(dial, family.d_head or 1)
    if dial % n_head:
        divisors = [h for h in range(1, dial + 1) if dial % h == 0 and (dial // h) % 2 == 0]
        raise UserError(
            f"dial={dial}: d_model {dial} is not divisible by family.n_head={n_head}; heads that fit: {divisors}"
        )
    d_head = dial // n_head
    if d_head % 2:
        raise UserError(
            f"dial={dial}: its head of {d_head} channels is odd: rotary positions pair channels, and rungs are the "
            "same for all positions"
        )
    n_kv_head = family.n_kv_head or n_head
    if n_head % n_kv_head:
        divisors = [h for h in range(1, n_head + 1) if n_head % h == 0]
        raise UserError(
            f"family.n_kv_head={n_kv_head}: the {n_head} query heads of dial {dial} are not divisible by it; "
            f"numbers that fit: {divisors}"
        )
    layers = family.n_layer or max(1, round(dial / (family.aspect or 1.0)))
    if layers > MOST_LAYERS:
        given = f"family.n_layer={family.n_layer}, family.aspect={family.aspect}"
        raise UserError(f"{given}: the rung of dial {dial} has {layers} layers, more than {MOST_LAYERS}")
    return Shape(
        n_layer=layers,
        d_model=dial,
        n_head=n_head,
        d_head=d_head,
        d_mlp=family.mlp_ratio * dial,
        context=context,
        vocab_size=vocab_size,
        mlp=family.kind,
        norm=family.norm,
        positions=family.positions,
        n_kv_head=None if n_kv_head == n_head else n_kv_head,  # one network, one id
        qk_norm=family.qk_norm,
        tied_embeddings=family.tied_embeddings,
        **shape_fields(family, family.mlp_ratio * dial),
    )


def _check(family: FamilyConfig) -> None:
    among("family.kind", family.kind, KINDS)
    among("family.norm", family.norm, NORMS)
    among("family.positions", family.positions, POSITIONS)
    for field in ("n_layer", "n_head", "n_kv_head", "d_head", "mlp_ratio", "aspect"):
        value = getattr(family, field)
        if value is not None and value <= 0:
            raise UserError(f"family.{field}={value}: must be positive")
    at_most("family.mlp_ratio", family.mlp_ratio, MOST_RATIO)
    for one, other in (("n_layer", "aspect"), ("n_head", "d_head")):
        values = getattr(family, one), getattr(family, other)
        if (values[0] is None) == (values[1] is None):
            raise UserError(
                f"family.{one}={values[0]}, family.{other}={values[1]}: give one of them and leave the other null"
            )


def _heads(d_model: int, d_head: int) -> int:
    """The number of heads whose width is even and nearest to `d_head` in ratio."""
    fits = [h for h in range(1, d_model + 1) if d_model % h == 0 and (d_model // h) % 2 == 0]
    if not fits:
        return 1
    return min(fits, key=lambda h: (max(d_model / h / d_head, d_head * h / d_model), h))


def attention_parameters(shape: Shape) -> dict[str, Any]:
    """List the arrays of attention: queries, keys and values in one; the way out; the norms of queries and keys.

    Ways out start small by depth, so that the residual stream does not grow with it (GPT-2).
    """
    d, width, norm = shape.d_model, shape.n_head * shape.d_head, NORMS[shape.norm].parameters
    found: dict[str, Any] = {
        "qkv": Parameter("attention", (d, width + 2 * shape.d_kv), d**-0.5),
        "out": Parameter("attention", (width, d), (width * 2 * shape.n_layer) ** -0.5),
    }
    if shape.qk_norm:
        found |= {"q_norm": norm(shape.d_head), "k_norm": norm(shape.d_head)}
    return found


def parameters(shape: Shape) -> dict[str, Any]:
    """List every array of the network, by name, nested as the network is."""
    d, v, norm = shape.d_model, shape.vocab_size, NORMS[shape.norm].parameters(shape.d_model)
    found: dict[str, Any] = {"final_norm": norm, **position_parameters(shape)}
    # a tied array is multiplied with, so it is counted and decayed as the unembedding that it is too
    found["embedding"] = Parameter("unembedding" if shape.tied_embeddings else "embedding", (v, d), d**-0.5)
    if not shape.tied_embeddings:
        found["unembedding"] = Parameter("unembedding", (d, v), d**-0.5)
    for layer in range(shape.n_layer):
        found[f"attention_norm_{layer}"] = found[f"mlp_norm_{layer}"] = norm
        found[f"attention_{layer}"] = attention_parameters(shape)
        found[f"mlp_{layer}"] = dict(KINDS[shape.mlp].parameters(shape))
    return found


def parameter_groups(shape: Shape) -> dict[str, int]:
    """Count the parameters by group."""
    counts = Counter(dict.fromkeys(GROUPS, 0))
    left = list(parameters(shape).values())
    while left:
        item = left.pop()
        if isinstance(item, Parameter):
            counts[item.group] += math.prod(item.shape)
        else:
            left += item.values()
    return dict(counts)


def parameter_conventions(shape: Shape) -> dict[str, int]:
    """Count N as the field does. Published exponents move from .37 to .70 with this choice alone.

    params: all of them (Hoffmann et al. 2022). params_nonembedding: without both embeddings (Kaplan et al.
    2020). params_matmul: those that a token is multiplied with, the unembedding included (Porian et al. 2024).
    params_active: all without the experts that a token does not go to (Ludziejewski et al. 2025).
    """
    groups = parameter_groups(shape)
    total = sum(groups.values())
    inner = total - groups["embedding"] - groups["unembedding"]
    idle = shape.n_layer * KINDS[shape.mlp].idle(shape)
    return {
        "params": total,
        "params_nonembedding": inner,
        "params_matmul": groups["attention"]
        + groups["mlp"]
        + groups["unembedding"]
        + groups.get("router", 0)
        - idle,
        "params_active": total - idle,
    }
