"""How the code is laid out: `python -m benchmarks.house [CHECKOUT]`, of this checkout or another.

entries      what a person sees first in analysis/: files and folders
levels       of the imports between the wings of analysis/; circles: groups of modules that import each other
repeated     public functions and classes whose name stands in two modules of a package
a walk       from `extrapolate(table)` to its interval: the functions that are handed the table, or what was
             made of it, in the order of the code. A stay is a row of them in one file.
lines        of analysis and lmscale, tests aside
"""

import ast
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef
ENTRY, PARAMETER = "extrapolate", "table"


@dataclass
class Package:
    """The modules of one package: imports between them, and their functions by (module, name)."""

    name: str
    trees: dict[str, ast.Module]
    imports: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    functions: dict[tuple[str, str], Function] = field(default_factory=dict)
    methods: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def read(root: Path, name: str) -> Package:
    """Parse a package of a checkout."""
    trees = {_module(root, path): ast.parse(path.read_text()) for path in sorted((root / name).rglob("*.py"))}
    package = Package(name, trees)
    for module, tree in trees.items():
        own = package.names[module] = {}
        for node in tree.body:
            if isinstance(node, Function | ast.ClassDef):
                own[node.name] = (module, node.name)
            if isinstance(node, Function):
                package.functions[module, node.name] = node
            elif isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, Function):
                        package.functions[module, f"{node.name}.{member.name}"] = member
                        package.methods.setdefault(member.name, []).append(
                            (module, f"{node.name}.{member.name}")
                        )
        found = package.imports[module] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found |= {other for other in (node.module, whole) if other in trees}
                    own[alias.asname or alias.name] = (
                        (whole, "") if whole in trees else (node.module, alias.name)
                    )
        found.discard(module)
    return package


def _module(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = {frozenset(o for o in graph if o in reach[node] and node in reach[o]) for node in graph}
    return sorted(sorted(group) for group in groups if group)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = [start]
    while left:
        for other in graph.get(left.pop(), set()) - seen:
            seen.add(other)
            left.append(other)
    return seen


def levels(graph: dict[str, set[str]]) -> int:
    """The longest chain of nodes, each importing the next (a circle counts once)."""

    def height(node: str, path: frozenset[str]) -> int:
        return 1 + max((height(o, path | {node}) for o in graph.get(node, set()) - path - {node}), default=0)

    return max(height(node, frozenset()) for node in graph)


def wings(package: Package) -> dict[str, set[str]]:
    """Imports between the first folders or files of a package; its face apart."""
    found: dict[str, set[str]] = {}
    for module, others in package.imports.items():
        if module != package.name:
            here = module.split(".")[1]
            found.setdefault(here, set()).update(o.split(".")[1] for o in others if o != package.name)
            found[here].discard(here)
    return found


def repeated(package: Package) -> list[str]:
    """Public functions and classes that two modules define."""
    defined = [
        node.name
        for tree in package.trees.values()
        for node in tree.body
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
    ]
    # every verb has its run and add_arguments, every task family its module-level functions
    return sorted(
        name for name, n in Counter(defined).items() if n > 1 and name not in ("run", "add_arguments")
    )


def walk(package: Package, entry: str = ENTRY, parameter: str = PARAMETER) -> list[str]:
    """The module of each function that is handed `parameter` or what was made of it, in the order of the code."""
    start = next(
        key for key, node in package.functions.items() if key[1] == entry and parameter in _parameters(node)
    )
    visits: list[str] = []
    seen: set[tuple[str, str]] = set()

    def enter(key: tuple[str, str], handed: set[str]) -> None:
        visits.append(key[0])
        if key in seen:
            return
        seen.add(key)
        for call, there in _calls(package, key, handed):
            target = package.functions[there]
            enter(there, _handed(call, target, {"self"} if "." in there[1] else set()))

    def _handed(call: ast.Call, target: Function, handed: set[str]) -> set[str]:
        return handed | set(_parameters(target))

    enter(start, {parameter})
    return visits


def _parameters(node: Function) -> list[str]:
    return [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]


def _calls(
    package: Package, key: tuple[str, str], handed: set[str]
) -> Iterator[tuple[ast.Call, tuple[str, str]]]:
    """The calls of this package's functions that pass on what was handed in, in the order of the code."""
    known = set(handed)
    for node in sorted(
        (n for n in ast.walk(package.functions[key]) if isinstance(n, ast.Call | ast.Assign | ast.For)),
        key=lambda n: (n.end_lineno or 0, n.end_col_offset or 0),
    ):
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if not isinstance(node, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            source = node.value if isinstance(node, ast.Assign) else node.iter
            if {n.id for n in ast.walk(source) if isinstance(n, ast.Name)} & known:
                known |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif names & known and (there := _callee(package, key[0], node)):
            yield node, there


def _callee(package: Package, module: str, call: ast.Call) -> tuple[str, str] | None:
    """The function that is called, where the code says which."""
    func = call.func
    if isinstance(func, ast.Name):
        found = package.names[module].get(func.id)
        if found is None:
            return None
        where, name = found
        for key in ((where, name), (where, f"{name}.__init__")):
            if key in package.functions:
                return key
    elif isinstance(func, ast.Attribute):
        if isinstance(func.value, ast.Name):
            where, name = package.names[module].get(func.value.id, ("", ""))
            key = (where, func.attr) if name == "" else (where, f"{name}.{func.attr}")
            if key in package.functions:
                return key
        doors = package.methods.get(func.attr, [])
        return doors[0] if len(doors) == 1 else None
    return None


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    analysis, lmscale = read(root, "analysis"), read(root, "lmscale")
    between = wings(analysis)
    visits = walk(analysis)
    stays = [module for module, _ in itertools.groupby(visits)]
    entries = {
        p.name for p in (root / "analysis").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    print(f"analysis: {len(entries)} entries, {levels(between)} levels between wings")
    for package in (analysis, lmscale):
        graph = {m: {o for o in others if o != package.name} for m, others in package.imports.items()}
        found = circles(graph)
        print(f"{package.name}: {len(package.trees)} modules; circles: {len(found)} {found or ''}")
        print(
            f"{package.name}: public names in two modules: {len(repeated(package))} {' '.join(repeated(package))}"
        )
    print(
        f"extrapolate(table) to its interval: {len(stays)} stays in {len(set(stays))} modules, "
        f"{len(stays) - len(set(stays))} returns, {len(visits)} functions entered"
    )
    lines = {
        name: sum(len(path.read_text().splitlines()) for path in (root / name).rglob("*.py"))
        for name in ("analysis", "lmscale")
    }
    print(f"lines: {lines}, together {sum(lines.values())}")


if __name__ == "__main__":
    main()
