"""Tabulate curves of tasks over model size: what `figures.tasks` draws, and a person finds beside each picture.

Nothing is judged here: the classes come from an Emergence, the bands from detection.noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.detection.curves import Curve, curve_of
from analysis.detection.emergence import Emergence
from analysis.detection.noise import level_and_error
from analysis.detection.twins import Twin, related
from analysis.detection.verdict import ORDER, Verdict
from analysis.errors import Code

# Curves of one plot, each in a colour of its own (`figures.tasks` has five).
MOST_TWINS = 5
Found = Mapping[tuple[str, str, str], Verdict]


@dataclass(frozen=True)
class Panel:
    """One small plot: a curve, the verdict on it, the accuracy by byte of the same answers, and the class that the
    task was built to show."""

    name: str
    curve: Curve
    verdict: Verdict | None = None
    by_byte: Curve | None = None
    expected: str = ""

    @property
    def said(self) -> str:
        """The class found, the expected one where it is another, and what not to overlook."""
        said = self.verdict.label if self.verdict else ""
        if self.expected and self.expected != said:
            said = f"{said} (expected {self.expected})" if said else f"expected {self.expected}"
        if self.verdict is not None:
            codes = {warning.code for warning in self.verdict.warnings}
            said += ", under its shortcut" * (not self.verdict.counts)
            said += ", one seed" * (Code.ONE_SEED in codes) + ", underpowered" * (Code.UNDERPOWERED in codes)
            said += ", seeds part" * bool(self.verdict.bimodal)
        return said.replace("_", "-")


def by_curve(found: Emergence) -> dict[tuple[str, str, str], Verdict]:
    """Return the verdicts by (task, variant, metric)."""
    return {(v.curve.task, v.curve.variant, v.curve.metric): v for v in found.tasks}


def verdict_of(found: Found, task: str, variant: str) -> Verdict | None:
    """Return the verdict on exact match, under whatever name the table's metric went."""
    return next((found[task, variant, m] for m in ("exact_match", "") if (task, variant, m) in found), None)


def curves(rows: pd.DataFrame, found: Found) -> list[tuple[str, str]]:
    """List (task, variant) sorted by the class found, or expected where none was, in ORDER."""
    named = rows.drop_duplicates(["task", "variant"])[["task", "variant", "intended_class"]]

    def rank(task: str, variant: str, expected: object) -> int:
        verdict = verdict_of(found, task, variant)
        label = verdict.label if verdict else expected
        return ORDER.index(label) if label in ORDER else len(ORDER)

    keyed = [
        (rank(task, variant, expected), i, (task, variant))
        for i, (task, variant, expected) in enumerate(named.to_numpy().tolist())
    ]
    return [name for _, _, name in sorted(keyed)]


def accuracy_data(rows: pd.DataFrame, found: Found) -> pd.DataFrame:
    """Make the table of `score_page` for a run folder: a panel a task and variant, with the expected classes.

    `rows` are finished ones, of each size and seed the longest.
    """
    names = curves(rows, found)
    panels = []
    for task, variant in names:
        expected = rows[(rows["task"] == task) & (rows["variant"] == variant)]["intended_class"].dropna()
        alone = sum(task == other for other, _ in names) == 1
        name = task if variant in ("", "direct") and alone else f"{task}: {variant}"
        verdict = verdict_of(found, task, variant)
        curve = verdict.curve if verdict else _exact(rows, task, variant)
        by_byte = found.get((task, variant, "byte_accuracy"))
        expected_class = str(expected.iloc[0]) if len(expected) else ""
        panels.append(Panel(name, curve, verdict, by_byte.curve if by_byte else None, expected_class))
    return _panel_data(panels)


def small_curves_data(found: Emergence) -> pd.DataFrame:
    """Make the table of `score_page` for an answer: every task, variant and metric, emergent first."""
    verdicts = by_curve(found)
    beside = {
        key[:2]: verdict.curve
        for key, verdict in verdicts.items()
        if key[2] == "byte_accuracy" and verdict_of(verdicts, *key[:2]) is not None
    }
    ordered = sorted(found.tasks, key=lambda v: (ORDER.index(v.label), v.threshold or 0.0, -abs(v.effect)))
    return _panel_data(
        [
            Panel(v.curve.name, v.curve, v, beside.get((v.curve.task, v.curve.variant)))
            for v in ordered
            if v.curve.metric != "byte_accuracy" or (v.curve.task, v.curve.variant) not in beside
        ]
    )


def find_twins(rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Find the related tasks and variants of a table, of each group at most MOST_TWINS."""
    names = list(dict.fromkeys(zip(rows["task"], rows["variant"], strict=True)))
    return [group[:MOST_TWINS] for group in related(names)]


def twins_data(rows: pd.DataFrame, pairs: Sequence[Sequence[tuple[str, str]]], found: Found) -> pd.DataFrame:
    """Make the table of `twin_page`: tasks that differ in one thing, each of `pairs` in one plot."""
    groups = []
    for pair in pairs:
        verdicts = [verdict_of(found, *name) for name in pair]
        groups.append(
            [
                (verdict.curve, verdict.scatter) if verdict else (_exact(rows, *name), 0.0)
                for name, verdict in zip(pair, verdicts, strict=True)
            ]
        )
    return _twin_data(groups, ())


def twin_curves_data(found: Emergence) -> pd.DataFrame | None:
    """Make the table of `twin_page` for an answer, and the sizes from which one helps or hurts; None without."""
    by_metric: dict[str, dict[tuple[str, str], Verdict]] = {}
    for verdict in found.tasks:
        mine = by_metric.setdefault(verdict.curve.metric, {})
        mine[verdict.curve.task, verdict.curve.variant] = verdict
    groups = [[mine[name] for name in names] for mine in by_metric.values() for names in related(list(mine))]
    if not groups:
        return None
    drawn = [[(v.curve, v.scatter) for v in group[:MOST_TWINS]] for group in groups]
    return _twin_data(drawn, found.twins)


def loss_curves_data(found: Emergence) -> pd.DataFrame | None:
    """Make the table of `loss_curves`: scores and losses of every task that gains; None without losses."""
    gaining = [
        v for v in found.tasks if v.label in ("emergent", "smooth") and np.isfinite(v.curve.loss).any()
    ]
    if not gaining:
        return None
    gaining.sort(key=lambda v: (ORDER.index(v.label), v.threshold or 0.0))
    parts = [
        pd.DataFrame(
            {
                "panel": number,
                "name": v.curve.name,
                "class": v.label,
                "seed": np.repeat(v.curve.seeds, len(v.curve.size)),
                "size": np.tile(v.curve.size, len(v.curve.seeds)),
                "loss": v.curve.loss.ravel(),
                "score": _raw(v.curve, v.curve.score).ravel(),
            }
        )
        for number, v in enumerate(gaining)
    ]
    return pd.concat(parts, ignore_index=True)


def _raw(curve: Curve, score: Array) -> Array:
    return np.asarray(curve.shift + curve.scale * score)


def _exact(rows: pd.DataFrame, task: str, variant: str) -> Curve:
    """Build a curve that has no class, without the checks that a class asks for."""
    mine = rows[(rows["task"] == task) & (rows["variant"] == variant)]
    return curve_of(task, variant, "", mine.assign(seed=mine["seed"].astype(str)), lower=False)


def _panel_data(panels: Sequence[Panel]) -> pd.DataFrame:
    """Make the table of `score_page`: a row a panel, series and size.

    `series` is seed, mean (with the band that was judged, `lower` to `upper`), fitted (the shape) or bytes (the
    accuracy by byte). The same on all rows of a panel: the levels `chance` and `shortcut`, `class`, `said`, and
    `threshold` with its interval.
    """
    parts = []
    for number, panel in enumerate(panels):
        curve, verdict = panel.curve, panel.verdict
        mine = _curve_rows(curve, verdict.scatter if verdict else 0.0)
        if panel.by_byte is not None:
            mean = level_and_error(panel.by_byte, 0.0)[0]
            mine.append(pd.DataFrame({"series": "bytes", "size": panel.by_byte.size, "score": mean}))
        if verdict is not None:
            mine.append(pd.DataFrame({"series": "fitted", "size": curve.size, "score": verdict.fitted}))
        threshold, interval = None, None
        if verdict is not None and verdict.threshold_interval is not None:
            threshold, interval = verdict.threshold, verdict.threshold_interval
        low, high = interval or (None, None)
        about: dict[str, Any] = {"panel": number, "name": panel.name, "said": panel.said}
        about |= {"class": verdict.label if verdict else "", **_about(curve)}
        about |= {"threshold": threshold, "threshold_lower": low, "threshold_upper": high}
        parts.append(pd.concat(mine, ignore_index=True).assign(**about))
    return _ordered(parts, "threshold", "threshold_lower", "threshold_upper")


def _twin_data(groups: Sequence[Sequence[tuple[Curve, float]]], twins: Sequence[Twin]) -> pd.DataFrame:
    """Make the table of `twin_page` from each plot's curves, with the scatter that each was judged by.

    Besides the series seed and mean: helps and hurts, the size from which a variant does.
    """
    parts = []
    for number, group in enumerate(groups):
        named = zip(group, _twin_names([curve for curve, _ in group]), strict=True)
        for (curve, scatter), name in named:
            mine = pd.concat(_curve_rows(curve, scatter), ignore_index=True)
            parts.append(mine.assign(panel=number, name=name, **_about(curve)))
        first = group[0][0]
        for twin in twins:
            if (twin.task, twin.metric) == (first.task, first.metric):
                at = {"helps": twin.helps_from, "hurts": twin.hurts_from}
                sizes = pd.DataFrame(
                    [{"series": word, "size": size} for word, size in at.items() if size is not None]
                )
                parts.append(sizes.assign(panel=number, name=parts[-1]["name"].iloc[0], **_about(first)))
    return _ordered(parts)


def _twin_names(group: Sequence[Curve]) -> list[str]:
    """Name the curves of one plot by what differs between them."""
    metric = f" ({group[0].metric})" if group[0].metric not in ("", "exact_match") else ""
    plain = len({c.task for c in group}) > 1 and all(c.variant == group[0].variant for c in group)
    return [(c.task if plain or not c.variant else f"{c.task}: {c.variant}") + metric for c in group]


def _ordered(parts: Sequence[pd.DataFrame], *more: str) -> pd.DataFrame:
    first = [
        "panel",
        "name",
        "task",
        "variant",
        "metric",
        "series",
        "seed",
        "size",
        "score",
        "lower",
        "upper",
    ]
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    data = data.astype(dict.fromkeys([name for name in more if name in data], float))
    return data[[*first, *(name for name in data.columns if name not in first)]]


def _about(curve: Curve) -> dict[str, Any]:
    level = curve.shift + curve.scale * curve.chance
    shortcut = np.nan if curve.shortcut <= curve.chance else curve.shift + curve.scale * curve.shortcut
    about = {"task": curve.task, "variant": curve.variant, "metric": curve.metric}
    return about | {"chance": level, "shortcut": shortcut, "bounded": curve.bounded}


def _curve_rows(curve: Curve, scatter: float) -> list[pd.DataFrame]:
    """Tabulate what was measured: a score a seed, their mean with two standard errors (the error judged)."""
    level, error = level_and_error(curve, scatter)
    # In the table's unit.
    mean, band = _raw(curve, level), np.abs(curve.scale) * 2 * error
    seeds = pd.DataFrame(
        {
            "series": "seed",
            "seed": np.repeat(np.asarray(curve.seeds, dtype=object), len(curve.size)),
            "size": np.tile(curve.size, len(curve.seeds)),
            "score": _raw(curve, curve.score).ravel(),
        }
    )
    measured = {
        "series": "mean",
        "size": curve.size,
        "score": mean,
        "lower": mean - band,
        "upper": mean + band,
    }
    return [seeds[seeds["score"].notna()], pd.DataFrame(measured)]
