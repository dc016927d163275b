"""A score counts where it is above what a shortcut has: from which size, and what is said where it never is."""

from dataclasses import replace

import numpy as np
import pytest
from made_curves import CURVES, SIZES, X, scores

from analysis.detection.emergence import Verdict, emergence
from analysis.detection.scores import read_scores
from analysis.detection.shortcut import beats_shortcut_from
from analysis.errors import Warn


def judged(curve: np.ndarray, shortcut: float, items: int = 1000) -> tuple[Verdict, list[Warn]]:
    """The verdict on a curve with this shortcut, beside others without one; what is said of the shortcut."""
    table = scores({"task": curve, "flat": CURVES["flat"], "line": CURVES["smooth_line"]}, items)
    table["shortcut"] = table["task"].map({"task": shortcut})
    found = emergence(table, draws=400)
    assert [v.curve.task for v in found.tasks if np.isfinite(v.curve.shortcut)] == ["task"]
    verdict = found.tasks[0]
    said = [w for w in verdict.warnings if w.code == "shortcut"]
    assert all(f"task: {w.message}" in found.summary() for w in said)
    return verdict, said


def test_a_jump_to_the_shortcut_and_no_further_does_not_count() -> None:
    verdict, said = judged(0.25 + 0.4 * (X > 0.6), shortcut=0.65)
    assert verdict.label == "emergent" and not verdict.counts
    assert verdict.to_json()["shortcut"] == 0.65 and verdict.to_json()["beats_shortcut_from"] is None
    assert "(0.65)" in said[0].message and "does not count" in said[0].message


def test_a_jump_past_the_shortcut_counts_from_the_jump_on() -> None:
    verdict, said = judged(0.25 + 0.5 * (X > 0.6), shortcut=0.3)
    assert verdict.label == "emergent" and verdict.counts and not said
    assert verdict.beats_shortcut_from == SIZES[7]


def test_a_slope_through_the_shortcut_says_where_it_begins_to_count() -> None:
    verdict, said = judged(0.25 + 0.4 * X, shortcut=0.5)
    assert verdict.label == "smooth" and verdict.counts
    # It passes .5 at x = .62 and is .05 above it at x = .75.
    assert verdict.beats_shortcut_from in SIZES[7:10]
    share = float(said[0].message.split("%")[0])
    assert share == pytest.approx(100 * 0.25 / 0.4, abs=8)


@pytest.mark.parametrize("curve", ["flat", "inverse"])
def test_what_does_not_gain_has_nothing_to_beat(curve: str) -> None:
    verdict, said = judged(CURVES[curve], shortcut=0.7)
    assert verdict.label == curve and verdict.counts and not said


def test_chance_is_to_be_beaten_where_it_is_more_than_the_shortcut() -> None:
    (curve,) = read_scores(scores({"a": np.full(12, 0.25)}).assign(shortcut=0.0)).curves
    assert beats_shortcut_from(curve, 0.0, 0.05) is None
    assert beats_shortcut_from(replace(curve, chance=np.nan), 0.0, 0.05) == SIZES[0]


def test_scores_of_bytes_and_losses_have_no_shortcut() -> None:
    table = scores({"a": CURVES["smooth_line"]}).assign(byte_accuracy=0.9, shortcut=0.5)
    exact, byte = read_scores(table).curves
    assert exact.shortcut == 0.5 and np.isnan(byte.shortcut)
    losses = table.drop(columns=["byte_accuracy", "correct", "total", "chance"])
    (loss,) = read_scores(losses.assign(metric="nll", score=np.linspace(3, 1, 12), stderr=0.05)).curves
    assert np.isnan(loss.shortcut)


@pytest.mark.parametrize(("items", "seeds"), [(50, 1), (200, 3)])
def test_a_model_that_is_the_shortcut_seldom_seems_to_beat_it(items: int, seeds: int) -> None:
    """Both are scored on items of their own: of 12 sizes none may be said to be above, but by luck."""
    rng = np.random.default_rng(0)
    (like,) = read_scores(scores({"a": CURVES["flat"]})).curves
    beaten = 0
    for _ in range(300):
        drawn = replace(
            like,
            score=rng.binomial(items, 0.4, (seeds, 12)) / items,
            items=np.full((seeds, 12), float(items)),
            stderr=np.full((seeds, 12), np.nan),
            loss=np.full((seeds, 12), np.nan),
            shortcut=float(rng.binomial(items, 0.4)) / items,
            seeds=tuple(map(str, range(seeds))),
        )
        beaten += beats_shortcut_from(drawn, 0.0, 0.05) is not None
    assert beaten <= 0.05 * 300
