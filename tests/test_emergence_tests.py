"""The bootstraps' p values, the false-discovery rate, and what must not change the answer."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_curves import CURVES, SIZES, X, classes, scores

from analysis.detection.bootstrap import benjamini_hochberg, break_p_value, departure_p_value
from analysis.detection.curves import Curve
from analysis.detection.emergence import emergence
from analysis.detection.noise import average_seeds
from analysis.detection.posterior import GENERAL, fit_tasks
from analysis.detection.shapes import FINE, library, rising_kind


def p_values(curve: np.ndarray, tasks: int, items: int, which: str) -> np.ndarray:
    rng = np.random.default_rng(11)
    score = rng.binomial(items, np.tile(curve, (tasks, 1))) / items
    behind, nothing = np.full((1, len(X)), float(items)), np.full((1, len(X)), np.nan)
    drawn = [
        Curve("", "", "", SIZES, row[None], behind, nothing, np.nan, 1.0, nothing, ("0",)) for row in score
    ]
    test = departure_p_value if which == "departure" else break_p_value
    return np.array([test(fit, rng, 400) for fit in fit_tasks(drawn, 0.05, GENERAL)])


@pytest.mark.parametrize(
    ("which", "curve"), [("departure", CURVES["flat"]), ("break", CURVES["smooth_line"])]
)
def test_p_values_are_not_small_too_often_under_their_null(which: str, curve: np.ndarray) -> None:
    p = p_values(curve, 150, 200, which)
    # Three standard errors above the level: a calibrated test fails this once in some 700 seeds.
    for level in (0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / len(p))


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_benjamini_hochberg_is_the_step_up_rule(p: list[float]) -> None:
    values = np.array(p)
    q = benjamini_hochberg(values)
    assert np.all(q >= values - 1e-12) and np.all(q <= 1)
    # The rule itself: reject the k smallest for the largest k with p_(k) <= k fdr / m.
    for fdr in (0.05, 0.2):
        ranked = np.sort(values)
        below = np.flatnonzero(ranked <= fdr * np.arange(1, len(ranked) + 1) / len(ranked))
        rejected = below[-1] + 1 if len(below) else 0
        assert int((q <= fdr + 1e-12).sum()) >= rejected
        assert int((q <= fdr - 1e-12).sum()) <= rejected


def test_the_order_of_rows_and_the_unit_of_size_change_nothing() -> None:
    table = scores(CURVES, 300)
    answer = emergence(table, draws=400).to_json()["tasks"]
    mixed = table.sample(frac=1, random_state=1)
    by_name = {entry["task"]: entry for entry in emergence(mixed, draws=400).to_json()["tasks"]}
    assert [by_name[entry["task"]] for entry in answer] == answer
    rescaled = emergence(table.assign(size=table["size"] / 1e6), draws=400)
    assert classes(rescaled) == {entry["task"]: entry["class"] for entry in answer}


def test_more_items_do_not_turn_a_jump_into_a_slope() -> None:
    drift = 0.02 * X
    jump = {"jump": 0.25 + drift + 0.4 * (X > 0.7), "flat": 0.25 + drift}
    for items in (300, 3000, 30000):
        assert classes(emergence(scores(jump, items), draws=1000)) == {"jump": "emergent", "flat": "flat"}


@pytest.mark.parametrize(
    ("curve", "kind"),
    [
        (lambda x: x, "smooth"),
        (lambda x: x**2, "smooth"),
        (lambda x: np.where(x > 0.4, 1.0, 0.0), "smooth"),
        (lambda x: np.where(x > 0.6, 1.0, 0.0), "emergent"),
        (lambda x: np.maximum(x - 0.6, 0) / 0.4, "emergent"),
        (lambda x: np.minimum(x / 0.3, 1), "saturated"),
        (lambda x: 1 / (1 + np.exp(-(x - 0.5) / 0.1)), "smooth"),
    ],
)
def test_the_definitions_of_rising_curves(curve: Callable[[np.ndarray], np.ndarray], kind: str) -> None:
    assert kind_at(X, curve) == kind


def kind_at(x: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> str:
    first, last = curve(x)[[0, -1]]
    return rising_kind(x, (curve(x) - first) / (last - first), (curve(FINE) - first) / (last - first))


def test_sizes_far_apart_make_no_jump_of_a_gradual_curve() -> None:
    # The third size lies at a third of the range: a logistic has not moved there, and has by the fourth.
    x = np.array([0, 0.134, 0.336, 0.617, 0.83, 1])
    assert kind_at(x, lambda z: 1 / (1 + np.exp(-(z - 0.58) / 0.1))) == "smooth"
    # Nothing tells where in the gap a step lies.
    assert kind_at(x, lambda z: np.where(z > 0.4, 1.0, 0.0)) == "emergent"
    assert kind_at(x, lambda z: np.where(z > 0.5, 1.0, 0.0)) == "emergent"


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=10, unique=True))
@settings(max_examples=20, deadline=None)
def test_every_shape_that_jumps_has_a_threshold_among_the_sizes(inner: list[float]) -> None:
    x = np.array([0.0, *sorted(inner), 1.0])
    if np.diff(x).min() < 1e-6:
        return
    shapes = library(x)
    jumps = shapes.threshold[shapes.of("emergent")]
    assert np.isfinite(jumps).all() and np.all(jumps[:, 0] < jumps[:, 1])
    # A slope across a wide gap lies in it.
    wide = library(np.array([0.0, 0.03, 0.05, 0.07, 0.97, 1.0]))
    assert np.isfinite(wide.threshold[wide.of("emergent")]).all()


def test_a_class_does_not_hang_on_one_seed() -> None:
    parts = []
    for seed in range(3):
        lucky = np.where(X > 0.95, 0.95, 0.25) if seed == 0 else CURVES["flat"]
        both = {"one_lucky_seed": lucky, "all_seeds": np.where(X > 0.7, 0.6, 0.25)}
        parts.append(scores(both, 500, seed=seed).assign(seed=seed))
    found = emergence(pd.concat(parts, ignore_index=True), draws=1000)
    assert classes(found) == {"one_lucky_seed": "flat", "all_seeds": "emergent"}
    lucky_verdict, sure = found.tasks
    assert lucky_verdict.bimodal is True and sure.bimodal is False
    assert sure.success_rate is not None
    assert [entry["rate"] for entry in sure.success_rate] == [0.0] * 8 + [1.0] * 4


def test_what_could_not_have_been_seen_is_said() -> None:
    few = emergence(scores({"few_items": CURVES["flat"]}, 30), draws=400).tasks[0]
    assert [w.code for w in few.warnings] == ["underpowered"]
    many = emergence(scores({"many_items": CURVES["flat"]}, 3000), draws=400).tasks[0]
    assert not many.warnings
    # What it says it would miss is what it misses: half of that jump is not called, twice it is.
    for times, label in ((0.5, "flat"), (2.0, "emergent")):
        jump = CURVES["flat"] + times * few.least_effect * (X > 0.95)
        assert emergence(scores({"jump": jump}, 30), draws=1000).tasks[0].label == label


def test_a_size_with_one_seed_is_as_uncertain_as_the_seeds_elsewhere() -> None:
    score = np.full((3, 1, 6), 0.5)
    score[:, 0, :5] += np.array([-0.2, 0.0, 0.2])[:, None]
    score[1:, 0, 5] = np.nan
    items = np.where(np.isnan(score), np.nan, 1000.0)
    extra = average_seeds(score, items, np.full_like(score, np.nan)).extra[0]
    assert extra[5] == pytest.approx(3 * extra[0], rel=0.05)
