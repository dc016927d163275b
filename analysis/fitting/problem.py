"""A law to be fitted to the rows of a table: rows, law and objective, bound and thinned once.

What is known of a parameter besides the rows (a value that it is held at, a prior) is part of it.
The search, the resamples, the hold-outs, the discrepancy and the profiles take a `Problem`; a fit keeps its own.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.errors import Warn
from analysis.fitting.bound_law import Expandable, Expansion, Gridded
from analysis.fitting.checks import check_enough
from analysis.fitting.objective import Objective, temperature
from analysis.fitting.observations import Observations
from analysis.fitting.shared_model import SharedModel, bind
from analysis.laws.law import Form
from analysis.laws.shared import SHARE, SharedForm


@dataclass(frozen=True)
class Prior:
    """A normal prior on the internal parameter at `slot`: `centre` +- `error`.

    `sigma` is the standard deviation of the residuals, `weight` the mean weight of a row.
    """

    slot: int
    centre: float
    error: float
    sigma: float
    weight: float

    def precision(self, width: float) -> float:
        """Compute the factor of (parameter - centre)^2 / 2 in the objective, for a Huber loss of `width`."""
        return self.weight * temperature(width, self.sigma) / self.error**2


# Compared and hashed by identity: what the search keeps of a problem is kept for this one alone.
@dataclass(frozen=True, eq=False)
class Problem:
    """The law `form` at the rows `observations`, under `objective`.

    `held`: the places of internal parameters, and the values that they are held at. `priors` add penalties.
    """

    form: Form
    observations: Observations
    objective: Objective
    held: tuple[tuple[int, float], ...] = ()
    priors: tuple[Prior, ...] = ()

    @cached_property
    def model(self) -> Gridded | SharedModel:
        """The law bound to the rows, ready for the search; UserError if a law of one's own cannot be computed."""
        x = {name: self.observations.x[name] for name in self.form.columns}
        model = bind(self.form, x, self.observations.loss)
        for slot, value in self.held:
            model.lower[slot] = model.upper[slot] = value
        return model

    @property
    def parameters(self) -> int:
        """How many parameters the rows have to tell: those that are not held."""
        return len(self.form.names) - len(self.held)

    @property
    def penalised(self) -> Expandable:
        """The objective with the priors' penalties; its weights are `extended`."""
        return _Penalised(self.model, self.priors) if self.priors else self.model

    def extended(
        self, weight: Float[Array, "R n"], centres: Float[Array, "R P"] | None = None
    ) -> Float[Array, "R w"]:
        """Append to weights of the rows the centres of the P priors: their own, or one a weighting."""
        if not self.priors:
            return weight
        own = np.asarray([prior.centre for prior in self.priors])
        centres = np.broadcast_to(own, (len(weight), len(own))) if centres is None else centres
        return np.concatenate([weight, centres], axis=1)

    def centres(self, resamples: int, seed: int) -> Float[Array, "R P"] | None:
        """Draw the priors' centres for resamples: a prior is data too, and is repeated with the rows.

        The minimum with perturbed rows and perturbed centres is a draw from the posterior, exactly so for a
        linear law and normal noise (randomise-then-optimise: Bardsley et al. 2014, SIAM J. Sci. Comput. 36,
        A1895).
        """
        if not self.priors:
            return None
        normal = np.random.default_rng([seed, 1]).standard_normal((resamples, len(self.priors)))
        return normal * [p.error for p in self.priors] + [p.centre for p in self.priors]

    @cached_property
    def warnings(self) -> tuple[Warn, ...]:
        """The caveats on these rows before anything is fitted; UserError if they cannot carry the law at all."""
        return check_enough(self.observations, self.form, self.parameters)

    def carries(self, rows: Bool[np.ndarray, " n"]) -> bool:
        """Tell whether so few rows can carry the law: two more than parameters, one more in each of several groups
        with a floor of their own."""
        if not isinstance(self.form, SharedForm):
            return bool(rows.sum() >= self.parameters + 2)
        groups = np.bincount(self.observations.x[SHARE][rows].astype(int), minlength=len(self.form.groups))
        return bool(groups.min() >= len(self.form.base.names) + 1)

    @property
    def small(self) -> "Problem":
        """The same on the subset of a large table's rows; a smaller table's problem is itself."""
        return self if self.observations.small is self.observations else self._subset

    @cached_property
    def _subset(self) -> "Problem":
        small = self.observations.small
        # Spread is scaled from the subset to the table (`fit.solve`): a prior of m rows' worth stays one of n's.
        share = len(small) / len(self.observations)
        priors = tuple(replace(p, error=p.error / np.sqrt(share)) for p in self.priors)
        return replace(self, observations=small, priors=priors)

    @property
    def target(self) -> Float[Array, " n"]:
        """The observed losses on the scale of the residual."""
        return self.objective.target(self.observations.loss)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: what is bound can be bound again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class _Penalised:
    """A model's objective with the penalties of priors, whose centres follow the weights of the rows."""

    model: Gridded | SharedModel
    priors: tuple[Prior, ...]

    @property
    def lower(self) -> Float[Array, " p"]:
        return self.model.lower

    @property
    def upper(self) -> Float[Array, " p"]:
        return self.model.upper

    def expand(
        self,
        theta: Float[Array, "S p"],
        weight: Float[Array, "S w"],
        target: Float[Array, " n"],
        scale: str,
        width: float,
    ) -> Expansion:
        """Expand the objective and the penalties to second order."""
        n = len(target)
        now = self.model.expand(theta, weight[:, :n], target, scale, width)
        value = now.value
        for j, prior in enumerate(self.priors):
            off = theta[:, prior.slot] - weight[:, n + j]
            precision = prior.precision(width)
            value = value + 0.5 * precision * off * off
            now.gradient[:, prior.slot] += precision * off
            now.hessian[:, prior.slot, prior.slot] += precision
        return Expansion(value, now.gradient, now.hessian)
