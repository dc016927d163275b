"""Laws of the whole loss curve over all sizes: what a size and a swept rate leave, less what a falling rate gains.

Both are searched like every other law (`fitting.function_law`). Rates are shares of the peak, areas tokens at the
peak rate, so that a law speaks of rungs whose rates are tuned; it does not say what another peak would do.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.curves.schedule import STEPS, WEIGHTS
from analysis.laws.law import FLOOR, Form, Parameter, Private, Values

# (parameters, columns, M in tokens) -> the share of each step of a fall that has been answered, their mean.
Response = Callable[[Any, Any, Any], Any]


def _momentum(p: Any, x: Any, memory: Any) -> Any:
    """Answer each step of the fall as 1 - lambda^(steps since), lambda^(1 step) = exp(-batch / M): the annealing
    area S2 of Tissue et al. 2024 (arXiv 2408.11029), sum of m_i = lambda m_(i-1) + (rate_(i-1) - rate_i), times
    1 - lambda."""
    return sum(-np.expm1(-getattr(x, f"since_{j}") / memory) * WEIGHTS[j] for j in range(STEPS))


def _power(p: Any, x: Any, memory: Any) -> Any:
    """Answer each step of the fall as G(rate^-gamma x area since), G(u) = 1 - (c u + 1)^-b: Luo et al. 2025
    (arXiv 2503.12811), eq. 1."""
    terms = []
    for j in range(STEPS):
        u = getattr(x, f"swept_{j}") / memory * np.exp(-p.gamma * np.log(getattr(x, f"rate_{j}")))
        terms.append((1.0 - (1.0 + u) ** -p.b) * WEIGHTS[j])
    return sum(terms)


def _law(response: Response) -> Callable[[Any, Any], Any]:
    def law(p: Any, x: Any) -> Any:
        kept = (p.A * x.params**-p.alpha + p.B * x.area**-p.beta) ** p.k
        return p.E + kept - p.C * x.params**p.delta * x.fallen * response(p, x, p.M)

    return law


def _searched(response: Response) -> Callable[[Any, Any], Any]:
    def law(p: Any, x: Any) -> Any:
        size, area = x.log_params - x.mean_log_params, x.log_area - x.mean_log_area
        memory = p.m * np.exp(x.mean_log_area)
        kept = (np.exp(p.r - p.alpha * size) + np.exp(-p.r - p.beta * area)) ** p.k
        return p.E + p.R * kept - p.G * np.exp(p.delta * size) * x.fallen * response(p, x, memory)

    return law


def _public(v: Values, x: Any) -> Values:
    amplitude = np.log(v["R"]) / v["k"]
    with np.errstate(over="ignore"):
        return {
            **v,
            "A": np.exp(amplitude + v["r"] + v["alpha"] * x.mean_log_params),
            "B": np.exp(amplitude - v["r"] + v["beta"] * x.mean_log_area),
            "M": v["m"] * np.exp(x.mean_log_area),
            "C": v["G"] * np.exp(-v["delta"] * x.mean_log_params),
        }


def _private(v: Values, x: Any) -> Values:
    a = np.log(v["A"]) - v["alpha"] * x.mean_log_params
    b = np.log(v["B"]) - v["beta"] * x.mean_log_area
    return {
        **v,
        "r": 0.5 * (a - b),
        "m": v["M"] * np.exp(-x.mean_log_area),
        "R": np.exp(0.5 * v["k"] * (a + b)),
        "G": v["C"] * np.exp(v["delta"] * x.mean_log_params),
    }


_COLUMNS = (
    "params",
    "area",
    "fallen",
    *(f"{c}_{j}" for c in ("since", "swept", "rate") for j in range(STEPS)),
)
_ALPHA = Parameter("alpha", 0.02, 2.5, "exponent of N", typical=(0.2, 1.2))
_BETA = Parameter("beta", 0.02, 2.5, "exponent of the swept rate", typical=(0.2, 1.2))
_K = Parameter("k", 0.2, 1.5, "power of both terms together", typical=(0.4, 1.0))
_DELTA = Parameter("delta", -0.5, 1.0, "power of N in the gain of a fall", typical=(-0.1, 0.3))
_M = Parameter("M", 0.0, np.inf, "tokens over which a fall is answered", scale=True)
_OF_THE_POWER = (
    Parameter("gamma", 0.0, 3.0, "power of the rate in the answer", typical=(0.2, 1.5)),
    Parameter("b", 0.05, 5.0, "exponent of the answer", scale=True, typical=(0.3, 2.0)),
)
# Of the table's middle area.
_MEMORY = Parameter(
    "m", 1e-6, 1e2, "share of a run over which a fall is answered", scale=True, typical=(1e-4, 1.0)
)
_R = Parameter("R", 0.0, np.inf, "reducible loss at the middle", scale=True)
_G = Parameter("G", 0.0, np.inf, "gain of a whole fall at the middle", scale=True)
_RATIO = Parameter("r", -6.0, 6.0, "half the log ratio of the terms at the middle", typical=(-1.5, 1.5))


def _form(
    name: str, equation: str, reference: str, response: Response, others: tuple[Parameter, ...]
) -> Form:
    return Form(
        name=name,
        equation=f"E + (A N^-alpha + B S1^-beta)^k - C N^delta {equation}",
        reference=reference,
        parameters=(
            FLOOR,
            Parameter("A", 0.0, np.inf, "amplitude of the size term", scale=True),
            _ALPHA,
            Parameter("B", 0.0, np.inf, "amplitude of the swept rate's term", scale=True),
            _BETA,
            _K,
            Parameter("C", 0.0, np.inf, "gain of a fall", scale=True),
            _DELTA,
            _M,
            *others,
        ),
        columns=_COLUMNS,
        law=_law(response),
        searched=Private(
            parameters=(FLOOR, _R, _G, _RATIO, _ALPHA, _BETA, _K, _DELTA, _MEMORY, *others),
            law=_searched(response),
            public=_public,
            private=_private,
            linear=("E", "R", "G"),
            points=2048,
        ),
    )


CURVE_LAWS = (
    _form(
        "annealing",
        "sum over the fall of d rate x (1 - exp(-tokens since / M))",
        "Tissue et al. 2024, arXiv 2408.11029",
        _momentum,
        (),
    ),
    _form(
        "multi_power",
        "sum over the fall of d rate x (1 - (1 + rate^-gamma x area since / M)^-b)",
        "Luo et al. 2025, arXiv 2503.12811",
        _power,
        _OF_THE_POWER,
    ),
)
