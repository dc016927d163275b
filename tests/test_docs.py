"""The pages of docs/ and README say what is: tables made from the code, the tree on the disk."""

import re
from pathlib import Path

import pytest

from benchmarks.docs_tables import PAGES, renewed

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_up_to_date(page: Path) -> None:
    text = page.read_text()
    assert renewed(text) == text, "run: python -m benchmarks.docs_tables"


def test_the_page_of_laws_has_the_warnings() -> None:
    assert "`multi_basin`" in (ROOT / "docs" / "laws.md").read_text()


def test_the_readme_prints_the_tree() -> None:
    assert "<!-- tree -->\n```\nanalysis/" in (ROOT / "README.md").read_text()


def test_every_mended_row_has_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "docs" / "mended.md").read_text().splitlines() if line.startswith("| ✓")]
    assert len(rows) == 29 + 28 + 25
    for row in rows:
        named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", row)
        assert named, row
        for file, name in named:
            assert f"def {name}" in (ROOT / "tests" / f"{file}.py").read_text(), row
