"""The files that data.files names: paths as they are written, patterns, and folders."""

import errno
import glob
import os
from pathlib import Path
from typing import Any

from lmscale.durable import explained
from lmscale.errors import UserError


def states_of(patterns: tuple[str, ...]) -> list[Any]:
    """Identify the state of files by name, size and time."""
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in find_files(patterns)]


def find_files(patterns: tuple[str, ...]) -> list[Path]:
    """Find the files that paths and glob patterns name, sorted.

    UserError for a pattern that names none, and for a link to nothing or anything else that is no file.
    """
    found: set[Path] = set()
    for pattern in patterns:
        with explained(Path(pattern), "read"):
            matches = _matches(pattern)
            if all(
                path.is_dir() for path in matches
            ):  # else files are meant, and folders beside them are not
                matches = [path for folder in matches for path in _below(folder)]
            links = {path for path in matches if path.is_symlink()}
            for path in links:
                if not path.exists():
                    raise UserError(
                        f"data.files={pattern}: {path} is a link to nothing; restore or remove it"
                    )
            # to follow every part of every path takes longer than to read short files
            whole = {folder: folder.resolve() for folder in {path.parent for path in matches}}
            files = [
                path.resolve() if path in links else whole[path.parent] / path.name
                for path in matches
                if path.is_file()
            ]
            if files:
                found.update(files)
                continue
            for path in matches:
                is_what = "a folder without files" if path.is_dir() else "no regular file"
                raise UserError(f"data.files={pattern}: it is {is_what}; give a file, such as texts/*.txt")
            raise UserError(
                f"data.files={pattern}: no such file; give a path or a pattern such as texts/*.txt"
            )
    return sorted(found, key=_parts)


def _parts(path: Path) -> tuple[str, ...]:
    """The order of paths, faster than their own."""
    return path.parts


def _below(folder: Path) -> list[Path]:
    """Everything below a folder, but for what is hidden; the folder itself where there is nothing. Links to folders
    are followed, each folder once."""
    found: list[Path] = []
    seen: set[Path] = set()
    folders = [folder]
    while folders:
        for path in sorted(folders.pop().iterdir(), key=_parts):
            if path.name.startswith("."):
                continue
            if not path.is_dir():
                found.append(path)
            elif path.resolve() not in seen:
                seen.add(path.resolve())
                folders.append(path)
    return found or [folder]


def _matches(pattern: str) -> list[Path]:
    """The paths of a pattern. Folders and files that exist as written are no patterns, whatever [ ] they hold."""
    try:
        path = Path(pattern).expanduser()
    except RuntimeError as error:  # no home of that name
        raise UserError(f"data.files={pattern}: {error}; write the folder out") from error
    plain = Path(path.anchor)
    parts = path.relative_to(plain).parts if path.anchor else path.parts
    for at, part in enumerate(parts):
        if not os.path.lexists(plain / part):
            if plain.is_dir() and not os.access(
                plain, os.R_OK | os.X_OK
            ):  # glob would find nothing, silently
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            rest = str(Path(*parts[at:]))
            # unlike Path.glob it follows links to folders
            return [plain / name for name in glob.glob(rest, root_dir=plain, recursive=True)]  # noqa: PTH207
        plain /= part
    return [plain]
