"""A hook of mkdocs: pages that the site has from elsewhere in the checkout, links that leave docs/, sessions.

The front page is README.md, the tutorials are examples/*.py, so neither is written twice.
"""

import ast
import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
TAKEN = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of README, CONTRIBUTING, CHANGELOG and the examples."""
    pages = {page: _moved((ROOT / source).read_text()) for source, page in TAKEN.items()}
    pages |= {
        f"tutorials/{path.stem}.md": tutorial(path) for path in sorted((ROOT / "examples").glob("*.py"))
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name a file of the checkout in place of a link to it: the site does not have it."""
    return re.sub(r"\[([^\]]*)\]\((?:\.\./|(?=results/))([^)]*)\)", r"\1 (`\2`)", markdown)


class Sessions(Extension):
    """Show the examples of docstrings as what was typed: in Markdown `>>>` is a quotation of a quotation."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change what the page of an object says."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Put every session of a docstring, from its first >>> to a blank line, into a fence."""
    return re.sub(r"^>>> (?:.+\n?)+", lambda typed: f"```pycon\n{typed[0].rstrip()}\n```\n", text, flags=re.M)


def _moved(text: str) -> str:
    """Text of the checkout's root as a page of docs/: its links, and those to files that are pages here."""
    for source, page in TAKEN.items():
        text = text.replace(f"]({source})", f"]({page})")
    text = re.sub(r"\]\((?!docs/|https?:|#|index\.md|contributing\.md|changelog\.md)", "](../", text)
    return text.replace("](docs/", "](")


def tutorial(path: Path) -> str:
    """A page of an example: what its first lines say, then its code."""
    source = path.read_text()
    said = ast.get_docstring(ast.parse(source)) or path.stem
    title = re.split(r"[:,;.]", said)[0]
    code = source.split('"""', 2)[2].strip()
    return f'# {title}\n\n{said}\n\n```python title="examples/{path.name}"\n{code}\n```\n'
