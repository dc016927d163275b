"""The runs that a forecast of the largest may use, and which is the largest: the rule, not a choice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_ladder import write_ladder

from analysis import UserError, load_table
from analysis.forecasting.target import CUT, choose_target, law_rows
from analysis.tables.finished import last_rows


@given(
    st.lists(
        st.tuples(st.floats(1e3, 1e9), st.floats(1e4, 1e12), st.floats(0.5, 9.0)), min_size=2, max_size=40
    )
)
@settings(max_examples=100, deadline=None)
def test_the_forecast_never_sees_a_run_above_the_cut_and_always_sees_all_below(rows: list) -> None:
    table = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    target = choose_target(table)
    if target is None:
        assert table.params.nunique() < 2
        return
    assert target.params == table.params.max()
    assert (target.below["flops"] <= target.flops / CUT).all()
    flops = 6 * table.params * table.tokens
    assert len(target.below) == (flops <= target.flops / CUT).sum()


def test_every_seed_of_the_target_counts(tmp_path: Path) -> None:
    table = load_table(write_ladder(tmp_path / "made", widths=(16, 128)))
    target = choose_target(table)
    assert target is not None
    top = table[table.final & (table.params == table.params.max())]
    assert target.tokens == top.tokens.max()
    assert len(target.losses) == 3
    assert target.measured == pytest.approx(top.loss[top.tokens == top.tokens.max()].mean())
    assert target.note == ""


def test_skipped_steps_do_not_split_the_targets_seeds() -> None:
    table = pd.DataFrame(
        {
            "params": [1e3] * 4 + [1e6] * 3,
            "tokens": [1e5] * 4 + [9.99e6, 1e7, 9.98e6],
            "loss": [3.0] * 4 + [2.0, 2.1, 2.2],
            "seed": [0, 1, 2, 3, 0, 1, 2],
        }
    )
    target = choose_target(table)
    assert target is not None
    assert target.losses == (2.0, 2.1, 2.2)


def test_a_target_that_diverged_is_replaced_and_said(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 128), seeds=(0,), diverge=[(128, 0)])
    target = choose_target(load_table(folder))
    assert target is not None
    assert "did not finish (1 diverged)" in target.note


def test_only_finished_horizons_are_rows_of_a_law(tmp_path: Path) -> None:
    table = load_table(write_ladder(tmp_path / "made", widths=(16, 24), seeds=(0,), diverge=[(24, 0)]))
    rows = law_rows(table).rows
    assert set(rows.kind) == {"branch"}
    assert set(rows.outcome) == {"done"}
    assert len(rows) == 5
    assert len(last_rows(table)) == 8


def test_a_plain_table_is_taken_whole_with_6nd() -> None:
    rows = law_rows(pd.DataFrame({"params": [1e6, 2e6], "tokens": [1e8, 1e8], "loss": [3.0, 2.9]})).rows
    assert np.allclose(rows.flops, [6e14, 12e14])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"param": [1.0], "tokens": [1.0], "loss": [1.0]}, "did you mean param"),
        ({"params": [1.0], "tokens": [1.0]}, 'columns="loss=COLUMN"'),
        ({"params": [1.0, 2.0], "tokens": ["1", "many"], "loss": [1.0, 1.0]}, "row 1: tokens is 'many'"),
    ],
)
def test_missing_columns_and_text_are_named(table: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        law_rows(pd.DataFrame(table))
