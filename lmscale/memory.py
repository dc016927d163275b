"""The plan's estimate of the device memory that a run takes, on one device or as its part of a mesh. No jax.

The state is exact. What a step keeps besides was read from compiled programs (docs/ahead.md): how many arrays of a
layer the backward pass finds again. `benchmarks/ahead.py` compares the sum with XLA's own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmscale.average import AVERAGES, average_of
from lmscale.family import parameters
from lmscale.mesh import MeshConfig
from lmscale.mlp import KINDS
from lmscale.optim import OPTIMISERS, role
from lmscale.plan import Pack
from lmscale.shape import Parameter
from lmscale.spec import RunSpec

SINGLE = 4  # bytes of float32, in which parameters, gradients, memories and logits are
# Arrays of a token and layer that the backward pass finds again: of d_model channels each, inputs of products,
# queries and norms; of d_kv channels, keys and values; of d_model channels, what is split with the stream.
KEPT_QUERIES, KEPT_KEYS, KEPT_STREAM = 6.0, 5.0, 5.5
SCORES = {"float32": 8, "bfloat16": 5}  # bytes of each query and key of a head: the scores and their softmax
LOGITS = 2  # of V channels: the logits and their gradient
VOCABULARY = 1.7  # of V x d: the unembedding, and its gradient or other layout
MATRIX = 2.7  # of d x d_mlp: a layer's gradient before it is shared out, and its factors
GATHERED = 3.0  # of d_mlp channels: a layer's hidden activations, put together again for the next product


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the fullest moment of a step. state: parameters, what the optimiser and an average
    remember. weights: gathered, in the type that is computed in. activations: what the backward pass finds again.
    rest: logits and what is made and used up on the way; where it is the optimiser's moment, the new state."""

    state: int
    weights: int
    activations: int
    rest: int

    @property
    def total(self) -> int:
        return self.state + self.weights + self.activations + self.rest


def memory_in(pack: Pack) -> int:
    """Estimate the memory of each device that trains a pack, in bytes: its part of one run, or its lanes."""
    precision = pack.execution.get("precision", "float32")
    if len(pack.runs) == 1:
        return memory_bytes(pack.runs[0], precision, pack.mesh)
    lanes = len(pack.runs)
    used = max(
        n for n in range(1, pack.mesh.size + 1) if lanes % n == 0
    )  # as `placement.placement_of` has it
    return lanes // used * memory_bytes(pack.runs[0], precision)


def memory_bytes(run: RunSpec, precision: str = "float32", mesh: MeshConfig | None = None) -> int:
    """Estimate a lane's device memory in bytes; of a run that a mesh trains, that of each device."""
    return memory_of(run, precision, mesh or MeshConfig()).total


def memory_of(run: RunSpec, precision: str, mesh: MeshConfig) -> Memory:
    """Estimate it by its parts: just before the backward pass, when all activations are there, or just after it,
    when there are gradients and two states. Activations are in `precision`."""
    shape, size = run.shape, 2 if precision == "bfloat16" else SINGLE
    arrays = list(_arrays(parameters(shape)))
    optimiser, average = OPTIMISERS[run.optim.kind], average_of(run.evaluation)
    held = SINGLE * sum(_held(array.shape, mesh) for array in arrays)
    remembered = SINGLE * sum(
        _held(kept, mesh) for array in arrays for kept in optimiser.memory(array.group, array.shape)
    )
    averaged = SINGLE * sum(
        _held(AVERAGES[average.kind].memory(average, array.shape), mesh) for array in arrays if average.kind
    )
    state = held + remembered + averaged

    rows = run.batch_tokens // shape.context // mesh.data
    tokens, vocabulary = rows * shape.context, shape.vocab_size * shape.d_model
    hidden = sum(
        math.prod(array.shape)
        for array in arrays
        if len(array.shape) > 1 and array.group not in ("embedding", "unembedding")
    )
    # Attention is not split over `model`: its input projection is one product, whose parts are not heads.
    a_token = shape.d_model * (KEPT_QUERIES + KEPT_STREAM / mesh.model) + shape.d_kv * KEPT_KEYS
    a_token += KINDS[shape.mlp].kept(shape) / mesh.model
    scores = SCORES[precision] * rows * shape.n_head * shape.context**2
    activations = shape.n_layer * (size * tokens * a_token + scores)
    gathered = VOCABULARY + (mesh.data > 1)  # the embedding too
    on_the_way = size * (gathered * vocabulary + MATRIX * shape.d_model * shape.d_mlp) / mesh.model
    on_the_way += size * GATHERED * tokens * shape.d_mlp * (1 - 1 / mesh.model)
    on_the_way += SINGLE * LOGITS * tokens * shape.vocab_size / mesh.model
    before = Memory(state, size * hidden // mesh.model, round(activations), round(on_the_way))
    # the gradients; and the guard chooses between the old state and the new, which is made beside it
    moves = SINGLE * sum(
        optimiser.moves.get(role(array.group, len(array.shape)), 0) * _held(array.shape, mesh)
        for array in arrays
    )
    made = held + remembered + moves + SINGLE * vocabulary / mesh.model
    after = Memory(state, 0, 0, round(made))
    return max(before, after, key=lambda memory: memory.total)


def _arrays(found: dict[str, Any]) -> Iterator[Parameter]:
    for item in found.values():
        if isinstance(item, Parameter):
            yield item
        else:
            yield from _arrays(item)


def _held(shape: tuple[int, ...], mesh: MeshConfig) -> int:
    """Count the numbers of an array that a device has, as `mesh.parameter_shardings` splits it."""
    count = math.prod(shape)
    if len(shape) > 1:
        for size, parts in zip(shape[-2:], (mesh.data, mesh.model), strict=True):
            count //= parts if size % parts == 0 else 1
    return count
