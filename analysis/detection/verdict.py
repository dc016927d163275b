"""From what one task says by itself to its class and its caveats; the results and how they read.

The numbers are made in posterior, bootstrap, seeds and metrics.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.detection.bootstrap import BREAK_LEVEL
from analysis.detection.curves import Curve
from analysis.detection.metrics import Other, published
from analysis.detection.posterior import (
    EMERGENT,
    FLAT,
    HYPOTHESES,
    LEAST_PROBABILITY,
    U_SHAPED,
    TaskFit,
    Threshold,
    best_curve,
)
from analysis.detection.seeds import APART, EachSeed, SeedClass, WithoutSeed, seed_groups
from analysis.detection.shortcut import about_shortcut, beats_shortcut_from
from analysis.errors import Code, Warn

# Settings frozen on simulated worlds (benchmarks/emergence.py), never on published scores.
DEPARTURE_LEVEL = 0.03
# Fall and rise are both to be beyond noise: the likeliest of many hypotheses is not enough.
LEAST_PROBABILITY_U = 0.5
# Warnings that are said in words wherever the classes are.
IN_WORDS = (Code.ONE_SEED, Code.SEEDS_DIFFER, Code.SHORTCUT)
# A class that one seed less would make this unlikely hangs on that seed.
WITHOUT_A_SEED = 0.1
ORDER = ("emergent", "smooth", "saturated", "flat", "inverse", "u_shaped")


@dataclass(frozen=True)
class Verdict:
    """The answer on one task. Sizes in the table's unit, effect and level in the score's.

    `jump` is the threshold with its interval where the class is emergent; `fitted` are the values of the likeliest
    curve of the class at the sizes; `probability` is the posterior of each class before the tests were asked;
    `seeds` what each seed is by itself; `beats_shortcut_from` the size from which the score counts.
    """

    curve: Curve
    label: str
    jump: Threshold | None
    p_value: float
    p_break: float
    q_value: float
    effect: float
    metric_induced: bool | None
    bimodal: bool | None
    success_rate: list[dict[str, float]] | None
    warnings: tuple[Warn, ...]
    fitted: Array = field(repr=False)
    scatter: float
    least_effect: float
    beats_shortcut_from: float | None
    seeds: tuple[SeedClass, ...]
    probability: dict[str, float] = field(repr=False)

    @property
    def threshold(self) -> float | None:
        """The size at which an emergent score jumps."""
        return None if self.jump is None else self.jump.middle

    @property
    def threshold_interval(self) -> tuple[float, float] | None:
        """The sizes between which the threshold lies."""
        return None if self.jump is None else (self.jump.low, self.jump.high)

    @property
    def counts(self) -> bool:
        """True where the score tells of the ability: false for a gain or a height that a shortcut has as well."""
        return self.beats_shortcut_from is not None or all(w.code != Code.SHORTCUT for w in self.warnings)

    def to_json(self) -> dict[str, Any]:
        """Return the task's entry of the answer; its keys are stable."""
        names = ("threshold", "threshold_interval", "p_value", "p_break", "q_value", "effect")
        more = ("metric_induced", "bimodal", "success_rate")
        head = {"task": self.curve.task, "variant": self.curve.variant or None}
        head |= {"metric": self.curve.metric or None, "class": self.label}
        body = {name: getattr(self, name) for name in names + more}
        seeds = [seed.to_json() for seed in self.seeds] or None
        shortcut = self.curve.shortcut if np.isfinite(self.curve.shortcut) else None
        beside = {"shortcut": shortcut, "beats_shortcut_from": self.beats_shortcut_from}
        return head | body | {"warnings": [asdict(w) for w in self.warnings], "seeds": seeds} | beside

    def measures(self) -> dict[str, Any]:
        """Return BIG-bench's two measures of the mean score over seeds."""
        score = np.nanmean(self.curve.score, axis=0)
        head = {"task": self.curve.task, "variant": self.curve.variant or None}
        return head | {"metric": self.curve.metric or None} | asdict(published(score))


@dataclass(frozen=True)
class Draft:
    """All that one task says by itself, before the other tasks and the other scores are heard."""

    fit: TaskFit
    p_value: float
    p_break: float
    threshold: Threshold | None
    least_effect: float
    without_a_seed: tuple[WithoutSeed, ...] = ()
    each_seed: EachSeed | None = None
    others: tuple[Other, ...] = ()
    early: float = 0.0  # share of the curve's own gain that is had below the threshold


def decide(draft: Draft, q_value: float, fdr: float, min_effect: float) -> Verdict:
    """Decide on the class, from the posterior, the tests and the seeds; the caveats that go with it."""
    fit, curve, score = draft.fit, draft.fit.curve, draft.fit.means.score
    found, warnings = _hypothesis(draft, q_value, fdr)
    label = found
    if found == "hill":
        label = "inverse" if score[-1] < score[0] else "smooth"
        warnings.append(Warn(Code.NON_MONOTONE, Code.NON_MONOTONE.sentence))
    if found == "flat" and fit.posterior.level >= curve.ceiling - min_effect:
        label = "saturated"
    if len(curve.size) < 4:
        few = f"{len(curve.size)} sizes: a plateau of three and a departure need four"
        warnings.append(Warn(Code.FEW_SIZES, few))
    if not curve.bounded:
        warnings.append(Warn(Code.UNBOUNDED_SCORE, "not a score in 0..1: effects are shares of its range"))
    if label in ("flat", "smooth") and draft.least_effect > 3 * min_effect:
        unseen = f"a jump at the last size of less than {draft.least_effect:.2f} would be missed"
        warnings.append(Warn(Code.UNDERPOWERED, unseen))
    fitted = best_curve(fit, found)
    change = fitted - fitted[0]
    effect = float(min(-change.min(), change[-1] - change.min()) if label == "u_shaped" else change[-1])
    groups = seed_groups(fit, fitted, min_effect)
    induced, metric_warnings = _metric_induced(draft, label)
    beaten_from = beats_shortcut_from(curve, fit.scatter, min_effect)
    warnings += about_shortcut(curve, label, fitted, beaten_from)
    return Verdict(
        curve=curve,
        label=label,
        jump=draft.threshold if label == "emergent" else None,
        p_value=draft.p_value,
        p_break=draft.p_break,
        q_value=q_value,
        effect=effect * curve.scale + 0.0,
        metric_induced=induced,
        bimodal=groups.bimodal,
        success_rate=groups.success_rate,
        warnings=(*warnings, *metric_warnings),
        fitted=curve.shift + curve.scale * fitted,
        scatter=fit.scatter,
        least_effect=draft.least_effect,
        beats_shortcut_from=beaten_from,
        seeds=draft.each_seed.seeds if draft.each_seed else (),
        probability=dict(zip(HYPOTHESES, map(float, fit.posterior.probability), strict=True)),
    )


def _hypothesis(draft: Draft, q_value: float, fdr: float) -> tuple[str, list[Warn]]:
    """Return the likeliest hypothesis that neither hangs on one seed nor is claimed against the tests."""
    departs = draft.p_value <= DEPARTURE_LEVEL and q_value <= fdr
    if draft.each_seed is not None and draft.each_seed.all_jump and departs:
        said = f"each of {len(draft.each_seed.seeds)} seeds jumps by itself, at a size of its own"
        said += f" ({_by_seed(draft.each_seed)}); their mean is a slope"
        return "emergent", [Warn(Code.SEEDS_DIFFER, said)]
    warnings: list[Warn] = []
    probability = draft.fit.posterior.probability.copy()
    found = int(probability.argmax())
    whole = [left for left in draft.without_a_seed if not left.lone]
    if len(whole) > 1:
        worst = min(whole, key=lambda left: left.probability[found]).probability
        if worst[found] < WITHOUT_A_SEED:
            without = int(worst.argmax())
            said = f"with one seed left out it is {HYPOTHESES[without]}, with all of them {HYPOTHESES[found]}"
            warnings.append(Warn(Code.ONE_SEED, said))
            # A flat curve claims nothing: one seed's rise does not make it another class.
            if found != FLAT:
                found, probability = without, worst.copy()
    if found == EMERGENT and not (
        departs and draft.p_break <= BREAK_LEVEL and probability[found] >= LEAST_PROBABILITY
    ):
        said = (
            f"a jump is the likeliest shape (probability {probability[found]:.2f}), but p "
            f"{draft.p_value:.2g} (q {q_value:.2g}) of a departure and p {draft.p_break:.2g} of a break "
            "do not carry it"
        )
        warnings.append(Warn(Code.NOT_SIGNIFICANT, said))
        probability[found] = -1
        found = int(probability.argmax())
    if found == U_SHAPED and probability[found] < LEAST_PROBABILITY_U:
        probability[[EMERGENT, U_SHAPED]] = -1
        found = int(probability.argmax())
    return HYPOTHESES[found], [*warnings, *_about_seeds(draft, found)]


def _about_seeds(draft: Draft, found: int) -> list[Warn]:
    """Warn of what the seeds say against a class that the mean of all of them was given."""
    name, seeds = HYPOTHESES[found], draft.each_seed
    if draft.fit.curve.most_seeds == 1 and name == "emergent":
        return [Warn(Code.ONE_SEED, "one run a size: whether another seed would jump there cannot be seen")]
    warnings = []
    for left in draft.without_a_seed:
        without = HYPOTHESES[int(left.probability.argmax())]
        # On fewer sizes a slope may be another slope; a jump, a return or the whole gain may not be gone.
        claimed = name in ("emergent", "u_shaped") or (name != "flat" and without == "flat")
        if left.lone and claimed and left.probability[found] < WITHOUT_A_SEED:
            sizes = ", ".join(f"{size:.3g}" for size in left.lone)
            said = (
                f"only seed {left.seed} was run at {sizes}: without it, it is {without} over the other sizes"
            )
            warnings.append(Warn(Code.ONE_SEED, said))
            break
    several = seeds is not None and len(seeds.jumping) > 1 and seeds.apart >= APART
    if several and seeds is not None and name in ("smooth", "saturated"):
        said = f"{len(seeds.jumping)} of {len(seeds.seeds)} seeds jump by themselves ({_by_seed(seeds)})"
        warnings.append(Warn(Code.SEEDS_DIFFER, f"{said}: a mean of jumps at different sizes is a slope"))
    return warnings


def _by_seed(seeds: EachSeed) -> str:
    """Say each seed's own class, and where it jumps."""
    said = []
    for seed in seeds.seeds:
        at = f" at {seed.threshold.middle:.3g}" if seed.threshold is not None else ""
        said.append(f"seed {seed.seed} {seed.label}{at}")
    return ", ".join(said)


def _metric_induced(draft: Draft, label: str) -> tuple[bool | None, list[Warn]]:
    """Say whether another score of the same outputs goes through this one's departure as a slope.

    Asked of emergent curves, and of smooth ones that gain little before the place where they depart: a
    power of a slope has no sharp break. None where there is no departure or no other score.
    """
    if not draft.others or label not in ("emergent", "smooth"):
        return None, []
    smooth = [other for other in draft.others if other.smooth]
    if not smooth:
        return (False if label == "emergent" else None), []
    best = max(smooth, key=lambda other: other.early)
    if label == "smooth" and best.early < 2 * draft.early:
        return None, []
    said = f"{best.metric} has made {best.early:.0%} of its gain below the threshold and does not jump there"
    if np.isfinite(best.misfit):
        said += f"; its power {best.length:.2g} is this score within {best.misfit:.2f}"
    return True, [Warn(Code.METRIC_INDUCED, said)]
