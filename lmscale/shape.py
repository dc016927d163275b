"""The shape of a network, and what one array of it is: the family decides it, FLOPs follow from it."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Shape:
    """Everything the network's arrays depend on. mlp: the kind of every block's (`mlp.KINDS`). parametrisation:
    `standard`, or one of `parametrisation`."""

    n_layer: int
    d_model: int
    n_head: int
    d_head: int
    d_mlp: int
    context: int
    vocab_size: int
    mlp: str = "dense"
    parametrisation: str = "standard"


class Parameter(NamedTuple):
    """An array of the network: tagged with its group where it is made. std: of its normal start; None: ones."""

    group: str
    shape: tuple[int, ...]
    std: float | None = None
