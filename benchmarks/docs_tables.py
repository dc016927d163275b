"""Write what README and docs/ have from the code: `python -m benchmarks.docs_tables`.

A page holds a table, or the tree of files, between `<!-- NAME -->` and `<!-- end -->`; a test says when one of
them is out of date.
"""

import ast
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from analysis.errors import Code, Status

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def warnings_table() -> str:
    """Every warning with its sentence; grave ones are marked."""
    lines = ["| code | means |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{code}`{_mark(code)} | {code.sentence} |" for code in Code)])


def statuses_table() -> str:
    """Every status with its sentence."""
    return "\n".join(["| status | means |", "|---|---|", *(f"| `{s}` | {s.sentence} |" for s in Status)])


def tree() -> str:
    """The folders of both packages, the modules in each, and the first sentence of each folder."""
    lines = []
    for package in ("analysis", "lmscale"):
        for folder in (
            ROOT / package,
            *sorted(path.parent for path in (ROOT / package).glob("*/__init__.py")),
        ):
            name = f"{folder.relative_to(ROOT)}/"
            about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
            modules = " ".join(path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__")
            lines.append(f"{name:<23} {_sentence(about)}")
            lines += textwrap.wrap(modules, 96, initial_indent=" " * 24, subsequent_indent=" " * 24)
    return "\n".join(["```", *lines, "```"])


def _sentence(text: str) -> str:
    """The first sentence."""
    return re.split(r"\.(?:\s|$)", text, maxsplit=1)[0].replace("\n", " ")


def _mark(code: Code) -> str:
    return "\\*" if code.grave else ""


TABLES: dict[str, Callable[[], str]] = {"warnings": warnings_table, "statuses": statuses_table, "tree": tree}


def renewed(text: str) -> str:
    """A page with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(TABLES)}) -->\n.*?<!-- end -->", table, text, flags=re.S)


def main() -> None:
    for page in PAGES:
        old = page.read_text()
        if (new := renewed(old)) != old:
            page.write_text(new)
            print(page)


if __name__ == "__main__":
    main()
