"""Laws bound to a table; those of several groups that share a floor are one law of more parameters."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array, Columns
from analysis.fitting.bound_law import Expansion, Gridded
from analysis.fitting.function_law import JetModel
from analysis.fitting.power_sum import PowerSumModel
from analysis.laws.law import Form
from analysis.laws.shared import SHARE, SharedForm


def bind(form: Form, x: Columns, loss: Float[Array, " n"]) -> "Gridded | SharedModel":
    """Bind a form to the rows of `x`; UserError if a law of one's own cannot be computed."""
    return SharedModel(form, x, loss) if isinstance(form, SharedForm) else _bind(form, x, loss)


def _bind(form: Form, x: Columns, loss: Float[Array, " n"]) -> Gridded:
    return PowerSumModel(form, x, loss) if form.structure is not None else JetModel(form, x, loss)


class SharedModel:
    """A law for each group of rows (`parts`), bound to its `rows`; see `bound_law.Model`.

    The shared floor is the first internal parameter; `slots` are where each part's parameters are.
    """

    def __init__(self, form: SharedForm, x: Columns, loss: Float[Array, " n"]) -> None:
        self.form: Form = form
        self.own = [form.own(group) for group in form.groups]
        code = x[SHARE].astype(int)
        self.rows = [np.flatnonzero(code == i) for i in range(len(form.groups))]
        self.parts = [
            _bind(form.base, {name: x[name][rows] for name in form.base.columns}, loss[rows])
            for rows in self.rows
        ]
        self.slots: list[Int[np.ndarray, " q"]] = []
        self.size = 1
        for part in self.parts:
            own = len(part.lower) - 1
            self.slots.append(np.append(0, self.size + np.arange(own)))
            self.size += own
        self.lower, self.upper = np.zeros(self.size), np.full(self.size, np.inf)
        for part, slots in zip(self.parts, self.slots, strict=True):
            self.lower[slots] = part.lower
            floor = min(self.upper[0], part.upper[0])
            self.upper[slots] = part.upper
            self.upper[0] = floor

    def predict(self, theta: Float[Array, "S p"]) -> Float[Array, "S n"]:
        """Compute the losses at internal parameters."""
        found = np.empty((len(theta), sum(map(len, self.rows))))
        for part, slots, rows in zip(self.parts, self.slots, self.rows, strict=True):
            found[:, rows] = part.predict(theta[:, slots])
        return found

    def expand(
        self,
        theta: Float[Array, "S p"],
        weight: Float[Array, "S w"],
        target: Float[Array, " n"],
        scale: str,
        width: float,
    ) -> Expansion:
        """Expand the objective, the sum of the groups', to second order at theta."""
        S, p = theta.shape
        value, gradient, hessian = np.zeros(S), np.zeros((S, p)), np.zeros((S, p, p))
        for part, slots, rows in zip(self.parts, self.slots, self.rows, strict=True):
            own = part.expand(theta[:, slots], weight[:, rows], target[rows], scale, width)
            value += own.value
            gradient[:, slots] += own.gradient
            hessian[:, slots[:, None], slots] += own.hessian
        return Expansion(value, gradient, hessian)

    def public(self, theta: Float[Array, "S p"]) -> Float[Array, "S p2"]:
        """Translate internal parameters into reported ones, in the order of `form.names`."""
        found = np.empty((len(theta), len(self.form.names)))
        for part, slots, own in zip(self.parts, self.slots, self.own, strict=True):
            found[:, own] = part.public(theta[:, slots])
        return found

    def private(self, params: Mapping[str, float]) -> Float[Array, " p"]:
        """Translate reported parameters into internal ones."""
        values = np.asarray([params[name] for name in self.form.names])
        theta = np.empty(self.size)
        for part, slots, own in zip(self.parts, self.slots, self.own, strict=True):
            theta[slots] = part.private(dict(zip(part.form.names, values[own].tolist(), strict=True)))
        return theta
