"""Named rules that carry a learning rate, a batch and a weight decay from one rung to the next.

A rule looks at the rung. The rate may depend on the horizon besides; each horizon then has a trunk of its own, for
branches of one trunk share all three. A new rule is a function and an entry of its dict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from lmscale.errors import UserError
from lmscale.typed import among, at_least, at_most, between, positive

SINGLE = (1.2e-38, 3.4e38)  # what a normal number of float32, which the device computes in, lies between
MOST_BATCHES = 2**20


@dataclass(frozen=True)
class TransferConfig:
    """Rates, batches and decays of all rungs.

    kind: of the rate, an entry of `RATE_RULES`: `inverse_width` (rate / d_model), `inverse_root_width`
    (rate / d_model^1/2), `constant` (rate), or `mup` and `completep` (rate, that of hidden matrices at the base
    width, `parametrisation`); times
    (horizon_reference / tokens of the horizon)^horizon_exponent; at most rate_cap. batch_rule: multiples of the
    data's base batch, an entry of `BATCH_RULES`: `constant` (batch), or `power_of_params` (batch x (params /
    batch_reference_params)^batch_exponent, at least 1, rounded).
    decay_rule: an entry of `DECAY_RULES`: `constant` (weight_decay, which a step multiplies by its rate, as in
    optax), or `per_rate` (weight_decay / rate: the decay of a step is then the same at every rung; Wortsman et
    al. 2024).
    """

    kind: str = "inverse_width"
    rate: float = 0.3
    rate_cap: float = 0.08
    batch_rule: str = "constant"
    batch: int = 1
    batch_exponent: float = 0.3
    batch_reference_params: float = 1e6
    decay_rule: str = "constant"
    weight_decay: float = 0.0
    horizon_exponent: float = 0.0
    horizon_reference: float = 7.2e6

    renamed: ClassVar = {"name": "kind", "rate_rule": "kind"}

    def __post_init__(self) -> None:
        among("transfer.kind", self.kind, RATE_RULES)
        among("transfer.batch_rule", self.batch_rule, BATCH_RULES)
        among("transfer.decay_rule", self.decay_rule, DECAY_RULES)
        for field in ("rate", "rate_cap", "batch"):
            positive(f"transfer.{field}", getattr(self, field))
        at_least("transfer.batch_reference_params", self.batch_reference_params, 1)
        between("transfer.batch_exponent", self.batch_exponent, -10, 10)
        between("transfer.horizon_exponent", self.horizon_exponent, -2, 2)
        at_least("transfer.horizon_reference", self.horizon_reference, 1)
        at_most("transfer.horizon_reference", self.horizon_reference, 1e18)
        if self.weight_decay < 0:
            raise UserError(f"transfer.weight_decay={self.weight_decay}: must be 0 or more")


# Hidden matrices want Adam's rate to fall as one over the width (Yang et al. 2022, table 3); used for every group
# here, since look-ups and gains want no more than the cap at the narrow rungs. (rule, d_model) -> rate
RATE_RULES: dict[str, Callable[[TransferConfig, int], float]] = {
    "inverse_width": lambda rule, d_model: rule.rate / d_model,
    "constant": lambda rule, d_model: rule.rate,
    "inverse_root_width": lambda rule, d_model: rule.rate / math.sqrt(d_model),
    # the parametrisation carries it to each array
    "mup": lambda rule, d_model: rule.rate,
    "completep": lambda rule, d_model: rule.rate,
}
# (rule, parameters without embeddings) -> base batches a step, before it is rounded
BATCH_RULES: dict[str, Callable[[TransferConfig, int], float]] = {
    "constant": lambda rule, params: rule.batch,
    "power_of_params": lambda rule, params: (
        rule.batch * (params / rule.batch_reference_params) ** rule.batch_exponent
    ),
}
# (rule, the rung's peak rate) -> the decay that a step multiplies by its rate
DECAY_RULES: dict[str, Callable[[TransferConfig, float], float]] = {
    "constant": lambda rule, rate: rule.weight_decay,
    "per_rate": lambda rule, rate: rule.weight_decay / rate,
}


def peak_rate(rule: TransferConfig, d_model: int, tokens: float, factor: float = 1.0) -> float:
    """Compute the peak learning rate of a rung for a horizon of `tokens`. factor: of a plan, times the capped rate.

    UserError where float32 cannot hold it.
    """
    rate = RATE_RULES[rule.kind](rule, d_model) * (rule.horizon_reference / tokens) ** rule.horizon_exponent
    rate = min(rate, rule.rate_cap) * factor
    return _single(f"transfer.rate={rule.rate}, transfer.rate_cap={rule.rate_cap}", rate)


def batch_multiple(rule: TransferConfig, params_nonembedding: int) -> int:
    """Compute the number of base batches that a step of this rung takes, a whole number from 1 up."""
    multiple = BATCH_RULES[rule.batch_rule](rule, params_nonembedding)
    if not multiple <= MOST_BATCHES:
        raise UserError(
            f"transfer.batch={rule.batch}: with transfer.batch_rule={rule.batch_rule} a rung of "
            f"{params_nonembedding:,} parameters takes {multiple:.3g} base batches a step; at most {MOST_BATCHES:,}"
        )
    return max(1, round(multiple))


def decay_of(rule: TransferConfig, rate: float) -> float:
    """Compute the weight decay that a step multiplies by its rate, for a rung whose peak rate is `rate`."""
    decay = DECAY_RULES[rule.decay_rule](rule, rate)
    return _single(f"transfer.weight_decay={rule.weight_decay}", decay) if decay else decay


def _single(given: str, value: float) -> float:
    """`value`, unless float32 would make it zero or infinite."""
    if not SINGLE[0] < value < SINGLE[1]:
        raise UserError(f"{given}: {value:.3g} is no number of float32; from {SINGLE[0]} to {SINGLE[1]}")
    return value
