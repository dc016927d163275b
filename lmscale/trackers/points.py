"""What is sent of a run: its settings, and a point for each new line of its records and its timing.

What has been sent is known by the step. A line that a restart repeats stands at a step that was sent, and is not
sent again. Where the record of that step differs from the one that was sent, the run was begun again: all is sent.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lmscale.family import parameter_conventions
from lmscale.jsonfiles import digest, read_json
from lmscale.parts import FILE as PARTS
from lmscale.records import lines_of, read_records
from lmscale.spec import RunSpec, spec_of

FILES = (RECORDS, TIMING, OUTCOME) = ("records.jsonl", "timing.jsonl", "outcome.json")
SHAPE = ("n_layer", "d_model", "n_head", "d_head", "context", "vocab_size")


@dataclass(frozen=True)
class Sent:
    """What a tracker has of a run. step, digest: of the last record. train_step: the last of timing, of which so
    many bytes were read: it only grows."""

    step: int = -1
    digest: str = ""
    train_step: int = -1
    timing_bytes: int = 0
    outcome: str | None = None


@dataclass(frozen=True)
class News:
    """What a tracker has not got of a run. points: step -> values by name, all finite, in the order of steps.
    outcome: of a run that has ended. sent: what the tracker has afterwards."""

    run_id: str
    name: str
    config: Mapping[str, str | int | float]
    points: Mapping[int, Mapping[str, float]]
    outcome: str | None
    sent: Sent


class Tracker(Protocol):
    """A destination. `send` returns when what it was given is out of this process's hands; sent twice it does no
    harm. What it raises is said once, and the same is tried again."""

    def send(self, news: News) -> None: ...

    def close(self) -> None: ...


def news_of(folder: Path, sent: Sent, changed: Collection[str] = FILES) -> News | None:
    """Find what is new in the folder of a run; None where nothing is. changed: the files that are worth a look."""
    records = read_records(folder / RECORDS)[0] if RECORDS in changed else []
    begun_again = any(one["step"] == sent.step and digest(one) != sent.digest for one in records)
    fresh = [one for one in records if begun_again or one["step"] > sent.step]
    train, read = _timing(folder / TIMING, sent) if TIMING in changed else ({}, sent.timing_bytes)
    outcome = str(read_json(folder / OUTCOME)["outcome"]) if (folder / OUTCOME).exists() else None
    if not fresh and not train and outcome == sent.outcome:
        return None
    spec = spec_of(read_json(folder / "spec.json"))
    points: dict[int, dict[str, float]] = {step: _training(line) for step, line in train.items()}
    steps = [record["step"] for record in fresh]
    for record, rate in zip(fresh, learning_rates(spec, steps), strict=True):
        values = _evaluation(record, spec.data["primary"]) | {"train/learning_rate": rate}
        points[record["step"]] = points.get(record["step"], {}) | values
    last = {"step": steps[-1], "digest": digest(fresh[-1])} if fresh else {}
    now = replace(
        sent, **last, train_step=max(train, default=sent.train_step), timing_bytes=read, outcome=outcome
    )
    config = settings(folder, spec)
    labels = [str(config.get("part", "")), spec.kind, f"d{spec.dial}", f"s{spec.seed}", folder.name]
    name = "-".join(label for label in labels if label)
    return News(folder.name, name, config, dict(sorted(points.items())), outcome, now)


def settings(folder: Path, spec: RunSpec) -> dict[str, str | int | float]:
    """Lay out the settings of a run flat, by the names that tables have; those that it has."""
    parts = folder.parent / PARTS
    conventions = parameter_conventions(spec.shape)
    found = {
        "experiment": folder.parent.name,
        "run_id": folder.name,
        "group": spec.trunk or folder.name,
        "kind": spec.kind,
        "part": read_json(parts).get(folder.name) if parts.is_file() else None,
        "dial": spec.dial,
        "seed": spec.seed,
        **{name: conventions[name] for name in ("params", "params_nonembedding", "params_active")},
        **{name: getattr(spec.shape, name) for name in SHAPE},
        "horizon_tokens": spec.horizon_tokens,
        "batch_tokens": spec.batch_tokens,
        "learning_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        "schedule": spec.schedule["kind"],
        "optim": spec.optim.kind,
        "data": spec.data["content_hash"],
        "unique_tokens": spec.data.get("unique_tokens"),
        "objective": spec.data.get("objective"),
        "report": str(folder.parent.resolve() / "report" / "index.html"),
    }
    return {name: value for name, value in found.items() if value is not None}


def learning_rates(spec: RunSpec, steps: Sequence[int]) -> list[float]:
    """Compute the rate of the last step before each evaluation, by the function that trains."""
    import jax.numpy as jnp

    from lmscale.programs import lane_numbers
    from lmscale.schedule import learning_rate

    taken = jnp.maximum(jnp.asarray(steps, jnp.int32) - 1, 0)
    return [float(rate) for rate in learning_rate(lane_numbers(spec, 0), taken)] if steps else []


def _evaluation(record: Mapping[str, Any], primary: str) -> dict[str, float]:
    values = {
        "eval/loss": record["loss"][primary],
        **{f"components/{name}": value for name, value in record["loss"].items()},
        "tokens": record["tokens"],
        "flops": record["flops"],
        "train/skipped_steps": record["skipped_steps"],
    }
    if "average" in record:
        values["eval/loss_average"] = record["average"]["loss"].get(primary)
    for task, variants in (record.get("tasks") or {}).items():
        for variant, score in variants.items():
            where = f"tasks/{task}/{variant}"
            values[f"{where}/accuracy"] = score["correct"] / score["n"]
            values |= {f"{where}/{name}": score.get(name) for name in ("nll", "brier", "byte_accuracy")}
    return {name: float(value) for name, value in values.items() if value is not None}


def _training(line: Mapping[str, Any]) -> dict[str, float]:
    """The loss of a batch; of a pack of several lanes it is their mean, which has another name."""
    loss = "train/loss" if line.get("lanes", 1) == 1 else "train/loss_of_lanes"
    return {loss: float(line["train_loss"]), "train/tokens_per_second": float(line["tokens_per_second"])}


def _timing(path: Path, sent: Sent) -> tuple[dict[int, dict[str, Any]], int]:
    """The new lines by their step, and the bytes of the file that have been read: one may be half-written now."""
    with path.open("rb") as file:
        file.seek(sent.timing_bytes)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    lines = [line for _, line, _ in lines_of(whole) if line and line.get("train_loss") is not None]
    new = {line["step"]: line for line in lines if line["step"] > sent.train_step}
    return new, sent.timing_bytes + len(whole)
