"""Named rules that carry a learning rate, a batch and a weight decay from one rung to the next.

A rule may look at the rung, never at the horizon: branches of one trunk share all three.
"""

from dataclasses import dataclass

from lmscale.errors import UserError

RATE_RULES = ("constant", "inverse_width")
BATCH_RULES = ("constant", "power_of_params")
DECAY_RULES = ("constant", "per_rate")


@dataclass(frozen=True)
class TransferConfig:
    """rate: `constant`, or `inverse_width` (rate / d_model, at most rate_cap).

    Hidden matrices want Adam's rate to fall as one over the width (Yang et al. 2022, table 3); used for every
    group here, since look-ups and gains want no more than the cap at the narrow rungs.
    batch: multiples of the data's base batch: `constant` (batch), or `power_of_params`
    (batch x (params / batch_reference_params)^batch_exponent, at least 1, rounded).
    decay: `constant` (weight_decay a step x rate, as in optax), or `per_rate` (weight_decay / rate: the decay
    of a step is then the same at every rung; Wortsman et al. 2024).
    """

    name: str = "inverse_width"
    rate_rule: str = "inverse_width"
    rate: float = 1.2
    rate_cap: float = 0.08
    batch_rule: str = "constant"
    batch: int = 1
    batch_exponent: float = 0.3
    batch_reference_params: float = 1e6
    decay_rule: str = "constant"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for field, rules in (("rate", RATE_RULES), ("batch", BATCH_RULES), ("decay", DECAY_RULES)):
            value = getattr(self, f"{field}_rule")
            if value not in rules:
                raise UserError(f"transfer.{field}_rule={value}: no such rule; there are {', '.join(rules)}")
        for field in ("rate", "rate_cap", "batch", "batch_reference_params"):
            if getattr(self, field) <= 0:
                raise UserError(f"transfer.{field}={getattr(self, field)}: must be above 0")
        if self.weight_decay < 0:
            raise UserError(f"transfer.weight_decay={self.weight_decay}: must be 0 or more")


def peak_rate(rule: TransferConfig, d_model: int) -> float:
    """The peak learning rate of a rung."""
    rate = rule.rate / d_model if rule.rate_rule == "inverse_width" else rule.rate
    return min(rate, rule.rate_cap)


def batch_multiple(rule: TransferConfig, params_nonembedding: int) -> int:
    """How many base batches a step of this rung takes."""
    if rule.batch_rule == "constant":
        return rule.batch
    size = rule.batch * (params_nonembedding / rule.batch_reference_params) ** rule.batch_exponent
    return max(1, round(size))


def decay_of(rule: TransferConfig, rate: float) -> float:
    """The weight decay that AdamW multiplies by the rate, for a rung whose peak rate is `rate`."""
    return rule.weight_decay / rate if rule.decay_rule == "per_rate" else rule.weight_decay
