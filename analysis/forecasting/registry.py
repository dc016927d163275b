"""Registered forecasts as files: written once, and named in a log whose lines chain their hashes.

    <folder>/<id>.json     a forecast; never replaced
    <folder>/log.jsonl     a line a forecast: {"id", "registered_at", "sha256", "previous"}

`sha256` is of the forecast's file, `previous` of the line before: an edit of a file, or of a line that another
follows, shows. Whoever rewrites the whole log leaves no trace in it, so keep the last line's hash (`head`)
elsewhere too, as in a commit (Haber and Stornetta 1991, J. Cryptology 3, 99). What a forecast holds is `promise`'s
business.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.errors import UserError
from analysis.tables.atomic import write_text

LOG = "log.jsonl"
NOTHING = ""  # the hash before the first line


@dataclass(frozen=True)
class Registered:
    """A forecast of a folder. `content` is empty where it cannot be read. `altered` says what shows that it is not
    what was registered, or nothing."""

    id: str
    content: Mapping[str, Any]
    altered: str = ""


def register(folder: Path, content: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Register a forecast; return what its file holds, and whether it was registered before.

    Its id is the hash of `content`, so the same forecast of the same data is registered once. `registered_at` (UTC)
    is added. Raises UserError where the log has been altered, or the folder cannot be written.
    """
    # As it will be read again; JSON has no NaN.
    content = json.loads(json.dumps(content), parse_constant=lambda word: None)
    name = _sha256(json.dumps(content, sort_keys=True))[:12]
    path = folder / f"{name}.json"
    with _locked(folder):
        lines = _lines(folder)
        if broken := _broken_at(lines):
            raise UserError(
                f"{folder / LOG}: line {broken} does not follow from the line before, so the log was altered; "
                "nothing is registered on top of it: put it back, or name another folder (--out)"
            )
        logged = {json.loads(line)["id"] for line in lines}
        made = {"id": name, "registered_at": now(), **content}
        before = path.exists()
        if before:  # a kill may have come between its file and its line
            made = _read(path)
            if name not in logged and {**content, "id": name} != _without_time(made):
                raise UserError(f"{path}: altered before it was logged; move it away and register again")
        else:
            write_text(path, written(made))
        if name not in logged:
            line = {
                "id": name,
                "registered_at": made["registered_at"],
                "sha256": _sha256(path.read_text()),
                "previous": _sha256(lines[-1]) if lines else NOTHING,
            }
            write_text(folder / LOG, "".join(f"{text}\n" for text in [*lines, json.dumps(line)]))
        _sync(folder)
    return made, name in logged


def head(folder: Path) -> str:
    """Hash the last line of the log: whoever keeps it elsewhere can tell whether the log was rewritten."""
    lines = _lines(folder)
    return _sha256(lines[-1]) if lines else NOTHING


def registered(folder: Path) -> list[Registered]:
    """Read every forecast of a folder in the order of the log, then those that it does not name.

    Raises UserError where there is none.
    """
    lines = _lines(folder)
    files = {path.stem: path for path in sorted(folder.glob("*.json"))} if folder.is_dir() else {}
    if not files and not lines:
        raise UserError(
            f"{folder}: no forecast is registered there; make one: python -m analysis forecast TABLE"
        )
    broken = _broken_at(lines)
    found: dict[str, Registered] = {}
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        name = str(entry.get("id", f"line {number}"))
        # The hash of a line is held by the next one, so of two that do not agree either may be the altered one.
        chain = f"the log was altered at line {broken}" if broken and number >= broken - 1 else ""
        found[name] = _checked(name, files.get(name), entry, chain)
    for name, path in files.items():
        if name not in found:
            found[name] = _checked(name, path, {}, "the log does not name it")
    return list(found.values())


def _checked(name: str, path: Path | None, entry: Mapping[str, Any], chain: str) -> Registered:
    if path is None:
        return Registered(name, {}, "its file is gone")
    try:
        content = _read(path)
    except UserError as error:
        return Registered(name, {}, str(error))
    if chain:
        return Registered(name, content, chain)
    if _sha256(path.read_text()) != entry.get("sha256"):
        return Registered(name, content, f"{path.name} was edited after it was registered")
    same = content["registered_at"] == entry.get("registered_at") and content["id"] == name
    return Registered(name, content, "" if same else "the log and the file name another time or id")


def written(content: Mapping[str, Any]) -> str:
    """Write a forecast as JSON for people: indented, a list of numbers on one line."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text)


def now() -> str:
    """Give the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_of(text: object) -> float | None:
    """Read a time (ISO 8601, UTC unless it says otherwise; or seconds since 1970) as seconds; None: no time."""
    if isinstance(text, int | float):
        return float(text)
    try:
        found = datetime.fromisoformat(str(text).strip())
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _without_time(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "registered_at"}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / LOG).read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / LOG}: cannot be read ({error})") from None


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _broken_at(lines: list[str]) -> int:
    """The number of the first line that is no entry or does not hold the hash of the one before; 0 where none."""
    previous = NOTHING
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if "id" not in entry or entry.get("previous") != previous:
            return number
        previous = _sha256(line)
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a forecast ({' '.join(str(error).split())[:100]})"
        ) from None
    if not (isinstance(found, dict) and {"id", "registered_at", "targets", "data"} <= set(found)):
        raise UserError(f"{path}: not a forecast: it lacks id, registered_at, targets or data")
    return found


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two who register at once add two lines."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(
            f"{folder}: a forecast cannot be kept there ({error.strerror}); name another"
        ) from None


def _sync(folder: Path) -> None:
    """Put the folder's entries on the disk: a rename may be forgotten when power fails."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
