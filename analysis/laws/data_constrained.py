"""The data-constrained law (Muennighoff et al. 2023): tokens that are repeated are worth less.

Searched in centred parameters (`Private`) and reported in its paper's.
"""

from typing import Any

import numpy as np

from analysis.laws.law import FLOOR, Form, Parameter, Private


def _repeated(unique: Any, seen: Any, half: Any) -> Any:
    """Value `seen` when only `unique` of it is fresh: repeats decay at the rate `half`."""
    return unique * (1.0 + half * (1.0 - np.exp(-(seen / unique - 1.0) / half)))


def _constrained_law(p: Any, x: Any, log_a: Any, log_b: Any, mean_n: Any, mean_d: Any) -> Any:
    """E + A / N'^alpha + B / D'^beta with A = exp(log_a) mean_n^alpha and B likewise."""
    unique = np.minimum(x.unique_tokens, x.tokens)
    data = _repeated(unique, x.tokens, p.R_D)
    # N_opt(U_D): the parameters at which the two terms fall equally fast for U_D tokens (Hoffmann et al. 2022,
    # approach 3).
    best = np.exp(
        mean_n + (np.log(p.alpha / p.beta) + log_a - log_b + p.beta * (np.log(unique) - mean_d)) / p.alpha
    )
    used = np.minimum(best, x.params)
    params = _repeated(used, x.params, p.R_N)
    return (
        p.E
        + np.exp(log_a - p.alpha * (np.log(params) - mean_n))
        + np.exp(log_b - p.beta * (np.log(data) - mean_d))
    )


def _constrained_basis(p: Any, x: Any) -> list[Any]:
    """Compute the three terms with all parameters counted as useful: a start, not the law."""
    data = _repeated(np.minimum(x.unique_tokens, x.tokens), x.tokens, p.R_D)
    return [
        1.0 + 0.0 * p.alpha * x.params,
        np.exp(-p.alpha * (x.log_params - x.mean_log_params)),
        np.exp(-p.beta * (np.log(data) - x.mean_log_tokens)),
    ]


_REPEATS = (0.1, 1000.0)
DATA_CONSTRAINED = Form(
    name="data_constrained",
    equation="E + A / N'^alpha + B / D'^beta, D' = U + U R_D (1 - exp(-(D/U - 1) / R_D)), N' likewise",
    reference="Muennighoff et al. 2023, arXiv 2305.16264, U_N the optimal size for U tokens",
    parameters=(
        FLOOR,
        Parameter("A", 0.0, np.inf, "size of the parameter term", scale=True),
        Parameter("B", 0.0, np.inf, "size of the data term", scale=True),
        Parameter("alpha", 0.05, 1.5, "exponent of parameters"),
        Parameter("beta", 0.05, 1.5, "exponent of tokens"),
        Parameter("R_D", *_REPEATS, "repeats after which a token is worth 1/e of a fresh one", scale=True),
        Parameter("R_N", *_REPEATS, "the same of parameters beyond the optimal size", scale=True),
    ),
    columns=("params", "tokens", "unique_tokens"),
    law=lambda p, x: _constrained_law(p, x, np.log(p.A), np.log(p.B), 0.0, 0.0),
    searched=Private(
        parameters=(
            FLOOR,
            Parameter("a", 0.0, np.inf, "parameter term at the middle of the table", scale=True),
            Parameter("b", 0.0, np.inf, "data term at the middle of the table", scale=True),
            Parameter("alpha", 0.05, 1.5, "", scale=True),
            Parameter("beta", 0.05, 1.5, "", scale=True),
            Parameter("R_D", *_REPEATS, "", scale=True),
            Parameter("R_N", *_REPEATS, "", scale=True),
        ),
        law=lambda p, x: _constrained_law(
            p, x, np.log(p.a), np.log(p.b), x.mean_log_params, x.mean_log_tokens
        ),
        public=lambda v, x: {
            **v,
            "A": v["a"] * np.exp(v["alpha"] * x.mean_log_params),
            "B": v["b"] * np.exp(v["beta"] * x.mean_log_tokens),
        },
        private=lambda v, x: {
            **v,
            "a": v["A"] * np.exp(-v["alpha"] * x.mean_log_params),
            "b": v["B"] * np.exp(-v["beta"] * x.mean_log_tokens),
        },
        linear=("E", "a", "b"),
        basis=_constrained_basis,
    ),
)
