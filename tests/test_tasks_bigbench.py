"""BIG-bench JSON: scored as its own rules say, and refused with the example and the reason."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale.data import DataConfig, TasksConfig, open_world, scan
from lmscale.errors import UserError
from lmscale.evaluate import make_evaluator
from lmscale.generate import make_generation
from lmscale.model import Decoder
from lmscale.scoring import as_lengths
from lmscale.tasks.bigbench import read_task
from lmscale.tasks.rows import Rows
from lmscale.text.vocab import PAD, START

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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """A small text, for it is not what is looked at."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("".join(f"line {i} of {i * i}\n" for i in range(2000)))
    return DataConfig(kind="text", files=(str(path),), heldout_rows=4)


def prefers(letter: str) -> jax.Array:
    """A model of single bytes that finds one likelier than the others, and a line break after two of them."""
    return jnp.zeros(260).at[ord(letter)].set(2.0)


def unigram(params: Any, tokens: jax.Array) -> jax.Array:
    return jnp.broadcast_to(params, (*tokens.shape, 260))


def test_the_likeliest_choice_earns_what_it_is_worth(tmp_path: Path, data: DataConfig) -> None:
    path = write(tmp_path / "fruit", CHOICES)
    tasks = TasksConfig(weight=0, path=str(tmp_path), path_shots=(0, 1))
    world = open_world(data, tasks, tmp_path / "corpus")
    assert [c.name for c in world.components] == ["text"]
    evaluator = make_evaluator(world, unigram)
    (evaluation,) = evaluator(prefers("z")[None])
    name = read_task(path).name
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


def test_any_accepted_text_counts_and_only_whole(tmp_path: Path, data: DataConfig) -> None:
    write(tmp_path / "echo", TEXT)
    tasks = TasksConfig(weight=0, path=str(tmp_path / "echo"))
    world = open_world(data, tasks, tmp_path / "corpus")

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
        ({**TEXT, "output_regex": r"\\d+"}, r"output_regex='.*d\+': an answer is scored as it is written"),
        ({**TEXT, "stop_string": 3}, "stop_string=3: it must be a text"),
        ({**TEXT, "stop_string": "b"}, "example 1: a target holds stop_string='b'"),
        (example(target_scores={"a": 1, "b": float("nan")}), r"target_scores\['b'\]=nan: must be a number"),
        ('{"examples": [{"input": "x", "target_scores": {"a": 1e999, "b": 0}}]}', "preferred_score=None"),
        ('{"examples": ' + "1" * 5000 + "}", "not JSON"),
    ],
)
def test_a_bad_file_is_refused_with_the_example_and_the_reason(
    tmp_path: Path, value: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read_task(write(tmp_path, value))


def test_a_missing_path_and_too_many_shots_are_named(tmp_path: Path, data: DataConfig) -> None:
    for tasks, words in (
        (TasksConfig(weight=0, path=str(tmp_path / "no")), r"tasks\.path=.*no: no task\.json"),
        (TasksConfig(weight=0, path=str(write(tmp_path, TEXT)), path_shots=(3,)), r"tasks\.path_shots=3"),
    ):
        with pytest.raises(UserError, match=words):
            open_world(data, tasks, tmp_path / "corpus")


def test_an_answer_that_does_not_fit_is_named(tmp_path: Path, data: DataConfig) -> None:
    path = write(tmp_path, {**TEXT, "examples": [{"input": "x", "target": "y" * 70}]})
    with pytest.raises(UserError, match=r"data\.context=64: example 0 of .* has an answer of 71 tokens"):
        open_world(data, TasksConfig(weight=0, path=str(path)), tmp_path / "corpus")


@pytest.mark.parametrize("length", [255, 256, 600])
def test_long_choices_score_from_zero_to_one(tmp_path: Path, length: int, data: DataConfig) -> None:
    """Row 3: lengths were kept in a byte, so 256 was 0. The model is right about every byte but the wrong ones'."""
    right, wrong = "z" * length, "y" * (length + 1)
    value = {
        **CHOICES,
        "examples": [{"input": str(i), "target_scores": {right: 1, wrong: 0}} for i in range(3)],
    }
    path = write(tmp_path / "long", value)
    world = open_world(
        dataclasses.replace(data, context=length + 40),
        TasksConfig(weight=0, path=str(path)),
        tmp_path / "corpus",
    )
    (evaluation,) = make_evaluator(world, unigram)(prefers("z")[None])
    (name,) = evaluation.tasks
    score = evaluation.tasks[name]["0_shot"]
    assert (score["n"], score["correct"], score["byte_accuracy"]) == (3, 3, 1.0)
    items = {key.split("/")[2]: array for key, array in evaluation.items.items()}
    assert items["answer_bytes"].tolist() == items["matched_bytes"].tolist() == [length] * 3
    assert items["answer_bytes"].dtype == (
        np.uint8 if length < 256 else np.uint16
    )  # a byte where one holds it
    (evaluation,) = make_evaluator(world, unigram)(prefers("y")[None])
    assert evaluation.tasks[name]["0_shot"]["byte_accuracy"] == 0


def test_lengths_are_as_wide_as_the_longest() -> None:
    """Row 3."""
    for longest, kind in ((255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.uint32)):
        kept = as_lengths(np.array([0, 3, longest]), np.array([7, 3, longest]))
        assert kept.tolist() == [0, 3, longest] and kept.dtype == kind


def test_a_long_answer_that_was_generated_is_counted_whole() -> None:
    """Row 3, for chains: a task whose answer has 300 bytes."""
    line = b"say " + b"a" * 300 + b"\n"
    tokens = np.full((2, 321), PAD, np.uint16)
    tokens[:, 0] = START
    tokens[:, 1 : 1 + len(line)] = np.frombuffer(line, np.uint8)
    item = np.full((2, 320), -1, np.int32)
    item[:, 4:304] = np.arange(2)[:, None]
    rows = Rows(tokens, item >= 0, item)

    def start(params: Any, count: int, length: int) -> jax.Array:
        return jnp.zeros(())

    def step(params: Any, cache: jax.Array, given: jax.Array, position: jax.Array) -> Any:
        byte = jnp.where(position < 304, ord("a"), ord("\n"))
        return jnp.broadcast_to(params * jax.nn.one_hot(byte, 260), (2, 260)), cache

    ((score, items),) = make_generation(rows, Decoder(start, step), 0.0, 0)(jnp.ones(1))
    assert score == {"n": 2, "correct": 2, "nll": None, "brier": None, "byte_accuracy": 1.0}
    assert items["answer_bytes"].tolist() == items["matched_bytes"].tolist() == [300, 300]


def folder_of(folder: Path, **files: Any) -> TasksConfig:
    for name, value in files.items():
        write(folder / name, value)
    return TasksConfig(weight=0, path=str(folder))


def test_a_task_that_cannot_be_scored_is_named_and_the_others_go_on(tmp_path: Path, data: DataConfig) -> None:
    """Row 26: six files, one of which is sound but for its neighbours."""
    tasks = folder_of(
        tmp_path / "tasks",
        good=TEXT,
        blind={**CHOICES, "name": "blind", "preferred_score": "bleurt"},
        broken="{",
        deep="[" * 100_000,
        long={**TEXT, "name": "long", "examples": [{"input": "x", "target": "y" * 70}]},
        empty={**TEXT, "name": "empty", "examples": []},
    )
    manifest = scan(data, tasks, tmp_path / "corpus")
    assert list(manifest.tasks) == ["echo"]
    assert len(manifest.tasks_left_out) == 5
    for name, words in {
        "blind": "preferred_score=bleurt",
        "broken": "not JSON",
        "deep": "not JSON",
        "long": "an answer of 71 tokens",
        "empty": "`examples` must be a list",
    }.items():
        (reason,) = (line for line in manifest.tasks_left_out if f"/{name}/task.json" in line)
        assert words in reason and "\n" not in reason
    shutil.rmtree(tmp_path / "tasks" / "good")
    with pytest.raises(UserError, match=r"bleurt.*\(and 4 files more that cannot be scored\)"):
        scan(data, tasks, tmp_path / "corpus")


def test_two_tasks_of_one_name_are_told_apart_and_copies_left_out(tmp_path: Path, data: DataConfig) -> None:
    """Row 26."""
    changed = {**TEXT, "examples": TEXT["examples"][:2]}  # type: ignore[index]
    named_copy = {**TEXT, "name": "copy"}
    tasks = folder_of(
        tmp_path / "tasks", **{"one": TEXT, "two (b)": changed, "three": TEXT, "mine": named_copy}
    )
    trained = dataclasses.replace(tasks, weight=0.3, weights={"copy": 1.0}, items=20)
    manifest = scan(data, trained, tmp_path / "corpus")
    assert list(manifest.tasks) == ["copy", "copy_mine", "echo_one", "echo_two_b"]
    assert manifest.tasks_left_out == [
        f"tasks.path={tmp_path}/tasks/three/task.json: a copy of {tmp_path}/tasks/one/task.json"
    ]
    for path in ("a/echo", "b/echo"):
        write(tmp_path / "alike" / path, {**TEXT, "description": path})
    with pytest.raises(UserError, match="there is a task echo_echo already"):
        scan(
            data,
            TasksConfig(weight=0, path=str(tmp_path / "alike")),
            tmp_path / "corpus",
        )


def test_an_answer_ends_at_its_stop_string(tmp_path: Path, data: DataConfig) -> None:
    """Row 26: greedy generation up to the stop is what is scored, and not up to the end of the line."""
    path = write(tmp_path / "stop", {**TEXT, "name": "stop", "stop_string": "."})
    world = open_world(data, TasksConfig(weight=0, path=str(path)), tmp_path / "corpus")
    rows = world.items("stop", "0_shot").rows
    answers = {
        bytes(row[1:][marks >= 0].astype(np.uint8)) for row, marks in zip(rows.tokens, rows.item, strict=True)
    }
    assert answers == {b"zz.", b"aa.", b"ab.", b"aaa."}

    def writes(
        params: Any, tokens: jax.Array
    ) -> jax.Array:  # `aa.` for the first example, `aa\n` if params say so
        back = jnp.pad(tokens, ((0, 0), (1, 0)))[:, : tokens.shape[1]]
        done = (tokens == ord("a")) & (back == ord("a"))
        return 9.0 * jax.nn.one_hot(jnp.where(done, params.astype(int), ord("a")), 260)

    stopped, broken = make_evaluator(world, writes)(jnp.array([ord("."), ord("\n")], jnp.float32))
    assert stopped.items["stop/0_shot/correct"].tolist() == [1, 0, 0]
    assert broken.items["stop/0_shot/correct"].tolist() == [0, 0, 0]
    plain = write(tmp_path / "plain", {**TEXT, "name": "stop"})
    assert (
        read_task(plain).version
        != read_task(path).version
        != hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    )
    assert read_task(plain).version == hashlib.sha256(plain.read_bytes()).hexdigest()[:16]  # as it always was


def test_of_choices_nothing_is_generated_so_nothing_stops(tmp_path: Path) -> None:
    choices = {**CHOICES, "stop_string": ".", "output_regex": r"\w+"}
    assert read_task(write(tmp_path, choices)).end == ""
