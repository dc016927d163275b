"""Score files of BIG-bench (`results/scores_MODEL.json`): a task's scores of one model, as the project keeps them.

Scores are scaled by what the file calls the highest score where that is a percentage; a score has no error in these
files, and its number of questions is that of the task.json in the folder above, where there is one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.sources.json_files import read_object
from analysis.sources.numbers import number

_PERCENT = 100.0
_AGGREGATE = "normalized_aggregate_score"  # a mean of subtasks that are rows themselves


def recognises(path: Path) -> bool:
    """Tell a score file by its keys."""
    try:
        if path.suffix != ".json" or not path.is_file():
            return False
        text = path.read_bytes()
    except OSError:
        return False
    return b'"score_dict"' in text and b'"preferred_score"' in text


def read(path: Path) -> pd.DataFrame:
    """Read the scores of every subtask and number of shots in one file."""
    found = read_object(path)
    scores = found.get("scores")
    if not isinstance(scores, list) or not all(isinstance(score, dict) for score in scores):
        raise UserError(f"{path}: scores is no list of objects")
    model = found.get("model")
    model = model if isinstance(model, dict) else {}
    size = model.get("non_embedding_params") or model.get("total_params")
    if not isinstance(size, int | float) or size <= 0:
        raise UserError(
            f"{path}: model has no non_embedding_params and no total_params: no size to stand over"
        )
    task = _task(found, path)
    total = _questions(path)
    rows = []
    for score in scores:
        for metric, value in (score.get("score_dict") or {}).items():
            if metric == _AGGREGATE:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise UserError(f"{path}: {task}: {metric} is {value!r}, not a number")
            preferred = metric == score.get("preferred_score")
            high, low = (number(score.get(name)) or 0.0 for name in ("high_score", "low_score"))
            scale = _PERCENT if preferred and high == _PERCENT else 1.0
            subtask = str(score.get("subtask_description") or "")
            rows.append(
                {
                    "run_id": str(model.get("model_name") or path.stem.removeprefix("scores_")),
                    "task": task if subtask in ("", task) else f"{task}: {subtask}",
                    "variant": f"{score.get('number_of_shots') or 0}_shot",
                    "metric": metric,
                    "size": float(size),
                    "score": float(value) / scale,
                    "total": total,
                    "chance": low / scale if preferred else np.nan,
                    "ceiling": high / scale if preferred and high else np.nan,
                }
            )
    if not rows:
        raise UserError(f"{path}: no score in it")
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    kind = "non_embedding_params" if model.get("non_embedding_params") else "total_params"
    table.attrs = {"took": [f"took {kind} for size", "took low_score for chance and high_score for ceiling"]}
    return table


def _task(found: dict[str, Any], path: Path) -> str:
    task = found.get("task")
    name = task.get("name") if isinstance(task, dict) else task
    return str(name or path.parent.parent.name)


def _questions(path: Path) -> float:
    """Count the examples of the task that the results lie beside; NaN where it is not there."""
    task = path.parent.parent / "task.json"
    examples = read_object(task).get("examples") if task.is_file() else None
    return float(len(examples)) if isinstance(examples, list) else float("nan")
