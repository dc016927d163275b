"""Profile of the objective: how good a fit can still be with one parameter held at a value."""

from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.power_sum import PowerSumModel
from analysis.fitting.resampling import bind
from analysis.fitting.search import search


@dataclass(frozen=True)
class Profile:
    """The least `objective` [m] over all other parameters with `name` held at `values` [m]."""

    name: str
    values: Array
    objective: Array


def profile(fitted: Fit, name: str, points: int = 25) -> Profile:
    """Profile a floor, an exponent or an outer power of a power-sum law over its resamples' range.

    A flat profile is a parameter that the rows do not identify; two valleys are two basins. Amplitudes
    follow their exponents and have no profile of their own. Raises UserError for those and other laws.
    """
    model = bind(fitted.form, fitted.observations)
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
    centre = fitted.params[name]
    low, high = fitted.conf_int(0.99)[name]
    reach = 1.5 * max(high - centre, centre - low) if np.isfinite([low, high]).all() else 0.3 * abs(centre)
    values = np.linspace(
        max(centre - reach, model.lower[slot]), min(centre + reach, model.upper[slot]), points
    )
    weight = fitted.observations.weight[None]
    bounds = model.lower.copy(), model.upper.copy()
    found = []
    for value in values:
        model.lower, model.upper = bounds[0].copy(), bounds[1].copy()
        model.lower[slot] = model.upper[slot] = value
        found.append(search(model, fitted.observations.loss, weight, fitted.objective).value[0])
    return Profile(name, values, np.asarray(found))
