"""The trained model that a finished run leaves in its folder, as safetensors: names, sizes, files. No jax.

It is written before the run's outcome is, so a run that has ended as done has its model, or is finished again. What
is in a state, and what the arrays mean, is the business of `results` and `model`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.average import average_of
from lmscale.durable import Fence, explained, replace
from lmscale.errors import UserError
from lmscale.jsonfiles import canonical
from lmscale.memory import SINGLE, memory_of
from lmscale.mesh import MeshConfig
from lmscale.spec import RunSpec

MODEL = "model.safetensors"  # the parameters, named as `family.parameters` lists them, joined by a point
AVERAGE = "average.safetensors"  # the averaged ones, of a run that evaluates an average too
STATE = "state.safetensors"  # what else a step reads, with pack.keep=all


def kept_bytes(run: RunSpec, keep: str) -> int:
    """Count the bytes that a finished run keeps, but for the names of the arrays."""
    if keep == "none":
        return 0
    params = SINGLE * sum(run.params.values())
    state = memory_of(run, "float32", MeshConfig()).state if keep == "all" else params
    return state + (params if average_of(run.evaluation).kind else 0)


def bytes_of(folder: Path) -> int:
    """Count the bytes of what stands in a run's folder of it."""
    paths = (folder / name for name in (MODEL, AVERAGE, STATE))
    return sum(path.stat().st_size for path in paths if path.is_file())


def write(
    path: Path, run: RunSpec, step: int, arrays: Mapping[str, np.ndarray], fence: Fence | None = None
) -> None:
    """Write arrays by name, whole or not at all; the same arrays give the same bytes."""
    from safetensors.numpy import save

    # one key: the library writes several in an order of chance
    about = {"lmscale": canonical({"run_id": run.run_id, "step": step})}
    replace(path, [save(dict(arrays), about)], fence, kind="model")


def read(path: Path, run: RunSpec) -> dict[str, np.ndarray]:
    """Read the arrays of a file by name. UserError where it is damaged, or of another run."""
    from safetensors import SafetensorError, safe_open

    try:
        with explained(path, "read"), safe_open(path, "np") as file:
            owner = json.loads((file.metadata() or {}).get("lmscale", "{}")).get("run_id")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"{path}: damaged ({error}); remove the run's folder and start its sweep again"
        ) from error
    if owner != run.run_id:
        raise UserError(f"{path}: it is of run {owner}, not of {run.run_id}; put the run's own file back")
    return arrays


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Nest arrays by their names, whose parts have a point between them."""
    found: dict[str, Any] = {}
    for name, value in arrays.items():
        *groups, last = name.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return found
