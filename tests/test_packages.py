"""The wheel and the sdist: built, installed where nothing else is, run from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# Lines are typed and TAB is pressed, as a start-up file with the lines of docs/install.md has it.
TABS = """
export PATH="$1:$PATH"
eval "$(lmscale -sc install=bash)"
eval "$(register-python-argcomplete lmscale-analysis)"
press() {
  COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COMP_WORDS=($2) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
  "$1" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  echo "${COMPREPLY[*]}"
}
press hydra_bash_completion "lmscale experiment=s"
press hydra_bash_completion "lmscale optim.b"
press _python_argcomplete "lmscale-analysis em"
press _python_argcomplete "lmscale-analysis fit --fl"
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True, timeout=550
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, made from what git has."""
    work = tmp_path_factory.mktemp("packages")
    (work / "source").mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("not a git checkout: what belongs to the packages is not known")
    subprocess.run(["tar", "x"], cwd=work / "source", input=archive.stdout, check=True)
    for kind in ("wheel", "sdist"):
        code = f"from setuptools import build_meta; build_meta.build_{kind}({str(work)!r})"
        made = run(sys.executable, "-c", code, cwd=work / "source")
        if "No module named 'setuptools'" in made.stderr:
            pytest.skip("setuptools is not installed here: nothing is built")
        assert made.returncode == 0, made.stderr
    return work


@pytest.mark.slow
def test_both_hold_all_that_is_read_at_run_time(built: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "analysis", "lmscale", "sweeps", "hydra_plugins"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert set(tracked) <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert {*tracked, "README.md", "LICENSE", "pyproject.toml"} <= names


@pytest.mark.slow
def test_the_wheel_runs_from_an_empty_folder_where_nothing_else_is(built: Path, tmp_path: Path) -> None:
    """Tables without jax; then training with what this environment has of the extra `train`."""
    (wheel,) = built.glob("*.whl")
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    assert run(sys.executable, "-m", "venv", environment, cwd=tmp_path).returncode == 0
    pip = (environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    installed = run(*pip, wheel, cwd=tmp_path)
    if installed.returncode:
        pytest.skip(f"no package index answers: {installed.stderr.strip().splitlines()[-1][:200]}")
    analysis, lmscale = environment / "bin" / "lmscale-analysis", environment / "bin" / "lmscale"
    table = (ROOT / "examples" / "data" / "runs.csv", "--columns", "params=N,tokens=D,loss=val_loss")
    fitted = run(analysis, "fit", *table, "--bootstrap", "9", cwd=empty)
    assert fitted.stdout.startswith("chinchilla: L = E") and fitted.stderr == "", fitted.stderr
    page = run(analysis, "report", *table, "--out", "page", cwd=empty)
    assert page.returncode == 0 and (empty / "page" / "index.html").is_file(), page.stderr
    assert "lmscale experiment=smoke" in run(lmscale, "--help", cwd=empty).stdout
    refused = run(lmscale, "action=plan", cwd=empty)
    assert refused.returncode == 2 and "pip install 'lmscale[train]'" in refused.stderr
    # what trains is here already, and takes minutes to install
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "train.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    planned = run(lmscale, "action=plan", "experiment=smoke", cwd=empty)
    assert "6 runs (4 branches, 2 trunks)" in planned.stdout, planned.stderr
    if shutil.which("bash"):
        pressed = run("bash", "-c", TABS, "bash", environment / "bin", cwd=empty)
        assert pressed.stdout.splitlines() == [
            "experiment=smoke",
            "optim.b1= optim.b2=",
            "emergence ",
            "--floor --floor_value --floor_error --floor_source",
        ], pressed.stderr


def test_every_extra_that_a_page_installs_is_there() -> None:
    """Cards of both CUDA versions among them; and a checkout stays in use where `-e` stands before it."""
    extras = set(PROJECT["optional-dependencies"])
    assert {"cuda", "cuda12", "tpu", "slurm", "ray"} <= extras
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("lmscale/**/*.py")]
    for path in files:
        for named in re.findall(r"pip install[^\n]*?(?:lmscale|\.)\[([\w,]+)\]", path.read_text()):
            assert set(named.split(",")) <= extras, f"{path}: {named}"
    page = (ROOT / "docs" / "install.md").read_text()
    for extra in extras - {"dev"}:
        assert f".[{extra}]" in page, f"docs/install.md does not say when to install {extra}"
    assert "`-e` before it keeps the checkout in use" in page


def test_the_list_of_licences_has_every_dependency() -> None:
    page = (ROOT / "docs" / "licences.md").read_text()
    for needs in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for need in needs:
            name = re.split(r"[\[<>=~! ]", need)[0].lower()
            assert name == "lmscale" or f"| {name} | " in page, f"{name}: run python -m benchmarks.licences"
