"""Write the tables of docs/ that are made from the code: `python -m benchmarks.docs_tables`.

A page holds a table between `<!-- NAME -->` and `<!-- end -->`; a test says when one of them is out of date.
"""

import re
from collections.abc import Callable
from pathlib import Path

from analysis.errors import Code, Status

DOCS = Path(__file__).resolve().parents[1] / "docs"


def warnings_table() -> str:
    """Every warning with its sentence; grave ones are marked."""
    lines = ["| code | means |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{code}`{_mark(code)} | {code.sentence} |" for code in Code)])


def statuses_table() -> str:
    """Every status with its sentence."""
    return "\n".join(["| status | means |", "|---|---|", *(f"| `{s}` | {s.sentence} |" for s in Status)])


def _mark(code: Code) -> str:
    return "\\*" if code.grave else ""


TABLES: dict[str, Callable[[], str]] = {"warnings": warnings_table, "statuses": statuses_table}


def renewed(text: str) -> str:
    """A page with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(TABLES)}) -->\n.*?<!-- end -->", table, text, flags=re.S)


def main() -> None:
    for page in sorted(DOCS.glob("*.md")):
        old = page.read_text()
        if (new := renewed(old)) != old:
            page.write_text(new)
            print(page)


if __name__ == "__main__":
    main()
