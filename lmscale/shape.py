"""The shape of a network, and what one array of it is: the family decides it, FLOPs follow from it."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Shape:
    """Everything the network's arrays depend on. mlp: the kind of every block's (`mlp.KINDS`). n_expert to
    balance_loss: of a mixture of experts (`family.FamilyConfig`), else 0."""

    n_layer: int
    d_model: int
    n_head: int
    d_head: int
    d_mlp: int
    context: int
    vocab_size: int
    mlp: str = "dense"
    n_expert: int = 0
    top_k: int = 0
    n_shared: int = 0
    balance_bias: float = 0.0
    balance_loss: float = 0.0


class Parameter(NamedTuple):
    """An array of the network: tagged with its group where it is made. std: of its normal start; None: ones."""

    group: str
    shape: tuple[int, ...]
    std: float | None = None
