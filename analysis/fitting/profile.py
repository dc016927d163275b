"""Profile of the objective: the best fit that is left with one parameter held at a value."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.power_sum import PowerSumModel
from analysis.fitting.result import Fit
from analysis.fitting.search import search


@dataclass(frozen=True)
class Profile:
    """The least `objective` over all other parameters with `name` held at each of k `values`."""

    name: str
    values: Float[Array, " k"]
    objective: Float[Array, " k"]


def profile(fitted: Fit, name: str, points: int = 25) -> Profile:
    """Profile a floor, an exponent or an outer power of a power-sum law over its resamples' range.

    A flat profile is a parameter that the rows do not identify; two valleys are two basins. Amplitudes
    follow their exponents and have no profile of their own. Raises UserError for those and other laws.
    """
    model = fitted.problem.model
    held = fitted.problem.held
    if not isinstance(model, PowerSumModel):
        raise UserError(f"{fitted.form.name}: a profile is drawn for sums of powers only")
    slots = dict(model.slots)
    if model.structure.floor is not None:
        slots[model.structure.floor] = 0
    if model.structure.outer is not None and model.structure.outer in fitted.form.names:
        slots[model.structure.outer] = model.size - 1
    if name not in slots or name not in fitted.form.names:
        able = ", ".join(n for n in slots if n in fitted.form.names)
        raise UserError(f"profile of {name}: {fitted.form.name} can profile {able}")
    slot = slots[name]
    if slot in dict(held):
        raise UserError(
            f"profile of {name}: it is held at {dict(held)[slot]:g} (floor = {fitted.floor.kind})"
        )
    centre = fitted.params[name]
    low, high = fitted.conf_int(0.99)[name]
    reach = 1.5 * max(high - centre, centre - low) if np.isfinite([low, high]).all() else 0.3 * abs(centre)
    values = np.linspace(
        max(centre - reach, model.lower[slot]), min(centre + reach, model.upper[slot]), points
    )
    weight = fitted.observations.weight[None]
    found = [
        search(replace(fitted.problem, held=(*held, (slot, value))), weight).value[0]
        for value in values.tolist()
    ]
    return Profile(name, values, np.asarray(found))
