"""Configuration to manifest: the text scanned once, the tasks described, everything hashed. No jax."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np

from lmscale import tasks as families
from lmscale.config import DataConfig, TasksConfig
from lmscale.data.manifest import FILE, Component, Manifest
from lmscale.durable import DiskError, explained, make_folder, replace
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.objective import CAUSAL
from lmscale.tasks.base import Task
from lmscale.tasks.bigbench import guesses
from lmscale.tasks.sampling import generator, task_items, training_rows
from lmscale.tasks.shortcut import shortcuts
from lmscale.text import corpus, known_entropy
from lmscale.text import tokens as token_files
from lmscale.text.tokenizer import UNKNOWN
from lmscale.text.vocab import VOCAB_SIZE

PRIMARY = "text"
DESCRIBED = 2  # a change of what `describe` says makes it again
SHORTCUT_ROWS = 2048  # training rows that the shortcut guessers learn from
FAR_ABOVE, FAR_BELOW = (
    3,
    4,
)  # times the share requested: held out by a hash, so it varies where documents are few
MOST_CONTEXT, MOST_ROWS = 1 << 17, 1 << 16
MOST_TOKENS = 1 << 27  # that are looked at in one evaluation of the text, or of a variant


def scan(data: DataConfig, tasks: TasksConfig, folder: Path) -> Manifest:
    """Make the manifest of these configurations, and write it to `folder`/manifest.json.

    The text is read and tokenised once; describing the tasks costs milliseconds. Where all of it is there
    already nothing is written, so a folder that others own can be read.
    """
    folder = Path(folder)
    with explained(folder, "read"):
        return _scan(data, tasks, folder)


def _scan(data: DataConfig, tasks: TasksConfig, folder: Path) -> Manifest:
    _check_sizes(data, tasks)
    chosen = families.chosen(data, tasks)
    described = _described(chosen.tasks, data, tasks, folder)
    key = "text-" + corpus.text_key(data)
    text = corpus.scan_text(data, folder / key)
    share = _check_splits(data, text)
    unique = data.unique_tokens or text["train"]["tokens"]
    vocab_size = text["vocab_size"]
    components = _components(data, tasks)
    fixed = {
        "text": [text["train"]["sha256"], text["heldout"]["sha256"], unique],
        "shape": [data.context, data.seed, data.heldout_rows, tasks.items],
        "components": [[c.name, c.weight, c.rows, c.counted] for c in components],
        "tasks": [[name, task["version"], list(task["variants"])] for name, task in described.items()],
        **({} if data.objective == CAUSAL else {"objective": [data.objective, data.mask_share]}),
        **({"mixture": [[name, data.mixture[name]] for name in text["segments"]]} if data.mixture else {}),
        # of one's own, which tasks given as text are read by too
        **({"tokenizer": text["tokenizer_sha256"]} if "tokenizer_sha256" in text else {}),
    }
    bytes_known = text["tokenizer"] != UNKNOWN
    sources = {
        **text,
        "heldout_share": share,
        "heldout_rows": data.heldout_rows,
        **(
            {"bytes_per_token": token_files.bytes_per_token(data, folder / key, vocab_size)}
            if bytes_known
            else {}
        ),
        "ngrams": token_files.ngram_yardsticks(
            data, folder / key, unique, vocab_size, text.get("segments", {})
        ),
        **known_entropy.floors(data, folder / key, text),
        **({"mixture": dict(data.mixture)} if data.mixture else {}),
        "tasks_left_out": list(chosen.left_out),
    }
    manifest = Manifest(
        name=data.name,
        content_hash=digest(fixed),
        primary=PRIMARY,
        unique_tokens=unique,
        heldout_tokens=text["heldout"]["tokens"],
        vocab_size=vocab_size,
        context=data.context,
        components=components,
        tasks=described,
        sources=sources,
        text_key=key,
    )
    _keep(folder / FILE, manifest.to_json())
    return manifest


def _keep(path: Path, value: Any) -> None:
    """Write what can be made again at any time; not where it stands already, or where the folder is not ours."""
    written = json.dumps(value, indent=1) + "\n"
    if path.is_file() and path.read_text() == written:
        return
    try:
        replace(path, [written.encode()])
    except DiskError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def _check_sizes(data: DataConfig, tasks: TasksConfig) -> None:
    """Refuse numbers that no memory holds, before anything is made."""
    limits = (
        ("data.context", data.context, MOST_CONTEXT),
        ("data.rows", data.rows, MOST_ROWS),
        ("data.heldout_rows", data.heldout_rows, MOST_TOKENS // data.context),
        ("tasks.rows", tasks.rows, MOST_ROWS),
        ("tasks.items", tasks.items, MOST_TOKENS // data.context),
    )
    for name, value, most in limits:
        if value > most:
            raise UserError(f"{name}={value}: it must be at most {most}; more would not fit into memory")


def _check_splits(data: DataConfig, text: dict[str, Any]) -> float:
    """The share of the tokens that is held out; UserError where it is far from the one requested, or where a split
    is too short."""
    train, heldout = text["train"]["tokens"], text["heldout"]["tokens"]
    # of the text as it was read: what cleaning removes is no matter of luck
    read = train * text["clean"]["before"]["bytes"] / text["clean"]["after"]["bytes"] if data.clean else train
    share = heldout / (read + heldout)
    requested = data.heldout_share
    if not requested / FAR_BELOW <= share <= min(FAR_ABOVE * requested, (1 + requested) / 2):
        count = text["train"]["documents"] + text["heldout"]["documents"]
        ask = f", or ask for that share (data.heldout_share={share:.2g})" if 0.005 < share < 0.45 else ""
        raise UserError(
            f"data.heldout_share={requested}: {share:.2%} of the text would be held out, for it has only {count} "
            f"documents or they differ too much in length; give more or shorter ones, or another data.seed{ask}"
        )
    if data.unique_tokens is not None and data.unique_tokens > train:
        raise UserError(f"data.unique_tokens={data.unique_tokens}: the corpus has only {train}")
    least = 2 * data.context + 2
    splits = {"train split": data.unique_tokens or train, "heldout split": heldout}
    splits |= {f"source {name}": count for name, count in text.get("segments", {}).items()}
    for split, tokens in splits.items():
        if tokens < least:
            left = f" after data.clean={list(data.clean)}" * (bool(data.clean) and split != "heldout split")
            raise UserError(
                f"data.context={data.context}: the {split} has {tokens} tokens{left}, {least} needed"
            )
    return share


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
    """Say what is known of a corpus before it is scanned: enough to find out whether a plan is possible."""
    _check_sizes(data, tasks)
    chosen = families.chosen(data, tasks).tasks
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


def _described(
    chosen: dict[str, Task], data: DataConfig, tasks: TasksConfig, folder: Path
) -> dict[str, dict[str, Any]]:
    """`describe` for every task; kept in a file, for the shortcut baselines take a second to fit."""
    asked = [DESCRIBED, data.seed, data.context, tasks.items, tasks.variants, tasks.shots, tasks.path_shots]
    path = folder / f"tasks-{digest([*asked, [[t.name, t.version] for t in chosen.values()]])}.json"
    if path.is_file():
        found: dict[str, dict[str, Any]] = json.loads(path.read_text())
        return found
    result = {name: describe(task, data, tasks) for name, task in chosen.items()}
    make_folder(folder)
    _keep(path, result)
    return result


def describe(task: Task, data: DataConfig, tasks: TasksConfig) -> dict[str, Any]:
    """Describe a task for spec.json: enough to score, judge and draw it."""
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
                found = guesses(task.items(v, tasks.items, None, lambda text: np.frombuffer(text, np.uint8)))
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
