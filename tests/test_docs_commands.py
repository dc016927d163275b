"""The commands of docs/hydra.md print what the page says they print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "hydra.md").read_text()
BLOCKS = "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL))
SHOWN = [part.strip().splitlines() for part in re.split(r"^\$ ", BLOCKS, flags=re.MULTILINE)[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of the page: conf/experiment/mine.yaml, and corpora that are scanned once."""
    here = tmp_path_factory.mktemp("hydra")
    found = re.search(r'```yaml title="(.*?)"\n(.*?)```', PAGE, re.DOTALL)
    assert found
    path = here / found[1]
    path.parent.mkdir(parents=True)
    path.write_text(found[2])
    return here


@pytest.mark.slow
@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown[0][:60])
def test_a_command_of_the_page_prints_what_it_says(shown: list[str], folder: Path) -> None:
    name, *words = shlex.split(shown[0])
    assert name == "lmscale"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "lmscale", *words],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    refused = shown[1].startswith("lmscale: ")
    assert ended.returncode == (2 if refused else 0), ended.stderr
    assert not refused or ended.stderr.count("\n") == 1
    for line in shown[1:]:
        assert line.strip() in (ended.stderr if refused else ended.stdout)
    assert refused or ended.stderr == ""
