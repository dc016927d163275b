"""A law written as a Python function, bound to a table: derivatives from jets, starts at random points."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from analysis.arrays import Array, Columns
from analysis.errors import UserError
from analysis.fitting.bound_law import Expansion, Grid
from analysis.fitting.jet import Jet, variables
from analysis.fitting.objective import huber, huber_curvature, huber_slope
from analysis.laws.law import Form, Named, Parameter, Private


class JetModel:
    """`form.searched` (or the form's own parameters) at the rows of `x`; see `bound_law.Model`."""

    def __init__(self, form: Form, x: Columns, loss: Float[Array, " n"]) -> None:
        self.form = form
        self.searched = form.searched or Private(
            form.parameters, form.law, lambda v, x: v, lambda v, x: v, linear=()
        )
        logs = {f"log_{name}": np.log(column) for name, column in x.items()}
        means = {f"mean_{name}": np.asarray(float(column.mean())) for name, column in logs.items()}
        self.columns: dict[str, Array] = {**x, **logs, **means}
        self.x = Named(self.columns)
        self.loss = loss
        self.parameters = self.searched.parameters
        self.size = len(self.parameters)
        bounds = np.asarray([self._range(parameter, x) for parameter in self.parameters])
        scale = np.asarray([parameter.scale for parameter in self.parameters])
        self.scale = scale
        self.lower, self.upper = np.where(scale, np.log(np.maximum(bounds, 1e-300)).T, bounds.T)
        self.free = [i for i, p in enumerate(self.parameters) if p.name not in self.searched.linear]
        self.linear = [i for i, p in enumerate(self.parameters) if p.name in self.searched.linear]

        self._try()

    def _try(self) -> None:
        """UserError unless the law can be computed: a person's own may hold any mistake."""
        middle = 0.5 * (self.lower + self.upper)[None]
        try:
            self.expand(middle, np.ones((1, len(self.loss))), self.loss, "linear", np.inf)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"form {self.form.name}: its law fails ({type(error).__name__}: {error}); write it with operators "
                "and numpy functions of p.NAME and x.COLUMN"
            ) from error

    def _range(self, parameter: Parameter, x: Columns) -> tuple[float, float]:
        if parameter.within is not None:
            return float(x[parameter.within].min()), float(x[parameter.within].max())
        # What has no bound is an amount of loss: between none and far above any loss of the table.
        lower = parameter.lower if np.isfinite(parameter.lower) else -1e3 * float(self.loss.max())
        upper = parameter.upper if np.isfinite(parameter.upper) else 1e3 * float(self.loss.max())
        if parameter.scale and lower <= 0:
            lower = 1e-6 * float(self.loss.min())
        if not parameter.scale and parameter.lower == 0 and not np.isfinite(parameter.upper):
            upper = float(self.loss.max())
        return lower, upper

    def _named(self, values: list[Jet] | Array) -> Named:
        return Named({p.name: value for p, value in zip(self.parameters, values, strict=True)})

    def _natural(self, theta: Float[Array, "S p"]) -> Float[Array, "p S 1"]:
        """Undo the logarithms of internal parameters, one row of S by parameter."""
        return np.where(self.scale, np.exp(np.minimum(theta, 600.0)), theta).T[:, :, None]

    def predict(self, theta: Float[Array, "S p"]) -> Float[Array, "S n"]:
        """Compute the losses at internal parameters."""
        with np.errstate(all="ignore"):
            value = np.asarray(self.searched.law(self._named(self._natural(theta)), self.x))
        return np.broadcast_to(value, (len(theta), len(self.loss)))

    def expand(
        self,
        theta: Float[Array, "S p"],
        weight: Float[Array, "S n"],
        target: Float[Array, " n"],
        scale: str,
        width: float,
    ) -> Expansion:
        """Expand the objective to second order at theta; an impossible loss counts as infinite.

        The law's own derivatives come from jets; the chain rule from f to the objective is that of
        `PowerSumModel.expand`, with its `push` and `bend`.
        """
        S, p = theta.shape
        shape = (S, len(self.loss))
        jets = variables(theta.T[:, :, None])
        named = self._named([np.exp(jet) if log else jet for jet, log in zip(jets, self.scale, strict=True)])
        with np.errstate(all="ignore"):
            jet = self.searched.law(named, self.x)
            f = np.broadcast_to(jet.value, shape)
            fine = np.isfinite(f).all(1) & ((f > 0).all(1) if scale == "log" else True)
            residual = (np.log(f) if scale == "log" else f) - target
            psi = weight * huber_slope(residual, width)
            curvature = weight * huber_curvature(residual, width)
            push, bend = (psi / f, (curvature - psi) / (f * f)) if scale == "log" else (psi, curvature)
            value = np.einsum("sn,sn->s", weight, huber(residual, width))
            jacobian = np.zeros((S, p, shape[1]))
            for i, first in jet.gradient.items():
                jacobian[:, i] = first
            gradient = np.einsum("spn,sn->sp", jacobian, push)
            hessian = (jacobian * bend[:, None]) @ jacobian.transpose(0, 2, 1)
            for (i, j), second in jet.hessian.items():
                curved = np.einsum("sn,sn->s", np.broadcast_to(second, shape), push)
                hessian[:, i, j] += curved
                if i != j:
                    hessian[:, j, i] += curved
        fine &= np.isfinite(gradient).all(1) & np.isfinite(hessian).all((1, 2))
        return Expansion(
            np.where(fine, value, np.inf),
            np.where(fine[:, None], gradient, 0.0),
            np.where(fine[:, None, None], hessian, np.eye(p)),
        )

    def grid(self, rows: Int[np.ndarray, " r"]) -> Grid:
        """Draw random points of the non-linear parameters (a fixed sequence), with the law's terms at `rows`.

        A law that is linear and homogeneous in some parameters is the sum over them of coefficient x the law with
        that coefficient at one and the others at zero (f(c) = sum of c_i f(e_i)): those columns are the basis that
        variable projection (Golub and Pereyra 1973) solves for. A law may give terms of its own where that holds
        only nearly, and a rule that solves for further parameters at each point. Uniform points stand in for a
        grid, which in up to seven non-linear parameters would be too coarse to hit a valley (Bergstra and Bengio
        2012, JMLR 13, 281, on random against grid search).
        """
        points_tried = self.searched.points
        x = Named({name: v if v.ndim == 0 else v[rows] for name, v in self.columns.items()})
        rng = np.random.default_rng(0)
        points = rng.uniform(size=(points_tried, len(self.free)))
        low, high = self.lower.copy(), self.upper.copy()
        for i, parameter in enumerate(self.parameters):
            if parameter.typical is not None:
                low[i], high[i] = np.log(parameter.typical) if parameter.scale else parameter.typical
        eta = low[self.free] + points * (high - low)[self.free]
        theta = np.zeros((points_tried, self.size))
        theta[:, self.free] = eta
        natural = self._natural(theta)
        if self.searched.solved is not None:
            better = self.searched.solved(self._named(natural), x, self.loss[rows])
            for i, parameter in enumerate(self.parameters):
                if parameter.name in better:
                    value = np.log(better[parameter.name]) if self.scale[i] else better[parameter.name]
                    theta[:, i] = np.clip(value, self.lower[i], self.upper[i])
            eta, natural = theta[:, self.free], self._natural(theta)
        with np.errstate(all="ignore"):
            if self.searched.basis is not None:
                columns = self.searched.basis(self._named(natural), x)
            elif not self.linear:
                columns = [self.searched.law(self._named(natural), x)]
            else:
                columns = []
                # f(e_i): the law with one linear parameter at one and the others at zero.
                for i in self.linear:
                    unit = natural.copy()
                    unit[self.linear] = 0.0
                    unit[i] = 1.0
                    columns.append(self.searched.law(self._named(unit), x))
        shape = (points_tried, len(rows))
        basis = np.stack([np.broadcast_to(column, shape) for column in columns], axis=1)
        fine = np.isfinite(basis).all((1, 2)) & (np.abs(basis) < 1e100).all((1, 2))
        return Grid(eta[fine], basis[fine], fixed=not self.linear)

    def assemble(self, eta: Float[Array, "S q"], coefficients: Float[Array, "S m"]) -> Float[Array, "S p"]:
        """Make internal parameters of points and their linear coefficients."""
        theta = np.zeros((len(eta), self.size))
        theta[:, self.free] = eta
        for column, i in enumerate(self.linear):
            c = coefficients[:, column]
            theta[:, i] = np.log(np.maximum(c, 1e-300)) if self.scale[i] else c
        return np.clip(theta, self.lower, self.upper)

    def public(self, theta: Float[Array, "S p"]) -> Float[Array, "S p2"]:
        """Translate internal parameters into reported ones, in the order of `form.names`."""
        natural = self._natural(theta)[:, :, 0]
        values = {p.name: value for p, value in zip(self.parameters, natural, strict=True)}
        with np.errstate(all="ignore"):
            found = self.searched.public(values, self.x)
        return np.stack([np.asarray(found[name]) for name in self.form.names], axis=1)

    def private(self, params: Mapping[str, float]) -> Float[Array, " p"]:
        """Translate reported parameters into internal ones."""
        values = self.searched.private({name: np.asarray(float(v)) for name, v in params.items()}, self.x)
        natural = np.asarray([float(values[p.name]) for p in self.parameters])
        theta = np.where(self.scale, np.log(np.maximum(natural, 1e-300)), natural)
        return np.clip(theta, self.lower, self.upper)
