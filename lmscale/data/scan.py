"""Configuration to manifest: the text scanned once, the tasks described, everything hashed. No jax."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lmscale import tasks as families
from lmscale.config import DataConfig, TasksConfig
from lmscale.data.manifest import FILE, Component, Manifest
from lmscale.durable import replace
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.tasks.base import Task
from lmscale.tasks.bigbench import guesses
from lmscale.tasks.sampling import generator, task_items, training_rows
from lmscale.tasks.shortcut import shortcuts
from lmscale.text import corpus
from lmscale.text.vocab import VOCAB_SIZE

PRIMARY = "text"
LONG = 2048  # a context that cuts no answer
DESCRIBED = 2  # a change of what `describe` says makes it again
SHORTCUT_ROWS = 2048  # training rows that the shortcut guessers learn from


def scan(data: DataConfig, tasks: TasksConfig, folder: Path, rescan: bool = False) -> Manifest:
    """The manifest of these configurations, also written to `folder`/manifest.json.

    The text is read and tokenised once and re-used until `rescan`; describing the tasks costs milliseconds.
    """
    folder = Path(folder)
    described = _described(data, tasks, folder)
    key = "text-" + corpus.text_key(data)
    text = corpus.scan_text(data, folder / key, rescan)
    unique = text["train"]["tokens"]
    if data.unique_tokens is not None:
        if data.unique_tokens > unique:
            raise UserError(f"data.unique_tokens={data.unique_tokens}: the corpus has only {unique}")
        unique = data.unique_tokens
    least = 2 * data.context + 2
    for split, tokens in (("train", unique), ("heldout", text["heldout"]["tokens"])):
        if tokens < least:
            raise UserError(
                f"data.context={data.context}: the {split} split has {tokens} tokens, {least} needed"
            )
    components = _components(data, tasks)
    yardsticks = corpus.ngram_yardsticks(data, folder / key, unique, text["vocab_size"])
    fixed = {
        "text": [text["train"]["sha256"], text["heldout"]["sha256"], unique],
        "shape": [data.context, data.seed, data.heldout_rows, tasks.items],
        "components": [[c.name, c.weight, c.rows, c.counted] for c in components],
        "tasks": [[name, task["version"], list(task["variants"])] for name, task in described.items()],
    }
    manifest = Manifest(
        name=data.name,
        content_hash=digest(fixed),
        primary=PRIMARY,
        unique_tokens=unique,
        heldout_tokens=text["heldout"]["tokens"],
        vocab_size=text["vocab_size"],
        context=data.context,
        components=components,
        tasks=described,
        sources={**text, "ngrams": yardsticks},
        text_key=key,
    )
    path = folder / FILE
    written = json.dumps(manifest.to_json(), indent=1) + "\n"
    if not path.is_file() or path.read_text() != written:
        replace(path, [written.encode()])
    return manifest


def _components(data: DataConfig, tasks: TasksConfig) -> tuple[Component, ...]:
    total = sum(tasks.weights.values())
    return (
        Component(PRIMARY, 1 - tasks.weight, data.rows, "all"),
        *(
            Component(name, tasks.weight * weight / total, tasks.rows, "answer")
            for name, weight in sorted(tasks.weights.items())
        ),
    )


def draft_manifest(data: DataConfig, tasks: TasksConfig) -> Manifest:
    """What is known of a corpus before it is scanned: enough to find out whether a plan is possible."""
    chosen = families.chosen(data, tasks)
    return Manifest(
        name=data.name,
        content_hash="not scanned",
        primary=PRIMARY,
        unique_tokens=0,
        heldout_tokens=0,
        vocab_size=VOCAB_SIZE,
        context=data.context,
        components=_components(data, tasks),
        tasks={name: {"version": task.version} for name, task in chosen.items()},
        sources={},
        text_key="",
    )


def _described(data: DataConfig, tasks: TasksConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """`describe` for every task; kept in a file, for the shortcut baselines take a second to fit."""
    chosen = families.chosen(data, tasks)
    asked = [DESCRIBED, data.seed, data.context, tasks.items, tasks.variants, tasks.shots, tasks.path_shots]
    path = folder / f"tasks-{digest([*asked, [[t.name, t.version] for t in chosen.values()]])}.json"
    if path.is_file():
        return json.loads(path.read_text())
    result = {name: describe(task, data, tasks) for name, task in chosen.items()}
    folder.mkdir(parents=True, exist_ok=True)
    replace(path, [json.dumps(result, indent=1).encode()])
    return result


def describe(task: Task, data: DataConfig, tasks: TasksConfig) -> dict[str, Any]:
    """What spec.json says of a task; enough to score, judge and draw it."""
    rng = generator(data.seed, task.name, "shortcut")
    train = training_rows(task, rng, SHORTCUT_ROWS, data.context) if task.sample else None
    variants = {}
    for v in task.variants:
        different = None
        if train:
            items = task_items(data, tasks, task, v.name)
            found, different = shortcuts(train, items), items.different
        else:
            assert task.items
            found = {"guessing": 0.0}
            if v.scoring == "choices":
                found = guesses(task.items(v, tasks.items, LONG, lambda text: np.frombuffer(text, np.uint8)))
        # a generated answer follows no true chain that could be looked at
        beside = {*task.own, *(["ngram"] if v.scoring in ("greedy", "sampled") else [])}
        found = {name: score for name, score in found.items() if name not in beside}
        best = max(found, key=lambda name: found[name])
        variants[v.name] = {
            "chance": task.chance if v.chance is None else v.chance,
            "ceiling": task.ceiling if v.ceiling is None else v.ceiling,
            "intended_class": v.intended_class or task.intended_class,
            "scoring": v.scoring,
            "shortcut": found[best],
            "shortcut_by": best,
            "different_items": different,
        }
    return {
        "about": task.about,
        "chance": task.chance,
        "ceiling": task.ceiling,
        "intended_class": task.intended_class,
        "metric": task.metric,
        "heldout": task.heldout,
        "floor": task.floor,
        "version": task.version,
        "variants": variants,
    }
