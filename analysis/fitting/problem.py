"""A law to be fitted to the rows of a table: rows, law and objective, bound and thinned once.

The search, the resamples, the hold-outs, the discrepancy and the profiles take a `Problem`; a fit keeps its own.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import Warn
from analysis.fitting.bound_law import Model
from analysis.fitting.checks import check_enough
from analysis.fitting.function_law import JetModel
from analysis.fitting.objective import Objective
from analysis.fitting.observations import Observations
from analysis.fitting.power_sum import PowerSumModel
from analysis.laws.law import Form


# Compared and hashed by identity: what the search keeps of a problem is kept for this one alone.
@dataclass(frozen=True, eq=False)
class Problem:
    """The law `form` at the rows `observations`, under `objective`.

    `held`: the place of an internal parameter, and the value that it is held at.
    """

    form: Form
    observations: Observations
    objective: Objective
    held: tuple[int, float] | None = None

    @cached_property
    def model(self) -> Model:
        """The law bound to the rows, ready for the search; UserError if a law of one's own cannot be computed."""
        x = {name: self.observations.x[name] for name in self.form.columns}
        kind = PowerSumModel if self.form.structure is not None else JetModel
        model = kind(self.form, x, self.observations.loss)
        if self.held is not None:
            slot, value = self.held
            model.lower[slot] = model.upper[slot] = value
        return model

    @cached_property
    def warnings(self) -> tuple[Warn, ...]:
        """The caveats on these rows before anything is fitted; UserError if they cannot carry the law at all."""
        return check_enough(self.observations, self.form)

    @property
    def small(self) -> "Problem":
        """The same on the subset of a large table's rows; a smaller table's problem is itself."""
        return self if self.observations.small is self.observations else self._subset

    @cached_property
    def _subset(self) -> "Problem":
        return replace(self, observations=self.observations.small)

    @property
    def target(self) -> Float[Array, " n"]:
        """The observed losses on the scale of the residual."""
        return self.objective.target(self.observations.loss)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: what is bound can be bound again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
