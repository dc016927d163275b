"""Global search: every resample gets its own grid over the exponents, its own best starts, its own polish.

The law is linear in its floor and amplitudes once the exponents are given (variable projection, Golub and
Pereyra 1973), so a grid point costs one small non-negative least squares. Row weights enter linearly:
one matrix product gives the normal equations of every resample at every grid point.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.arrays import Array
from analysis.fitting.bound_law import Grid, Gridded
from analysis.fitting.newton import Minimum, minimise
from analysis.fitting.objective import Objective, huber, huber_weight
from analysis.fitting.problem import Prior, Problem
from analysis.fitting.shared_model import SharedModel
from analysis.progress import track

# Rows beyond this many do not sharpen a grid of starts; the polish uses them all.
SEARCH_ROWS = 500
# Huber widths below this are descended slowly.
FINE = 2e-3
# Jumps about the best point of a table, as shares of the parameters; HOP_COPIES of each.
HOPS = (0.1, 0.03, 0.01)
HOP_COPIES = 24
# Shared floors that are tried, as shares of the least loss.
FLOORS = np.array([0.0, 0.3, 0.5, 0.6, 0.7, 0.76, 0.82, 0.87, 0.91, 0.94, 0.97])
# Elements (problems x rows) worked on at a time: the arrays of one block stay in the second-level cache.
BLOCK = 48_000


@dataclass(frozen=True)
class Found:
    """The best of each of R weightings of the rows; `basins`: every end point of the first."""

    theta: Float[Array, "R p"]
    value: Float[Array, " R"]
    converged: Bool[np.ndarray, " R"]
    basins: Minimum


def search(
    problem: Problem,
    weight: Float[Array, "R n"],
    *,
    starts: int = 12,
    near: Float[Array, "k p"] | None = None,
    centres: Float[Array, "R P"] | None = None,
) -> Found:
    """Minimise the objective globally for every row of `weight`.

    `near` adds starts to every weighting's own. `starts` is how many of its grid's best cells each
    weighting polishes. `centres` are those of the problem's priors, where weightings have their own.
    """
    R, n = weight.shape
    weight = problem.extended(weight, centres)
    model = problem.model
    rows = np.arange(n)
    if n > SEARCH_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(n, SEARCH_ROWS, replace=False))
    columns = np.append(rows, np.arange(n, weight.shape[1]))
    normal = _NORMAL.get(problem)
    if normal is None:
        at = rows, problem.observations.loss[rows], problem.objective
        normal = _SharedNormal(model, *at) if isinstance(model, SharedModel) else _Normal(model, *at)
        _NORMAL[problem] = normal
    blocks = [slice(i, i + _block(n, starts)) for i in range(0, R, _block(n, starts))]

    def work(block: slice) -> tuple[Minimum, Minimum]:
        w = weight[block]
        theta = normal.starts(problem, w[:, columns], starts)
        if near is not None:
            theta = np.concatenate([theta, np.broadcast_to(near, (len(w), *near.shape))], axis=1)
        k = theta.shape[1]
        ended = _polish(problem, theta.reshape(-1, theta.shape[2]), np.repeat(w, k, axis=0))
        value = ended.value.reshape(-1, k)
        best = np.argmin(value, axis=1) + np.arange(len(w)) * k
        first = Minimum(ended.theta[:k], ended.value[:k], ended.converged[:k])
        return Minimum(ended.theta[best], ended.value[best], ended.converged[best]), first

    if len(blocks) == 1:
        done = [work(blocks[0])]
    else:
        with ThreadPoolExecutor(_threads()) as pool:
            done = list(track(pool.map(work, blocks), "fits, in batches", len(blocks)))
    return Found(
        np.concatenate([best.theta for best, _ in done]),
        np.concatenate([best.value for best, _ in done]),
        np.concatenate([best.converged for best, _ in done]),
        done[0][1],
    )


def hop(problem: Problem, best: Found, seed: int = 0) -> Found:
    """Jump about the best point and polish again, keeping what is better: kinks of narrow losses make dents.

    For the table as it is, no resample of it. Jumps are normal in the internal parameters, of shrinking size, and a
    third of them start from the floor of the box in its first coordinate (no irreducible loss).
    """
    rng = np.random.default_rng(seed)
    model = problem.model
    weight = problem.extended(np.repeat(problem.observations.weight[None], HOP_COPIES, axis=0))
    theta, value, converged = best.theta, best.value, best.converged
    for size in HOPS:
        copies = theta + size * rng.standard_normal((HOP_COPIES, theta.shape[1])) * (0.2 + np.abs(theta))
        copies[::3, 0] = model.lower[0]
        ended = descend(problem, copies, weight)
        first = int(np.argmin(ended.value))
        if ended.value[first] < value[0]:
            pick = slice(first, first + 1)
            theta, value, converged = ended.theta[pick], ended.value[pick], ended.converged[pick]
    return Found(theta, value, converged, best.basins)


def descend(
    problem: Problem,
    theta: Float[Array, "S p"],
    weight: Float[Array, "S w"],
    *,
    width: float | None = None,
    steps: int = 60,
    tolerance: float = 1e-13,
) -> Minimum:
    """Descend from `theta` on the problem's objective, or on one of another `width`; weights are `extended`."""
    objective = problem.objective
    return minimise(
        problem.penalised,
        theta,
        weight,
        problem.target,
        scale=objective.scale,
        width=objective.width if width is None else width,
        steps=steps,
        tolerance=tolerance,
    )


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _block(n: int, starts: int) -> int:
    return max(1, BLOCK // (n * max(1, starts // 2)))


def _polish(problem: Problem, theta: Float[Array, "S p"], weight: Float[Array, "S w"]) -> Minimum:
    """Descend on Huber losses of shrinking width: wide ones carry a start over the kinks of narrow ones."""
    unit = 1.0 if problem.objective.scale == "log" else float(np.median(problem.target))
    width = 0.03 * unit
    while True:
        last = width <= 1.5 * problem.objective.width
        # Narrow losses have their minima at kinks: a rough answer at one width is a bad start at the next.
        fine = width < FINE * unit
        steps, tolerance = (60, 1e-13) if last else (60, 1e-11) if fine else (6, 1e-4)
        at = problem.objective.width if last else width
        ended = descend(problem, theta, weight, width=at, steps=steps, tolerance=tolerance)
        if last:
            return ended
        theta = ended.theta
        width /= 3.0 if fine else 5.0


class _Normal:
    """Normal equations of the linear coefficients at every grid point, as products over rows.

    At a grid point the law is f = B c, with B [n, m] the floor and the terms at coefficient one, and c >= 0.
    Its weighted least squares, sum of w (B c - y)^2 / 2, is least where (B'WB) c = B'Wy, and then y'Wy / 2 -
    c'B'Wy / 2. Every entry of B'WB, B'Wy and y'Wy is linear in the row weights w, so with the products of columns
    laid out once as a table [n, products x G] a single matrix product, weights [R, n] x table, gives all R x G
    systems.

    Two things make the least squares those of the objective. On the log scale log f - log y = f/y - 1 to first
    order, so that basis and y are divided by y. A robust loss is iterated to its least-squares weights psi(r)/r
    on the whole table at each grid point (iteratively re-weighted least squares, Holland and Welsch 1977); the
    parabola of those weights lies above the loss and touches it there, so that its minimum bounds the objective
    at that point from above (majorisation, Hunter and Lange 2004, The American Statistician 58, 30).
    """

    def __init__(
        self, model: Gridded, rows: Int[np.ndarray, " n"], loss: Float[Array, " n"], objective: Objective
    ) -> None:
        self.model = model
        self.grid = grid = model.grid(rows)
        self.width = objective.width
        basis, y = grid.basis, loss
        if objective.scale == "log":
            basis, y = basis / y, np.ones_like(y)
        self.m = m = basis.shape[1]
        pairs = [(i, j) for i in range(m) for j in range(i, m)]
        products = np.stack([basis[:, i] * basis[:, j] for i, j in pairs], axis=1)
        robust = np.ones((len(basis), len(y)))
        robust_width = objective.width
        for _ in range(1 if objective.loss == "l2" else 8):
            moments = np.einsum("gkn,gn->kg", products, robust)[:, :, None]
            right = np.einsum("gmn,gn->mg", basis, robust * y)[:, :, None]
            coefficients, _gain = _coefficients(grid, moments, right, m, None)
            residual = np.einsum("gm,gmn->gn", coefficients[:, 0], basis) - y
            if objective.loss != "l2":
                # Below a tenth of the typical residual a narrower width only slows the re-weighting down.
                typical = np.median(np.abs(residual), axis=1, keepdims=True)
                robust_width = np.maximum(objective.width, 0.1 * typical)
                robust = huber_weight(residual, robust_width)
        # Points have different weights; what they share as a yardstick is the bound by a parabola,
        # rho(r) <= rho(r0) + slope(r0) / (2 r0) (r^2 - r0^2), of losses that are all about width x |r|.
        ratio = objective.width / robust_width if objective.loss != "l2" else 1.0
        robust = robust * ratio
        constant = huber(residual, robust_width) * ratio - 0.5 * robust * residual**2
        columns = [*(products * robust[:, None]).transpose(1, 0, 2)]
        columns += [*(basis * (robust * y)[:, None]).transpose(1, 0, 2)]
        columns.append(constant + 0.5 * robust * y * y)
        self.table = np.ascontiguousarray(np.concatenate(columns).T)  # [n, (pairs + m + 1) G]

    def starts(self, problem: Problem, weight: Float[Array, "R w"], count: int) -> Float[Array, "R k p"]:
        """Find the best point of each of the `count` best cells of the grid, for every weighting (`extended`)."""
        R = len(weight)
        coefficients, value = self.solved(weight, dict(problem.held).get(0), problem.priors)
        cells = _cells(self.grid.eta)
        chosen = np.empty((cells.max() + 1, R), dtype=np.int64)
        best = np.empty((cells.max() + 1, R))
        for cell in range(cells.max() + 1):
            members = np.flatnonzero(cells == cell)
            which = np.argmin(value[members], axis=0)
            chosen[cell] = members[which]
            best[cell] = value[members[which], np.arange(R)]
        order = np.argsort(best, axis=0)[:count]
        points = np.take_along_axis(chosen, order, axis=0).T  # [R, count]
        replicate = np.arange(R)[:, None]
        chosen_coefficients = coefficients[points, replicate].reshape(-1, self.m)
        flat = self.model.assemble(self.grid.eta[points.ravel()], chosen_coefficients)
        return flat.reshape(R, points.shape[1], -1)

    def solved(
        self, weight: Float[Array, "R w"], floor: float | None, priors: Sequence[Prior] = ()
    ) -> tuple[Float[Array, "G R m"], Float[Array, "G R"]]:
        """Solve for the coefficients and the objective at every grid point, under every weighting.

        The first coefficient is the floor: free, or held at `floor`. A prior's penalty is quadratic in it, or in
        a parameter that the grid is over (the outer power, its last).
        """
        R, G, m = len(weight), len(self.grid.eta), self.m
        n = weight.shape[1] - len(priors)
        # [quantities, G, R]: the upper triangle of B'WB, then B'Wy, then the constant.
        moments = (weight[:, :n] @ self.table).reshape(R, -1, G).transpose(1, 2, 0)
        k = m * (m + 1) // 2
        right, constant = moments[k : k + m], moments[-1]
        for prior, centre in zip(priors, weight[:, n:].T, strict=True):
            precision = prior.precision(self.width)
            if prior.slot == 0:
                moments[0] += precision
                right[0] += precision * centre
                constant += 0.5 * precision * centre**2
            else:
                constant += 0.5 * precision * (self.grid.eta[:, -1:] - centre) ** 2
        coefficients, gain = _coefficients(self.grid, moments[:k], right, m, floor)
        return coefficients, constant - 0.5 * gain


class _SharedNormal:
    """Starts of laws that share a floor: given it, each group's coefficients and grid point are its own.

    So at each of FLOORS every group takes its best grid point, and the floors are ranked by the groups' sum.
    """

    def __init__(
        self, model: SharedModel, rows: Int[np.ndarray, " n"], loss: Float[Array, " n"], objective: Objective
    ) -> None:
        self.model = model
        self.floors = FLOORS * float(loss.min())
        self.inside = [np.flatnonzero(np.isin(rows, own)) for own in model.rows]
        self.normals = [
            _Normal(part, np.searchsorted(own, rows[inside]), loss[inside], objective)
            for part, own, inside in zip(model.parts, model.rows, self.inside, strict=True)
        ]

    def starts(self, problem: Problem, weight: Float[Array, "R w"], count: int) -> Float[Array, "R k p"]:
        """Join the groups' best points at each of the `count` best floors, for every weighting."""
        R = len(weight)
        replicate = np.arange(R)
        theta = np.empty((len(self.floors), R, self.model.size))
        value = np.zeros((len(self.floors), R))
        for i, floor in enumerate(self.floors):
            for part, slots, inside, normal in zip(
                self.model.parts, self.model.slots, self.inside, self.normals, strict=True
            ):
                coefficients, at = normal.solved(weight[:, inside], floor)
                best = np.argmin(at, axis=0)
                value[i] += at[best, replicate]
                theta[i][:, slots] = part.assemble(normal.grid.eta[best], coefficients[best, replicate])
        order = np.argsort(value, axis=0)[:count]
        return np.asarray(theta[order, replicate].transpose(1, 0, 2))


# The normal equations of a problem serve all its searches, and go when it goes.
_NORMAL: WeakKeyDictionary[Problem, _Normal | _SharedNormal] = WeakKeyDictionary()


def _cells(eta: Float[Array, "G q"]) -> Int[np.ndarray, " G"]:
    """Number the coarse cell that each grid point lies in: up to three along each axis."""
    label = np.zeros(len(eta), dtype=np.int64)
    for axis in eta.T:
        rank = np.searchsorted(np.unique(axis), axis)
        label = label * 3 + (3 * rank) // (rank.max() + 1)
    return np.unique(label, return_inverse=True)[1]


def _coefficients(
    grid: Grid,
    moments: Float[Array, "pairs G R"],
    right: Float[Array, "m G R"],
    m: int,
    floor: float | None,
) -> tuple[Float[Array, "G R m"], Float[Array, "G R"]]:
    """Solve for the non-negative coefficients c, and for 2 b'c - c'(B'WB)c, at every grid point.

    The first may be held at `floor`: the others are then those of what it leaves of the losses.
    """
    if grid.fixed:
        return np.ones((*right.shape[1:], 1)), 2.0 * right[0] - moments[0]
    if floor is not None:
        others, gain = _non_negative(moments[m:], right[1:] - floor * moments[1:m], m - 1)
        first = np.full((*right.shape[1:], 1), floor)
        return np.concatenate([first, others], axis=-1), gain + floor * (2.0 * right[0] - floor * moments[0])
    return _non_negative(moments, right, m)


def _non_negative(
    moments: Float[Array, "pairs G R"], right: Float[Array, "m G R"], m: int
) -> tuple[Float[Array, "G R m"], Float[Array, "G R"]]:
    """Solve non-negative least squares of up to three coefficients by trying every active set.

    `moments` is the upper triangle by rows, m (m + 1) / 2 of them. Besides the coefficients: the decrease of the
    objective, doubled, which is b'c at the least squares of a set.
    """
    index = {pair: i for i, pair in enumerate((i, j) for i in range(m) for j in range(i, m))}
    shape = right.shape[1:]
    best = np.zeros(shape)
    coefficients = np.zeros((*shape, m))
    for count in range(1, m + 1):
        for chosen in combinations(range(m), count):
            g = [[moments[index[min(i, j), max(i, j)]] for j in chosen] for i in chosen]
            b = [right[i] for i in chosen]
            solution = _cramer(g, b)
            ok = np.ones(shape, dtype=bool)
            gain = np.zeros(shape)
            # A singular system gives infinities of both signs; their sum is NaN, which is never chosen.
            with np.errstate(invalid="ignore"):
                for c, r in zip(solution, b, strict=True):
                    ok &= c >= 0
                    gain += c * r
            ok &= gain > best
            best = np.where(ok, gain, best)
            for slot in range(m):
                new = solution[chosen.index(slot)] if slot in chosen else 0.0
                coefficients[..., slot] = np.where(ok, new, coefficients[..., slot])
    return coefficients, best


def _cramer(g: list[list[Float[Array, "G R"]]], b: list[Float[Array, "G R"]]) -> list[Float[Array, "G R"]]:
    """Solve symmetric 1 x 1 to 3 x 3 systems elementwise; a singular one gives NaN, which is never chosen."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if len(b) == 1:
            return [b[0] / g[0][0]]
        if len(b) == 2:
            det = g[0][0] * g[1][1] - g[0][1] ** 2
            return [(b[0] * g[1][1] - b[1] * g[0][1]) / det, (b[1] * g[0][0] - b[0] * g[0][1]) / det]
        (p, q, r), (_, s, t), (_, _, u) = g
        c00, c01, c02 = s * u - t * t, r * t - q * u, q * t - r * s
        c11, c12, c22 = p * u - r * r, q * r - p * t, p * s - q * q
        det = p * c00 + q * c01 + r * c02
        return [
            (c00 * b[0] + c01 * b[1] + c02 * b[2]) / det,
            (c01 * b[0] + c11 * b[1] + c12 * b[2]) / det,
            (c02 * b[0] + c12 * b[1] + c22 * b[2]) / det,
        ]
