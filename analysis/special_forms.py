"""Laws that are no sum of powers: Farseer, data-constrained (repeated tokens) and broken power laws.

Each is searched in centred parameters (`Private`), where amplitudes, slopes and curvatures do not trade off,
and reported in its paper's.
"""

from typing import Any

import numpy as np

from analysis.law import Array, Form, Parameter, Private, Values

_E = Parameter("E", 0.0, np.inf, "irreducible loss, nats per token")


def _bend(rate: Any, log_ratio: Any) -> Any:
    """(ratio^rate - 1) / rate: the logarithm of the ratio, bent."""
    return np.expm1(rate * log_ratio) / rate


def _farseer(p: Any, x: Any) -> Any:
    data = np.exp(p.a1 * x.params**p.alpha + p.b1)
    return np.exp(p.a3 * x.params**p.gamma + p.b3) + np.exp(p.a2 * x.params**p.beta + p.b2) * x.tokens**-data


def _farseer_parts(p: Any, x: Any) -> tuple[Any, Any]:
    size = x.log_params - x.mean_log_params
    exponent = p.e * np.exp(p.s1 * _bend(p.alpha, size))
    # At the middle of the table D^-exponent falls by slope x mean log D as N grows: the amplitude's slope
    # is searched relative to that.
    slope = p.s2 + x.mean_log_tokens * p.e * p.s1
    floor = np.exp(p.s3 * _bend(p.gamma, size))
    data = np.exp(slope * _bend(p.beta, size) - exponent * x.log_tokens + p.e * x.mean_log_tokens)
    return floor, data


def _farseer_searched(p: Any, x: Any) -> Any:
    floor, data = _farseer_parts(p, x)
    return p.F * floor + p.G * data


def _farseer_public(v: Values, x: Any) -> Values:
    mean_n, mean_d = x.mean_log_params, x.mean_log_tokens
    s2 = v["s2"] + mean_d * v["e"] * v["s1"]
    found = {"alpha": v["alpha"], "beta": v["beta"], "gamma": v["gamma"]}
    for i, rate, slope, value in (
        ("1", v["alpha"], v["s1"], np.log(v["e"])),
        ("2", v["beta"], s2, np.log(v["G"]) + v["e"] * mean_d),
        ("3", v["gamma"], v["s3"], np.log(v["F"])),
    ):
        found[f"a{i}"] = slope / rate * np.exp(-rate * mean_n)
        found[f"b{i}"] = value - slope / rate
    return found


def _farseer_private(v: Values, x: Any) -> Values:
    mean_n, mean_d = x.mean_log_params, x.mean_log_tokens
    found = {"alpha": v["alpha"], "beta": v["beta"], "gamma": v["gamma"]}
    slope, value = {}, {}
    for i, name in (("1", "alpha"), ("2", "beta"), ("3", "gamma")):
        slope[i] = v[f"a{i}"] * v[name] * np.exp(v[name] * mean_n)
        value[i] = v[f"b{i}"] + slope[i] / v[name]
    e = np.exp(value["1"])
    return {
        **found,
        "e": e,
        "s1": slope["1"],
        "s2": slope["2"] - mean_d * e * slope["1"],
        "s3": slope["3"],
        "F": np.exp(value["3"]),
        "G": np.exp(value["2"] - e * mean_d),
    }


_RATE = (-1.5, 1.5)

FARSEER = Form(
    name="farseer",
    equation="exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1)",
    reference="Li et al. 2025, arXiv 2506.10972",
    parameters=(
        Parameter("a1", -np.inf, np.inf, "growth of the log data exponent with N^alpha"),
        Parameter("b1", -np.inf, np.inf, "its value where that vanishes"),
        Parameter("alpha", *_RATE, "power of N in the data exponent"),
        Parameter("a2", -np.inf, np.inf, "growth of the log data amplitude with N^beta"),
        Parameter("b2", -np.inf, np.inf, "its value where that vanishes"),
        Parameter("beta", *_RATE, "power of N in the data amplitude"),
        Parameter("a3", -np.inf, np.inf, "growth of the log floor with N^gamma"),
        Parameter("b3", -np.inf, np.inf, "its value where that vanishes"),
        Parameter("gamma", *_RATE, "power of N in the floor of endless data"),
    ),
    columns=("params", "tokens"),
    law=_farseer,
    searched=Private(
        parameters=(
            Parameter("F", 0.0, np.inf, "floor at the middle of the table", scale=True),
            Parameter("G", 0.0, np.inf, "data term at the middle of the table", scale=True),
            Parameter("e", 0.02, 2.0, "data exponent at the middle of the table", scale=True),
            Parameter("s1", -0.5, 0.5, "slope of its logarithm", typical=(-0.15, 0.05)),
            Parameter("s2", -1.0, 1.0, "slope of the log data term", typical=(-0.3, 0.3)),
            Parameter("s3", -1.0, 0.2, "slope of the log floor", typical=(-0.15, 0.0)),
            Parameter("alpha", *_RATE, "", typical=(-0.6, 0.6)),
            Parameter("beta", *_RATE, "", typical=(-0.6, 0.6)),
            Parameter("gamma", *_RATE, "", typical=(-0.6, 0.6)),
        ),
        law=_farseer_searched,
        public=_farseer_public,
        private=_farseer_private,
        linear=("F", "G"),
    ),
)


def _repeated(unique: Any, seen: Any, half: Any) -> Any:
    """What `seen` is worth when only `unique` of it is fresh: repeats decay at the rate `half`."""
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
    """The three terms with all parameters counted as useful: a start, not the law."""
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
        _E,
        Parameter("A", 0.0, np.inf, "size of the parameter term, nats", scale=True),
        Parameter("B", 0.0, np.inf, "size of the data term, nats", scale=True),
        Parameter("alpha", 0.05, 1.5, "exponent of parameters"),
        Parameter("beta", 0.05, 1.5, "exponent of tokens"),
        Parameter("R_D", *_REPEATS, "repeats after which a token is worth 1/e of a fresh one", scale=True),
        Parameter("R_N", *_REPEATS, "the same of parameters beyond the optimal size", scale=True),
    ),
    columns=("params", "tokens", "unique_tokens"),
    law=lambda p, x: _constrained_law(p, x, np.log(p.A), np.log(p.B), 0.0, 0.0),
    searched=Private(
        parameters=(
            _E,
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


# Limits of a broken law that are tried, as shares of the least loss.
LIMITS = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99])


def _ordered(values: Values, tags: list[str]) -> Values:
    """The breaks by their place: a law is the same in either order, its resamples' parameters are not."""
    order = np.argsort(np.stack([values[f"d{tag}"] for tag in tags]), axis=0)
    found = dict(values)
    for name in ("c", "d", "f"):
        each = np.take_along_axis(np.stack([values[f"{name}{tag}"] for tag in tags]), order, axis=0)
        found |= {f"{name}{tag}": column for tag, column in zip(tags, each, strict=True)}
    return found


def _broken_form(breaks: int) -> Form:
    """Caballero et al.'s smoothly broken power law with 1 or 2 breaks."""
    tags = [""] if breaks == 1 else [str(i + 1) for i in range(breaks)]

    def bends(p: Any, log_x: Any, log_d: Any) -> Any:
        total = 0.0
        for i, tag in enumerate(tags):
            f = getattr(p, f"f{tag}")
            # log (1 + (x/d)^(1/f)), which overflows for a sharp break when it is written so.
            total = total + getattr(p, f"c{tag}") * f * np.logaddexp((log_x - log_d[i]) / f, 0.0)
        return total

    def law(p: Any, x: Any) -> Any:
        log_d = [np.log(getattr(p, f"d{tag}")) for tag in tags]
        return p.a + p.b * np.exp(-p.c0 * np.log(x.x) - bends(p, np.log(x.x), log_d))

    def searched(p: Any, x: Any) -> Any:
        log_d = [np.log(getattr(p, f"d{tag}")) for tag in tags]
        return p.a + p.b * np.exp(-p.c0 * (x.log_x - x.mean_log_x) - bends(p, x.log_x, log_d))

    def solved(p: Any, x: Any, loss: Array) -> Values:
        """The exponents at given breaks: log (L - a) is linear in them, for each of some limits a."""
        share = np.resize(LIMITS, len(p.c0))[:, None]
        excess = loss - share * loss.min()
        log_x = x.log_x - x.mean_log_x
        columns = [np.ones_like(excess), np.broadcast_to(-log_x, excess.shape)]
        for tag in tags:
            d, f = np.log(getattr(p, f"d{tag}")), getattr(p, f"f{tag}")
            columns.append(-f * np.logaddexp((x.log_x - d) / f, 0.0))
        # An error of log L is one of log (L - a) times L / (L - a).
        weight = excess / loss
        design = np.stack(columns, axis=1) * weight[:, None]
        normal = design @ design.transpose(0, 2, 1)
        normal += 1e-9 * np.eye(len(columns)) * np.trace(normal, axis1=1, axis2=2)[:, None, None]
        right = np.einsum("gkn,gn->gk", design, np.log(excess) * weight)
        found = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
        return {"c0": found[:, 1], **{f"c{tag}": found[:, 2 + i] for i, tag in enumerate(tags)}}

    shared = [Parameter("c0", -1.0, 2.0, "exponent before the first break", typical=(-0.1, 0.5))]
    for tag in tags:
        shared += [
            Parameter(f"c{tag}", -20.0, 20.0, "change of the exponent at the break", typical=(-0.8, 1.2)),
            Parameter(f"d{tag}", 0.0, np.inf, "place of the break, units of x", scale=True, within="x"),
            Parameter(f"f{tag}", 0.01, 2.0, "width of the break, in ln x", scale=True, typical=(0.03, 0.6)),
        ]
    a = Parameter("a", 0.0, np.inf, "limit for large x")
    b = Parameter("b", 0.0, np.inf, "size of the power law", scale=True)
    return Form(
        name="broken" if breaks == 1 else f"broken{breaks}",
        equation="a + b x^-c0 prod (1 + (x/d)^(1/f))^(-c f), "
        + ("one break" if breaks == 1 else "two breaks"),
        reference="Caballero et al. 2023, arXiv 2210.14891, the broken law (BNSL)",
        parameters=(a, b, *shared),
        columns=("x",),
        law=law,
        searched=Private(
            parameters=(a, b, *shared),
            law=searched,
            public=lambda v, x: {**_ordered(v, tags), "b": v["b"] * np.exp(v["c0"] * x.mean_log_x)},
            private=lambda v, x: {**v, "b": v["b"] * np.exp(-v["c0"] * x.mean_log_x)},
            linear=("a", "b"),
            solved=solved,
        ),
    )


BROKEN = _broken_form(1)
BROKEN2 = _broken_form(2)
