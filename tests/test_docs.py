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


def test_the_site_shows_examples_as_they_were_typed() -> None:
    pytest.importorskip("mkdocstrings", reason="the site's own tools are an extra")
    from benchmarks.docs_site import fenced

    said = "Fit it.\n\n>>> fit(\n...     a**2\n... )\n[1]\n>>> b\n2\n\nAnd more >>> here.\n\n>>> c\n3"
    shown = "```pycon\n>>> fit(\n...     a**2\n... )\n[1]\n>>> b\n2\n```\n\nAnd more >>> here."
    assert fenced(said) == f"Fit it.\n\n{shown}\n\n```pycon\n>>> c\n3\n```\n"


def test_the_code_cites_no_page_that_is_not_there() -> None:
    for path in [*(ROOT / "analysis").rglob("*.py"), *(ROOT / "lmscale").rglob("*.py")]:
        # BIG-bench has a page of its own (docs/doc.md).
        for page in set(re.findall(r"\b(docs/\w+\.md|[A-Z]{4,}\.md)\b", path.read_text())) - {"docs/doc.md"}:
            assert (ROOT / page).is_file(), (path, page)


def test_every_mended_row_has_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "docs" / "mended.md").read_text().splitlines() if line.startswith("| ✓")]
    assert len(rows) == 29 + 28 + 18
    for row in rows:
        named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", row)
        assert named, row
        for file, name in named:
            assert f"def {name}" in (ROOT / "tests" / f"{file}.py").read_text(), row
