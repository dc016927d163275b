"""trainer_state.json of Hugging Face's Trainer, with what lies beside it: the config and the weights' header.

Parameters are counted in the header of model.safetensors; weights, and pickles such as training_args.bin, are
never read. Tokens come from the Trainer's own count, or from its FLOPs: 6 x parameters without embeddings x tokens.
"""

import json
import math
import re
import struct
from pathlib import Path

import pandas as pd

from analysis.errors import UserError
from analysis.sources.json_files import flat, read_object
from analysis.sources.run import TrackedRun

_STATE = "trainer_state.json"
_EMBEDDING = re.compile(
    r"(embed_tokens|embed_in|wte|wpe|word_embeddings|position_embeddings|embeddings)\.weight$"
)
_HEAD = re.compile(r"(lm_head|embed_out)\.weight$")
_MOST_HEADER = 100_000_000
# Of the last row: means over the whole training, and speeds.
_SUMMARY = "train_runtime"


def recognises(path: Path) -> bool:
    """Tell a state file by its history, and a folder by the state files in it."""
    try:
        if path.is_dir():
            return any(True for _ in _states(path))
        if path.suffix != ".json":
            return False
        with path.open("rb") as file:
            return path.name == _STATE or b'"log_history"' in file.read(2_000_000)
    except OSError:
        return False


def read(path: Path) -> list[TrackedRun]:
    """Read a state, or of every run below a folder the state of most steps."""
    furthest: dict[Path, TrackedRun] = {}
    for file in _states(path) if path.is_dir() else [path]:
        folder, run = _folder(file), _run(file)
        before = furthest.get(folder)
        if before is None or float(str(run.config["global_step"])) >= float(
            str(before.config["global_step"])
        ):
            furthest[folder] = run
    if all(run.history.empty for run in furthest.values()):
        raise UserError(f"{path}: nothing has been logged in it (log_history is empty)")
    return list(furthest.values())


def _states(folder: Path) -> list[Path]:
    return sorted(file for depth in ("", "*/", "*/*/") for file in folder.glob(f"{depth}{_STATE}"))


def _folder(file: Path) -> Path:
    """The folder of a run: that of the state, or the one of which it is a checkpoint."""
    return file.parent.parent if re.fullmatch(r"checkpoint-\d+", file.parent.name) else file.parent


def _run(file: Path) -> TrackedRun:
    state = read_object(file)
    history, steps = state.get("log_history"), state.get("global_step")
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise UserError(f"{file}: log_history is no list of objects: is it a trainer_state.json?")
    if not isinstance(steps, int):
        raise UserError(f"{file}: it has no global_step: is it a trainer_state.json?")
    rows = [
        {
            name: value
            for name, value in row.items()
            if name != "total_flos" and isinstance(value, int | float)
        }
        for row in history
        if _SUMMARY not in row
    ]
    if not all("step" in row for row in rows):
        raise UserError(f"{file}: a row of log_history has no step")
    beside = [file.parent / "config.json", _folder(file) / "config.json"]
    config: dict[str, object] = flat(next((read_object(path) for path in beside if path.is_file()), {}))
    config |= {
        name: state[name]
        for name in ("max_steps", "global_step", "num_train_epochs", "total_flos")
        if isinstance(state.get(name), int | float)
    }
    counted = _parameters(file)
    if counted:
        total, embeddings, head = counted
        config |= {"num_params": total, "params_nonembedding": total - embeddings - head}
        flos = state.get("total_flos")
        if isinstance(flos, int | float) and flos > 0 and total > embeddings:
            config["tokens_per_step"] = flos / (6.0 * (total - embeddings)) / steps
    finished = isinstance(state.get("max_steps"), int) and steps >= state["max_steps"]
    return TrackedRun(_folder(file).name, config, pd.DataFrame(rows or {"step": []}), finished)


def _parameters(state: Path) -> tuple[int, int, int] | None:
    """Count all parameters, those of input embeddings and those of an untied head, in the weights' headers."""
    for folder in (state.parent, _folder(state), *sorted(_folder(state).glob("checkpoint-*"))):
        files = sorted(folder.glob("model*.safetensors"))
        if files:
            sizes = {name: size for file in files for name, size in _header(file).items()}
            embeddings = sum(size for name, size in sizes.items() if _EMBEDDING.search(name))
            head = sum(size for name, size in sizes.items() if _HEAD.search(name))
            return sum(sizes.values()), embeddings, head
    return None


def _header(file: Path) -> dict[str, int]:
    """Read the sizes of the arrays of a safetensors file: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as weights:
            (length,) = struct.unpack("<Q", weights.read(8))
            if length > _MOST_HEADER:
                raise ValueError("a header of impossible length")
            header = json.loads(weights.read(length))
            return {name: int(math.prod(a["shape"])) for name, a in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(
            f"{file}: not whole ({error}); take it out of the folder, or another checkpoint"
        ) from None
