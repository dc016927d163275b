"""Hash the sources that a process runs. Imported before all others: what changes later is not what runs."""

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """(name, time of the last change in ns, bytes) of each source."""
    found = sorted(folder.rglob("*.py"))
    return [(str(path.relative_to(folder)), path.stat().st_mtime_ns, path.stat().st_size) for path in found]


_AT_START = _stamps(_FOLDER)


def source_hash() -> str:
    """A hash of the sources that this process runs. Raises RuntimeError where they are not there, or have been
    changed since it began: nobody can say then what it has imported."""
    digest = hashlib.sha256()
    for name, _, size in _AT_START:
        digest.update(f"{name} {size}\n".encode() + (_FOLDER / name).read_bytes())
    if not _AT_START or _stamps(_FOLDER) != _AT_START:
        raise RuntimeError("the sources of lmscale are not those that this process began with")
    return digest.hexdigest()
