"""The pages of docs/ and README say what is: tables made from the code, the tree on the disk."""

from pathlib import Path

import pytest

from benchmarks.docs_tables import renewed

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_tables_made_from_the_code_are_up_to_date(page: Path) -> None:
    text = page.read_text()
    assert renewed(text) == text, "run: python -m benchmarks.docs_tables"


def test_the_page_of_laws_has_the_warnings() -> None:
    assert "`multi_basin`" in (ROOT / "docs" / "laws.md").read_text()
