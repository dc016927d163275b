"""The detector on curves whose class is known by construction, and on tables that cannot be."""

import json

import pandas as pd
import pytest
from made_curves import CURVES, SIZES, classes, scores

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
    keys += "metric_induced bimodal success_rate warnings"
    for entry in answer["tasks"]:
        assert list(entry) == keys.split()
        assert (entry["threshold"] is not None) == (entry["class"] == "emergent")
    json.dumps(answer, allow_nan=False)


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
        (bad(correct="n/a"), ["row 4", "correct is 'n/a'"]),
        (bad(size=SIZES[3]), ["row 4", "second row"]),
        (bad(chance=0.5), ["row 4", "chance is 0.5"]),
        (scores({"a": CURVES["flat"]}).iloc[:1], ["row 0", "only size"]),
        (scores({"a": CURVES["flat"]}).drop(columns="total"), ["correct, total or score, stderr"]),
    ],
)
def test_bad_rows_are_named(table: pd.DataFrame, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        emergence(table)
    for word in words:
        assert word in str(error.value)
