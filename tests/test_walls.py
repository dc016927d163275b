"""The walls of the design, read from the imports: what may see jax, hydra, and the other side."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_JAX = (
    "config",
    "family",
    "flops",
    "transfer",
    "plan",
    "records",
    "ledger",
    "claim",
    "errors",
    "files",
    "show",
)
NO_JAX += ("sweep", "job", "data/config", "data/manifest", "data/scan", "data/world", "data/corpus")
HEAVY = {"jax", "flax", "optax", "jaxlib"}


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(module: str, seen: set[str]) -> set[str]:
    """Everything that importing `module` of this project imports, through our own modules."""
    for folder in (ROOT / module.replace(".", "/"), (ROOT / module.replace(".", "/")).parent):
        path = folder / "__init__.py"
        if path.is_relative_to(ROOT) and path.exists() and str(path) not in seen:
            seen.add(str(path))
            for name in imports(path, top_level_only=True):
                seen.add(name)
                reached(name, seen) if name.startswith(("lmscale", "analysis")) else None
    path = ROOT / f"{module.replace('.', '/')}.py"
    if path.exists() and str(path) not in seen:
        seen.add(str(path))
        for name in imports(path, top_level_only=True):
            seen.add(name)
            reached(name, seen) if name.startswith(("lmscale", "analysis")) else None
    return seen


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("name", NO_JAX)
def test_planning_imports_no_jax(name: str) -> None:
    found = reached(f"lmscale.{name.replace('/', '.')}", set())
    assert len(found) > 1
    assert not roots(found) & HEAVY


def test_only_the_application_and_the_plugin_import_hydra() -> None:
    for path in sorted((ROOT / "lmscale").rglob("*.py")):
        uses = roots(set(imports(path))) & {"hydra", "omegaconf"}
        assert not uses or path.name == "launch.py", path


def test_analysis_imports_nothing_of_lmscale() -> None:
    files = sorted((ROOT / "analysis").rglob("*.py"))
    assert files
    for path in files:
        assert not roots(set(imports(path))) & {"lmscale", "hydra", "hydra_plugins", "flax", "optax"}, path
