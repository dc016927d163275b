"""JSON and array files: one canonical text of a value, written whole or not at all."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.durable import Fence, explained, replace


def plain(value: Any) -> Any:
    """JSON's types only: numpy's scalars and arrays unpacked, and None for what is not a finite number,
    for JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, floats by their shortest exact form."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Sixteen hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, value: Any, fence: Fence | None = None) -> None:
    """Write a JSON file for people and programs (keys sorted, indented), whole or not at all."""
    text = json.dumps(plain(value), sort_keys=True, indent=1, allow_nan=False) + "\n"
    replace(path, [text.encode()], fence, kind="json")


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises DiskError where it cannot be read."""
    with explained(path, "read"):
        return json.loads(path.read_text())


def write_npz(path: Path, arrays: Mapping[str, Any], fence: Fence | None = None) -> None:
    """Write arrays by name, whole or not at all; the same arrays give the same bytes. TypeError for objects,
    which only a pickle could hold."""
    objects = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise TypeError(f"arrays of Python objects: {objects}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    replace(path, [buffer.getbuffer()], fence, kind="items")
