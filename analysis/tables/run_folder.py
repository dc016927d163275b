"""From run folders to rows: read what a sweep wrote, line by line.

The record schema (docs/report.md) is the contract with whatever trained the runs. A damaged
line costs that line, a damaged run that run, and each is said.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.science import COLUMN, Sciences, label_sciences

SHAPE = ("dial", "n_layer", "d_model", "n_head", "d_head", "context", "vocab_size", "batch_tokens")
EXPERTS = ("n_expert", "top_k", "n_shared", "params_active")  # of a mixture of experts only
STARVED = 0.1  # of an even share: an expert with less of the held-out text learns next to nothing
OUTCOMES = ("done", "diverged", "failed")
UNFINISHED = "unfinished"
# Part of the kept tables' fingerprint: one written by an older layout of the columns is rebuilt.
LAYOUT = 12
_TOTAL_TOLERANCE = 1e-6
PARTS = "parts.json"  # beside the runs of an experiment of several ladders: {run id: part}
# What a variant's name gets where the same questions are asked after so many demonstrations.
SHOTS = re.compile(r"_(\d+|k)_shot$")


def is_run(folder: Path) -> bool:
    """Say whether `folder` is one run's."""
    return (folder / "spec.json").is_file()


@dataclass(frozen=True)
class Runs:
    """Every evaluation of some runs: the table of runs, the long table of tasks, what was wrong, what each
    science is (`tables.science`)."""

    runs: pd.DataFrame
    tasks: pd.DataFrame
    problems: list[str]
    sciences: Sciences


def read_runs(folders: list[Path]) -> Runs:
    """Read every evaluation of these runs.

    A run without a single evaluation (it failed before the first) is one row without a loss, so that a
    failure is never silently dropped.
    """
    rows: list[dict[str, Any]] = []
    task_rows: list[dict[str, Any]] = []
    problems: list[str] = []
    specs: dict[str, Mapping[str, Any]] = {}
    parts = {parent: _parts(parent, problems) for parent in {folder.parent for folder in folders}}
    for folder in folders:
        spec = _read_json(folder / "spec.json", problems)
        if spec is None:
            continue
        if isinstance(spec.get("shape"), dict):  # its fields stood beside the others before
            spec = {**spec.pop("shape"), **spec}
        outcome = _read_outcome(folder, problems)
        try:
            run_rows, run_tasks = _run_rows(folder, spec, outcome, problems)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"{folder.name}/spec.json: {what}; the run is left out")
            continue
        if part := parts[folder.parent].get(folder.name):
            for row in (*run_rows, *run_tasks):
                row["part"] = part
        rows += run_rows
        task_rows += run_tasks
        specs[folder.name] = spec
    if any("params_active" in row for row in rows):
        for row in rows:
            row.setdefault("params_active", row["params"])  # of a dense run
    labels, sciences = label_sciences(specs)
    for row in (*rows, *task_rows):
        row[COLUMN] = labels[row["run_id"]]
    tasks = pd.DataFrame(task_rows, columns=None if task_rows else ["run_id", "task", "variant", "final"])
    return Runs(pd.DataFrame(rows), tasks, problems, sciences)


def _parts(experiment: Path, problems: list[str]) -> dict[str, str]:
    """The part of each run that has one."""
    if not (experiment / PARTS).is_file():
        return {}
    found = _read_json(experiment / PARTS, problems) or {}
    return {run: part for run, part in found.items() if isinstance(part, str)}


def answer_lengths(folder: Path) -> dict[tuple[str, str], float]:
    """Return the mean answer length in bytes of each (task, variant), from a run's items.npz."""
    sums: dict[tuple[str, str], list[float]] = {}
    for path in sorted(folder.glob("*/items.npz"))[:1]:
        with np.load(path) as items:
            for name in items.files:
                if name.endswith("/answer_bytes"):
                    task, variant = name.split("/")[:2]
                    sums.setdefault((task, variant), []).append(float(items[name].mean()))
    return {key: float(np.mean(values)) for key, values in sums.items()}


def _run_rows(
    folder: Path, spec: Mapping[str, Any], outcome: Mapping[str, Any], problems: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    groups = {name: int(_number(count, f"params.{name}") or 0) for name, count in spec["params"].items()}
    total = sum(groups.values())
    _number(total, "the sum of params")
    nonembedding = total - groups.get("embedding", 0) - groups.get("unembedding", 0)
    expert = {name: _number(spec[name], name) for name in EXPERTS if name in spec}
    idle = total - (expert.get("params_active") or total)
    active = nonembedding + groups.get("unembedding", 0) - idle
    data = spec["data"]
    about = {
        "run_id": folder.name,
        "group": _text(spec.get("trunk"), "trunk") or folder.name,
        "kind": _text(spec.get("kind", "run"), "kind"),
        "outcome": outcome["outcome"],
        "reason": _text(outcome.get("reason"), "reason"),
        "objective": _text(data.get("objective", "causal"), "data.objective"),
        **(
            {"heldout_hash": _text(data["heldout_hash"], "data.heldout_hash")}
            if "heldout_hash" in data
            else {}
        ),
    }
    science = {
        **{name: _number(spec.get(name), name) for name in SHAPE},
        "seed": _number(spec["seed"], "seed"),
        "horizon_tokens": _number(spec.get("horizon_tokens"), "horizon_tokens"),
        "learning_rate": _number(spec.get("learning_rate"), "learning_rate"),
        **_schedule(spec),
        "unique_tokens": _number(data.get("unique_tokens"), "unique_tokens"),
        "params": total,
        "params_nonembedding": nonembedding,
        "params_active_matmul": active,
        **expert,
        **{f"params_{name}": count for name, count in groups.items()},
        **{f"floor_{name}": floor for name, floor in _floors(spec.get("tasks") or {}).items()},
    }
    for column, name in ((f"floor_{data['primary']}", "floor_heldout"), ("order_seed", "order_seed")):
        if name in data:
            science[column] = _number(data[name], f"data.{name}")
    weights = {c["name"]: float(c["weight"]) for c in data.get("components", ())}
    records = list(_records(folder, weights, problems))
    if not records:
        ended = {name: _number(outcome.get(name), name) for name in ("step", "tokens")}
        nothing = {**ended, "flops": math.nan}
        return [{**about, "final": False, **science, **nothing, "skipped_steps": 0, "loss": math.nan}], []
    last = len(records) - 1 if outcome["outcome"] == "done" and spec.get("horizon_tokens") else None
    if last is not None and outcome.get("step") not in (None, records[-1]["step"]):
        problems.append(
            f"{folder.name}: done at step {outcome['step']}, but the last evaluation that can be read is of "
            f"step {records[-1]['step']}: the run has no final row"
        )
        last = None
    rows, task_rows = [], []
    for index, record in enumerate(records):
        tokens = record["tokens"]
        spent = {
            "flops": float(record["flops"]),
            "flops_6nd": 6.0 * total * tokens,
            "flops_6nd_nonembedding": 6.0 * nonembedding * tokens,
            "flops_6nd_active_matmul": 6.0 * active * tokens,
        }
        losses = {f"loss_{name}": _float(value) for name, value in record["loss"].items()}
        for order, found in (record.get("ngrams") or {}).items():
            for column, name in (("ngram", "loss"), ("kl", "kl")):
                losses[f"{column}_{order}"] = _float(_number(found.get(name), f"ngrams.{order}.{name}"))
        for source, found in (record.get("sources") or {}).items():
            losses[f"loss_from_{source}"] = _float(_number(found, f"sources.{source}"))
        for number, found in enumerate(record.get("blocks") or (), 1):  # of the held-out windows
            losses[f"loss_block_{number}"] = _float(_number(found, "blocks"))
        if "average" in record:  # the averaged weights' loss, beside the weights' own
            losses["loss_average"] = _float(record["average"]["loss"].get(data["primary"]))
        if load := (record.get("experts") or {}).get("load"):
            losses |= _load(load)
            if index == len(records) - 1 and losses["expert_load_least"] < STARVED:
                problems.append(
                    f"{folder.name}: its router starves: at step {record['step']} an expert has "
                    f"{losses['expert_load_least']:.2g} of an even share of the held-out text"
                )
        loss = _float(record["loss"].get(data["primary"]))
        when = {"step": record["step"], "tokens": tokens}
        skipped = {"skipped_steps": record.get("skipped_steps", 0)}
        final = {"final": index == last}
        rows.append({**about, **final, **science, **when, **spent, **skipped, "loss": loss, **losses})
        common = {
            **{name: about[name] for name in ("run_id", "group", "kind", "outcome")},
            **final,
            **{name: science[name] for name in ("dial", "seed", "horizon_tokens")},
            "size": nonembedding,
            "params": total,
            "tokens": tokens,
            "flops": float(record["flops"]),
            "loss": loss,
        }
        task_rows += [
            {**common, **row} for row in _task_rows(record.get("tasks") or {}, spec.get("tasks") or {})
        ]
    return rows, task_rows


def _load(load: Any) -> dict[str, float]:
    """How even the loads of a run's experts are, over layers: the most and the least in even shares, and the mean
    entropy as a share of that of even loads."""
    shares = np.array(load, dtype=np.float64, ndmin=2)
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-300)), axis=1).mean()
    even = shares * shares.shape[1]
    whole = math.log(shares.shape[1])
    return {
        "expert_load_most": float(even.max()),
        "expert_load_least": float(even.min()),
        "expert_load_entropy": float(entropy / whole) if whole else 1.0,
    }


def _schedule(spec: Mapping[str, Any]) -> dict[str, str | float | None]:
    """The learning rate over the run, by the names of `analysis.curves`; a trunk's stays at its peak."""
    said = spec.get("schedule") or {}
    batch = _number(spec.get("batch_tokens"), "batch_tokens")
    in_tokens = {"warmup_tokens": said.get("warmup_steps"), "decay_start_tokens": spec.get("decay_start")}
    return {
        "schedule": "constant"
        if spec.get("kind") == "trunk"
        else _text(said.get("kind", said.get("name")), "schedule"),
        **{
            name: None if batch is None or steps is None else (_number(steps, name) or 0) * batch
            for name, steps in in_tokens.items()
        },
        "rate_floor": _number(said.get("floor"), "schedule.floor"),
    }


def _floors(described: Mapping[str, Any]) -> dict[str, float]:
    """The least possible loss of each task's component, where the spec says it."""
    named = {task: _number(about.get("floor"), f"tasks.{task}.floor") for task, about in described.items()}
    return {task: float(floor) for task, floor in named.items() if floor is not None}


def _task_rows(tasks: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for task, variants in tasks.items():
        of_task = described.get(task) or {}
        for variant, score in variants.items():
            variants = of_task.get("variants") or {}
            # examples of a row scored apart by what stands before them share what is known of their variant
            meta = {**of_task, **(variants.get(variant) or variants.get(SHOTS.sub("", variant)) or {})}
            scores = {name: _float(score.get(name)) for name in ("correct", "nll", "brier", "byte_accuracy")}
            yield {
                "task": task,
                "variant": variant,
                "total": _float(score.get("n")),
                "different_items": _float(
                    _number(meta.get("different_items"), f"tasks.{task}.different_items")
                ),
                **scores,
                "chance": _float(_number(meta.get("chance"), f"tasks.{task}.chance")),
                "ceiling": _float(_number(meta.get("ceiling", 1.0), f"tasks.{task}.ceiling")),
                "shortcut": _float(_number(meta.get("shortcut"), f"tasks.{task}.shortcut")),
                "intended_class": _text(meta.get("intended_class"), f"tasks.{task}.intended_class"),
                "intended_metric": _text(meta.get("metric"), f"tasks.{task}.metric"),
            }


def _is_number(value: Any) -> bool:
    """A number that a table can hold: not a bool, not a count beyond 64 bits."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _number(value: Any, name: str) -> int | float | None:
    if value is not None and not (_is_number(value) and math.isfinite(value)):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a number")
    return value


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not text")
    return value


def _float(value: int | float | None) -> float:
    """A measured value; one that is missing is NaN, so that a column never changes its type."""
    return math.nan if value is None else float(value)


def _records(folder: Path, weights: Mapping[str, float], problems: list[str]) -> Iterator[dict[str, Any]]:
    path = folder / "records.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{folder.name}/records.jsonl: cannot be read ({error.strerror})")
        return
    step = -1
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            wrong = _wrong_record(record, step)
        except (ValueError, RecursionError):
            wrong = "not JSON"
        if wrong:
            problems.append(f"{folder.name}/records.jsonl line {number}: {wrong}; the line is left out")
            continue
        step = record["step"]
        apart = _total_apart(record["loss"], weights)
        if apart > _TOTAL_TOLERANCE:
            problems.append(
                f"{folder.name}/records.jsonl line {number}: the total loss and its weighted components "
                f"differ by {apart:.1e}, more than {_TOTAL_TOLERANCE:g}"
            )
        yield record


def _wrong_record(record: Any, step_before: int) -> str:
    """Say what keeps a line from being a record, or nothing."""
    if not isinstance(record, dict):
        return "not a record"
    for name in ("step", "tokens", "flops"):
        value = record.get(name)
        if not (isinstance(value, int | float) and _is_number(value) and 0 <= value < math.inf):
            return (
                f"{name} is {str(value)[:40]!r}" if isinstance(value, str) else f"{name} is {str(value)[:40]}"
            )
    if record["step"] <= step_before:
        return f"step {record['step']} comes after step {step_before}"
    loss = record.get("loss")
    if not isinstance(loss, dict) or "total" not in loss:
        return "no total loss"
    if not all(v is None or _is_number(v) for v in loss.values()):
        return "a loss is not a number"
    if not _is_number(record.get("skipped_steps", 0)):
        return "skipped_steps is not a number"
    tasks = record.get("tasks", {})
    if not isinstance(tasks, dict) or not all(
        isinstance(variants, dict) and all(isinstance(score, dict) for score in variants.values())
        for variants in tasks.values()
    ):
        return "the task scores are not {task: {variant: {...}}}"
    scores = (v for variants in tasks.values() for score in variants.values() for v in score.values())
    if not all(v is None or _is_number(v) for v in scores):
        return "a score is not a number"
    return ""


def _total_apart(loss: Mapping[str, Any], weights: Mapping[str, float]) -> float:
    """Relative distance of the total from the weighted sum of components; 0 where it cannot be formed."""
    parts = [(weight, loss.get(name)) for name, weight in weights.items()]
    total = loss["total"]
    if not parts or not total or any(value is None for _, value in parts):
        return 0.0
    distance = abs(sum(weight * float(value) for weight, value in parts if value is not None) - total)
    return distance / abs(total) if math.isfinite(distance) else 0.0


def _read_outcome(folder: Path, problems: list[str]) -> dict[str, Any]:
    path = folder / "outcome.json"
    outcome = _read_json(path, problems) if path.exists() else None
    if outcome is None:
        return {"outcome": UNFINISHED}
    if outcome.get("outcome") not in OUTCOMES:
        problems.append(f"{folder.name}/outcome.json: {outcome.get('outcome')!r} is none of {OUTCOMES}")
        return {**outcome, "outcome": UNFINISHED}
    return outcome


def _read_json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    where = f"{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror}); the run is left out")
        return None
    except (ValueError, RecursionError):
        problems.append(f"{where}: not JSON")
        return None
    if not isinstance(value, dict):
        problems.append(f"{where}: not a JSON object")
        return None
    return value
