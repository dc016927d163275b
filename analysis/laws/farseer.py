"""Farseer (Li et al. 2025): a law that is no sum of powers.

Searched in centred parameters (`Private`), where amplitudes, slopes and curvatures do not trade off, and reported
in its paper's.
"""

from typing import Any

import numpy as np

from analysis.laws.law import Form, Parameter, Private, Values


def _bend(rate: Any, log_ratio: Any) -> Any:
    """Compute (ratio^rate - 1) / rate: the logarithm of the ratio, bent."""
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
