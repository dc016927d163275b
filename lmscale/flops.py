"""Exact FLOPs, term by term, and the field's conventions for C.

A multiply and an add are two FLOPs. Only matrix products count; an embedding look-up is zero; attention
scores count as they are computed, every query against every key of the context, masked ones included.
A training token costs three forward passes (one forward, two backward).
"""

from lmscale.family import parameter_conventions
from lmscale.mlp import KINDS
from lmscale.shape import Shape

TRAINING_FACTOR = 3


def forward_terms(shape: Shape) -> dict[str, int]:
    """Count the FLOPs of one token's forward pass, by term."""
    d, width = shape.d_model, shape.n_head * shape.d_head
    return {
        "qkv": shape.n_layer * 2 * d * (width + 2 * shape.d_kv),
        "scores": shape.n_layer * 2 * shape.context * width,
        "mix": shape.n_layer * 2 * shape.context * width,
        "out": shape.n_layer * 2 * width * d,
        "mlp": shape.n_layer * KINDS[shape.mlp].flops(shape),
        "unembedding": 2 * d * shape.vocab_size,
    }


def training_flops_per_token(shape: Shape) -> int:
    """Count the exact C of one training token: three times the forward pass."""
    return TRAINING_FACTOR * sum(forward_terms(shape).values())


def conventions(shape: Shape, tokens: int) -> dict[str, int]:
    """Count C as the field does: exact, 6ND with all parameters (Hoffmann), 6ND without embeddings (Kaplan)."""
    n = parameter_conventions(shape)
    return {
        "flops": training_flops_per_token(shape) * tokens,
        "flops_6nd": 6 * n["params"] * tokens,
        "flops_6nd_nonembedding": 6 * n["params_nonembedding"] * tokens,
    }
