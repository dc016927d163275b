"""BIG-bench JSON tasks (Srivastava et al. 2022, arXiv:2206.04615), for evaluation alone.

Multiple choice by the log-likelihood of each choice (`multiple_choice_grade`), generation by exact match
(`exact_str_match`); the format is that of the project's docs/doc.md. Nothing of them is trained on.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
    digest: str


def find(path: str) -> list[Path]:
    """The task.json files of a path: the file itself, or all below a folder."""
    place = Path(path).expanduser()
    files = sorted(place.rglob("task.json")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise UserError(f"tasks.path={path}: no task.json there; give the file or a folder that holds some")
    return files


def read(path: Path) -> BigBench:
    """Read and check one task.json; UserError names the example and the reason."""
    content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise UserError(f"tasks.path={path}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("examples"), list) or not value["examples"]:
        raise UserError(f"tasks.path={path}: `examples` must be a list of at least one example")
    metrics = value.get("metrics") or []
    score = value.get("preferred_score") or next((m for m in metrics if m in (CHOICE, EXACT)), None)
    if score not in (CHOICE, EXACT):
        raise UserError(f"tasks.path={path}: preferred_score={score}: only {CHOICE} and {EXACT} are scored")
    append = value.get("append_choices_to_input", True) and score == CHOICE
    choice_prefix = value.get("choice_prefix", "\n  choice: ")
    examples = []
    for number, raw in enumerate(value["examples"]):
        where = f"tasks.path={path}: example {number}"
        if not isinstance(raw, dict) or not isinstance(raw.get("input"), str):
            raise UserError(f"{where}: `input` must be a text")
        answers, worth = _choices(raw, where) if score == CHOICE else _targets(raw, where)
        shown = "".join(choice_prefix + answer for answer in answers) if append else ""
        examples.append(Example(raw["input"] + shown, answers, worth))
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", str(value.get("name") or path.parent.name)).strip("_")
    return BigBench(
        name=name or "bigbench",
        description=str(value.get("description", "")).strip(),
        score=score,
        examples=tuple(examples),
        task_prefix=str(value.get("task_prefix", "")),
        input_prefix=str(value.get("example_input_prefix", "\nQ: ")),
        output_prefix=str(value.get("example_output_prefix", "\nA: ")),
        separator=str(value.get("few_shot_example_separator", "\n")),
        digest=hashlib.sha256(content).hexdigest()[:16],
    )


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


def task(path: Path, seed: int, shots: tuple[int, ...]) -> Task:
    """A Task that is only evaluated, a variant for each number of shots."""
    found = read(path)
    worst = max(shots, default=0)
    if worst >= len(found.examples):
        raise UserError(f"tasks.path_shots={worst}: {path} has only {len(found.examples)} examples")
    by_choice = found.score == CHOICE
    chance = float(np.mean([np.mean(e.worth) for e in found.examples])) if by_choice else 0.0
    best = float(np.mean([max(e.worth) for e in found.examples]))
    scoring = "choices" if by_choice else "any"

    def items(variant: Variant, count: int, context: int, encode: Encode) -> Items:
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
        version=found.digest,
    )


def _items(found: BigBench, shots: int, seed: int, count: int, context: int, encode: Encode) -> Items:
    """A row for each answer, its prompt cut at the front where it is longer than the context."""
    rng = generator(seed, found.name, shots, "bigbench")
    chosen = np.sort(rng.permutation(len(found.examples))[:count])
    rows, group, worth = [], [], []
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
            # generation ends with the line; a choice is compared as it stands
            ending = encode((answer if found.score == CHOICE else answer + "\n").encode())
            if len(ending) > context:
                raise UserError(
                    f"data.context={context}: example {number} of {found.name} has an answer of {len(ending)} "
                    f"tokens; give more context"
                )
            rows.append((prompt[-(context - len(ending)) :] if len(ending) < context else prompt[:0], ending))
            group.append(question)
            worth.append(value)
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
    """What the first choice, and the shortest, would score everywhere. Of generated answers: nothing."""
    size = np.bincount(items.rows.item[items.rows.item >= 0])
    options = list(by_question(items, size))
    return {
        "first": float(np.mean([worth[0] for worth, _ in options])),
        "shortest": float(np.mean([worth[np.argmin(length)] for worth, length in options])),
    }
