"""A law that is a floor and a sum of powers, bound to a table: the fast path of the search.

Internal parameters: the floor, each term's logarithm at the middle of the table (centred, so that amplitudes and
exponents do not trade off), the exponents, the outer power.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array, Columns
from analysis.fitting.bound_law import Expansion, Grid
from analysis.fitting.objective import huber, huber_curvature, huber_slope
from analysis.laws.law import Form, Term


class PowerSumModel:
    """`form.structure` at the rows of `x`; `loss` only sets the range searched (see `bound_law.Model`)."""

    def __init__(self, form: Form, x: Columns, loss: Float[Array, " n"]) -> None:
        structure = form.structure
        assert structure is not None
        self.form = form
        self.structure = structure
        self.loss = loss
        self.exponents = tuple(
            dict.fromkeys(
                name for term in structure.terms for name, _ in term.exponents if isinstance(name, str)
            )
        )
        self.floor = structure.floor is not None
        self.outer = structure.outer is not None
        terms = len(structure.terms)
        first = int(self.floor)
        self.size = first + terms + len(self.exponents) + int(self.outer)
        self.slots = {name: first + terms + i for i, name in enumerate(self.exponents)}
        n = len(loss)
        # log of term k at the rows = design[k] @ theta + offset[k]: linear in every internal parameter.
        self.design = np.zeros((terms, n, self.size))
        self.offset = np.zeros((terms, n))
        self.means: list[list[float]] = []
        for k, term in enumerate(structure.terms):
            self.design[k, :, first + k] = 1.0
            means = []
            for name, feature in term.exponents:
                values = np.broadcast_to(feature(x), (n,))
                mean = float(values.mean())
                means.append(mean)
                if isinstance(name, str):
                    self.design[k, :, self.slots[name]] -= values - mean
                else:
                    self.offset[k] -= name * (values - mean)
            self.means.append(means)
        self.lower, self.upper = self._bounds()

    def _bounds(self) -> tuple[Array, Array]:
        bounds = {parameter.name: (parameter.lower, parameter.upper) for parameter in self.form.parameters}
        bounds |= self.structure.bounds
        lower, upper = np.empty(self.size), np.empty(self.size)
        first = int(self.floor)
        if self.floor:
            lower[0], upper[0] = 0.0, float(self.loss.max())
        terms = len(self.structure.terms)
        # A term below a millionth of the least loss at the middle of the table is absent; with an outer
        # power the inner sum is loss^(1/k), which may be far from the loss.
        span = (
            (-80.0, 80.0) if self.outer else (np.log(1e-6 * self.loss.min()), np.log(1e3 * self.loss.max()))
        )
        lower[first : first + terms], upper[first : first + terms] = span
        for name, slot in self.slots.items():
            lower[slot], upper[slot] = bounds[name]
        if self.structure.outer is not None:
            lower[-1], upper[-1] = bounds[self.structure.outer]
        return lower, upper

    @cached_property
    def _pairs(self) -> Float[Array, "k n pp"]:
        """The outer product of each term's design with itself, row by row."""
        terms, n, p = self.design.shape
        return np.einsum("kni,knj->knij", self.design, self.design).reshape(terms, n, p * p)

    @cached_property
    def _transposed(self) -> Float[Array, "k p n"]:
        return np.ascontiguousarray(self.design.transpose(0, 2, 1))

    def _terms(
        self, theta: Float[Array, "S p"], rows: Int[np.ndarray, " r"] | slice = slice(None)
    ) -> Float[Array, "k S n"]:
        """Compute each term at the rows."""
        log = theta @ self._transposed[:, :, rows] + self.offset[:, None, rows]
        return np.exp(np.minimum(log, 600.0, out=log), out=log)

    def predict(self, theta: Float[Array, "S p"]) -> Float[Array, "S n"]:
        """Compute the losses at internal parameters."""
        total = self._terms(theta).sum(0)
        if self.outer:
            total = total ** theta[:, -1:]
        return total + theta[:, :1] if self.floor else total

    def expand(
        self,
        theta: Float[Array, "S p"],
        weight: Float[Array, "S n"],
        target: Float[Array, " n"],
        scale: str,
        width: float,
    ) -> Expansion:
        """Expand the objective, sum of weight x rho(residual), to second order in theta.

        Derived by the chain rule, row by row, with every sum over rows left to the end. Term k is
        u_k = exp(X_k theta + offset), so du_k = u_k X_k and d2u_k = u_k X_k X_k' (`_pairs`). With s = sum u_k:

            no outer power   f = floor + s:     df = sum u_k X_k,        d2f = sum u_k X_k X_k'
            outer power      f = floor + s^q:   g = log s, dg = sum (u_k/s) X_k,
                             d2g = sum (u_k/s) X_k X_k' - dg dg',        s^q = exp(q g),
                             df = s^q (q dg, g),
                             d2f = s^q [(q dg, g)(q dg, g)' + q d2g, and dg in the cross of theta with q]

        and of the objective, psi = rho' and r = log f - target or f - target:

            log scale:   gradient sum of (psi/f) df,  Hessian sum of (psi/f) d2f + (rho'' - psi)/f^2 df df'
            linear:      gradient sum of psi df,      Hessian sum of psi d2f + rho'' df df'

        `push` is the factor of d2f, `bend` that of df df'.
        """
        S, p = theta.shape
        u = self._terms(theta)
        total = u.sum(0)
        slope_rows = np.zeros((S, p, total.shape[1]))  # ds, or dg with an outer power
        kinds = len(u)
        first = int(self.floor)
        if self.outer:
            power = theta[:, -1:]
            log_total = np.log(total)
            u /= total
            reducible = np.exp(power * log_total)
        else:
            reducible = total
        for k in range(kinds):
            slope_rows[:, first + k] = u[k]
        for slot in self.slots.values():
            for k in range(kinds):
                column = self.design[k, :, slot]
                if column.any():
                    slope_rows[:, slot] += u[k] * column
        f = reducible + theta[:, :1] if self.floor else reducible
        residual = (np.log(f) if scale == "log" else f) - target
        psi = weight * huber_slope(residual, width)
        value = np.einsum("sn,sn->s", weight, huber(residual, width))
        curvature = weight * huber_curvature(residual, width)
        if scale == "log":
            push = psi / f
            bend = (curvature - psi) / (f * f)
        else:
            push, bend = psi, curvature
        hessian = np.zeros((S, p, p))
        if self.outer:
            # s^q (q dg, g)(q dg, g)' - s^q q dg dg', then the cross of theta with q.
            inner = slope_rows
            outer_rows = power[:, None] * inner
            outer_rows[:, -1] = log_total
            scaled = push * reducible
            hessian += (outer_rows * scaled[:, None]) @ outer_rows.transpose(0, 2, 1)
            hessian -= (inner * (scaled * power)[:, None]) @ inner.transpose(0, 2, 1)
            cross = np.einsum("sn,spn->sp", scaled, inner)
            hessian[:, -1, :] += cross
            hessian[:, :, -1] += cross
            curved = scaled * power
            jacobian = outer_rows * reducible[:, None]
        else:
            curved = push
            jacobian = slope_rows
        for k in range(kinds):
            hessian += ((curved * u[k]) @ self._pairs[k]).reshape(S, p, p)
        if self.floor:
            jacobian[:, 0] = 1.0
        gradient = np.einsum("spn,sn->sp", jacobian, push)
        hessian += (jacobian * bend[:, None]) @ jacobian.transpose(0, 2, 1)
        return Expansion(value, gradient, hessian)

    def grid(self, rows: Int[np.ndarray, " r"]) -> Grid:
        """Lay a grid over the exponents and, with an outer power, the terms' ratios and the power."""
        terms = len(self.structure.terms)
        axes: list[Array] = []
        rough = self.outer or len(self.exponents) > 2
        narrow = [name for name in self.exponents if self._is_exponent(name)]
        for name in self.exponents:
            if name in narrow:
                axes.append(np.geomspace(0.04, 1.6, (9 if rough else 16) if len(narrow) > 1 else 48))
            else:
                axes.append(np.array([0.0]))
        if self.outer:
            axes += [np.linspace(-3.0, 3.0, 5)] * (terms - 1)
            # A term of fixed exponent (kaplan's data term) shows the outer power itself as its exponent.
            fixed = any(not isinstance(name, str) for t in self.structure.terms for name, _ in t.exponents)
            axes.append(np.geomspace(0.03, 1.0, 9) if fixed else np.array([0.25, 0.45, 0.7, 1.0, 1.5, 2.5]))
        eta = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
        if self.outer:
            # The exponents that the loss shows are exponent x outer power: search those.
            eta[:, : len(self.exponents)] /= eta[:, -1:]
            for name in self.exponents:
                slot = self.exponents.index(name)
                low, high = self.lower[self.slots[name]], self.upper[self.slots[name]]
                eta[:, slot] = np.clip(eta[:, slot], low, high)
        theta = self.assemble(eta, np.ones((len(eta), int(self.floor) + (1 if self.outer else terms))))
        if self.outer:
            theta[:, 0] = 0.0 if self.floor else theta[:, 0]
            reducible = self._terms(theta, rows).sum(0) ** theta[:, -1:]
            columns = [reducible]
        else:
            columns = list(self._terms(theta, rows))
        if self.floor:
            columns.insert(0, np.ones_like(columns[0]))
        return Grid(eta, np.stack(columns, axis=1))

    def _is_exponent(self, name: str) -> bool:
        return bool(self.lower[self.slots[name]] > 0)

    def assemble(self, eta: Float[Array, "S q"], coefficients: Float[Array, "S m"]) -> Float[Array, "S p"]:
        """Make internal parameters of grid points and their linear coefficients, none below zero."""
        theta = np.zeros((len(eta), self.size))
        first, terms, q = int(self.floor), len(self.structure.terms), len(self.exponents)
        if self.floor:
            theta[:, 0] = coefficients[:, 0]
        for i, name in enumerate(self.exponents):
            theta[:, self.slots[name]] = eta[:, i]
        logs = np.log(np.maximum(coefficients[:, first:], 1e-300))
        if self.outer:
            theta[:, -1] = eta[:, -1]
            logs = np.concatenate([np.zeros((len(eta), 1)), eta[:, q:-1]], axis=1) + logs / eta[:, -1:]
        theta[:, first : first + terms] = logs
        return np.clip(theta, self.lower, self.upper)

    def public(self, theta: Float[Array, "S p"]) -> Float[Array, "S p2"]:
        """Translate internal parameters into reported ones, in the order of `form.names`."""
        first = int(self.floor)
        values = {name: theta[:, slot] for name, slot in self.slots.items()}
        for k, term in enumerate(self.structure.terms):
            values[f"log {term.coefficient}"] = theta[:, first + k] + self._shift(k, term, values)
        if self.structure.outer is not None:
            values[self.structure.outer] = theta[:, -1]
        values = {**values, **self.structure.public(values)}
        with np.errstate(over="ignore"):
            return np.stack(
                [
                    theta[:, 0]
                    if name == self.structure.floor
                    else np.exp(values[f"log {name}"])
                    if f"log {name}" in values
                    else values[name]
                    for name in self.form.names
                ],
                axis=1,
            )

    def private(self, params: Mapping[str, float]) -> Float[Array, " p"]:
        """Translate reported parameters into internal ones."""
        values = {name: np.asarray(float(value)) for name, value in params.items()}
        values |= {f"log {p.name}": np.log(values[p.name]) for p in self.form.parameters if p.scale}
        values = {**values, **self.structure.private(values)}
        theta = np.zeros(self.size)
        first = int(self.floor)
        if self.structure.floor is not None:
            theta[0] = values[self.structure.floor]
        for name, slot in self.slots.items():
            theta[slot] = values[name]
        for k, term in enumerate(self.structure.terms):
            theta[first + k] = values[f"log {term.coefficient}"] - self._shift(k, term, values)
        if self.structure.outer is not None:
            theta[-1] = values[self.structure.outer]
        return np.clip(theta, self.lower, self.upper)

    def _shift(self, k: int, term: Term, values: Mapping[str, Any]) -> Float[Array, "..."]:
        """Compute log coefficient - centred log coefficient."""
        shift = np.zeros(())
        for (name, _), mean in zip(term.exponents, self.means[k], strict=True):
            shift = shift + (values[name] if isinstance(name, str) else np.asarray(name)) * mean
        return np.asarray(shift)
