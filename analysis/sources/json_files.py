"""JSON of other programs: a whole object of a file or one line that says that it is cut off; flat, dotted names."""

import json
from pathlib import Path
from typing import Any

from analysis.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a file holds; UserError for what cannot be read, is cut off or is no object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not whole JSON ({error}): was it cut off? write it again, or take it out"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: {str(found)[:40]!r} is no JSON object")
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON Lines; UserError names the line that is none."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            raise UserError(
                f"{path}: line {number}: not whole JSON: is it cut off? mend it, or take it out"
            ) from None
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number}: {line[:40]!r} is no object")
        found += [row] if row else []
    if not found:
        raise UserError(f"{path}: no line in it")
    return found


def object_in(text: str | bytes) -> dict[str, Any]:
    """Return the object that a part of another file holds; an empty one where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def flat(found: dict[str, Any], before: str = "") -> dict[str, object]:
    """Return an object's values under dotted names (`model.n_layer`); lists are left out."""
    values: dict[str, object] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            values |= flat(value, f"{before}{name}.")
        elif not isinstance(value, list):
            values[f"{before}{name}"] = value
    return values
