"""BIG-bench JSON tasks (Srivastava et al. 2022, arXiv:2206.04615), for evaluation alone.

Multiple choice by the log-likelihood of each choice (`multiple_choice_grade`), generation by exact match
(`exact_str_match`); the format is that of the project's docs/doc.md. Nothing of them is trained on.
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.config import DataConfig, TasksConfig
from lmscale.durable import DiskError, explained
from lmscale.errors import UserError
from lmscale.tasks.base import Task, Variant
from lmscale.tasks.rows import Rows
from lmscale.tasks.sampling import Items, by_question, generator
from lmscale.text.vocab import END_OF_FILE, PAD

CHOICE, EXACT = "multiple_choice_grade", "exact_str_match"
Encode = Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Example:
    """A question, and its answers with what each is worth: choices, or every text that is accepted."""

    question: str
    answers: tuple[str, ...]
    worth: tuple[float, ...]


@dataclass(frozen=True)
class BigBench:
    """A task.json that was read: its examples, and what stands around them in a prompt."""

    name: str
    description: str
    score: str
    examples: tuple[Example, ...]
    task_prefix: str
    input_prefix: str
    output_prefix: str
    separator: str
    stop: str  # ends an answer that is generated
    version: str

    @property
    def end(self) -> str:
        """The text after an answer: a generated one has an end, a choice is compared as it stands."""
        return self.stop if self.score == EXACT else ""


def find(path: str) -> list[Path]:
    """Find the task.json files of a path: the file itself, or all below a folder."""
    place = Path(path).expanduser()
    files = sorted(place.rglob("task.json")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise UserError(f"tasks.path={path}: no task.json there; give the file or a folder that holds some")
    return files


def read_task(path: Path) -> BigBench:
    """Read and check one task.json; UserError names the example and the reason."""
    with explained(path, "read"):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"tasks.path={path}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("examples"), list) or not value["examples"]:
        raise UserError(f"tasks.path={path}: `examples` must be a list of at least one example")
    metrics = value.get("metrics") or []
    score = value.get("preferred_score") or next((m for m in metrics if m in (CHOICE, EXACT)), None)
    if score not in (CHOICE, EXACT):
        raise UserError(f"tasks.path={path}: preferred_score={score}: only {CHOICE} and {EXACT} are scored")
    stop = _stop(value, path) if score == EXACT else "\n"
    append = value.get("append_choices_to_input", True) and score == CHOICE
    choice_prefix = value.get("choice_prefix", "\n  choice: ")
    examples = []
    for number, raw in enumerate(value["examples"]):
        where = f"tasks.path={path}: example {number}"
        if not isinstance(raw, dict) or not isinstance(raw.get("input"), str):
            raise UserError(f"{where}: `input` must be a text")
        answers, worth = _choices(raw, where) if score == CHOICE else _targets(raw, where)
        if value.get("stop_string") and score == EXACT and any(stop in answer for answer in answers):
            raise UserError(f"{where}: a target holds stop_string={stop!r}, at which an answer ends")
        shown = "".join(choice_prefix + answer for answer in answers) if append else ""
        examples.append(Example(raw["input"] + shown, answers, worth))
    name = _plain(str(value.get("name") or path.parent.name))
    return BigBench(
        name=name or "bigbench",
        description=str(value.get("description", "")).strip(),
        score=score,
        examples=tuple(examples),
        task_prefix=str(value.get("task_prefix", "")),
        input_prefix=str(value.get("example_input_prefix", "\nQ: ")),
        output_prefix=str(value.get("example_output_prefix", "\nA: ")),
        separator=str(value.get("few_shot_example_separator", "\n")),
        stop=stop,
        # what was scored as if it had no stop_string is told apart
        version=hashlib.sha256(content + b"stop" * (stop != "\n")).hexdigest()[:16],
    )


def _stop(value: dict[str, Any], path: Path) -> str:
    """The text that ends a generated answer: `stop_string`, or else the line."""
    if value.get("output_regex"):
        raise UserError(
            f"tasks.path={path}: output_regex={value['output_regex']!r}: an answer is scored as it is written and "
            "not searched for in a longer text; tasks with an output_regex are not supported"
        )
    stop = value.get("stop_string") or "\n"
    if not isinstance(stop, str):
        raise UserError(f"tasks.path={path}: stop_string={stop!r}: it must be a text")
    return stop


def _choices(raw: dict[str, Any], where: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    scores = raw.get("target_scores")
    if not isinstance(scores, dict) or len(scores) < 2:
        raise UserError(f"{where}: `target_scores` must give two choices or more a score each")
    for choice, worth in scores.items():
        if not choice:
            raise UserError(f"{where}: an empty choice has no likelihood")
        if not isinstance(worth, int | float) or isinstance(worth, bool) or not 0 <= worth <= 1:
            raise UserError(f"{where}: target_scores[{choice!r}]={worth!r}: must be a number from 0 to 1")
    if not any(scores.values()):
        raise UserError(f"{where}: no choice of `target_scores` is worth anything")
    return tuple(scores), tuple(float(worth) for worth in scores.values())


def _targets(raw: dict[str, Any], where: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    target = raw.get("target")
    if target is None and isinstance(raw.get("target_scores"), dict):
        target = [choice for choice, worth in raw["target_scores"].items() if worth == 1]
    targets = [target] if isinstance(target, str) else target
    if not isinstance(targets, list) or not targets or not all(isinstance(t, str) and t for t in targets):
        raise UserError(f"{where}: `target` must be a text, or a list of accepted texts")
    return tuple(targets), (1.0,) * len(targets)


def load_tasks(
    data: DataConfig, tasks: TasksConfig, taken: Collection[str]
) -> tuple[dict[str, Task], list[str]]:
    """Read the tasks of `tasks.path` by name, and a sentence for each file of a folder that cannot be scored.

    Two of one name, or one of a name that is taken, are told apart by their folders. UserError where nothing is
    left, or for a bad file that was named itself.
    """
    assert tasks.path
    found: list[tuple[Path, BigBench]] = []
    left_out: list[str] = []
    paths = find(tasks.path)
    for path in paths:
        try:
            one = read_task(path)
            _check_fit(one, path, data, tasks)
            twin = next((p for p, other in found if other == one), None)
            if twin:
                raise UserError(f"tasks.path={path}: a copy of {twin}")
            found.append((path, one))
        except DiskError:
            raise
        except UserError as error:
            left_out.append(str(error))
    if not found:
        others = f" (and {len(paths) - 1} files more that cannot be scored)" if len(paths) > 1 else ""
        raise UserError(left_out[0] + others)
    count = Counter([*(one.name for _, one in found), *taken])
    result: dict[str, Task] = {}
    for path, one in found:
        name = one.name if count[one.name] == 1 else f"{one.name}_{_plain(path.parent.name)}"
        if name in result or name in taken:
            raise UserError(f"tasks.path={path}: there is a task {name} already; give it another name")
        result[name] = _task(dataclasses.replace(one, name=name), data.seed, tasks.path_shots)
    return result, left_out


def _plain(name: str) -> str:
    """A name as records and tables can hold it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")


def _check_fit(found: BigBench, path: Path, data: DataConfig, tasks: TasksConfig) -> None:
    worst = max(tasks.path_shots, default=0)
    if worst >= len(found.examples):
        raise UserError(f"tasks.path_shots={worst}: {path} has only {len(found.examples)} examples")
    if data.tokenizer != "bytes":  # how many tokens an answer has is known with the vocabulary only
        return
    for number, example in enumerate(found.examples):
        longest = max(len((answer + found.end).encode()) for answer in example.answers)
        if longest > data.context:
            raise _too_long(data.context, path, number, longest)


def _too_long(context: int, where: object, number: int, longest: int) -> UserError:
    return UserError(
        f"data.context={context}: example {number} of {where} has an answer of {longest} tokens; give more context"
    )


def _task(found: BigBench, seed: int, shots: tuple[int, ...]) -> Task:
    """A Task that is only evaluated, a variant for each number of shots."""
    by_choice = found.score == CHOICE
    chance = float(np.mean([np.mean(e.worth) for e in found.examples])) if by_choice else 0.0
    best = float(np.mean([max(e.worth) for e in found.examples]))
    scoring = "choices" if by_choice else "any"

    def items(variant: Variant, count: int, context: int | None, encode: Encode) -> Items:
        return _items(found, int(variant.name.split("_")[0]), seed, count, context, encode)

    return Task(
        name=found.name,
        about=found.description or f"BIG-bench, {len(found.examples)} examples",
        sample=None,
        items=items,
        chance=chance,
        ceiling=best,
        intended_class="unknown",
        floor=None,
        variants=tuple(Variant(f"{number}_shot", scoring=scoring) for number in shots),
        version=found.version,
    )


def _items(found: BigBench, shots: int, seed: int, count: int, context: int | None, encode: Encode) -> Items:
    """A row for each answer, its prompt cut at the front where it is longer than the context. None: a context that
    holds the answers, for whoever looks at nothing else."""
    rng = generator(seed, found.name, shots, "bigbench")
    chosen = np.sort(rng.permutation(len(found.examples))[:count])
    asked: list[tuple[int, np.ndarray, np.ndarray, float]] = []  # question, prompt, ending, worth
    for question, number in enumerate(chosen):
        others = rng.permutation(len(found.examples) - 1)[:shots]
        example = found.examples[number]
        text = found.task_prefix
        for other in others + (others >= number):
            shown = found.examples[other]
            text += found.input_prefix + shown.question + found.output_prefix
            text += shown.answers[int(np.argmax(shown.worth))] + found.separator
        prompt = encode((text + found.input_prefix + example.question + found.output_prefix).encode())
        for answer, value in zip(example.answers, example.worth, strict=True):
            ending = encode((answer + found.end).encode())
            if context is not None and len(ending) > context:
                raise _too_long(context, found.name, number, len(ending))
            asked.append((question, prompt, ending, value))
    context = context or max(len(ending) for _, _, ending, _ in asked)
    group, prompts, endings, worth = zip(*asked, strict=True)
    rows = [
        (prompt[max(0, len(prompt) - (context - len(ending))) :], ending)
        for prompt, ending in zip(prompts, endings, strict=True)
    ]
    tokens = np.full((len(rows), context + 1), PAD, np.uint16)
    tokens[:, 0] = END_OF_FILE  # as a document begins; START is only known where tasks were trained
    item = np.full((len(rows), context), -1, np.int32)
    for row, (prompt, ending) in enumerate(rows):
        begin = 1 + len(prompt)
        tokens[row, 1:begin] = prompt
        tokens[row, begin : begin + len(ending)] = ending
        item[row, begin - 1 : begin - 1 + len(ending)] = row
    marks = Rows(tokens, item >= 0, item)
    return Items(marks, np.zeros(len(rows), int), np.array(group), np.array(worth))


def guesses(items: Items) -> dict[str, float]:
    """Score the first choice, and the shortest, everywhere."""
    size = np.bincount(items.rows.item[items.rows.item >= 0])
    options = list(by_question(items, size))
    return {
        "first": float(np.mean([worth[0] for worth, _ in options])),
        "shortest": float(np.mean([worth[np.argmin(length)] for worth, length in options])),
    }
