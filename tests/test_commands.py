"""The commands `lmscale` and `lmscale-analysis` before they compute anything: help, completion, what is meant by a
misspelt word, whose `analysis.py` and `sweeps/` are read, and what runs where nothing that trains is installed."""

import importlib
import io
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import cli, progress
from analysis.verbs.catalogue import VERBS
from lmscale import __main__ as command
from lmscale import launch, promise
from lmscale.errors import UserError
from lmscale.usage import SWEEPS, usage

ROOT = Path(__file__).resolve().parents[1]
# Python without what trains: each of these fails to import, as where it is not installed.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {names}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
"""
TRAINING = {"jax", "jaxlib", "flax", "orbax", "optax", "hydra", "omegaconf", "tensorstore", "lmscale"}


def python(
    code: str, *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=120)


def test_analysis_answers_where_nothing_that_trains_is_installed(tmp_path: Path) -> None:
    """Every verb is imported, and a law is fitted."""
    code = WITHOUT.format(names=TRAINING) + (
        "import importlib\nfrom analysis.verbs.catalogue import VERBS\nfrom analysis.cli import _module, main\n"
        "for verb in VERBS: importlib.import_module(_module(verb))\n"
        "raise SystemExit(main())"
    )
    table = str(ROOT / "examples" / "data" / "runs.csv")
    columns = "params=N,tokens=D,loss=val_loss"
    ended = python(code, "fit", table, "--columns", columns, "--bootstrap", "10", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("chinchilla: L = E + A / N^alpha") and ended.stderr == ""


def test_a_checkout_whose_python_has_nothing_installed_says_so_in_one_line() -> None:
    code = (
        WITHOUT.format(names={"pandas"}) + "import runpy\nrunpy.run_module('analysis', run_name='__main__')"
    )
    ended = python(code, "fit", "runs.csv")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("analysis: pandas is not installed for ")


def test_training_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    present = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in ("jax", "flax") else present(name)
    )
    monkeypatch.setattr(sys, "argv", ["lmscale", "action=plan"])
    assert command.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("lmscale: training needs jax, flax: pip install 'lmscale[train]'")
    assert said.count("\n") == 1


def test_help_and_the_public_names_import_nothing_heavy() -> None:
    """Half a second for `import analysis` and .3 s for a help text: numpy alone would take a third of that."""
    code = (
        "import sys, contextlib\nimport analysis, analysis.cli\nfrom lmscale.__main__ import main\n"
        "sys.argv = ['lmscale', '--help']\nmain()\n"
        "with contextlib.suppress(SystemExit): analysis.cli.main(['--help'])\n"
        "print(sorted({'numpy', 'pandas', 'scipy', 'jax', 'hydra', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = python(code)
    assert ended.stderr == "[]\n" and "emergence " in ended.stdout


def test_every_public_name_is_found_also_after_its_folder_was_imported() -> None:
    """`curves` is a function of the package and the name of a folder in it."""
    code = (
        "import analysis, analysis.curves.curves\n"
        "for name in analysis.__all__: assert getattr(analysis, name).__name__ == name, name\n"
        "assert set(analysis.__all__) <= set(dir(analysis))\n"
        "analysis.fitt"
    )
    assert "module 'analysis' has no attribute 'fitt'" in python(code).stderr.splitlines()[-1]


def test_the_help_of_lmscale_lists_what_sweeps_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = usage()
    for path in SWEEPS.glob("*/*.yaml"):
        assert f" {path.stem}" in text, path
    for action in launch.ACTIONS:
        assert f"action={action} " in text, action
    assert max(map(len, text.splitlines())) <= 116
    monkeypatch.setattr(sys, "argv", ["lmscale", "experiment=smoke", "--help"])
    assert command.main() == 0
    assert capsys.readouterr().out == text + "\n"


def test_every_verb_is_listed_and_its_examples_can_be_typed() -> None:
    modules = {path.stem.removesuffix("_") for path in (ROOT / "analysis" / "verbs").glob("[!_]*.py")}
    assert modules - {"catalogue"} == set(VERBS)
    for verb, about in VERBS.items():
        assert about.examples, verb
        for line in about.examples:
            words = shlex.split(line)
            assert words[0] == verb and cli._parsed(words).verb == verb, line


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--cgf", "--cgf: no such option; did you mean --cfg?"),
        ("--zzzz=1", "--zzzz: no such option; lmscale --help lists them"),
    ],
)
def test_an_option_that_hydra_does_not_have(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        launch._check_options(["--info", "searchpath", "--config-dir=x", word, "job"])


def test_help_that_nobody_reads_to_its_end_is_no_error() -> None:
    asked = [sys.executable, "-m", "lmscale", "--help"]
    with subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_two_things_that_hydra_does_one_at_a_time() -> None:
    with pytest.raises(UserError, match="-m --cfg: only one of them"):
        launch._check_options(["-m", "optim.b2=.95,.98", "--cfg", "job"])


def test_words_that_are_nearly_right_are_guessed() -> None:
    from hydra.errors import OverrideParseException

    assert (
        launch._unreadable(OverrideParseException("paln", "missing EQUAL"))
        == "paln: give NAME=VALUE; did you mean action=plan?"
    )
    hydras = Exception(
        "In 'config': Could not find 'experiment/smok'\n\nAvailable options in 'experiment':\n\tcpu\n\tsmoke\n"
        "Config search path:\n\tprovider=hydra, path=pkg://hydra.conf"
    )
    said = launch._unknown_choice(hydras)
    assert said and said.startswith(
        "experiment=smok: no such file; did you mean smoke? there are cpu, smoke; "
    )


def test_somebodys_own_sweeps_are_not_read_unsaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    launch._whose_sweeps([])
    (tmp_path / "sweeps" / "experiment").mkdir(parents=True)
    (tmp_path / "sweeps" / "experiment" / "mine.yaml").touch()
    launch._whose_sweeps(["hydra.searchpath=[file://sweeps]"])
    assert capsys.readouterr().err == ""
    launch._whose_sweeps(["experiment=smoke"])
    assert "note: sweeps/ in this folder is not read; 'hydra.searchpath=[file" in capsys.readouterr().err
    # where Python would import his in place of ours
    (tmp_path / "sweeps" / "__init__.py").touch()
    code = "import sys; sys.path.insert(0, ''); from lmscale import launch; launch._whose_sweeps([])"
    ended = python(code, cwd=tmp_path)
    assert f"{tmp_path}/sweeps: read in place of lmscale's own" in ended.stderr


def test_somebodys_own_analysis_is_not_run_unsaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "analysis.py").write_text("print('mine')")
    monkeypatch.chdir(tmp_path)
    # a sweep asks for forecasts in a process of its own
    asked = promise._analysis("fit", Path("absent.csv"))
    assert asked.returncode == 2 and asked.stdout == ""
    assert "note: analysis.py in this folder is another program" in asked.stderr
    assert "absent.csv: no such file" in asked.stderr
    (tmp_path / "analysis.py").unlink()
    cli._whose_analysis()
    (tmp_path / "analysis").mkdir()  # a folder of results is no program
    cli._whose_analysis()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("typed", "offered"), [("em", "emergence"), ("fit --flo", "--floor_value")])
def test_a_shell_completes_verbs_and_options(typed: str, offered: str, tmp_path: Path) -> None:
    line = f"lmscale-analysis {typed}"
    code = "import os; os.dup2(1, 8); import analysis.cli; analysis.cli.main()"
    found = python(code, _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS=" ")
    assert offered in found.stdout.split(), found.stderr


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing into a pipe; on a terminal from the time on that a person would begin to wonder, in no colour where
    NO_COLOR asks for none."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.Bars("fit"):
        assert list(progress.track(range(3), "steps", 3)) == [0, 1, 2]
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    code = (
        "import time\nfrom analysis import progress\nprogress.PATIENCE = .05\n"
        "with progress.Bars('fit'):\n    for _ in progress.track(range(4), 'steps', 4): time.sleep(.15)\n"
    )
    ours, theirs = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=variables, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "fit: steps" in shown and "3/4" in shown
    assert "\x1b[3" not in shown and "\x1b[1;3" not in shown  # no colour
