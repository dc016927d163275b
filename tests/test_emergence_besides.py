"""Two scores of the same outputs, variants side by side, loss, take-off from below, BIG-bench's measures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_curves import CURVES, SIZES, X, classes, scores

from analysis.cli import main
from analysis.detection.curves import expand_metrics
from analysis.detection.emergence import emergence
from analysis.detection.metrics import published
from analysis.detection.twins import by_shots, related
from analysis.tables.run_folder import answer_lengths


def outputs(byte: np.ndarray, length: int, items: int = 400, seed: int = 0) -> pd.DataFrame:
    """Byte accuracy and exact match of the same simulated answers of `length` bytes."""
    right = np.random.default_rng(seed).random((len(X), items, length)) < byte[:, None, None]
    rows = []
    for k, size in enumerate(SIZES):
        rows.append(("exact_match", size, right[k].all(-1).sum()))
        rows.append(("byte_accuracy", size, right[k].mean() * items))
    table = pd.DataFrame(rows, columns=["metric", "size", "correct"])
    return table.assign(task="answers", total=items)


def test_a_jump_of_the_metric_and_a_jump_of_the_model() -> None:
    slope = emergence(outputs(0.3 + 0.67 * X, 12), draws=1000, lengths={("answers", ""): 12.0})
    exact, byte = slope.tasks
    assert (exact.label, exact.metric_induced) == ("emergent", True)
    assert (byte.label, byte.metric_induced) == ("smooth", None)
    said = next(w.message for w in exact.warnings if w.code == "metric_induced")
    assert "byte_accuracy" in said and "power 12 is this score" in said
    jump = emergence(outputs(0.3 + 0.67 * (X > 0.7), 12), draws=1000)
    assert {(v.label, v.metric_induced) for v in jump.tasks} == {("emergent", False)}


def test_the_length_is_found_where_it_is_not_given() -> None:
    found = emergence(outputs(0.3 + 0.67 * X, 6, items=3000), draws=400)
    said = next(w.message for w in found.tasks[0].warnings if w.code == "metric_induced")
    power = float(said.split("power ")[1].split()[0])
    assert 5.5 <= power <= 6.5


def test_items_give_the_length(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    np.savez(folder / "items.npz", **{"copy/direct/answer_bytes": np.full(10, 12, np.uint8)})
    assert answer_lengths(folder.parent) == {("copy", "direct"): 12.0}


def test_a_run_folders_rows_become_one_a_metric() -> None:
    row = {"task": "copy", "size": 1.0, "total": 10, "correct": 1, "byte_accuracy": 0.5, "chance": 0.1}
    table = expand_metrics(pd.DataFrame([row, row | {"size": 2.0, "byte_accuracy": np.nan}]))
    assert table["metric"].tolist() == ["exact_match", "exact_match", "byte_accuracy"]
    assert table["correct"].tolist() == [1, 1, 5]


def test_twins_say_where_the_chain_begins_to_help() -> None:
    chain = np.where(X > 0.5, 0.25 + 0.9 * (X - 0.5), 0.25)
    direct = CURVES["flat"]
    parts = [
        scores({"parity": y}, 1000, seed=i).assign(variant=v)
        for i, (v, y) in enumerate([("chain", chain), ("direct", direct)])
    ]
    (twin,) = emergence(pd.concat(parts, ignore_index=True), draws=400).twins
    assert (twin.reference, twin.variant) == ("direct", "chain")
    assert twin.hurts_from is None and twin.reference_above_chance_from is None
    assert twin.helps_from is not None and SIZES[6] <= twin.helps_from <= SIZES[8]
    assert twin.above_chance_from is not None and SIZES[6] <= twin.above_chance_from <= SIZES[8]


def test_a_task_solved_another_way_is_compared_where_guessers_score_alike() -> None:
    steps = np.where(X > 0.6, 0.95, 0.5)
    parts = [
        scores({"parity_12": np.full(12, 0.5)}, 1000, seed=0).assign(variant="direct", chance=0.5),
        scores({"parity_chain_12": steps}, 1000, seed=1).assign(variant="greedy", chance=0.5),
        scores({"parity_chain_12": steps - 0.5}, 1000, seed=2).assign(variant="chain", chance=0.0),
        scores({"parity_other_12": steps}, 1000, seed=3).assign(variant="direct", chance=0.5),
    ]
    (twin,) = emergence(pd.concat(parts, ignore_index=True), draws=400).twins
    assert (twin.task, twin.reference, twin.variant) == ("parity_12", "direct", "parity_chain_12 (greedy)")
    assert twin.helps_from == SIZES[7]


def test_flipped_labels_hurt_until_they_are_followed() -> None:
    # A small model guesses, a middling one says what it knows, a large one follows the flipped examples.
    flipped = np.interp(X, [0, 0.3, 0.6, 1], [0.5, 0.1, 0.1, 0.95])
    gold = np.interp(X, [0, 0.3, 1], [0.5, 0.95, 0.95])
    parts = [
        scores({"labels": y}, 1000, seed=i).assign(variant=v, chance=0.5)
        for i, (v, y) in enumerate([("flipped", flipped), ("gold", gold)])
    ]
    (twin,) = emergence(pd.concat(parts, ignore_index=True), draws=400).twins
    assert (twin.reference, twin.variant) == ("gold", "flipped")
    # The gap of .16 a size is seen at the second; chance is passed again at x = .79 (size 8.7).
    assert twin.hurts_from == SIZES[1]
    assert twin.above_chance_from in (SIZES[9], SIZES[10])
    assert "flipped is above chance from" in twin.sentence()


def test_the_verb_writes_the_contract_and_the_pictures(tmp_path: Path) -> None:
    parts = [
        scores({"parity": CURVES[c]}, 300, seed=i).assign(variant=v, loss=5 - 3 * np.tile(X, 1))
        for i, (v, c) in enumerate([("chain", "emergent_step"), ("direct", "flat")])
    ]
    pd.concat(parts).to_csv(tmp_path / "t.csv", index=False)
    command = ["emergence", str(tmp_path / "t.csv"), "--json", str(tmp_path / "a.json"), "--draws", "400"]
    assert main([*command, "--pictures", str(tmp_path)]) == 0
    answer = json.loads((tmp_path / "a.json").read_text())
    assert [(t["task"], t["variant"], t["class"]) for t in answer["tasks"]] == [
        ("parity", "chain", "emergent"),
        ("parity", "direct", "flat"),
    ]
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"emergence_curves.png", "emergence_twins.png", "emergence_against_loss.png"}
    assert main([*command, "--pictures", str(tmp_path / "nowhere")]) == 2


def ladder(in_loss: bool) -> pd.DataFrame:
    """Three horizons; the score is a function of loss, or of size alone."""
    rng = np.random.default_rng(5)
    rows = []
    for size in SIZES:
        for tokens in (1e9, 1e10, 1e11):
            loss = 1.5 + 60 * size**-0.25 + 900 * tokens**-0.3
            at = (loss - 2.9) / 0.12 if in_loss else (np.log(3e8) - np.log(size)) / 0.5
            correct = rng.binomial(2000, 0.9 / (1 + np.exp(at)))
            rows.append(("t", size, tokens, loss, correct, 2000, 0.0, f"{size}/{tokens}"))
    columns = ["task", "size", "tokens", "loss", "correct", "total", "chance", "run_id"]
    return pd.DataFrame(rows, columns=columns)


def test_thresholds_line_up_in_loss_where_the_score_is_a_function_of_loss() -> None:
    (aligned,) = emergence(ladder(in_loss=True), draws=400).alignments
    assert aligned.lines_up is True and sum(at is not None for at in aligned.size) >= 2
    (apart,) = emergence(ladder(in_loss=False), draws=400).alignments
    assert apart.lines_up is False


def test_seeds_that_skipped_steps_make_no_horizons_of_their_own() -> None:
    parts = [
        ladder(in_loss=True).assign(seed=seed, tokens=lambda t, s=seed: t["tokens"] - 1000 * s)
        for seed in (0, 1)
    ]
    both = pd.concat(parts, ignore_index=True)
    both["run_id"] = both["run_id"] + "/" + both["seed"].astype(str)
    (aligned,) = emergence(both, draws=400).alignments
    assert len(aligned.tokens) == 3 and aligned.lines_up is True


def below(nll: np.ndarray, exact: np.ndarray) -> pd.DataFrame:
    table = scores({"answers": exact}, 2000).assign(chance=0.0)
    return table.assign(nll=nll)


def test_take_off_is_said_from_below_and_checked_where_the_table_goes_on() -> None:
    # The answers' NLL falls by a straight line; greedy answers are right with probability exp(-nll / 1.5),
    # which is .1 at x = 0.871.
    nll = 20 - 19 * X + np.random.default_rng(0).normal(0, 0.2, len(X))
    table = below(nll, np.exp(-np.maximum(20 - 19 * X, 0) / 1.5))
    takes_off = float(np.exp(np.interp(0.871, X, np.log(SIZES))))
    (said,) = emergence(table, draws=400).take_offs
    assert said.size is not None and said.interval is not None and said.observed is not None
    assert said.seen_to < takes_off <= said.observed
    assert said.interval[0] <= takes_off <= said.interval[1]
    # The same from the first half alone, where nothing has happened yet.
    (early,) = emergence(table[table["size"] <= SIZES[6]], draws=400).take_offs
    assert early.observed is None and early.interval is not None
    assert early.interval[0] <= takes_off <= early.interval[1]


def test_take_off_cannot_be_said_from_an_nll_that_does_not_fall() -> None:
    nll = 6.0 + np.random.default_rng(0).normal(0, 0.05, len(X))
    (said,) = emergence(below(nll, np.zeros(len(X))), draws=400).take_offs
    assert said.size is None and "does not fall" in said.reason


def test_a_guessers_nll_promises_no_take_off() -> None:
    # Of four answers the guesser's NLL is log 4, and exp(-nll / 2) would already be .5.
    slope = 1.45 - 0.06 * X + np.random.default_rng(0).normal(0, 0.002, len(X))
    table = scores({"answers": np.full(len(X), 0.25)}, 2000).assign(nll=slope)
    (said,) = emergence(table, draws=400).take_offs
    assert said.size is None or said.size > 2 * SIZES[-1]


def test_lines_that_seldom_fall_leave_numbers_that_json_can_hold() -> None:
    # Straight over all sizes, level over the later ones: half of the resampled lines never cross.
    nll = np.where(X < 0.5, 9 - 6 * X, 6.0) + np.random.default_rng(1).normal(0, 0.05, len(X))
    answer = emergence(below(nll, np.zeros(len(X))), draws=400).to_json()
    json.dumps(answer, allow_nan=False)


def test_big_benchs_measures_and_what_they_miss() -> None:
    # A straight line of K points: range / rms step = range / median step = K - 1.
    line = published(np.linspace(0.2, 0.8, 7))
    assert line.linearity == pytest.approx(6) and line.breakthroughness == pytest.approx(6)
    falling = published(np.linspace(0.8, 0.2, 7))
    assert falling.linearity == pytest.approx(-6)
    step = published(np.array([0.25, 0.26, 0.25, 0.26, 0.25, 0.75]))
    assert step.breakthroughness == pytest.approx(50)
    # One point's noise moves it as a jump would: a flat curve of few items is a breakthrough.
    noise = published(np.array([0.25, 0.251, 0.25, 0.251, 0.25, 0.30]))
    assert noise.breakthroughness == pytest.approx(50)
    assert published(np.array([0.0, 0.0, 0.0, 0.5])).breakthroughness is None


def test_a_score_outside_0_to_1_is_judged_by_its_range() -> None:
    rows = [("t", s, y, 0.05, "nll") for s, y in zip(SIZES, 5 - 3 * (X > 0.7), strict=True)]
    table = pd.DataFrame(rows, columns=["task", "size", "score", "stderr", "metric"])
    found = emergence(table, draws=1000)
    assert classes(found) == {"t": "emergent"}
    assert found.tasks[0].effect == pytest.approx(-3, abs=0.2)
    assert "unbounded_score" in [w.code for w in found.tasks[0].warnings]


def test_shots_crowd_no_twins_out() -> None:
    variants = [f"{base}{shots}" for base in ("frequent", "rare") for shots in ("", "_0_shot", "_k_shot")]
    names = [("sparse_parity", variant) for variant in variants]
    names += [("list_ops_steps", "forced"), ("list_ops_steps", "greedy"), ("list_ops", "direct")]
    names += [("labels", "gold"), ("labels", "one_shot")]
    assert related(names) == [
        [("sparse_parity", "frequent"), ("sparse_parity", "rare")],
        [("list_ops", "direct"), ("list_ops_steps", "forced"), ("list_ops_steps", "greedy")],
        [("labels", "gold"), ("labels", "one_shot")],
    ]
    assert by_shots(names) == [
        [("sparse_parity", base + shots) for shots in ("", "_0_shot", "_k_shot")]
        for base in ("frequent", "rare")
    ]
