"""Write docs/licences.md: `python -m benchmarks.licences`, where every extra is installed.

What a package says of its own licence is read from its metadata; nobody has compared it with the files.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

lmscale is under the MIT licence. What it needs is listed by extra, as each package's own metadata has it; the
bounds are in `pyproject.toml`. Made by `python -m benchmarks.licences`.
"""


def asked() -> dict[str, list[Requirement]]:
    """Return the direct dependencies by extra, "" for those of every installation; our own extras are left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    found = {extra: [Requirement(text) for text in texts] for extra, texts in lists.items()}
    return {extra: [r for r in needs if r.name != "lmscale"] for extra, needs in found.items()}


def licence(name: str) -> str:
    """Return what the installed package says; '' where it is not installed."""
    try:
        said = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    classified = [
        c.rpartition(":: ")[2] for c in said.get_all("Classifier") or () if c.startswith("License ::")
    ]
    text = said.get("License-Expression") or ", ".join(classified) or (said.get("License") or "").strip()
    line = text.partition("\n")[0]
    return re.sub(r"\s*\|\s*", " or ", line) if line else "not said"


def closure(needs: Iterable[Requirement]) -> Iterator[str]:
    """Yield the names of what is needed in turn, as far as it is installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(r.name, extra) for r in needs for extra in ("", *r.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (canonicalize_name(name), extra) in seen:
            continue
        seen.add((canonicalize_name(name), extra))
        yield canonicalize_name(name)
        try:
            inner = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [
            (r.name, e)
            for r in inner
            if r.marker is None or r.marker.evaluate({"extra": extra})
            for e in ("", *r.extras)
        ]


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for extra, needs in asked().items():
        if not needs:
            continue
        direct = {canonicalize_name(r.name) for r in needs}
        inner = sorted(set(closure(needs)) - direct)
        title = f"Extra `{extra}`" if extra else "Every installation"
        parts.append(f"\n## {title}\n\n| package | licence |\n|---|---|\n")
        parts += [f"| {name} | {licence(name) or 'not installed here'} |\n" for name in sorted(direct)]
        if inner:
            listed = ", ".join(f"{name} ({licence(name) or 'not installed here'})" for name in inner)
            parts.append(f"\nWhat these need in turn: {listed}.\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
