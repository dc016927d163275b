"""The detector on curves whose class is known by construction, and on tables that cannot be."""

import json

import numpy as np
import pandas as pd
import pytest
from made_curves import CURVES, SIZES, X, classes, scores

from analysis import UserError, emergence


@pytest.mark.parametrize(("items", "scatter"), [(1000, 0.0), (1000, 0.015), (300, 0.0)])
def test_classes_of_known_curves(items: int, scatter: float) -> None:
    found = classes(emergence(scores(CURVES, items, seed=3, scatter=scatter), draws=1000))
    want = {name: "u_shaped" if name == "u_shaped" else name.split("_")[0] for name in CURVES}
    assert found == want


def test_json_is_the_contract() -> None:
    answer = emergence(scores(CURVES), draws=400).to_json()
    assert set(answer) >= {"tasks", "fdr"}
    keys = "task variant metric class threshold threshold_interval p_value p_break q_value effect "
    keys += "metric_induced bimodal success_rate warnings seeds shortcut beats_shortcut_from"
    for entry in answer["tasks"]:
        assert list(entry) == keys.split()
        assert (entry["threshold"] is not None) == (entry["class"] == "emergent")
    json.dumps(answer, allow_nan=False)


def test_the_threshold_and_the_effect_are_those_of_the_curve() -> None:
    found = emergence(scores(CURVES, 1000, seed=1), draws=8000)
    by_name = {verdict.curve.task: verdict for verdict in found.tasks}
    # Thresholds: between the sizes that a step parts, and the foot of a hinge.
    for name, low, high in (
        ("emergent_step", SIZES[7], SIZES[8]),
        ("emergent_last", SIZES[10], SIZES[11]),
        ("emergent_hinge", SIZES[0] * 1e4**0.55, SIZES[0] * 1e4**0.7),
    ):
        verdict = by_name[name]
        assert verdict.threshold is not None and verdict.threshold_interval is not None
        assert low <= verdict.threshold <= high, name
        assert verdict.threshold_interval[0] <= verdict.threshold <= verdict.threshold_interval[1]
    for name, effect in (("emergent_step", 0.4), ("emergent_last", 0.2), ("inverse", -0.3), ("flat", 0.0)):
        assert by_name[name].effect == pytest.approx(effect, abs=0.04), name
    # None of 8,000 curves drawn without a jump exceeds it: fine enough for q over two hundred tasks.
    assert by_name["emergent_step"].p_value == pytest.approx(1 / 8001)


def test_scores_with_standard_errors_are_judged_as_the_counts_behind_them() -> None:
    counts = scores(CURVES, 600, seed=2)
    rate = counts["correct"] / counts["total"]
    plain = counts.assign(score=rate, stderr=np.sqrt(rate * (1 - rate) / 600)).drop(
        columns=["correct", "total"]
    )
    given = {v.curve.task: (v.label, v.p_value) for v in emergence(counts, draws=400).tasks}
    assert {v.curve.task: (v.label, v.p_value) for v in emergence(plain, draws=400).tasks} == given


def test_no_fitted_curve_leaves_what_a_score_can_be() -> None:
    # The last rise is steep: a ramp through it would end above 1.
    steep = np.where(X < 0.6, 0.0, np.where(X < 0.7, 0.45, 1.0))
    found = emergence(scores({"steep": steep, "fall": 1 - steep}, 400), draws=400)
    for verdict in found.tasks:
        assert verdict.fitted.min() >= 0 and verdict.fitted.max() <= 1
        assert abs(verdict.effect) <= 1


def bad(**change: object) -> pd.DataFrame:
    table = scores({"a": CURVES["flat"]}).astype(object)
    for column, value in change.items():
        table.loc[4, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (bad(total=0), ["row 4", "total is 0"]),
        (bad(correct=1001), ["row 4", "correct is 1001", "total"]),
        (bad(correct=-1), ["row 4", "correct is -1"]),
        (bad(chance=1.0), ["row 4", "chance is 1"]),
        (bad(size="big"), ["row 4", "size is 'big'", "number"]),
        (bad(correct="n/a"), ["row 4", "correct is missing"]),
        (bad(size=SIZES[3]), ["row 4", "second row"]),
        (bad(chance=0.5), ["row 4", "chance is 0.5"]),
        (bad(shortcut=1.5), ["row 4", "shortcut is 1.5", "0..1"]),
        (bad(shortcut=-0.1), ["row 4", "shortcut is -0.1"]),
        (bad(shortcut="ngram"), ["row 4", "shortcut is 'ngram'", "number"]),
        (scores({"a": CURVES["flat"]}).iloc[:1], ["row 0", "only size"]),
        (scores({"a": CURVES["flat"]}).drop(columns="total"), ["correct, total or score, stderr"]),
    ],
)
def test_bad_rows_are_named(table: pd.DataFrame, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        emergence(table)
    for word in words:
        assert word in str(error.value)
