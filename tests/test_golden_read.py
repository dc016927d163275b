"""The other side of the contract: what analysis reads from the golden run folder, number by number.

The folder is written by test_golden_write.py with lmscale's own writers. It is copied before it is read, for
reading an experiment keeps its tables beside it.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis import load_table


@pytest.fixture(params=["golden", "golden_2"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Folders of two layouts of spec.json: the first of 22 November 2026, the second with its shape nested."""
    return Path(shutil.copytree(Path(__file__).parent / request.param, tmp_path / "golden"))


def _only(rows: pd.DataFrame) -> pd.Series:
    assert len(rows) == 1
    return rows.iloc[0]


def test_runs(golden: Path) -> None:
    table = load_table(golden)
    assert table.attrs["problems"] == []
    assert len(table) == 5
    row = _only(table[table.final])
    trunk = _only(table[(table.kind == "trunk") & (table.step == 200)])
    assert row["group"] == trunk.run_id
    assert (row.kind, row.outcome, row.seed, row.dial, row.d_model, row.n_layer) == (
        "branch",
        "done",
        3,
        8,
        8,
        2,
    )
    assert (row.n_head, row.d_head, row.context, row.vocab_size) == (1, 8, 64, 260)
    assert (row.step, row.tokens, row.horizon_tokens, row.skipped_steps) == (100, 49_500, 50_000, 1)
    assert (row.params, row.params_nonembedding, row.params_active_matmul) == (5768, 1608, 3688)
    assert (row.params_embedding, row.params_unembedding) == (2080, 2080)
    # Three forward passes of 2 (512 + 1024 + 2080) for the weights and 2 layers x 2 products x 2 x 64 x 8 for the
    # attention scores of every pair of positions.
    assert row.flops == 3 * (2 * 3616 + 2 * 2 * 2 * 64 * 8) * 49_500
    assert row.flops_6nd == 6 * 5768 * 49_500
    assert row.flops_6nd_nonembedding == 6 * 1608 * 49_500
    assert row.unique_tokens == 9_187_024
    assert row.learning_rate == 0.08
    assert (row.loss, row.loss_text, row.loss_parity) == (2.375, 2.375, 0.72)
    assert row.loss_total == pytest.approx(0.75 * 2.375 + 0.25 * 0.72, rel=1e-12)
    assert row["loss_text.letter"] + row["loss_text.other"] == pytest.approx(2.375, rel=1e-12)


def test_a_diverged_run_stays_and_is_not_final(golden: Path) -> None:
    table = load_table(golden)
    row = _only(table[table.outcome == "diverged"])
    assert not row.final
    assert row.horizon_tokens == 100_000
    assert "not finite or spiked" in row.reason


def test_tasks(golden: Path) -> None:
    tasks = load_table(golden, kind="tasks")
    assert len(tasks) == 10
    final = tasks[tasks.final].set_index("variant")
    direct, chain = final.loc["direct"], final.loc["chain"]
    assert (direct.total, direct.correct, direct.task, direct["size"]) == (60, 31, "parity", 1608)
    assert (direct.nll, direct.brier, direct.byte_accuracy) == (0.6931471805599453, 0.5, 31 / 60)
    assert pd.isna(chain.brier)
    assert (direct.chance, chain.chance) == (0.5, 0.25)
    assert (direct.intended_class, chain.intended_class) == ("flat", "emergent")
    assert (direct.loss, direct.tokens, direct.params) == (2.375, 49_500, 5768)


def test_runs_of_either_layout_are_of_one_science(tmp_path: Path) -> None:
    """A folder that was grown by a later version holds both."""
    tables = [
        load_table(shutil.copytree(Path(__file__).parent / name, tmp_path / name))
        for name in ("golden", "golden_2")
    ]
    first, second = (table.set_index(["run_id", "step"])["science"].to_dict() for table in tables)
    assert first == second
