"""What a forecast would be with another irreducible loss: the rest of each law fitted again with E held there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.fitting.result import Member, finite
from analysis.fitting.search import search

# Nats: what rows at a thirtieth of the compute leave open (docs/predict.md).
SHIFT = 0.1


@dataclass(frozen=True)
class Sensitivity:
    """The `loss` of each prediction with the floor of every law moved by `shift` nats, to `floor` by form.

    A floor stays at zero or above, and below the least loss of its rows.
    """

    shift: float
    floor: dict[str, float]
    loss: Float[Array, " m"]

    def to_json(self) -> dict[str, Any]:
        """Make one entry of `sensitivity`."""
        return {"shift": self.shift, "floor": self.floor, "loss": [finite(v) for v in self.loss.tolist()]}


def sensitivity(members: Sequence[Member], wanted: pd.DataFrame) -> tuple[Sensitivity, ...]:
    """Predict `wanted` with every law's E a tenth of a nat lower and higher; nothing where no law has an E."""
    if not any(member.fit.form.floor for member in members):
        return ()
    return tuple(_moved(members, wanted, shift) for shift in (-SHIFT, SHIFT))


def _moved(members: Sequence[Member], wanted: pd.DataFrame, shift: float) -> Sensitivity:
    log_loss = np.zeros(len(wanted))
    floors: dict[str, float] = {}
    for member in members:
        fitted = member.fit
        params = fitted.params
        if fitted.form.floor is not None:
            most = float(fitted.observations.loss.min()) * (1.0 - 1e-6)
            floor = max(min(params["E"] + shift, max(most, params["E"])), 0.0)
            small = fitted.problem.small
            others = tuple(prior for prior in small.priors if prior.slot != 0)
            problem = replace(small, held=((0, floor),), priors=others)
            found = search(problem, problem.observations.weight[None])
            params = dict(zip(fitted.form.names, problem.model.public(found.theta)[0].tolist(), strict=True))
            floors[fitted.form.name] = floor
        predicted = replace(fitted, params=params).predict(wanted)
        log_loss += member.weight * np.log(predicted)
    return Sensitivity(shift, floors, np.exp(log_loss))
