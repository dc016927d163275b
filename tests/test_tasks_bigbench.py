"""BIG-bench JSON: scored as its own rules say, and refused with the example and the reason."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale.data import DataConfig, TasksConfig, open_world
from lmscale.errors import UserError
from lmscale.evaluate import make_evaluator
from lmscale.tasks.bigbench import read

CHOICES = {
    "name": "which is a fruit?",
    "description": "Name the fruit.",
    "preferred_score": "multiple_choice_grade",
    "append_choices_to_input": False,
    "examples": [
        {"input": "one", "target_scores": {"zz": 1, "aaa": 0}},
        {"input": "two", "target_scores": {"aa": 1, "zzz": 0}},
        {"input": "three", "target_scores": {"bb": 0.25, "ccc": 0.5, "zzzzz": 0}},
    ],
}
TEXT = {
    "name": "echo",
    "metrics": ["exact_str_match", "bleu"],
    "examples": [
        {"input": "say a", "target": ["zz", "aa"]},
        {"input": "say b", "target": "ab"},
        {"input": "say c", "target": "aaa"},
    ],
}


def write(folder: Path, value: Any, name: str = "task.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder / name


def prefers(letter: str) -> jax.Array:
    """A model of single bytes that finds one likelier than the others, and a line break after two of them."""
    return jnp.zeros(260).at[ord(letter)].set(2.0)


def unigram(params: Any, tokens: jax.Array) -> jax.Array:
    return jnp.broadcast_to(params, (*tokens.shape, 260))


def test_the_likeliest_choice_earns_what_it_is_worth(tmp_path: Path) -> None:
    path = write(tmp_path / "fruit", CHOICES)
    tasks = TasksConfig(weight=0, path=str(tmp_path), path_shots=(0, 1))
    world = open_world(DataConfig(heldout_rows=4), tasks, tmp_path / "corpus")
    assert [c.name for c in world.components] == ["text"]
    evaluator = make_evaluator(world, unigram)
    (evaluation,) = evaluator(prefers("z")[None])
    name = read(path).name
    assert name == "which_is_a_fruit"
    score = evaluation.tasks[name]["0_shot"]
    cost = -jax.nn.log_softmax(prefers("z"))
    nll = {
        text: float(sum(cost[ord(c)] for c in text))
        for text in ("zz", "aaa", "aa", "zzz", "bb", "ccc", "zzzzz")
    }
    earned = 0.0
    for example in CHOICES["examples"]:  # type: ignore[attr-defined]
        scores = example["target_scores"]
        earned += scores[min(scores, key=lambda text: nll[text])]
    assert score["n"] == 3
    assert score["correct"] == pytest.approx(earned)
    assert world.tasks[name]["chance"] == pytest.approx(np.mean([0.5, 0.5, 0.25]))
    assert list(evaluation.tasks[name]) == ["0_shot", "1_shot"]
    items = world.items(name, "0_shot")
    shown = bytes(items.rows.tokens[0][items.rows.tokens[0] < 256].astype(np.uint8))
    assert shown == b"\0\nQ: one\nA: zz"
    shot = world.items(name, "1_shot").rows.tokens[0]
    assert bytes(shot[shot < 256].astype(np.uint8)).endswith(b"\nQ: one\nA: zz")
    assert bytes(shot[shot < 256].astype(np.uint8)).count(b"\nQ: ") == 2


def test_any_accepted_text_counts_and_only_whole(tmp_path: Path) -> None:
    write(tmp_path / "echo", TEXT)
    tasks = TasksConfig(weight=0, path=str(tmp_path / "echo"))
    world = open_world(DataConfig(heldout_rows=4), tasks, tmp_path / "corpus")

    def two_letters(params: Any, tokens: jax.Array) -> jax.Array:
        # writes a, a, line break after `A: `
        back = lambda k: jnp.pad(tokens, ((0, 0), (k, 0)))[:, : tokens.shape[1]]  # noqa: E731
        done = (tokens == ord("a")) & (back(1) == ord("a"))
        return params * jax.nn.one_hot(jnp.where(done, ord("\n"), ord("a")), 260)

    (evaluation,) = make_evaluator(world, two_letters)(jnp.full(1, 9.0))
    score = evaluation.tasks["echo"]["0_shot"]
    assert (score["n"], score["correct"], score["brier"]) == (3, 1, None)
    assert evaluation.items["echo/0_shot/correct"].tolist() == [1, 0, 0]


def example(**change: Any) -> dict[str, Any]:
    good = {"input": "x", "target_scores": {"a": 1, "b": 0}}
    return {**CHOICES, "examples": [good, {**good, **change}]}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "not JSON"),
        ({"name": "x"}, "`examples` must be a list"),
        ({**CHOICES, "preferred_score": "bleurt"}, "preferred_score=bleurt"),
        (example(input=3), "example 1: `input` must be a text"),
        (example(target_scores={"a": 1}), "example 1: `target_scores` must give two choices"),
        (example(target_scores={"a": 1, "b": "no"}), r"example 1: target_scores\['b'\]='no'"),
        (example(target_scores={"a": 0, "b": 0}), "example 1: no choice"),
        ({**TEXT, "examples": [{"input": "x"}]}, "example 0: `target` must be a text"),
    ],
)
def test_a_bad_file_is_refused_with_the_example_and_the_reason(
    tmp_path: Path, value: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read(write(tmp_path, value))


def test_a_missing_path_and_too_many_shots_are_named(tmp_path: Path) -> None:
    for tasks, words in (
        (TasksConfig(weight=0, path=str(tmp_path / "no")), r"tasks\.path=.*no: no task\.json"),
        (TasksConfig(weight=0, path=str(write(tmp_path, TEXT)), path_shots=(3,)), r"tasks\.path_shots=3"),
    ):
        with pytest.raises(UserError, match=words):
            open_world(DataConfig(heldout_rows=4), tasks, tmp_path / "corpus")


def test_an_answer_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {**TEXT, "examples": [{"input": "x", "target": "y" * 70}]})
    with pytest.raises(UserError, match=r"data\.context=64: example 0 of .* has an answer of 71 tokens"):
        open_world(DataConfig(heldout_rows=4), TasksConfig(weight=0, path=str(path)), tmp_path / "corpus")
