"""Compare two recipes by the laws of their ladders: the compute multiplier, its trend, where they cross, a verdict.

The joint fit is `forecasting.joint_law`'s, the rows are `forecasting.recipes`', what would settle the matter
`forecasting.settle`'s; several recipes at once are ranked by `forecasting.ranking`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from analysis.arrays import Array
from analysis.errors import Code, Status, UserError, Warn, status_of
from analysis.fitting.options import check_level, check_seed
from analysis.fitting.result import html_of, notes
from analysis.forecasting.discrepancy import FAR
from analysis.forecasting.joint_law import Believed, believe_laws
from analysis.forecasting.multiplier import Paths, paths_of
from analysis.forecasting.pairing import two_ladders
from analysis.forecasting.recipes import (
    Recipe,
    about_differences,
    by_active,
    differences,
    of_compute,
    read_recipe,
    refuse_other_units,
    refuse_unlike,
    tuned,
    without_rate_rules,
)
from analysis.forecasting.settle import Settling, settle
from analysis.forecasting.thresholds import Moved
from analysis.shown import Shown, drawn
from analysis.tables.finished import LeftOut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 600
# A recipe is called ahead where that is as probable: both calls together err in 5% of equal pairs.
AHEAD = 0.975
# Less of compute is no difference to decide by.
SAME = 1.1
# Budgets of two tables within this factor are one; this many are reported; they must span SPAN.
ALIKE, REPORTED, SPAN = 1.1, 5, 1.5
VERDICTS = ("better", "worse", "no_difference", "cannot_say")


@dataclass(frozen=True)
class Multiplier:
    """Compute of A over compute of B at equal loss, where A spends `flops`: above 1 B needs less."""

    flops: float
    value: float
    lower: float
    upper: float
    level: float

    def to_json(self) -> dict[str, Any]:
        """Make one entry of `multipliers`."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Seconds:
    """FLOPs per second of B over those of A (`speed`), and the multipliers in seconds: it times those in FLOPs."""

    speed: float
    lower: float
    upper: float
    multipliers: tuple[Multiplier, ...]

    def to_json(self) -> dict[str, Any]:
        """Make `seconds`."""
        said = {"speed": self.speed, "lower": self.lower, "upper": self.upper}
        return {**said, "multipliers": [m.to_json() for m in self.multipliers]}


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Recipe `b` against recipe `a`.

    `multipliers` are at the tables' common budgets (the first `observed`) and at the targets; `trend` is the factor
    by which the multiplier changes a decade of compute, with its bounds; `crossing` the compute at which the curves
    cross, with its bounds and the probability that they do before the last budget (None where that is below half).
    """

    a: Recipe
    b: Recipe
    multipliers: tuple[Multiplier, ...]
    observed: int
    trend: tuple[float, float, float]
    probability_ahead: float
    crossing: dict[str, float] | None
    verdict: str
    sentence: str
    tuned: dict[str, bool | None]
    differs: tuple[str, ...]
    seconds: Seconds | None
    settling: Settling | None
    tasks: tuple[Moved, ...]
    level: float
    warnings: tuple[Warn, ...]
    believed: Believed
    paths: Paths

    @property
    def status(self) -> Status:
        """The trust that its warnings leave the answer."""
        return status_of(self.warnings)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The rows that the answer does not use, by recipe and reason."""
        return tuple(
            LeftOut(f"{r.name}: {left.reason}", left.rows)
            for r in (self.a, self.b)
            for left in r.observations.left_out
        )

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis compare`."""
        per_decade, lower, upper = self.trend
        return {
            "a": self.a.name,
            "b": self.b.name,
            "multipliers": [m.to_json() for m in self.multipliers],
            "trend": {"per_decade": per_decade, "lower": lower, "upper": upper},
            "probability_ahead": self.probability_ahead,
            "crossing": self.crossing,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "tuned": self.tuned,
            "differs": list(self.differs),
            "seconds": self.seconds.to_json() if self.seconds else None,
            "next": self.settling.to_json() if self.settling else None,
            "tasks": [moved.to_json() for moved in self.tasks],
            "law": {
                "of": "flops" if self.paths.alone else "params, tokens",
                "own_floor": self.believed.own_floor,
                "own_exponents": self.believed.own_exponents,
                "noise": self.believed.noise,
            },
            "n": [len(self.a.observations), len(self.b.observations)],
            "rows_left_out": [left.to_json() for left in self.left_out],
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
        }

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the multipliers, one row a budget."""
        return pd.DataFrame([m.to_json() for m in self.multipliers])

    def plot(self, ax: Any = None) -> "Figure":
        """Draw both curves and the multiplier over compute; returns matplotlib's Figure. `ax`: two axes of it."""
        return drawn("compare.plot_comparison", self, ax)

    def _repr_html_(self) -> str:
        return html_of([self.sentence], self.to_frame(), self.left_out, self.warnings)

    def summary(self) -> str:
        """Write the answer for a person: the verdict first."""
        lines = [self.sentence, f"{'flops':>12} {'multiplier':>11}   {100 * self.level:g}% interval"]
        for i, m in enumerate(self.multipliers):
            where = "" if i < self.observed else "  (target)"
            lines.append(f"{m.flops:12.4g} {m.value:11.3g}   [{m.lower:.3g}, {m.upper:.3g}]{where}")
        per_decade, lower, upper = self.trend
        lines.append(f"trend: x {per_decade:.3g} a decade of compute [{lower:.3g}, {upper:.3g}]")
        lines.append(
            f"probability that {self.b.name} is ahead at the last budget: {self.probability_ahead:.3g}"
        )
        last = self.multipliers[-1].flops
        lines.append(
            f"the curves cross at {self.crossing['flops']:.3g} FLOPs [{self.crossing['lower']:.3g}, "
            f"{self.crossing['upper']:.3g}], with probability {self.crossing['probability']:.2g} before {last:.3g}"
            if self.crossing
            else f"no crossing can be said up to {last:.3g} FLOPs"
        )
        if self.seconds:
            s = self.seconds
            at = s.multipliers[-1]
            lines.append(
                f"in seconds: {self.b.name} does {s.speed:.3g} [{s.lower:.3g}, {s.upper:.3g}] times the FLOPs per "
                f"second; multiplier {at.value:.3g} [{at.lower:.3g}, {at.upper:.3g}] at the last budget"
            )
        words = {True: "yes", False: "no", None: "not shown by the table"}
        shown = ((self.a.name, self.tuned["a"]), (self.b.name, self.tuned["b"]))
        lines.append("tuned: " + ", ".join(f"{name} {words[value]}" for name, value in shown))
        if self.differs:
            lines.append(f"they differ in {', '.join(self.differs)}")
        if self.settling:
            lines.append(self.settling.sentence())
        lines += [moved.sentence() for moved in self.tasks]
        return "\n".join([*lines, *notes(self.left_out, self.warnings)])


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    targets: Sequence[float] = (),
    names: tuple[str, str] = ("A", "B"),
    differs: Sequence[str] = (),
    tasks: Sequence[Moved] = (),
    level: float = 0.9,
    seed: int = 0,
) -> Comparison:
    """Compare the runs of recipe `b` with those of recipe `a` (columns loss and params, tokens or flops; optional
    params_active, which then are N, seed, group, learning_rate, seconds), at their common budgets and at `targets`
    (FLOPs).

    `names` are what the recipes are called, `level` is that of the intervals, `seed` of the resamples.
    `differs` names the fields in which the recipes are meant to differ; `tasks` are thresholds of both
    (`forecasting.thresholds`). Raises UserError where they cannot be compared.

    >>> import pandas as pd
    >>> from analysis import compare
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> runs = [(n, d, law(n, d)) for n in (1e6, 4e6, 2e7) for d in (2e7, 5e7, 2e8, 6e8)]
    >>> a = pd.DataFrame(runs, columns=["params", "tokens", "loss"])
    >>> b = a.assign(tokens=a["tokens"] / 2)
    >>> round(compare(a, b).multipliers[0].value, 1)
    2.0
    """
    check_level(level)
    check_seed(seed)
    for target in targets:
        if not (np.isfinite(target) and target > 0):
            raise UserError(f"target = {target:g} (--target): give positive FLOPs, e.g. --target 1e21")
    if names[0] == names[1]:
        names = (f"{names[0]} (1)", f"{names[1]} (2)")
    tables = {n: by_active(without_rate_rules(table)) for n, table in zip(names, (a, b), strict=True)}
    refuse_unlike(tables)
    alone = of_compute(tables)
    first, second = (read_recipe(name, table, alone=alone, seed=seed) for name, table in tables.items())
    refuse_other_units(first, second)
    budgets = common_budgets(first, second)
    if targets and min(targets) < budgets[0]:
        raise UserError(
            f"target = {min(targets):g} (--target): below the least common budget, {budgets[0]:.4g} FLOPs"
        )
    at = np.asarray([*budgets, *sorted(targets)])
    believed = believe_laws(two_ladders(first, second, alone=alone, seed=seed), DRAWS, seed)
    paths = paths_of(first, second, believed, at, alone=alone, seed=seed)
    logs = paths.multipliers(at)
    multipliers = _multipliers(at, logs, level)
    ahead = float(np.mean(logs[:, -1] > 0))
    differing = differences(first, second)
    are_tuned, warnings = _tuned(tables)
    warnings = [*warnings, *about_differences(differing, tuple(differs)), *first.warnings, *second.warnings]
    if at[-1] > FAR * budgets[-1]:
        said = f"the last target is {at[-1] / budgets[-1]:.3g} x beyond the common budgets: the trend is carried on"
        warnings.append(Warn(Code.FAR_BEYOND_TESTED, said))
    verdict = _verdict(multipliers[-1], ahead)
    found = Comparison(
        first,
        second,
        multipliers,
        len(budgets),
        _trend(paths, at, level),
        ahead,
        _crossing(paths, at, level),
        verdict,
        "",
        are_tuned,
        tuple(differing),
        _seconds(first, second, at, logs, level, seed),
        settle(first, second, believed, paths, float(at[-1]), same=SAME, ahead=AHEAD)
        if verdict == "cannot_say"
        else None,
        tuple(tasks),
        level,
        tuple(dict.fromkeys(warnings)),
        believed,
        paths,
    )
    return replace(found, sentence=_sentence(found))


def common_budgets(first: Recipe, second: Recipe) -> Float[Array, " B"]:
    """Choose budgets of both recipes: up to REPORTED of those where both have runs, else evenly between the ends.

    Raises UserError where there are not two.
    """
    a, b = first.observations.flops, second.observations.flops
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    if high < SPAN * low:
        raise UserError(
            f"{first.name} has runs of {a.min():.4g} to {a.max():.4g} FLOPs and {second.name} of {b.min():.4g} to "
            f"{b.max():.4g}: they have {'one common budget' if high > low / ALIKE else 'no common budget'}; a "
            f"multiplier needs two, a factor {SPAN:g} apart or more"
        )
    both: list[float] = []
    for flops in np.sort(a):
        met = np.abs(np.log(b / flops)).min() < np.log(ALIKE)
        if met and not (both and flops < ALIKE * both[-1]):
            both.append(float(flops))
    if len(both) > 1 and both[-1] >= SPAN * both[0]:
        chosen = np.unique(np.round(np.linspace(0, len(both) - 1, REPORTED)).astype(int))
        return np.asarray(both)[chosen]
    return np.geomspace(low, high, REPORTED)


def _multipliers(at: Array, logs: Float[Array, "R m"], level: float) -> tuple[Multiplier, ...]:
    tail = 50.0 * (1.0 - level)
    middle, low, high = np.exp(np.percentile(logs, [50.0, tail, 100.0 - tail], axis=0)).tolist()
    return tuple(
        Multiplier(float(flops), *bounds, level=level)
        for flops, bounds in zip(at, zip(middle, low, high, strict=True), strict=True)
    )


def _trend(paths: Paths, at: Array, level: float) -> tuple[float, float, float]:
    """The factor by which the multiplier changes a decade of compute: least squares over the budgets, by draw."""
    budgets = np.geomspace(at.min(), at.max(), 7)
    decades = np.log10(budgets) - np.log10(budgets).mean()
    slopes = paths.multipliers(budgets) @ decades / (decades @ decades)
    tail = 50.0 * (1.0 - level)
    middle, low, high = np.exp(np.percentile(slopes, [50.0, tail, 100.0 - tail])).tolist()
    return middle, low, high


def _crossing(paths: Paths, at: Array, level: float) -> dict[str, float] | None:
    """Where the lead changes hands between the least and the last budget, if more likely than not."""
    budgets = np.geomspace(at.min(), at.max(), 60)
    lead = paths.multipliers(budgets)
    changes = np.sign(lead[:, 1:]) != np.sign(lead[:, :-1])
    crosses = changes.any(axis=1)
    if np.mean(crosses) < 0.5:
        return None
    where = np.exp(np.log(budgets[1:])[changes[crosses].argmax(axis=1)])
    tail = 50.0 * (1.0 - level)
    middle, low, high = np.percentile(where, [50.0, tail, 100.0 - tail]).tolist()
    return {"flops": middle, "lower": low, "upper": high, "probability": float(np.mean(crosses))}


def _tuned(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, bool | None], list[Warn]]:
    (a, first), (b, second) = tables.items()
    of_a, said_a = tuned(a, first, b, None)
    of_b, said_b = tuned(b, second, a, first)
    return {"a": of_a, "b": of_b}, [*said_a, *said_b]


def _seconds(
    first: Recipe, second: Recipe, at: Array, logs: Float[Array, "R m"], level: float, seed: int
) -> Seconds | None:
    """Compare FLOPs per second, their growth with compute alike for both; None without a column seconds."""
    logs_of: list[tuple[Array, Array]] = []
    for recipe in (first, second):
        if "seconds" not in recipe.rows:
            return None
        seconds = pd.to_numeric(recipe.rows["seconds"], errors="coerce").to_numpy(np.float64)
        fine = np.isfinite(seconds) & (seconds > 0)
        flops = recipe.observations.flops
        if fine.sum() < 2:
            return None
        logs_of.append((np.log(flops[fine] / seconds[fine]), np.log(flops[fine])))
    speed, size = (np.concatenate(part) for part in zip(*logs_of, strict=True))
    is_second = np.repeat([0.0, 1.0], [len(part) for part, _ in logs_of])
    design = np.stack([np.ones_like(size), size - size.mean(), is_second], axis=1)
    found, *_ = np.linalg.lstsq(design, speed, rcond=None)
    freedom = max(len(speed) - 3, 1)
    noise = float(np.sum((speed - design @ found) ** 2)) / freedom
    error = float(np.sqrt(noise * np.linalg.pinv(design.T @ design)[2, 2]))
    reach = float(student.ppf(0.5 + 0.5 * level, freedom)) * error
    ratio = float(found[2])
    drawn = ratio + error * np.random.default_rng(seed).standard_t(freedom, (len(logs), 1))
    low, high = np.exp(ratio - reach), np.exp(ratio + reach)
    return Seconds(float(np.exp(ratio)), float(low), float(high), _multipliers(at, logs + drawn, level))


def _verdict(last: Multiplier, ahead: float) -> str:
    if ahead >= AHEAD:
        return "better"
    if ahead <= 1.0 - AHEAD:
        return "worse"
    return "no_difference" if last.lower > 1.0 / SAME and last.upper < SAME else "cannot_say"


def _sentence(found: Comparison) -> str:
    """The verdict in one sentence for a person who must decide."""
    a, b, last = found.a.name, found.b.name, found.multipliers[-1]
    interval = f"{100 * last.level:g}% interval {last.lower:.3g} to {last.upper:.3g}"
    at = f"at {last.flops:.3g} FLOPs"
    _, low, high = found.trend
    moves = "grows" if low > 1 else "shrinks" if high < 1 else ""
    if found.verdict == "better":
        said = f"{b} is better: {at} of {a} it needs 1/{last.value:.3g} of the compute ({interval})"
        said += f", and its lead {moves} with compute" if moves else ""
    elif found.verdict == "worse":
        needs = f"{1 / last.value:.3g} times" if last.value > 1e-3 else "more than 1000 times"
        said = f"{b} is worse: {at} of {a} it needs {needs} the compute for the same loss (multiplier: {interval})"
        said += f", and its multiplier {moves} with compute" if moves else ""
    elif found.verdict == "no_difference":
        said = (
            f"no difference to be seen: {at} the multiplier of {b} over {a} is {last.value:.3g} ({interval})"
        )
    else:
        said = f"it cannot be said which is better {at}: {b} is ahead with probability "
        said += f"{found.probability_ahead:.2f} (multiplier {last.value:.3g}, {interval})"
    if found.seconds:
        other = found.seconds.multipliers[-1]
        if (other.value > 1) != (last.value > 1):
            said += f"; in seconds it is the other way round ({other.value:.3g}, {other.lower:.3g} to "
            said += f"{other.upper:.3g})"
    return said + "."
