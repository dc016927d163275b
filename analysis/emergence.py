"""Classify tasks by their score over size: flat, saturated, smooth, emergent, inverse or u_shaped.

The definitions are in docs/emergence.md. Here the parts meet: the table, the posterior over shapes, the
bootstraps, the seeds, the other scores of the same outputs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from analysis.emergence_bootstrap import benjamini_hochberg, break_p_value, departure_p_value
from analysis.emergence_noise import SCATTER, Means, average_seeds, noise_variance
from analysis.emergence_posterior import (
    HYPOTHESES,
    Evidence,
    Posterior,
    Prior,
    best_curve,
    estimated_prior,
    evidence,
    posterior,
)
from analysis.emergence_seeds import classes_without_a_seed, seed_groups
from analysis.emergence_shapes import RISING, Floats, Library, library, scaled_log
from analysis.emergence_table import Curve, read_curves
from analysis.errors import UserError, Warn

# Settings frozen on simulated worlds (benchmarks/emergence.py), never on published scores.
DEPARTURE_LEVEL = 0.01
BREAK_LEVEL = 0.2
LEAST_PROBABILITY = 0.7
# Power of the likelihood among emergent shapes for the threshold alone: the true shape is none of them, and
# without it the 90% intervals of simulated thresholds held 62 to 95%.
TEMPER = 0.6


@dataclass(frozen=True)
class Verdict:
    """What is said of one task. Sizes in the table's unit, effect and level in the score's.

    `fitted` are the values of the most likely curve of the class at the sizes; `probability` the
    posterior of each class before the tests were asked.
    """

    curve: Curve
    label: str
    threshold: float | None
    threshold_interval: tuple[float, float] | None
    p_value: float
    p_break: float
    q_value: float
    effect: float
    metric_induced: bool | None
    bimodal: bool | None
    success_rate: list[dict[str, float]] | None
    warnings: tuple[Warn, ...]
    fitted: Floats = field(repr=False)
    scatter: float
    least_effect: float
    probability: dict[str, float] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The task's entry in DESIGN.md's contract."""
        names = ("threshold", "threshold_interval", "p_value", "p_break", "q_value", "effect")
        more = ("metric_induced", "bimodal", "success_rate")
        head = {"task": self.curve.task, "variant": self.curve.variant or None}
        head |= {"metric": self.curve.metric or None, "class": self.label}
        body = {name: getattr(self, name) for name in names + more}
        return head | body | {"warnings": [asdict(w) for w in self.warnings]}


@dataclass(frozen=True)
class Emergence:
    """Every task's verdict, and the false-discovery level that the emergent ones were held to."""

    tasks: tuple[Verdict, ...]
    fdr: float
    min_effect: float

    def to_json(self) -> dict[str, Any]:
        return {"tasks": [verdict.to_json() for verdict in self.tasks], "fdr": self.fdr}

    def summary(self) -> str:
        """A table for a person, sorted by class."""
        order = ("emergent", "smooth", "saturated", "flat", "inverse", "u_shaped")
        wide = max([len(v.curve.name) for v in self.tasks] + [4])
        lines = [f"{'task':{wide}}  class      effect  threshold (90%)              p       p_break  q"]
        for v in sorted(self.tasks, key=lambda v: order.index(v.label)):
            where = ""
            if v.threshold is not None and v.threshold_interval is not None:
                where = f"{v.threshold:.3g} ({v.threshold_interval[0]:.3g} to {v.threshold_interval[1]:.3g})"
            codes = " ".join(w.code for w in v.warnings)
            lines.append(
                f"{v.curve.name:{wide}}  {v.label:9}  {v.effect:+.3f}  {where:27}  {v.p_value:.2g}"
                f"{'':3}{v.p_break:8.2g}  {v.q_value:.2g}  {codes}".rstrip()
            )
        counts = {name: sum(v.label == name for v in self.tasks) for name in order}
        lines.append(", ".join(f"{count} {name}" for name, count in counts.items() if count))
        return "\n".join(lines)


def emergence(
    table: pd.DataFrame,
    min_effect: float = 0.05,
    fdr: float = 0.05,
    level: float = 0.9,
    draws: int = 8000,
    seed: int = 0,
) -> Emergence:
    """Classify every task of `table` (columns task, size, and correct, total or score, stderr; optional
    chance, ceiling, seed, variant, metric, loss).

    min_effect: the least change of score that matters. fdr: false-discovery level of the emergent calls.
    level: of the threshold's interval. draws: most bootstrap draws a test may take (1/(draws + 1) is the
    least p). Raises UserError, naming the row, for input that cannot be.
    """
    if not 0 < min_effect < 1:
        raise UserError(f"min_effect is {min_effect:g}; a change of score between 0 and 1 would be right")
    if not 0 < fdr < 1 or not 0 < level < 1:
        raise UserError(f"fdr is {fdr:g} and level {level:g}; both lie between 0 and 1")
    curves = read_curves(table)
    groups: dict[tuple[float, ...], list[int]] = {}
    for at, curve in enumerate(curves):
        groups.setdefault(tuple(curve.size), []).append(at)
    stacks = [_stack([curves[i] for i in members], min_effect) for members in groups.values()]
    prior = estimated_prior([stack.evidence for stack in stacks])
    drafts: dict[int, Draft] = {}
    for stack, members in zip(stacks, groups.values(), strict=True):
        judged = _judge(stack, prior, min_effect, level, draws, seed)
        drafts.update(zip(members, judged, strict=True))
    ordered = [drafts[i] for i in range(len(curves))]
    q_values = benjamini_hochberg(np.array([draft.p_value for draft in ordered]))
    verdicts = tuple(_decide(d, float(q), fdr, min_effect) for d, q in zip(ordered, q_values, strict=True))
    return Emergence(verdicts, fdr, min_effect)


@dataclass(frozen=True)
class Stack:
    """Tasks that share their sizes: scores, items and errors [S, T, K], the shapes, means and evidence."""

    curves: tuple[Curve, ...]
    score: Floats
    items: Floats
    stderr: Floats
    shapes: Library
    means: Means
    evidence: Evidence


@dataclass(frozen=True)
class Draft:
    """All that one task says by itself, before the other tasks and the other scores are heard."""

    curve: Curve
    shapes: Library
    post: Posterior
    at: int
    means: Means
    p_value: float
    p_break: float
    threshold: tuple[float, float, float] | None
    least_effect: float
    without_a_seed: Floats | None  # [seeds, hypotheses]


def _stack(curves: Sequence[Curve], min_effect: float) -> Stack:
    """The scores of tasks that share their sizes as arrays, and their evidence."""
    seeds = max(len(curve.seeds) for curve in curves)

    def stacked(name: str) -> Floats:
        out = np.full((seeds, len(curves), len(curves[0].size)), np.nan)
        for t, curve in enumerate(curves):
            out[: len(curve.seeds), t] = getattr(curve, name)
        return out

    score, items, stderr = stacked("score"), stacked("items"), stacked("stderr")
    shapes = library(scaled_log(curves[0].size))
    means = average_seeds(score, items, stderr)
    return Stack(tuple(curves), score, items, stderr, shapes, means, evidence(means, shapes, min_effect))


def _judge(stack: Stack, prior: Prior, min_effect: float, level: float, draws: int, seed: int) -> list[Draft]:
    """Drafts of tasks that share their sizes, all at once."""
    curves, shapes, means = stack.curves, stack.shapes, stack.means
    post = posterior(stack.evidence, prior)
    scores = (stack.score, stack.items, stack.stderr)
    without = classes_without_a_seed(*scores, shapes, min_effect, prior)

    def draft(t: int) -> Draft:
        rng = np.random.default_rng([seed, crc32(curves[t].name.encode())])
        p_break = break_p_value(means, shapes, post, t, rng, draws)
        # Where no break is seen the first test decides nothing: its resolution can be less.
        p_value = departure_p_value(means, shapes, post, t, rng, draws if p_break < 0.2 else draws // 8)
        least = _least_effect(means, shapes, post, t)
        mine = None if without is None else without[:, t][np.isfinite(without[:, t, 0])]
        where = _threshold(post, shapes, t, curves[t].size, level)
        return Draft(curves[t], shapes, post, t, means, p_value, p_break, where, least, mine)

    # numpy lets go of the interpreter in its loops: two threads use two cores.
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(draft, range(len(curves))))


def _threshold(
    post: Posterior, shapes: Library, task: int, size: Floats, level: float
) -> tuple[float, float, float] | None:
    """Median and interval of the threshold over the emergent shapes, as sizes."""
    kind = shapes.kind[np.isin(shapes.kind, RISING)]
    emergent = np.flatnonzero(kind == "emergent")
    if not len(emergent):
        return None
    joint = post.log_joint[task][:, emergent]
    mass = np.exp(TEMPER * (joint - joint.max())).sum(0)
    stretch = shapes.threshold[shapes.of("emergent")]
    grid = np.linspace(0, 1.2, 2401)
    inside = (grid[:, None] - stretch[:, 0]) / (stretch[:, 1] - stretch[:, 0])
    cumulative = inside.clip(0, 1) @ (mass / mass.sum())
    low, middle, high = np.interp([(1 - level) / 2, 0.5, (1 + level) / 2], cumulative, grid)
    log = np.log(size)
    low, middle, high = (np.exp(log[0] + (log[-1] - log[0]) * min(x, 1.0)) for x in (low, middle, high))
    return float(low), float(middle), float(high)


def _least_effect(means: Means, shapes: Library, post: Posterior, task: int) -> float:
    """The jump at the last size alone that would be seen (p at DEPARTURE_LEVEL) four times in five."""
    scatter = float((post.scatter[task] * SCATTER**2).sum())
    variance = noise_variance(means, means.score)[task] + scatter
    rest = 1 / (1 / variance[:-1]).sum()
    # One-sided normal quantiles 2.33 and 0.84, and some for having searched the breaks.
    return float((2.33 + 0.84 + 0.5) * np.sqrt(variance[-1] + rest))


def _decide(draft: Draft, q_value: float, fdr: float, min_effect: float) -> Verdict:
    """The class, from the posterior, the tests and the seeds; the caveats that go with it."""
    curve, post, t = draft.curve, draft.post, draft.at
    warnings: list[Warn] = []
    probability = post.probability[t].copy()
    names = np.array(HYPOTHESES)
    found = int(probability.argmax())
    if draft.without_a_seed is not None and len(draft.without_a_seed) > 1:
        worst = draft.without_a_seed[draft.without_a_seed[:, found].argmin()]
        if worst[found] < 0.1:
            was, found = found, int(worst.argmax())
            probability = worst.copy()
            warnings.append(
                Warn("one_seed", f"with one seed left out it is {names[found]}, with all {names[was]}")
            )
    refused = draft.p_value > DEPARTURE_LEVEL or q_value > fdr or draft.p_break > BREAK_LEVEL
    refused |= probability[found] < LEAST_PROBABILITY
    if names[found] == "emergent" and refused:
        warnings.append(
            Warn(
                "not_significant",
                f"a jump is the likeliest shape (probability {probability[found]:.2f}), but p "
                f"{draft.p_value:.2g} (q {q_value:.2g}) of a departure and p {draft.p_break:.2g} of a break "
                "do not carry it",
            )
        )
        others = probability.copy()
        others[found] = -1
        found = int(others.argmax())
    label = str(names[found])
    scored = draft.means.score[t]
    if label == "hill":
        label = "inverse" if scored[-1] < scored[0] else "smooth"
        warnings.append(Warn("non_monotone", "the score rises and then falls: no class is meant for it"))
    if label == "flat" and post.level[t] >= curve.ceiling - min_effect:
        label = "saturated"
    if len(curve.size) < 4:
        warnings.append(
            Warn("few_sizes", f"{len(curve.size)} sizes: a plateau of three and a departure need four")
        )
    if curve.scale != 1:
        warnings.append(Warn("unbounded_score", "not a score in 0..1: effects are shares of its range"))
    if label in ("flat", "smooth") and draft.least_effect > 3 * min_effect:
        warnings.append(
            Warn("underpowered", f"a jump at the last size below {draft.least_effect:.2f} would not be seen")
        )
    fitted = _fitted(draft, str(names[found]))
    change = fitted - fitted[0]
    effect = float(change[-1])
    if label == "u_shaped":
        effect = float(min(-change.min(), change[-1] - change.min()))
    groups = seed_groups(curve, fitted, draft.means.extra[t], min_effect)
    threshold = draft.threshold if label == "emergent" else None
    return Verdict(
        curve=curve,
        label=label,
        threshold=threshold[1] if threshold else None,
        threshold_interval=(threshold[0], threshold[2]) if threshold else None,
        p_value=draft.p_value,
        p_break=draft.p_break,
        q_value=q_value,
        effect=effect * curve.scale,
        metric_induced=None,
        bimodal=groups.bimodal,
        success_rate=groups.success_rate,
        warnings=tuple(warnings),
        fitted=curve.shift + curve.scale * fitted,
        scatter=float((post.scatter[t] * SCATTER).sum()),
        least_effect=draft.least_effect,
        probability={str(n): float(p) for n, p in zip(names, post.probability[t], strict=True)},
    )


def _fitted(draft: Draft, hypothesis: str) -> Floats:
    """The likeliest curve of a hypothesis at the sizes, in the curve's own scale."""
    return best_curve(draft.means, draft.shapes, draft.post, draft.at, hypothesis)
