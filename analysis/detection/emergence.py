"""Classify tasks by their score over size: flat, saturated, smooth, emergent, inverse or u_shaped.

The definitions are in docs/emergence.md. Here the parts meet: the table, the posterior over shapes, the
bootstraps, the seeds, the other scores of the same outputs.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd

from analysis.detection.alignment import Alignment, alignments
from analysis.detection.bootstrap import BREAK_LEVEL, benjamini_hochberg, break_p_value, departure_p_value
from analysis.detection.metrics import Other, at_a_jump
from analysis.detection.noise import noise_variance
from analysis.detection.posterior import EMERGENT, TaskFit, find_threshold, fit_tasks
from analysis.detection.scores import read_scores
from analysis.detection.seeds import each_seed, without_each_seed
from analysis.detection.take_off import TakeOff, take_offs
from analysis.detection.twins import Twin, compare_twins, worth_saying
from analysis.detection.verdict import IN_WORDS, ORDER, Draft, Verdict, decide
from analysis.errors import UserError
from analysis.progress import track
from analysis.shown import Shown, as_html, drawn
from analysis.tables.finished import LeftOut
from analysis.tables.load import is_run_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Emergence", "Verdict", "emergence"]


@dataclass(frozen=True, repr=False)
class Emergence(Shown):
    """Every task's verdict, the false-discovery level that the emergent ones were held to, and what the
    table says besides: variants side by side, thresholds in loss, take-offs forecast from below. `left_out` are
    the rows that no curve has, by reason; `notes` say how the table was read where that is not plain."""

    tasks: tuple[Verdict, ...]
    fdr: float
    min_effect: float
    twins: tuple[Twin, ...]
    alignments: tuple[Alignment, ...]
    take_offs: tuple[TakeOff, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the stable answer (tasks, fdr), and beside it what not every table has; null where unknown."""
        answer = {
            "tasks": [verdict.to_json() for verdict in self.tasks],
            "fdr": self.fdr,
            "min_effect": self.min_effect,
            "twins": [twin.to_json() for twin in self.twins],
            "score_against_loss": [alignment.to_json() for alignment in self.alignments],
            "forecast_from_below": [take_off.to_json() for take_off in self.take_offs],
            "published_measures": [verdict.measures() for verdict in self.tasks],
            "rows_left_out": [left_out.to_json() for left_out in self.left_out],
            "notes": list(self.notes),
        }
        return {name: _finite(value) for name, value in answer.items()}

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the verdicts, one row a task, variant and metric; warnings by their codes."""
        rows = []
        for verdict in self.tasks:
            low, high = verdict.threshold_interval or (None, None)
            rows.append(
                {
                    "task": verdict.curve.task,
                    "variant": verdict.curve.variant,
                    "metric": verdict.curve.metric,
                    "class": verdict.label,
                    "effect": verdict.effect,
                    "threshold": verdict.threshold,
                    "threshold_low": low,
                    "threshold_high": high,
                    "p_value": verdict.p_value,
                    "p_break": verdict.p_break,
                    "q_value": verdict.q_value,
                    "metric_induced": verdict.metric_induced,
                    "warnings": " ".join(warning.code for warning in verdict.warnings),
                }
            )
        numbers = ["effect", "threshold", "threshold_low", "threshold_high"]
        return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float))

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        frame["class"] = pd.Categorical(frame["class"], ORDER, ordered=True)
        # What is said of the whole table first: a task's caveats stand in its row as words.
        said = [*(f"{len(out.rows)} rows left out: {out.reason}" for out in self.left_out), *self.notes]
        said += [f"{v.curve.name}: {w.message}" for v in self.tasks for w in v.warnings]
        frame = frame.sort_values("class", kind="stable").set_index("task")
        return as_html([self.counts], frame, said)

    @property
    def counts(self) -> str:
        """Say how many tasks are of each class."""
        counts = {name: sum(v.label == name for v in self.tasks) for name in ORDER}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    def __repr__(self) -> str:
        return f"<Emergence: {self.counts}>"

    def plot(self, ax: Any = None) -> "Figure":
        """Draw score against size, a small plot a task: seeds, twice the error, the class and the threshold.

        `ax`: as many axes of matplotlib as there are plots, in place of new ones.
        """
        return drawn("tasks.plot", self, ax)

    def summary(self) -> str:
        """Return a table for a person, sorted by class."""
        wide = max([len(v.curve.name) for v in self.tasks] + [4])
        lines = [f"{'task':{wide}}  class      effect  threshold (90%)              p       p_break  q"]
        for v in sorted(self.tasks, key=lambda v: ORDER.index(v.label)):
            where = ""
            if v.threshold is not None and v.threshold_interval is not None:
                where = f"{v.threshold:.3g} ({v.threshold_interval[0]:.3g} to {v.threshold_interval[1]:.3g})"
            codes = " ".join(w.code for w in v.warnings)
            lines.append(
                f"{v.curve.name:{wide}}  {v.label:9}  {v.effect:+.3f}  {where:27}  {v.p_value:.2g}"
                f"{'':3}{v.p_break:8.2g}  {v.q_value:.2g}  {codes}".rstrip()
            )
        lines.append(self.counts)
        for v in self.tasks:
            lines += [f"{v.curve.name}: {w.message}" for w in v.warnings if w.code in IN_WORDS]
        for twin in worth_saying(self.twins):
            lines.append(twin.sentence())
        for alignment in self.alignments:
            if alignment.lines_up is not None:
                lines.append(alignment.sentence())
        for take_off in self.take_offs:
            lines.append(take_off.sentence())
        lines += [f"{len(out.rows)} rows left out: {out.reason}" for out in self.left_out]
        lines += self.notes
        return "\n".join(lines)


def emergence(
    table: pd.DataFrame,
    min_effect: float = 0.05,
    fdr: float = 0.05,
    level: float = 0.9,
    draws: int = 8000,
    seed: int = 0,
    lengths: Mapping[tuple[str, str], float] | None = None,
    *,
    lower_is_better: Collection[str] = (),
    higher_is_better: Collection[str] = (),
) -> Emergence:
    """Classify every task of `table` (columns task, size, and correct, total or score, stderr; optional
    different_items, chance, ceiling, shortcut, seed, variant, metric, loss).

    min_effect: the least change of score that matters. fdr: false-discovery level of the emergent calls. level:
    of the threshold's interval. draws: most bootstrap draws a test may take (1/(draws + 1) is the least p).
    seed: of the bootstrap. lengths: bytes of an answer by (task, variant), where known. lower_is_better,
    higher_is_better: metrics (tasks, where the table names no metric) whose names do not say it. Raises
    UserError, naming the row, for input that cannot be.

    >>> import pandas as pd
    >>> from analysis import emergence
    >>> counts = zip((1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6), (0, 0, 1, 0, 160, 190))
    >>> rows = [("sums", size, n, 200) for size, n in counts]
    >>> table = pd.DataFrame(rows, columns=["task", "size", "correct", "total"])
    >>> emergence(table, draws=100)
    <Emergence: 1 emergent>
    """
    if not 0 < min_effect < 1:
        raise UserError(f"min_effect is {min_effect:g}; a change of score between 0 and 1 would be right")
    if not 0 < fdr < 1 or not 0 < level < 1:
        raise UserError(f"fdr is {fdr:g} and level {level:g}; both lie between 0 and 1")
    source = table.attrs.get("source", "")
    if "task" not in table.columns and source and is_run_folder(source):
        raise UserError(
            f'{source}: this is its table of runs; tasks are read with load_table("{source}", kind="tasks")'
        )
    scores = read_scores(table, lower_is_better, higher_is_better)
    fits = fit_tasks(scores.curves, min_effect)
    # numpy lets go of the interpreter in its loops: two threads use two cores.
    with ThreadPoolExecutor(2) as pool:
        drawn = pool.map(lambda fit: _draft(fit, min_effect, level, draws, seed), fits)
        drafts = list(track(drawn, "tasks", len(fits)))
    drafts = _with_other_metrics(drafts, lengths or {})
    q_values = benjamini_hochberg(np.array([draft.p_value for draft in drafts]))
    verdicts = tuple(decide(d, float(q), fdr, min_effect) for d, q in zip(drafts, q_values, strict=True))
    return Emergence(
        tasks=verdicts,
        fdr=fdr,
        min_effect=min_effect,
        twins=tuple(compare_twins(verdicts, min_effect)),
        alignments=tuple(alignments(scores.all_horizons, verdicts)),
        take_offs=tuple(take_offs(scores.rows, verdicts, level)),
        left_out=scores.left_out,
        notes=scores.notes,
    )


def _finite(value: Any) -> Any:
    """Return the value with null for every number in it that is none."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _draft(fit: TaskFit, min_effect: float, level: float, draws: int, seed: int) -> Draft:
    """Put one task, and each of its seeds, to the tests."""
    rng = np.random.default_rng([seed, crc32(fit.curve.name.encode())])
    p_break = break_p_value(fit, rng, draws)
    seeds = each_seed(fit, min_effect, level, rng, draws // 8)
    own = seeds if seeds is not None and seeds.all_jump else None
    # Where no break is seen the first test decides nothing: its resolution can be less.
    p_value = departure_p_value(fit, rng, draws if own or p_break < BREAK_LEVEL else draws // 8)
    where = find_threshold(fit, level)
    if own:
        p_break, where = own.p_break, own.threshold
    without = without_each_seed(fit, min_effect)
    return Draft(fit, p_value, p_break, where, _least_effect(fit), without, seeds)


def _with_other_metrics(drafts: list[Draft], lengths: Mapping[tuple[str, str], float]) -> list[Draft]:
    """Add to each draft what the other scores of the same outputs do at its departure."""
    groups: dict[tuple[str, str], list[Draft]] = {}
    for draft in drafts:
        groups.setdefault((draft.fit.curve.task, draft.fit.curve.variant), []).append(draft)

    def at_the_jump_of(draft: Draft, other: Draft) -> Other | None:
        assert draft.threshold is not None
        curve = draft.fit.curve
        jumps = float(other.fit.posterior.probability[EMERGENT])
        if other.each_seed is not None and other.each_seed.all_jump:
            jumps = 1.0
        return at_a_jump(
            curve, draft.threshold.middle, other.fit, jumps, lengths.get((curve.task, curve.variant))
        )

    out = []
    for draft in drafts:
        group = groups[(draft.fit.curve.task, draft.fit.curve.variant)]
        if len(group) > 1 and draft.threshold is not None:
            found = [at_the_jump_of(draft, other) for other in group if other is not draft]
            own = at_the_jump_of(draft, draft)
            known = tuple(other for other in found if other is not None)
            draft = replace(draft, others=known, early=own.early if own else 0.0)
        out.append(draft)
    return out


def _least_effect(fit: TaskFit) -> float:
    """Return the jump at the last size alone that would be seen (p at DEPARTURE_LEVEL) four times in five."""
    variance = noise_variance(fit.means, fit.means.score) + fit.scatter_variance
    rest = 1 / (1 / variance[:-1]).sum()
    # One-sided normal quantiles 2.33 and 0.84, and some for having searched the breaks.
    return float((2.33 + 0.84 + 0.5) * np.sqrt(variance[-1] + rest))
