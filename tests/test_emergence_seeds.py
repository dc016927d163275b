"""Seeds that disagree: a jump in each of them, a slope in all of them, a jump that one of them carries."""

import numpy as np
import pandas as pd
import pytest
from made_curves import CURVES, SIZES, X, classes, scores

from analysis import UserError, emergence
from analysis.detection.emergence import Emergence, Verdict


def of_seeds(curves: dict[str, list[np.ndarray]], items: int = 200, scatter: float = 0.0) -> pd.DataFrame:
    """Counts of tasks with a curve for each seed."""
    parts = []
    for seed in range(len(next(iter(curves.values())))):
        mine = {task: of_task[seed] for task, of_task in curves.items()}
        parts.append(scores(mine, items, seed=seed, scatter=scatter).assign(seed=seed))
    return pd.concat(parts, ignore_index=True)


def codes(verdict: Verdict) -> list[str]:
    return [warning.code for warning in verdict.warnings]


def by_name(found: Emergence) -> dict[str, Verdict]:
    return {verdict.curve.task: verdict for verdict in found.tasks}


def test_a_jump_of_every_seed_at_its_own_size_is_emergent_over_a_range() -> None:
    jumps = [0.25 + 0.6 * (at < X) for at in (0.5, 0.68, 0.93)]
    table = of_seeds({"apart": jumps, "flat": [CURVES["flat"]] * 3, "line": [CURVES["smooth_line"]] * 3})
    found = by_name(emergence(table, draws=1000))
    apart = found["apart"]
    assert apart.label == "emergent" and codes(apart) == ["seeds_differ"]
    assert apart.threshold_interval is not None and apart.threshold is not None
    low, high = apart.threshold_interval
    # Each seed's gap is reached into, and the threshold is the middle seed's.
    assert low < SIZES[6] and high > SIZES[10]
    assert SIZES[7] <= apart.threshold <= SIZES[8]
    seeds = apart.to_json()["seeds"]
    assert [entry["class"] for entry in seeds] == ["emergent"] * 3
    assert [entry["seed"] for entry in seeds] == ["0", "1", "2"]
    assert (found["flat"].label, found["line"].label) == ("flat", "smooth")
    # The mean alone, as one run, is a slope: the seeds decided.
    mean = (
        table[table["task"] == "apart"].groupby(["task", "size"], as_index=False)[["correct", "total"]].sum()
    )
    assert classes(emergence(mean, draws=1000)) == {"apart": "smooth"}


def test_slopes_whose_seeds_scatter_are_no_jumps() -> None:
    rng = np.random.default_rng(5)
    curves = {
        f"{name}_{number}": [
            CURVES[name] + rng.normal(0, 0.05, len(X)) + rng.normal(0, 0.03) for _ in range(3)
        ]
        for name in ("smooth_line", "smooth_logistic", "flat")
        for number in range(8)
    }
    assert "emergent" not in classes(emergence(of_seeds(curves), draws=1000)).values()


def test_a_jump_at_sizes_of_one_seed_is_said_to_hang_on_it() -> None:
    jump = CURVES["emergent_last"] + 0.4 * (X > 0.9)
    early = 0.25 + 0.5 * (X > 0.6)
    table = of_seeds({"lone": [jump] * 3, "shared": [early] * 3})
    table = table[(table["seed"] == 0) | (table["size"] < SIZES[9])]
    found = by_name(emergence(table, draws=1000))
    assert found["lone"].label == "emergent" and codes(found["lone"]) == ["one_seed"]
    assert "only seed 0" in found["lone"].warnings[0].message
    assert "only seed 0" in emergence(table, draws=1000).summary()
    # This one is seen in all seeds, at sizes that all of them have.
    assert found["shared"].label == "emergent" and not codes(found["shared"])


def test_with_one_run_a_size_a_jump_says_so_and_a_slope_need_not() -> None:
    found = by_name(emergence(scores(CURVES), draws=1000))
    for name, verdict in found.items():
        assert ("one_seed" in codes(verdict)) == (verdict.label == "emergent"), name
        assert verdict.to_json()["seeds"] is None


def test_items_asked_twice_count_once() -> None:
    once = scores(CURVES, 100, seed=4)
    twice = once.assign(correct=2 * once["correct"], total=200, different_items=100)
    assert emergence(twice, draws=400).to_json() == emergence(once, draws=400).to_json()
    # More different items than items, or no number, change nothing.
    for unlike in (100.0, 5000.0, np.nan):
        same = once.assign(different_items=unlike)
        assert emergence(same, draws=400).to_json() == emergence(once, draws=400).to_json()
    with pytest.raises(UserError, match=r"row 3 .*different_items is 0"):
        emergence(once.assign(different_items=[100.0 if i != 3 else 0.0 for i in range(len(once))]))
