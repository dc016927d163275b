"""Tables as people and harnesses write them: read rightly, or refused in one line that says what to do.

Each test names the row of the list of cases that it stands for; the inputs are made here.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_curves import CURVES, SIZES, X, classes, scores
from made_ladder import write_ladder

from analysis import UserError, emergence, load_table
from analysis.cli import main
from analysis.detection.direction import lower_is_better

JUMP, SLOPE = 0.25 + 0.5 * (X > 0.6), 0.25 + 0.5 * X


def scored(curves: dict[str, np.ndarray], items: int = 800, seed: int = 0) -> pd.DataFrame:
    """Scores with the standard errors that harnesses print."""
    table = scores(curves, items, seed)
    score = table["correct"] / table["total"]
    error = np.sqrt(score * (1 - score) / items)
    return table[["task", "size"]].assign(score=score, stderr=error)


def refused(table: pd.DataFrame, **options: object) -> str:
    """The one line that refuses the table."""
    with pytest.raises(UserError) as error:
        emergence(table, draws=100, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value) and "nan" not in str(error.value)
    return str(error.value)


# --- runs without seeds -------------------------------------------------------------------------------------


def replicates(seeds: int = 3) -> pd.DataFrame:
    parts = [scores({"copy": JUMP}, 400, seed=s).assign(seed=s, tokens=2e9) for s in range(seeds)]
    return pd.concat(parts, ignore_index=True)


def test_seeds_as_run_ids_are_seeds() -> None:
    with_seeds = replicates()
    names = [f"run-{s}-{size:.0f}" for s, size in zip(with_seeds["seed"], with_seeds["size"], strict=True)]
    found = emergence(with_seeds.drop(columns="seed").assign(run_id=names), draws=400)
    (verdict,) = found.tasks
    assert verdict.label == "emergent" and verdict.curve.most_seeds == 3
    assert not [w for w in verdict.warnings if w.code == "one_seed"]
    assert np.nansum(verdict.curve.items) == 3 * len(SIZES) * 400
    assert "36 runs" in found.notes[0] and found.notes[0] in found.summary()


def test_seeds_as_run_ids_that_go_on_over_sizes_are_the_same_seeds() -> None:
    with_seeds = replicates()
    named = with_seeds.assign(run_id="replicate " + with_seeds["seed"].astype(str)).drop(columns="seed")
    given, told = (emergence(t, draws=400).to_json()["tasks"][0] for t in (with_seeds, named))
    assert {key: told[key] for key in ("class", "p_value", "effect")} == {
        key: given[key] for key in ("class", "p_value", "effect")
    }


def test_two_runs_of_one_seed_and_horizon_are_not_dropped_in_silence() -> None:
    table = replicates(1)
    twice = pd.concat(
        [table.assign(run_id="a", rate=0.1), table.assign(run_id="b", rate=0.2)], ignore_index=True
    )
    said = refused(twice)
    assert "second row" in said and "differs from row 0 in run_id, rate" in said


def test_shorter_horizons_are_counted_and_named() -> None:
    table = replicates(1).drop(columns="seed").assign(run_id=[f"long {k}" for k in range(12)])
    short = table.assign(run_id=[f"short {k}" for k in range(12)], tokens=1e9, correct=0)
    found = emergence(pd.concat([table, short], ignore_index=True), draws=100)
    assert [(out.reason, len(out.rows)) for out in found.left_out] == [
        ("a shorter horizon of the same size and seed", 12)
    ]
    assert "12 rows left out: a shorter horizon" in found.summary()
    assert found.to_json()["rows_left_out"][0]["count"] == 12


def test_a_column_that_tells_runs_apart_is_named() -> None:
    table = replicates().rename(columns={"seed": "trial"})
    assert 'columns="seed=trial"' in refused(table)


def test_duplicated_rows_are_refused_with_both_rows() -> None:
    table = scores({"a": JUMP})
    said = refused(pd.concat([table, table.iloc[[4]]], ignore_index=True))
    assert "row 12" in said and "repeats row 4" in said


def test_one_size_leaves_the_task_out_and_says_so() -> None:
    table = pd.concat([scores({"a": JUMP}), scores({"lone": JUMP}).iloc[[3]]], ignore_index=True)
    found = emergence(table, draws=100)
    assert [v.curve.task for v in found.tasks] == ["a"]
    assert [(out.reason, out.rows) for out in found.left_out] == [("the only size of its task", (12,))]


# --- less is better ------------------------------------------------------------------------------------------

LESS = """
    ter wer cer mer TER word_error_rate CharErrorRate mae mse rmse edit_distance edit-distance levenshtein
    bits_per_byte bpb bits/byte val_loss loss.val nll_per_token ppl perplexity brier_score top1_error error@1 mse10
    wmt16_ter match_error_rate negative_log_likelihood one_minus_accuracy 1-acc kl_divergence error_probability"""
MORE = """
    glosses_f1 orbits_acc error_correction_acc lossless_match acc acc_norm exact_match bleu4 rouge1 f1
    error_f1 interference terms_recall cerebral_acc neg_log_loss neg_mean_squared_error 1-wer 1-shot_acc
    perplexity_reduction brier_skill_score pass@1 mercy maelstrom winograd hotpot_em score interest lossy2_acc"""


@pytest.mark.parametrize("metric", LESS.split())
def test_ter_and_its_kin_are_less_is_better(metric: str) -> None:
    assert lower_is_better(metric)


@pytest.mark.parametrize("metric", [*MORE.split(), ""])
def test_ter_as_part_of_a_word_says_nothing(metric: str) -> None:
    assert not lower_is_better(metric)


def test_falling_errors_are_gains_and_falling_accuracies_are_not() -> None:
    fall = pd.concat(
        [
            scored({"t": 1 - JUMP}).assign(metric=metric, stderr=0.01)
            for metric in ("wer", "orbits_acc", "edit_distance")
        ],
        ignore_index=True,
    )
    found = {v.curve.metric: v for v in emergence(fall, draws=400).tasks}
    assert {m: v.label for m, v in found.items()} == {
        "wer": "emergent",
        "orbits_acc": "inverse",
        "edit_distance": "emergent",
    }
    assert found["wer"].effect == pytest.approx(-0.5, abs=0.05)


def test_counts_of_mistakes_are_judged_as_the_counts_of_what_is_right() -> None:
    right = scores({"t": JUMP}, 300).assign(metric="acc")
    wrong = right.assign(metric="error_rate", correct=right["total"] - right["correct"], chance=0.75)
    given, told = (emergence(t, draws=400).tasks[0] for t in (right, wrong))
    assert (told.label, told.threshold, told.effect) == (given.label, given.threshold, -given.effect)
    assert told.curve.chance == given.curve.chance == 0.25 and not told.warnings[1:]


def test_an_option_says_what_a_name_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = scored({"t": 1 - JUMP}).assign(metric="gap", stderr=0.01)
    assert emergence(table, draws=100).tasks[0].label == "inverse"
    assert emergence(table, draws=400, lower_is_better=["gap"]).tasks[0].label == "emergent"
    table.assign(metric="wer").to_csv(tmp_path / "t.csv", index=False)
    command = ["emergence", str(tmp_path / "t.csv"), "--draws", "100", "--json", str(tmp_path / "a.json")]
    assert main([*command, "--higher-is-better", "wer"]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["tasks"][0]["class"] == "inverse"
    capsys.readouterr()
    assert main([*command, "--higher-is-better", "cer"]) == 2
    assert "'cer' is no metric of the table; it has wer" in capsys.readouterr().err
    assert "give it once" in refused(table, lower_is_better=["gap"], higher_is_better=["gap"])
    # Where the table names no metric, the task is named.
    assert (
        emergence(table.drop(columns="metric"), draws=400, lower_is_better=["t"]).tasks[0].label == "emergent"
    )


# --- what an answer must not hold ------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [[4], [0, 1, 2], range(11), range(12)])
def test_loss_holes_are_null_and_never_a_traceback(holes: list[int]) -> None:
    parts = [
        scores({"jump": JUMP, "slope": SLOPE}, 500, seed=i).assign(tokens=tokens, run_id=f"{tokens:.0f}")
        for i, tokens in enumerate((1e9, 1e10))
    ]
    table = pd.concat(parts, ignore_index=True)
    table["run_id"] += "/" + table["size"].astype(str)
    table["loss"] = 5 - 0.2 * np.log(table["size"])
    table.loc[table["size"].isin(SIZES[list(holes)]), "loss"] = np.nan
    table.loc[table.index[3], "loss"] = np.inf
    answer = emergence(table, draws=100).to_json()
    json.dumps(answer, allow_nan=False)
    assert [t["class"] for t in answer["tasks"]] == ["emergent", "smooth"]


def test_a_loss_that_never_changes_lines_nothing_up() -> None:
    table = pd.concat(
        [scores({"t": SLOPE}).assign(tokens=t, loss=3.0, run_id=f"{t}") for t in (1.0, 2.0)],
        ignore_index=True,
    )
    table["run_id"] += table["size"].astype(str)
    (alignment,) = emergence(table, draws=100).to_json()["score_against_loss"]
    assert alignment["lines_up"] is None and alignment["spread_loss"] is None


def test_negative_zero_is_zero() -> None:
    table = scored({"t": np.zeros(12)}).assign(stderr=0.0, chance=-0.0)
    table["score"] = -table["score"]
    table.loc[11, ["score", "stderr"]] = 0.4, 0.02
    answer = emergence(table, draws=100)
    assert "-0" not in json.dumps(answer.to_json()).replace("e-0", "")
    assert "-0.000" not in answer.summary()


# --- scores without a usable error ------------------------------------------------------------------------------


def test_lmeval_na_names_the_filter() -> None:
    table = scored({"a": JUMP, "b": SLOPE})
    table.loc[15:, "stderr"] = np.nan
    said = refused(table)
    assert "row 15" in said and 'where="stderr >= 0"' in said and "9 such rows" in said and "total" in said
    found = emergence(table[table["stderr"] >= 0], draws=100)
    assert len(found.tasks) == 2
    table.loc[15:, "total"] = 800
    assert [v.curve.task for v in emergence(table, draws=100).tasks] == ["a", "b"]


def test_no_stderr_says_how_to_give_the_number_of_questions() -> None:
    table = scored({"a": JUMP}).drop(columns="stderr")
    said = refused(table)
    assert "total" in said and "stderr" in said
    assert 'columns="total=n_samples"' in refused(table.assign(n_samples=800))
    # A score and the number of questions behind it are counts.
    counts = scores({"a": JUMP}, 800)
    given, told = (
        emergence(t, draws=400).to_json()["tasks"] for t in (counts, table.assign(total=800, chance=0.25))
    )
    assert told == given


@pytest.mark.parametrize("rows", [slice(None), slice(2, 5)])
def test_stderr_zero_is_never_taken_for_exact(rows: slice) -> None:
    table = scored({"hard": 0.33 - 0.03 * X}, 120)
    table.loc[table.index[rows], "stderr"] = 0.0
    said = refused(table)
    assert "stderr is 0 at score 0.3" in said and "total" in said and 'where="stderr > 0"' in said


def test_stderr_zero_at_the_ends_is_what_harnesses_print() -> None:
    table = scored({"t": np.where(X > 0.6, 1.0, 0.0)}, 100)
    table.loc[5, ["score", "stderr"]] = 0.04, np.sqrt(0.04 * 0.96 / 100)
    (verdict,) = emergence(table, draws=400).tasks
    assert verdict.label == "emergent" and np.nanmedian(verdict.curve.items) == 100


def test_stderr_right_is_judged_by_its_size() -> None:
    (verdict,) = emergence(scored({"hard": np.full(12, 0.32)}, 120), draws=400).tasks
    assert verdict.label == "flat"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stderr": 1e-12}, "no measured score is exact"),
        ({"stderr": 1.4}, "stderr is 1.4; a score in 0..1 has .5 at most"),
        ({"stderr": -0.01}, "stderr is -0.01"),
        ({"score": np.inf}, "score is inf"),
        ({"score": np.nan}, "score is missing"),
    ],
)
def test_errors_that_no_score_has(change: dict[str, float], words: str) -> None:
    table = scored({"t": SLOPE})
    for name, value in change.items():
        table.loc[4, name] = value
    said = refused(table)
    assert words in said and "row 4" in said


# --- percentages --------------------------------------------------------------------------------------------------


def percent(table: pd.DataFrame, rows: slice = slice(None)) -> pd.DataFrame:
    scaled = table.copy()
    scaled.loc[table.index[rows], ["score", "stderr"]] *= 100
    return scaled


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (percent(scored({"t": JUMP})).assign(chance=25), "divide score, stderr and chance by 100"),
        (percent(scored({"t": JUMP})).assign(chance=0.25), "above 1, but chance is a share: divide"),
        (percent(scored({"t": JUMP})), "stderr is that of a percentage"),
        (
            percent(scored({"t": JUMP})).assign(metric="acc"),
            "acc lies in 0..1: divide score and stderr by 100",
        ),
        (percent(scored({"t": JUMP}), slice(6, 9)), "a percentage, where other rows of the task are shares"),
        (percent(scored({"t": JUMP}), slice(6, 9)).assign(metric="exact_match"), "exact_match lies in 0..1"),
        (scored({"t": JUMP}).assign(chance=25), "divide a percentage by 100"),
        (scored({"t": JUMP}).assign(shortcut=30), "shortcut is 30; a level in 0..1 would be right: divide"),
        (
            scores({"t": JUMP}).assign(score=lambda t: 100 * t.correct / t.total).drop(columns="correct"),
            "divide",
        ),
    ],
)
def test_percent_chance_and_mixed_units_are_refused(table: pd.DataFrame, words: str) -> None:
    said = refused(table)
    assert words in said and "row " in said


def test_scores_that_are_no_share_keep_their_unit() -> None:
    bleu = scored({"t": JUMP}).assign(metric="bleu", stderr=0.6)
    bleu["score"] *= 100
    (verdict,) = emergence(bleu, draws=400).tasks
    assert verdict.label == "emergent" and verdict.effect == pytest.approx(50, abs=4)


# --- counts ------------------------------------------------------------------------------------------------------


def test_n_as_a_float_is_a_number_and_half_a_question_is_none() -> None:
    table = scores({"t": JUMP}, 400)
    floats = table.assign(total=400.0, correct=table["correct"].astype(float))
    assert emergence(floats, draws=100).to_json() == emergence(table, draws=100).to_json()
    assert "total is 400.5; a whole number" in refused(table.assign(total=400.5))
    assert "total is 0.4" in refused(table.assign(total=0.4, correct=0.1))
    assert "total is inf" in refused(table.assign(total=np.inf))


def test_a_share_called_correct_is_told_from_a_count() -> None:
    table = scores({"t": JUMP}, 400)
    said = refused(table.assign(correct=table["correct"] / 400))
    assert 'columns="score=correct"' in said


def test_counts_beside_scores_in_one_task_are_all_used() -> None:
    table = scores({"t": JUMP}, 400)
    rate = table["correct"] / 400
    half = table.assign(score=rate, stderr=np.sqrt(rate * (1 - rate) / 400))
    half.loc[half.index[::2], ["correct", "total"]] = np.nan
    half.loc[half.index[1::2], ["score", "stderr"]] = np.nan
    (verdict,) = emergence(half, draws=400).tasks
    assert verdict.label == "emergent" and np.isfinite(verdict.curve.score).all()
    assert verdict.curve.items == pytest.approx(np.full((1, 12), 400), rel=0.1)


def test_sizes_as_text_are_numbers_or_refused(tmp_path: Path) -> None:
    sizes = ["70m", "160M", "410M", "1B", "1.4B", "2.8B", "6.9B", "12B"]
    table = scores({"t": JUMP}, 400).iloc[:8].assign(size=sizes)
    table.to_csv(tmp_path / "t.csv", index=False)
    (verdict,) = emergence(load_table(tmp_path / "t.csv"), draws=100).tasks
    assert verdict.curve.size.tolist() == [70e6, 160e6, 410e6, 1e9, 1.4e9, 2.8e9, 6.9e9, 12e9]
    said = refused(table.assign(size="pythia-" + table["size"]))
    assert "size is 'pythia-70m'" in said


# --- names of columns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ({"score": "acc", "stderr": "acc_stderr"}, "score=acc,stderr=acc_stderr"),
        ({"score": "acc,none", "stderr": "acc_stderr,none"}, "score=acc,none,stderr=acc_stderr,none"),
        ({"score": "f1", "stderr": "f1_se", "size": "n_params"}, "size=n_params,score=f1,stderr=f1_se"),
        ({"task": "benchmark"}, "task=benchmark"),
    ],
)
def test_harness_columns_are_named_in_the_remedy(names: dict[str, str], hint: str) -> None:
    assert f'columns="{hint}"' in refused(scored({"t": JUMP}).rename(columns=names))


def test_a_folder_read_as_runs_says_how_to_read_its_tasks(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24), seeds=(0,))
    said = refused(load_table(folder))
    assert f'load_table("{folder}", kind="tasks")' in said
    assert emergence(load_table(folder, kind="tasks"), draws=100).tasks


# --- anything else ------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(
        ["size", "score", "stderr", "chance", "total", "loss", "tokens", "nll", "seed", "ceiling"]
    ),
    st.lists(st.integers(0, 11), min_size=1, max_size=12),
    st.sampled_from(
        [0.0, -0.0, 1.0, -1.0, 0.5, 25.0, 1e-300, 1e300, np.inf, -np.inf, np.nan, 2**70, True, None]
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_mangled_table_is_read_or_refused_in_one_line(column: str, rows: list[int], value: object) -> None:
    table = scored({"t": SLOPE}, 400).astype(object)
    table[["chance", "loss", "nll", "tokens", "seed"]] = 0.25, 3.0, 2.0, 1e9, 0
    if column not in table.columns:
        table[column] = 0.9 if column == "ceiling" else 400
    table = table.astype(object)
    table.loc[rows, column] = value
    try:
        found = emergence(table, draws=20)
    except UserError as error:
        assert "\n" not in str(error)
        return
    json.dumps(found.to_json(), allow_nan=False)
    assert classes(found)["t"]
    assert CURVES
