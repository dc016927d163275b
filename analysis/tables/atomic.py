"""Write a file whole or not at all: beside its place, then renamed, so that no reader meets half of it."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from analysis.errors import UserError


def check_target(option: str, path: Path) -> None:
    """Raise UserError, before any work, where the file that an option names could not be written."""
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise UserError(f"{option} {path}: a folder; name a file in it")


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `path` by what `write` puts into the open file; an error leaves what was there, and raises."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _share(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))


def as_json(answer: Any) -> str:
    """Write an answer as JSON, with null for what is not a finite number: JSON has no word for it."""
    return json.dumps(_plain(answer), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _share(path: Path) -> None:
    """Give a temporary file the permissions of a plainly written one; made by mkstemp it is private."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
