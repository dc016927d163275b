"""Text logs of nanoGPT, nanochat and modded-nanogpt: what their training loops print."""

import ast
import math
import re
from pathlib import Path

import pandas as pd

from analysis.errors import UserError
from analysis.sources.json_files import object_in
from analysis.sources.numbers import number
from analysis.sources.run import TrackedRun

_COUNT = r"([\d,]+)"
_FLOAT = r"(-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf))"
# Lines of the loop: the step, then a metric a group. nanochat prints a training loss that is averaged over steps.
_LOOP: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(rf"step (\d+): train loss {_FLOAT}, val loss {_FLOAT}"), ("train/loss", "val/loss")),
    (re.compile(rf"iter (\d+): loss {_FLOAT}, time"), ("train/batch_loss",)),
    (re.compile(rf"Step (\d+) \| Validation bpb: {_FLOAT}"), ("val/bpb",)),
    (re.compile(rf"step (\d+)/\d+ \([\d.]+%\) \| loss: {_FLOAT}"), ("train/loss_smoothed",)),
    (re.compile(rf"step:(\d+)/\d+ val_loss:{_FLOAT}"), ("val/loss",)),
    (re.compile(rf"step:(\d+)/\d+ train_loss:{_FLOAT}"), ("train/loss",)),
)
# Lines that state a setting.
_SETTINGS = (
    (re.compile(rf"tokens per iteration will be: {_COUNT}"), "tokens_per_iter"),
    (re.compile(rf"Total batch size {_COUNT} =>"), "tokens_per_step"),
    (re.compile(rf"num decayed parameter tensors: \d+, with {_COUNT} parameters"), "params_decayed"),
    (re.compile(rf"num non-decayed parameter tensors: \d+, with {_COUNT} parameters"), "params_not_decayed"),
    (re.compile(rf"Number of parameters: {_COUNT}$"), "num_params"),
    (re.compile(rf"total\s*: {_COUNT}$"), "num_params"),
    (re.compile(rf"transformer_matrices\s*: {_COUNT}$"), "params_nonembedding"),
    (re.compile(r"number of parameters: ([\d.]+)M"), "params_in_millions"),
    (re.compile(rf"(?:Using user-provided|Calculated) number of iterations.*: {_COUNT}$"), "num_iterations"),
    (re.compile(rf"Vocab size: {_COUNT}$"), "vocab_size"),
    (re.compile(rf"Estimated FLOPs per token: {_FLOAT}"), "flops_per_token"),
    (re.compile(r"step:\d+/(\d+) "), "num_iterations"),
)
_OVERRIDE = re.compile(r"(?:Overriding: )?([a-z_0-9]+) = ([^#]+?)\s*(?:#.*)?")
_STATED = frozenset({"train", "log", "output", "out", "stdout", "main", "run", "training"})
_LOOKED_AT = 500_000  # modded-nanogpt and forks of nanochat print their source before anything else


def recognises(path: Path) -> bool:
    """Tell a log by a line of its loop near the beginning."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            text = file.read(_LOOKED_AT).decode("utf-8", "replace")
    except OSError:
        return False
    return "\0" not in text and any(line.match(row) for row in text.splitlines() for line, _ in _LOOP)


def read(path: Path) -> list[TrackedRun]:
    """Read the run of one log; a log in which a run was started again goes on in it."""
    rows: list[dict[str, float]] = []
    config: dict[str, object] = {}
    overriding = ended = False
    shape: list[str] | None = None
    for row in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = row.strip()
        if shape is not None:
            shape.append(line)
            if row == "}":
                config |= object_in("\n".join(shape))
                shape = None
        elif line == "Model config:":
            shape = []
        elif step := next(((m, metrics) for at, metrics in _LOOP if (m := at.match(line))), None):
            overriding = False
            values = map(float, step[0].groups()[1:])
            rows.append({"step": float(step[0][1]), **dict(zip(step[1], values, strict=True))})
        elif line.startswith("Overriding"):
            overriding = True
        elif line.startswith(("Minimum validation bpb", "Total training time")):
            ended = True
        if stated := next(((m, name) for at, name in _SETTINGS if (m := at.match(line))), None):
            config[stated[1]] = number(stated[0][1])
        elif overriding and (given := _OVERRIDE.fullmatch(line.removeprefix("Overriding: "))):
            config[given[1]] = _literal(given[2])
    if not rows:
        raise UserError(f"{path}: no step of nanoGPT, nanochat or modded-nanogpt in it")
    _add_params(config)
    name = path.parent.name if path.stem in _STATED and path.parent.name else path.stem
    # nanochat ends with a summary, the others by doing all their steps; a loss that is no number ends nothing.
    diverged = any(math.isnan(value) for value in rows[-1].values())
    notes = (f"run {name} diverged: the last loss of its log is not a number",) if diverged else ()
    finished = False if diverged else True if ended else None
    return [TrackedRun(name, config, pd.DataFrame(rows), finished, notes=notes)]


def _literal(text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _add_params(config: dict[str, object]) -> None:
    """Count parameters as nanoGPT's optimiser does, exactly; its own count is rounded to 10,000."""
    parts = [config.pop(name, None) for name in ("params_decayed", "params_not_decayed")]
    rounded = config.pop("params_in_millions", None)
    if all(isinstance(part, float) for part in parts):
        config["num_params"] = sum(part for part in parts if isinstance(part, float))
    elif isinstance(rounded, float):
        config.setdefault("num_params", rounded * 1e6)
