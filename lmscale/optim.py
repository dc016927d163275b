"""The optimisers, as optax chains in which every number that differs between lanes is traced.

A new one is an entry of `OPTIMISERS`; `optim.kind` selects it. Rates and decays come from `transfer`, the rate's
course from `schedule`. A plan imports this, so jax and optax are imported where a step is traced and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from lmscale.errors import UserError
from lmscale.schedule import learning_rate
from lmscale.typed import among, at_most, between, positive, unread

if TYPE_CHECKING:
    import jax
    import optax

    from lmscale.lanes import Lane

BELOW_ONE, LEAST = 1 - 2.0**-24, 1.2e-38  # beyond them float32 has 1 and 0
DECAYED = ("attention", "mlp", "unembedding")  # matrices that act on the stream; not look-ups, not gains


@dataclass(frozen=True)
class OptimConfig:
    """kind: an entry of `OPTIMISERS`. Rate and weight decay come from the transfer rules; gradients are clipped by
    their global norm. b1, b2: decay of the moments; eps: added to the root of the second. z_loss: the weight of
    (ln Z)^2 in what is minimised; 1e-4 is usual.
    """

    kind: str = "adamw"
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    clip_norm: float = 1.0
    z_loss: float = 0.0

    renamed: ClassVar = {"name": "kind"}

    def __post_init__(self) -> None:
        among("optim.kind", self.kind, OPTIMISERS)
        between("optim.b1", self.b1, 0, BELOW_ONE)
        between("optim.b2", self.b2, 0, BELOW_ONE)
        between("optim.eps", self.eps, LEAST, 1e30)
        positive("optim.clip_norm", self.clip_norm)
        if self.z_loss < 0:
            raise UserError(f"optim.z_loss={self.z_loss}: must be 0 or more")
        at_most("optim.z_loss", self.z_loss, 1e3)
        unread("optim", self, ("b1", "b2", "eps"), OPTIMISERS[self.kind].reads, "kind")


# (config, the pytree of the parameters' groups) -> from clipped gradients to a direction, before rate and decay.
Direction = Callable[[OptimConfig, Any], "optax.GradientTransformation"]
Axes = tuple[int, ...]


def _one_moment(group: str, shape: Axes) -> list[Axes]:
    return [shape]


def _two_moments(group: str, shape: Axes) -> list[Axes]:
    return [shape, shape]


@dataclass(frozen=True)
class Optimiser:
    """One kind. reads: the moments' fields of OptimConfig that it reads. memory: (group, shape of an array) -> the
    shapes of what it remembers of it, in float32, which a plan counts; moves: by role of an array, how many like it
    it makes on the way to a direction (read from compiled programs).

    standard, mup: by role of an array, the exponent e of its rate, (base width / width)^e times the peak rate,
    under the parametrisation `standard`, and under `mup` and `completep` (None: not known); a role that is not
    named has 0. any_scale: its updates do not depend on the gradient's scale, which depth changes.
    """

    direction: Direction
    reads: tuple[str, ...] = ("b1", "b2", "eps")
    memory: Callable[[str, Axes], list[Axes]] = _two_moments
    moves: Mapping[str, float] = field(default_factory=dict)
    standard: Mapping[str, float] = field(default_factory=dict)
    mup: Mapping[str, float] | None = None
    any_scale: bool = True


def role(group: str, n_axes: int) -> str:
    """Tell what an array does, by which its rate moves with width: `lookup`, `readout`, `vector` or `hidden`.
    A tied embedding is a look-up: both have one rate where logits are multiplied (Yang et al. 2022, table 8)."""
    if n_axes < 2:
        return "vector"
    return {"embedding": "lookup", "unembedding": "readout"}.get(group, "hidden")


def adamw(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Make Adam's direction (Kingma & Ba 2015); with the decay of `update`, AdamW (Loshchilov & Hutter 2019)."""
    import optax

    return optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)


def lion(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Make the sign of an interpolated momentum (Chen et al. 2023)."""
    import optax

    return optax.scale_by_lion(b1=config.b1, b2=config.b2)


MOMENTUM = 0.95  # of Muon's matrices, as its author has it
ADAM_SHARE = 0.5  # of the peak rate, that Muon's other arrays have at the base width (docs/transfer.md)


def muon(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Orthogonalise the momentum of hidden matrices (Jordan et al. 2024), each scaled to the spectral norm
    sqrt(max(1, out / in)); all else by Adam. An array of more than two axes is a batch of matrices."""
    import jax
    import optax
    from optax.contrib import MuonDimensionNumbers, scale_by_muon

    def matrices(tree: Any) -> Any:
        return jax.tree.map(lambda _: MuonDimensionNumbers(-2, -1), tree)

    def labels(params: Any) -> Any:
        return jax.tree.map(
            lambda group, array: "muon" if role(group, array.ndim) == "hidden" else "adam", groups, params
        )

    def scaled(moves: Any, _: Any) -> Any:
        return jax.tree.map(lambda move: move * max(1, move.shape[-1] / move.shape[-2]) ** 0.5, moves)

    orthogonal = optax.chain(
        scale_by_muon(beta=MOMENTUM, weight_dimension_numbers=matrices), optax.stateless(scaled)
    )
    adam = optax.chain(adamw(config, groups), optax.scale(ADAM_SHARE))
    return optax.partition({"muon": orthogonal, "adam": adam}, labels)


def _muon_memory(group: str, shape: Axes) -> list[Axes]:
    return (_one_moment if role(group, len(shape)) == "hidden" else _two_moments)(group, shape)


def adafactor(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Divide by a factored second moment, clip at a root mean square of 1, and go relative to the array's own root
    mean square (Shazeer & Stern 2018, algorithm 5, without momentum)."""
    import optax

    return optax.chain(
        optax.scale_by_factored_rms(min_dim_size_to_factor=2),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def _adafactor_memory(group: str, shape: Axes) -> list[Axes]:
    """A row and a column of the two largest axes, or the second moment itself; what is not used has one number."""
    if len(shape) < 2:
        return [(1,), (1,), shape]
    *_, second, first = sorted(range(len(shape)), key=lambda axis: shape[axis])
    return [*(shape[:axis] + shape[axis + 1 :] for axis in (first, second)), (1,)]


def sgd(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Add up the gradients with momentum b1 (Polyak 1964)."""
    import optax

    return optax.trace(decay=config.b1)


# Rates by role, derived so that an update moves every activation alike at all widths. A sign, or Adam's direction,
# has entries of 1, and d of them add up: one over the width for hidden matrices (Yang et al. 2022, table 8). Muon's
# has a spectral norm that is right already (Yang, Simon & Bernstein 2023, condition 1); with the standard start its
# other arrays go by AdamW's rule here. Adafactor's is relative to entries of d^-1/2 (Everett et al. 2024). SGD's
# follow the gradient: Yang et al. 2022, table 8.
OPTIMISERS: dict[str, Optimiser] = {
    "adamw": Optimiser(adamw, mup={"hidden": 1.0}),
    "lion": Optimiser(lion, ("b1", "b2"), _one_moment, mup={"hidden": 1.0}),
    "muon": Optimiser(
        muon,
        memory=_muon_memory,
        moves={"hidden": 3.5},
        standard=dict.fromkeys(("lookup", "readout", "vector"), 1.0),
        mup={},
    ),
    "adafactor": Optimiser(
        adafactor,
        (),
        _adafactor_memory,
        dict.fromkeys(("lookup", "readout", "hidden"), 1.0),
        mup={"hidden": 0.5},
    ),
    "sgd": Optimiser(
        sgd, ("b1",), _one_moment, mup=dict.fromkeys(("lookup", "readout", "vector"), -1.0), any_scale=False
    ),
}


def direction(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """Make the part of the chain that remembers: its state is what a checkpoint holds of the optimiser."""
    return OPTIMISERS[config.kind].direction(config, groups)


def update(
    config: OptimConfig,
    groups: Any,
    lane: Lane,
    step: jax.Array,
    params: Any,
    gradient: Any,
    norm: jax.Array,
    state: Any,
    factors: Any = None,
) -> tuple[Any, Any]:
    """Make one update: clip by the global norm, take the direction, add the decay, go by the rate.

    groups: the pytree of parameters with each array's group in its place. norm: the gradient's global norm.
    factors: `parametrisation.rate_factors`; the decay goes by the peak rate, so that a step's decay is the same at
    every width (Dey et al. 2025, table 1). Returns params and state.
    """
    import jax
    import jax.numpy as jnp
    import optax

    decayed = jax.tree.map(lambda group: group in DECAYED, groups)
    # optax.clip_by_global_norm computes the norm once more, which the guard has done, and rounds otherwise
    clip = jnp.minimum(1.0, config.clip_norm / (norm + 1e-12))
    by_array = (
        []
        if factors is None
        else [optax.stateless(lambda moves, _: jax.tree.map(lambda move, by: move * by, moves, factors))]
    )
    chain = optax.chain(
        optax.scale(clip),
        direction(config, groups),
        *by_array,
        optax.add_decayed_weights(lane.weight_decay, decayed),
        optax.scale(-learning_rate(lane, step)),
    )
    none = optax.EmptyState()
    states = (none, state, *[none] * len(by_array), optax.MaskedState(none), none)
    move, (_, state, *_) = chain.update(gradient, states, params)
    return optax.apply_updates(params, move), state
