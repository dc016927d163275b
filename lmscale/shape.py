"""The shape of a network, and what one array of it is: the family decides it, FLOPs follow from it."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Shape:
    """Everything the network depends on.

    mlp, norm, positions: kinds, entries of `mlp.KINDS`, `norm.NORMS` and `positions.POSITIONS`. n_kv_head: heads of
    keys and values, which groups of query heads share (null: as many as n_head). qk_norm: queries and keys are
    normed. tied_embeddings: the unembedding is the embedding. parametrisation: `standard`, or one of
    `parametrisation`. n_expert to balance_loss: of a mixture of experts (`family.FamilyConfig`), else 0.
    """

    n_layer: int
    d_model: int
    n_head: int
    d_head: int
    d_mlp: int
    context: int
    vocab_size: int
    mlp: str = "dense"
    norm: str = "rms"
    positions: str = "rotary"
    n_kv_head: int | None = None
    qk_norm: bool = True
    tied_embeddings: bool = False
    parametrisation: str = "standard"
    n_expert: int = 0
    top_k: int = 0
    n_shared: int = 0
    balance_bias: float = 0.0
    balance_loss: float = 0.0

    @property
    def d_kv(self) -> int:
        """The width of all keys together, and of all values."""
        return (self.n_kv_head or self.n_head) * self.d_head


class Parameter(NamedTuple):
    """An array of the network: tagged with its group where it is made. std: of its normal start (0: zeros; None:
    ones)."""

    group: str
    shape: tuple[int, ...]
    std: float | None = None
