"""A newcomer's commands: docs/start.md runs as it stands, and the verbs that the pages show can be typed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import cli

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("analysis", "lmscale", "sweeps", "hydra_plugins", "docs", "examples")
# every section but the installation and the table of times
SECTIONS = re.split(r"^## ", (ROOT / "docs" / "start.md").read_text(), flags=re.MULTILINE)[2:-1]
TYPED = r"^(?:    )?(?:\$ )?(?:lmscale-analysis|(?:\.venv/bin/)?python -m analysis) ([a-z](?:.*\\\n)*.*)"


def blocks(kind: str, section: str) -> list[str]:
    """What stands between the fences; a command may have a fence in its middle."""
    return re.findall(rf"^```{kind}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to work in, for a task is written into it, with the two commands in bin/."""
    here = tmp_path_factory.mktemp("checkout")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    (here / "bin").mkdir()
    for command, module in (("lmscale", "lmscale"), ("lmscale-analysis", "analysis")):
        script = here / "bin" / command
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m {module} "$@"\n')
        script.chmod(0o755)
    return here


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_a_section_runs_as_it_stands(section: str, checkout: Path) -> None:
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    commands = "".join(blocks("sh", section))
    ended = subprocess.run(
        ["bash", "-ec", commands], cwd=checkout, env=variables, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    for line in "".join(blocks("text", section)).splitlines():
        assert line in ended.stdout.splitlines(), ended.stdout


PAGES = {
    path.name: re.findall(TYPED, path.read_text(), re.MULTILINE)
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}


@pytest.mark.parametrize("page", [page for page, commands in PAGES.items() if commands])
def test_the_verbs_of_a_page_can_be_typed(page: str) -> None:
    for command in PAGES[page]:
        print(command)
        words = shlex.split(command.replace("\\\n", " "), comments=True)
        assert cli._parsed(words).verb == words[0]
