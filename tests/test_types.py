"""A user's type checker accepts a script that uses every public name, and tells where it is wrong."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import analysis

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = (ROOT / "tests" / "users_script.py").read_text()
# The same without a word on what its names are; and each name that is no table (which has any attribute) asked for
# what it has not: a checker that knows its type names the line, and one that sees Any or nothing is silent.
BARE = re.sub(r"^(\w+): [^=]+ =", r"\1 =", SCRIPT, flags=re.MULTILINE)
NAMES = [name for name in re.findall(r"^(\w+) = ", BARE, re.MULTILINE) if name not in ("table", "frame")]
FIRST = BARE.count("\n") + 1


def module(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: what it says of a user's script is not known")
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(BARE + "".join(f"{name}.no_such\n" for name in NAMES))
    return tmp_path


WRONG = {("wrong.py", line) for line in range(FIRST, FIRST + len(NAMES))}


def test_the_script_uses_every_public_name() -> None:
    (listed,) = re.findall(r"from analysis import \(\n(.*?)\n\)", SCRIPT, re.DOTALL)
    assert set(re.findall(r"\w+", listed)) == set(analysis.__all__)
    unused = [name for name in analysis.__all__ if len(re.findall(rf"\b{name}\b", SCRIPT)) < 2]
    assert unused == [] and "lmscale.load(" in SCRIPT


@pytest.mark.slow
def test_mypy_accepts_it_and_knows_every_type(folder: Path) -> None:
    done = module("mypy", "--strict", "--follow-imports=silent", "script.py", "wrong.py", cwd=folder)
    found = re.findall(r"^(\w+\.py):(\d+): error: ", done.stdout, re.MULTILINE)
    assert {(file, int(line)) for file, line in found} == WRONG, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["basic", "strict"])
def test_pyright_accepts_it_and_knows_every_type(folder: Path, mode: str) -> None:
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": mode, "extraPaths": [str(ROOT)]})
    )
    done = module("pyright", "--outputjson", "--pythonpath", sys.executable, cwd=folder)
    if not done.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright does not start: {done.stderr.strip()[-200:]}")
    errors = [e for e in json.loads(done.stdout)["generalDiagnostics"] if e["severity"] == "error"]
    # A checker that knows a type names the attribute that it lacks.
    lacking = {
        (Path(e["file"]).name, e["range"]["start"]["line"] + 1) for e in errors if '"no_such"' in e["message"]
    }
    others = [e for e in errors if '"no_such"' not in e["message"] and Path(e["file"]).name == "script.py"]
    assert lacking == WRONG and others == [], done.stdout
