"""The walls of the design, read from the imports: what may see jax, hydra, the other side, and the next room."""

import ast
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"jax", "flax", "optax", "jaxlib"}
# A plan of a thousand runs prints at once: none of these may reach jax, through whatever it imports.
NO_JAX = """
    config typed family flops transfer plan errors stopping faults durable jsonfiles records checkpoint claim
    ledger outcomes packs waves sweep promise target worker device cores scheduler collector tables speeds progress
    peek mesh processes memory bill trackers.config trackers.process export harness
    text.corpus tasks data.manifest data.scan data.world
"""
# From left to right: a module may import its own wing, and those before it. `law`, `figures`, ... see PRIVATE too.
ANALYSIS = (
    "arrays errors progress shown",
    # Below the tables, so that a tracker's export is read wherever a table is.
    "sources",
    "tables laws",
    "fitting detection",
    "forecasting curves",
    "figures",
    "report",
    # Its page is of the report's parts.
    "watch",
    "verbs cli __main__ __init__",
)
TRAINER = ("text", "tasks", "data")


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Every dotted name that the file imports: `from a import b` gives a and a.b."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def project_imports(package: str, top_level_only: bool = False) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports."""
    paths = {module_of(path): path for path in files(package)}
    return {
        name: {other for other in imports(path, top_level_only) if other in paths} - {name}
        for name, path in paths.items()
    }


def reached(module: str, graph: dict[str, set[str]], seen: set[str]) -> set[str]:
    """`module` and all that importing it imports, parent packages included."""
    parents = [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]
    for name in (module, *parents):
        if name in graph and name not in seen:
            seen.add(name)
            for other in graph[name]:
                reached(other, graph, seen)
    return seen


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("name", NO_JAX.split())
def test_planning_imports_no_jax(name: str) -> None:
    paths = {module_of(path): path for path in files("lmscale")}
    assert f"lmscale.{name}" in paths
    for module in reached(f"lmscale.{name}", project_imports("lmscale", top_level_only=True), set()):
        assert not roots(set(imports(paths[module], top_level_only=True))) & HEAVY, module


def test_only_the_application_and_the_plugin_import_hydra() -> None:
    for path in files("lmscale"):
        uses = roots(set(imports(path))) & {"hydra", "omegaconf"}
        assert not uses or path.name == "launch.py", path


def test_only_the_worker_imports_train() -> None:
    users = {name for name, others in project_imports("lmscale").items() if "lmscale.train" in others}
    assert users == {"lmscale.worker"}


def test_analysis_imports_nothing_of_lmscale() -> None:
    for path in files("analysis"):
        assert not roots(set(imports(path))) & {"lmscale", "hydra", "hydra_plugins", "flax", "optax"}, path


def wing(module: str) -> str:
    """analysis.fitting.fit -> fitting; analysis -> __init__."""
    return module.split(".")[1] if "." in module else "__init__"


def test_analysis_imports_go_left() -> None:
    """A module imports its own wing and those to the left; two wings of one place do not see each other."""
    place = {name: i for i, names in enumerate(ANALYSIS) for name in names.split()}
    for module, others in project_imports("analysis").items():
        for other in others - {"analysis"}:
            here, there = wing(module), wing(other)
            assert here == there or place[there] < place[here] or place[here] == len(ANALYSIS) - 1, (
                f"{module} imports {other}: farther than the wall"
            )


def test_nothing_but_the_report_and_the_verbs_imports_figures() -> None:
    allowed = {"figures", "report", "watch", "verbs"}
    for module, others in project_imports("analysis").items():
        # A result draws itself when it is asked to: `Fit.plot()` imports the figure inside the method.
        top = project_imports("analysis", top_level_only=True)[module]
        if wing(module) not in allowed:
            assert not any(wing(other) == "figures" for other in others & top), module


def test_text_tasks_and_data_in_this_order() -> None:
    place = {name: i for i, name in enumerate(TRAINER)}
    for module, others in project_imports("lmscale").items():
        here = module.split(".")[1] if "." in module else ""
        for other in others - {"lmscale"}:
            there = other.split(".")[1]
            if here in place and there in place:
                assert place[there] <= place[here], f"{module} imports {other}: farther than the wall"


@pytest.mark.parametrize("package", ["analysis", "lmscale"])
def test_no_imports_go_round(package: str) -> None:
    """Not even inside a function: a circle is two rooms that are one."""
    graph = {name: others for name, others in project_imports(package).items() if name != package}
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 1:
            circle = (*itertools.dropwhile(lambda other: other != name, path), name)
            raise AssertionError(" -> ".join(circle))
        if name in state:
            return
        state[name] = 1
        for other in sorted(graph.get(name, ())):
            visit(other, (*path, name))
        state[name] = 2

    for name in sorted(graph):
        visit(name, ())
