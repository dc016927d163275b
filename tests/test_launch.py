"""What a person types reaches the program, or is refused in one line that says how to type it."""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from launching import ROOT, TINY, launch

from lmscale import durable, progress
from lmscale import launch as application

pytestmark = pytest.mark.alone


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.files=[größe.txt]", ["größe.txt"]),
        ("data.files=[naïve text.jsonl, a(1).txt]", ["naïve text.jsonl", "a(1).txt"]),
        ("runs=~/runs", "~/runs"),
        ("runs=/data/new (2)/runs", "/data/new (2)/runs"),
        ("runs=a=b;c", "a=b;c"),
        ('runs=5" disk\\', '5" disk\\'),
        ("runs=two words", "two words"),
        ("dial=[8,16]", [8, 16]),
        ("runs='already quoted'", "already quoted"),
        ("runs=${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("tasks.weights={copy: 1}", {"copy": 1}),
    ],
)
def test_values_that_hydra_has_no_grammar_for_are_quoted(typed: str, value: Any) -> None:
    (argument,) = application.readable([typed])
    assert OverridesParser.create().parse_override(argument).value() == value


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_survives_quoting(text: str) -> None:
    assert OverridesParser.create().parse_override(f"runs={application._quote(text)}").value() == text


def test_overrides_stand_together_before_the_options() -> None:
    """Hydra takes those that come after an option with a value for words that it does not know."""
    typed = ["--config-dir", "a", "a=1", "-m", "~b", "b=1,2", "--cfg", "job"]
    assert application.readable(typed) == ["-m", "a=1", "~b", "b=1,2", "--config-dir", "a", "--cfg", "job"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["runs=my", "runs"], "runs: give NAME=VALUE; a value with blanks goes between quotes"),
        (["data.files=[a"], "data.files=[a: not readable"),
        (["smoke"], "smoke: give NAME=VALUE; did you mean experiment=smoke?"),
        (["experimnt=smoke"], "experimnt: unknown key; did you mean experiment?"),
    ],
)
def test_what_cannot_be_read_says_how_to_quote(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    ended = launch(tmp_path, tmp_path, *overrides)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert (
        ended.stderr.startswith("lmscale: ") and sentence in ended.stderr and "hydra.cc" not in ended.stderr
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("runs", ["my runs", "a,b", "Tom's $HOME", 'the "new" ones', "größe (2)"])
def test_make_hands_folders_on_whole(runs: str) -> None:
    """As a shell would split what make runs; nothing is run."""
    command = ["make", "-n", "-o", ".venv/installed", f"RUNS={runs.replace('$', '$$')}"]
    for target, word in (("plan", None), ("fit", f"{runs}/cpu"), ("sweep", f"{runs}/cpu")):
        printed = subprocess.run(
            [*command, target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        words = shlex.split(printed.replace("\\\n", " "))
        assert word is None or word in words or f"{word};" in words
        given = [argument for argument in words if argument.startswith("runs=")]
        for argument in given:
            assert OverridesParser.create().parse_override(argument).value() == runs.replace("$", "$")
        assert given or target == "fit"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_reports_the_folder_that_was_trained() -> None:
    command = ["make", "-n", "-o", ".venv/installed", "sweep", "ARGS=name=mine data=text data.files=[name=x]"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "analysis report 'runs/mine'" in printed and "runs/cpu" not in printed


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_reads_a_tilde_as_home() -> None:
    command = ["make", "-n", "-o", ".venv/installed", "RUNS=~/somewhere", "fit"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"{os.environ['HOME']}/somewhere/cpu" in shlex.split(printed)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_chooses_one_ladder_of_several() -> None:
    command = ["make", "-n", "-o", ".venv/installed", "PART=text", "fit", "plan"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(printed)
    assert "part=text" in words and words[words.index("--where") + 1] == 'part == "text"'


def test_an_ascii_terminal_gets_ascii(tmp_path: Path, corpora: Path) -> None:
    """The marks stay under their bytes: one letter for one."""
    full = launch(tmp_path, corpora, "action=peek", PYTHONIOENCODING="utf-8").stdout.splitlines()
    plain = launch(tmp_path, corpora, "action=peek", PYTHONIOENCODING="ascii")
    assert plain.returncode == 0 and plain.stdout.isascii(), plain.stderr
    lines = plain.stdout.splitlines()
    assert "$ a line break" in lines[-1]
    assert [len(line) for line in lines[: len(full)]] == [len(line) for line in full]


def test_commas_with_m_anywhere_are_axes(tmp_path: Path, corpora: Path) -> None:
    ended = launch(tmp_path, corpora, "action=plan", "-m", "optim.b2=.9,.95")
    assert ended.returncode == 0 and "4 runs (2 branches, 2 trunks)" in ended.stdout, ended.stderr


@pytest.mark.slow
def test_a_job_that_would_change_its_folder_trains_all_the_same(tmp_path: Path, corpora: Path) -> None:
    """hydra.job.chdir with folders that are relative to where the sweep was started."""
    command = [sys.executable, "-m", "lmscale.launch", *TINY, "hydra.job.chdir=true", "runs=my runs"]
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command += [f"corpora={os.path.relpath(corpora, tmp_path)}"]
    ended = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.glob("my runs/smoke/*/outcome.json"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["my runs"]


@pytest.mark.slow
@pytest.mark.parametrize("files", [8, 12, 16, 64])
def test_too_few_open_files_are_one_line_with_the_remedy(tmp_path: Path, corpora: Path, files: int) -> None:
    launch(tmp_path, corpora, "action=data")
    ended = launch(tmp_path, corpora, limit=f"ulimit -n {files}")
    assert ended.returncode == 0 or (ended.returncode == 2 and "ulimit -n 1024" in ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr and "parked" not in ended.stderr
    assert launch(tmp_path, corpora).returncode == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_open_files_are_everybodys_trouble(number: int) -> None:
    error = durable.disk_error(OSError(number, os.strerror(number)), Path("x"))
    assert error.is_everywhere and re.search("open", str(error))


def test_what_only_the_system_refuses_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A checkout that another user owns: whatever could not be written, and wherever that was."""
    monkeypatch.setattr(sys, "argv", ["launch", "action=plan"])
    monkeypatch.setattr(application.stopping, "lead", lambda: None)
    for error, sentence in (
        (
            PermissionError(errno.EACCES, "Permission denied", "corpora"),
            "cannot use corpora: Permission denied",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "runs/x"),
            "the file system is read-only: choose another",
        ),
        (MemoryError(), "the system gives no more memory"),
    ):

        def fail(error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(application, "app", fail)
        assert application.main() == 2
        said = capsys.readouterr().err
        assert said.startswith("lmscale: ") and said.count("\n") == 1 and sentence in said


def test_a_terminal_that_goes_away_stops_the_talk_and_not_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EIO from a closed terminal, EPIPE from a reader that has gone."""
    for number in (errno.EIO, errno.EPIPE):
        hushed: list[bool] = []

        def broken(*_: Any, number: int = number, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("builtins.print", broken)
        monkeypatch.setattr(progress, "_hush", lambda hushed=hushed: hushed.append(True))
        progress.Display.say(progress.Display.__new__(Silent), "a line")  # type: ignore[type-var]
        monkeypatch.undo()
        assert hushed == [True]


def test_a_display_shows_no_head_of_a_table_without_rows() -> None:
    shown = progress.Display.__new__(progress.Display)
    shown.plan, shown._running = SimpleNamespace(packs=[1, 2]), lambda done: []
    assert str(shown._table({"a"}, "-")) == "1 of 2 packs done; no step yet of the next"
    assert str(shown._table({"a", "b"}, "0s")) == "2 of 2 packs done, 0s left"


class Silent(progress.Display):
    """A display with no terminal."""

    live: Any = None
