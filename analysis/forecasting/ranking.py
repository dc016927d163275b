"""Several recipes: each against the first, false discoveries held, and whether small runs rank like large ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from analysis.errors import Status, UserError, status_of
from analysis.fitting.result import html_of
from analysis.forecasting.compare import ALIKE, Comparison, compare
from analysis.forecasting.recipes import Recipe
from analysis.shown import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The false-discovery level at which a recipe is called better or worse among several.
FALSE_DISCOVERIES = 0.05
# The largest rung is hidden from the decisions: what is below this share of its compute is small scale.
SMALL = 0.5


@dataclass(frozen=True)
class Accuracy:
    """Of `pairs` of recipes, the shares that are ranked below `cut` FLOPs as at the largest rung: by the laws, and
    by the mean losses at the largest one size below (`one_size`; Magnusson et al. 2025, arXiv 2504.11393)."""

    pairs: int
    cut: float
    largest: float
    laws: float
    one_size: float

    def to_json(self) -> dict[str, Any]:
        """Make `decision_accuracy`."""
        return dict(self.__dict__)


@dataclass(frozen=True, repr=False)
class Ranking(Shown):
    """Recipes against a baseline, the likeliest best first, each with its q-value."""

    baseline: str
    comparisons: tuple[Comparison, ...]
    q_values: tuple[float, ...]
    accuracy: Accuracy | None

    @property
    def status(self) -> Status:
        """The trust that all warnings together leave."""
        return status_of(warn for found in self.comparisons for warn in found.warnings)

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis compare A B C ...`."""
        rows = zip(self.comparisons, self.q_values, strict=True)
        return {
            "baseline": self.baseline,
            "recipes": [
                {"rank": i + 1, "q_value": q, **found.to_json()} for i, (found, q) in enumerate(rows)
            ],
            "decision_accuracy": self.accuracy.to_json() if self.accuracy else None,
            "status": self.status,
            "warnings": [
                {"code": warn.code, "message": f"{found.b.name}: {warn.message}"}
                for found in self.comparisons
                for warn in found.warnings
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """Make a table, one row a recipe: the multiplier at the last budget, probability, q-value and verdict."""
        rows = []
        for found, q in zip(self.comparisons, self.q_values, strict=True):
            last = found.multipliers[-1]
            rows.append(
                {
                    "recipe": found.b.name, "multiplier": last.value, "lower": last.lower, "upper": last.upper,
                    "trend": found.trend[0], "probability_ahead": found.probability_ahead, "q_value": q,
                    "verdict": found.verdict, "status": str(found.status),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self, ax: Any = None) -> "Figure":
        """Draw the likeliest best against the baseline; returns matplotlib's Figure. `ax`: two axes of it."""
        return self.comparisons[0].plot(ax)

    def _repr_html_(self) -> str:
        return html_of([f"against {self.baseline}"], self.to_frame(), (), ())

    def summary(self) -> str:
        """Write the ranked table for a person."""
        last = self.comparisons[0].multipliers[-1]
        lines = [
            f"against {self.baseline}, at {last.flops:.4g} FLOPs of it; better and worse hold a "
            f"false-discovery rate of {FALSE_DISCOVERIES:g}",
            self.to_frame().to_string(index=False, float_format=lambda v: f"{v:.3g}"),
        ]
        if self.accuracy:
            a = self.accuracy
            lines.append(
                f"of {a.pairs} pairs {a.laws:.0%} are ranked by laws of the runs below {a.cut:.3g} FLOPs as at "
                f"{a.largest:.3g}; {a.one_size:.0%} by the losses of the largest one size below"
            )
        lines += [
            f"{found.b.name}: {w.code}: {w.message}" for found in self.comparisons for w in found.warnings
        ]
        return "\n".join(lines)


def compare_all(
    tables: Mapping[str, pd.DataFrame],
    *,
    targets: Sequence[float] = (),
    differs: Sequence[str] = (),
    level: float = 0.9,
    seed: int = 0,
) -> Ranking:
    """Compare every recipe with the first of `tables` (columns as for `compare`), and rank them. Raises UserError.

    `targets`, `differs`, `level` and `seed` are those of `compare`.

    The two-sided p-value of a recipe is twice the smaller probability of being ahead and behind; q-values are those
    of Benjamini and Hochberg (1995), and a recipe is called better or worse only where they carry it.

    >>> import pandas as pd
    >>> from analysis import compare_all
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> runs = [(n, d, law(n, d)) for n in (1e6, 4e6, 2e7) for d in (2e7, 5e7, 2e8, 6e8)]
    >>> a = pd.DataFrame(runs, columns=["params", "tokens", "loss"])
    >>> tables = {"a": a, "b": a.assign(tokens=a["tokens"] / 2), "c": a.assign(tokens=a["tokens"] / 3)}
    >>> compare_all(tables).to_frame()["recipe"].tolist()
    ['c', 'b']
    """
    if len(tables) < 3:
        raise UserError(f"{len(tables)} tables: a ranking needs a baseline and two recipes or more")
    (baseline, first), *others = tables.items()
    found = [
        compare(
            first, table, targets=targets, names=(baseline, name), differs=differs, level=level, seed=seed
        )
        for name, table in others
    ]
    # No draw is as good as zero.
    least = 1.0 / len(found[0].believed.first)
    ahead = np.asarray([c.probability_ahead for c in found])
    q = false_discovery_control(np.clip(2.0 * np.minimum(ahead, 1.0 - ahead), least, 1.0))
    order = np.argsort([-c.multipliers[-1].value for c in found], kind="stable")
    judged = [_judged(found[i], float(q[i])) for i in order]
    accuracy = decision_accuracy([found[0].a, *(c.b for c in found)], seed=seed)
    return Ranking(baseline, tuple(judged), tuple(q[order].tolist()), accuracy)


def _judged(found: Comparison, q: float) -> Comparison:
    """Take back a call that the q-value does not carry among several."""
    if found.verdict not in ("better", "worse") or q <= FALSE_DISCOVERIES:
        return found
    return replace(
        found, verdict="cannot_say", sentence=f"{found.sentence[:-1]}; among several that is not enough."
    )


def decision_accuracy(recipes: Sequence[Recipe], *, seed: int) -> Accuracy | None:
    """Rank all pairs by runs below the largest rung, and count how many are ranked as at it; None where the recipes
    do not have one largest place, or too few runs below it."""
    if any("params" not in recipe.rows or "tokens" not in recipe.rows for recipe in recipes):
        return None
    rows = {recipe.name: recipe.rows.assign(flops=recipe.observations.flops) for recipe in recipes}
    means = {
        name: table.groupby(["flops", "params"])["loss"].mean().reset_index() for name, table in rows.items()
    }
    tops = pd.DataFrame([table.iloc[-1] for table in means.values()])
    largest = float(tops["flops"].median())
    cut = SMALL * largest
    below = {name: table[table["flops"] <= cut] for name, table in means.items()}
    spread = (tops[["flops", "params"]].max() / tops[["flops", "params"]].min()).max()
    if spread > ALIKE or any(table.empty for table in below.values()):
        return None
    truth, one_size = ({name: float(t["loss"].iloc[-1]) for name, t in of.items()} for of in (means, below))
    right, right_one = [], []
    for a, b in combinations(rows, 2):
        small = [rows[name][rows[name]["flops"] <= cut] for name in (a, b)]
        try:
            ahead = compare(*small, targets=[largest], names=(a, b), seed=seed).probability_ahead > 0.5
        except UserError:
            return None
        right.append(ahead == (truth[b] < truth[a]))
        right_one.append((one_size[b] < one_size[a]) == (truth[b] < truth[a]))
    return Accuracy(len(right), cut, largest, float(np.mean(right)), float(np.mean(right_one)))
