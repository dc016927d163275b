"""The detector on curves whose class is known by construction, and on tables that cannot be."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import UserError
from analysis.emergence import emergence

SIZES = np.geomspace(1e6, 1e10, 12)
X = np.linspace(0, 1, 12)


def scores(
    curves: dict[str, np.ndarray], items: int = 1000, seed: int = 0, scatter: float = 0.0
) -> pd.DataFrame:
    """Binomial counts of the curves, one row a task and size."""
    rng = np.random.default_rng(seed)
    rows = []
    for task, curve in curves.items():
        p = np.clip(curve + rng.normal(0, scatter, len(curve)), 0, 1)
        for size, correct in zip(SIZES, rng.binomial(items, p), strict=True):
            rows.append({"task": task, "size": size, "correct": correct, "total": items, "chance": 0.25})
    return pd.DataFrame(rows)


CURVES = {
    "flat": np.full(12, 0.25),
    "flat_above": np.full(12, 0.6),
    "saturated": np.full(12, 0.98),
    "saturated_early": 0.25 + 0.5 * np.minimum(X / 0.2, 1),
    "smooth_line": 0.25 + 0.4 * X,
    "smooth_logistic": 0.25 + 0.5 / (1 + np.exp(-(X - 0.5) / 0.14)),
    "emergent_step": 0.25 + 0.4 * (X > 0.7),
    "emergent_last": 0.25 + 0.2 * (X > 0.95),
    "emergent_hinge": 0.25 + 0.6 * np.maximum(X - 0.6, 0) / 0.4,
    "inverse": 0.6 - 0.3 * X,
    "u_shaped": 0.3 + 0.3 * ((X - 0.5) / 0.5) ** 2,
}


def classes(found: object) -> dict[str, str]:
    return {entry["task"]: entry["class"] for entry in json.loads(json.dumps(found.to_json()))["tasks"]}


@pytest.mark.parametrize(("items", "scatter"), [(1000, 0.0), (1000, 0.015), (300, 0.0)])
def test_classes_of_known_curves(items: int, scatter: float) -> None:
    found = classes(emergence(scores(CURVES, items, seed=3, scatter=scatter)))
    want = {name: "u_shaped" if name == "u_shaped" else name.split("_")[0] for name in CURVES}
    assert found == want


def test_json_is_the_contract() -> None:
    answer = emergence(scores(CURVES)).to_json()
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
