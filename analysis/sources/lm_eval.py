"""Results of lm-evaluation-harness: results_*.json, and samples_*.jsonl where they were kept, as task scores.

One row a model, task, metric and filter, with its standard error and its number of questions; from the samples the
chance level of a multiple choice. A task's last result of a model counts.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.sources.json_files import read_lines, read_object
from analysis.sources.numbers import size_in

# What the model was called with, in the forms of the versions: "pretrained=NAME,revision=step1000", or an object.
_ARGUMENT = re.compile(r"\b(pretrained|revision)['\"]?[=:] ?['\"]?([^,'\"}]+)")
_STEP = re.compile(r"step(\d+)")
_KEYS = ["run_id", "task", "variant", "metric"]


def recognises(path: Path) -> bool:
    """Tell a file of results by its keys, and a folder by such files up to two folders below."""
    try:
        if path.is_dir():
            return any(_is_results(file) for file in _files(path)[:20])
        return _is_results(path)
    except OSError:
        return False


def read(path: Path) -> pd.DataFrame:
    """Read the scores of every file of results."""
    files = [file for file in _files(path) if _is_results(file)] if path.is_dir() else [path]
    rows = [row for file in files for row in _rows(file)]
    if not rows:
        raise UserError(f"{path}: no task has a score in it")
    # The date orders evaluations of one model: a later one of a task takes the place of an earlier.
    table = pd.DataFrame(rows).sort_values("date", kind="stable").drop(columns="date")
    twice = int(table.duplicated(_KEYS, keep="last").sum())
    table = (
        table.drop_duplicates(_KEYS, keep="last")
        .sort_index()
        .dropna(axis=1, how="all")
        .reset_index(drop=True)
    )
    problems = [f"{twice} scores were evaluated again later: the last counts"] if twice else []
    if "size" not in table:
        hint = ", or --columns size=size_in_name" if "size_in_name" in table else ""
        problems.append(
            f"the harness kept no model_num_parameters: give sizes with --columns size=NAME{hint}"
        )
    took = ["took model_num_parameters (embeddings included) for size"] if "size" in table else []
    took += ["took the number of choices in the samples for chance"] if "chance" in table else []
    table.attrs = {"took": [*took, "took n-shot and filter for variant"], "problems": problems}
    return table


def _files(folder: Path) -> list[Path]:
    return sorted(file for depth in ("", "*/", "*/*/") for file in folder.glob(f"{depth}*.json"))


def _is_results(path: Path) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        text = file.read(200)
        text += file.read() if b'"results"' in text else b""
    return b'"results"' in text and (b'"n-shot"' in text or b'"versions"' in text)


def _rows(file: Path) -> list[dict[str, Any]]:
    found = read_object(file)
    results = found.get("results")
    if not isinstance(results, dict) or not all(isinstance(scores, dict) for scores in results.values()):
        raise UserError(f"{file}: results is no object of tasks")
    config = found.get("config") or {}
    called = dict(_ARGUMENT.findall(str(config.get("model_args"))))
    revision = str(config.get("model_revision") or called.get("revision") or "")
    model = str(found.get("model_name") or called.get("pretrained") or file.parent.name)
    step = _STEP.search(revision)
    groups = set(found.get("group_subtasks") or {}) & set(found.get("groups") or {})
    rows: list[dict[str, Any]] = []
    for task, scores in results.items():
        if task in groups:  # a mean of tasks that are rows themselves
            continue
        # Before version 0.4 there was one number for all tasks.
        shots = (found.get("n-shot") or {}).get(task, config.get("num_fewshot"))
        count = ((found.get("n-samples") or {}).get(task) or {}).get("effective")
        chance = _chance(file, task)
        for name, score in scores.items():
            metric, _, kept = name.partition(",")
            error = scores.get(f"{metric}_stderr{',' if kept else ''}{kept}")
            if (
                metric.endswith("_stderr")
                or isinstance(score, bool | str)
                or metric in ("alias", "sample_len", "name")
            ):
                continue
            if not isinstance(score, int | float):
                raise UserError(f"{file}: {task}: {name} is {score!r}, not a number")
            filtered = f"_{kept}" if kept not in ("", "none") else ""
            rows.append(
                {
                    "run_id": f"{model}{f'@{revision}' if revision not in ('', 'main') else ''}",
                    "task": task,
                    "variant": f"{shots if shots is not None else 0}_shot{filtered}",
                    "metric": metric,
                    "size": config.get("model_num_parameters", np.nan),
                    "size_in_name": size_in(model.rpartition("/")[2]) or np.nan,
                    "step": float(step[1]) if step else np.nan,
                    "score": float(score),
                    "stderr": float(error) if isinstance(error, int | float) else np.nan,
                    "total": count if count is not None else np.nan,
                    "chance": chance if metric in ("acc", "acc_norm") else np.nan,
                    "date": float(found.get("date") or 0.0),
                }
            )
    return rows


def _chance(file: Path, task: str) -> float:
    """Return the score of guessing, from the choices in the samples beside a file of results; NaN without."""
    date = file.stem.removeprefix("results_")
    samples = file.with_name(f"samples_{task}_{date}.jsonl")
    if not samples.is_file():
        return float("nan")
    choices = [
        len(sample["resps"]) for sample in read_lines(samples) if isinstance(sample.get("resps"), list)
    ]
    return float(np.mean(1.0 / np.array(choices))) if choices and min(choices) > 1 else float("nan")
