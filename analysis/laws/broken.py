"""Broken power laws (Caballero et al. 2023), with one break and with two.

Searched in centred parameters (`Private`) and reported in the paper's.
"""

from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.laws.law import Form, Parameter, Private, Values

# Limits of a broken law that are tried, as shares of the least loss.
LIMITS = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99])


def _ordered(values: Values, tags: list[str]) -> Values:
    """Order the breaks by their place: a law is the same in either order, its resamples' parameters are not."""
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
        """Solve for the exponents at given breaks: log (L - a) is linear in them, for each of some limits a."""
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
