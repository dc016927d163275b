"""The application as a person runs it: real processes, a tiny ladder, real files."""

import json
from pathlib import Path

import pytest
from launching import launch

pytestmark = pytest.mark.alone


def outcomes(folder: Path) -> dict[str, str]:
    found = (folder / "runs" / "smoke").glob("*/outcome.json")
    return {path.parent.name: json.loads(path.read_text())["outcome"] for path in found}


@pytest.mark.slow
def test_a_sweep_trains_then_trains_nothing_then_only_what_is_new(tmp_path: Path, corpora: Path) -> None:
    first = launch(tmp_path, corpora)
    assert first.returncode == 0, first.stderr
    assert sorted(outcomes(tmp_path).values()) == ["done", "done"]
    files = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("records.jsonl")}
    ages = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("outcome.json")}
    for path, content in files.items():
        spec = json.loads((path.parent / "spec.json").read_text())
        weights = {part["name"]: part["weight"] for part in spec["data"]["components"]}
        for line in content.splitlines():
            record = json.loads(line)
            total = sum(weight * record["loss"][name] for name, weight in weights.items())
            assert record["loss"]["total"] == pytest.approx(total, rel=1e-6)
    again = launch(tmp_path, corpora)
    assert again.returncode == 0, again.stderr
    assert "2 done before" in again.stdout
    grown = launch(tmp_path, corpora, "horizon.multiples=[0.8,1.0]", "pack.steps=7")
    assert grown.returncode == 0, grown.stderr
    # one more branch, for which the trunk is trained again to the step where it begins, and no further run
    assert len(outcomes(tmp_path)) == 3
    assert {path: path.read_bytes() for path in files} == files
    branches = [p for p in ages if json.loads((p.parent / "spec.json").read_text())["kind"] == "branch"]
    assert [path.stat().st_mtime_ns for path in branches] == [ages[path] for path in branches]


@pytest.mark.slow
def test_one_failing_run_stops_no_other_and_shows_in_the_exit_status(tmp_path: Path, corpora: Path) -> None:
    whole = ("dial=[8,16]", "schedule=cosine", "schedule.warmup_steps=5", "pack.tries=1")
    planned = launch(tmp_path, corpora, *whole, "action=plan")
    assert planned.returncode == 0
    assert not (tmp_path / "runs").exists()  # a plan writes nothing
    # the trainer of one run meets a folder where a file must be
    victim = next(line.split()[2] for line in planned.stdout.splitlines() if line.split()[4:5] == ["8"])
    (tmp_path / "runs" / "smoke" / victim / "records.jsonl" / "in the way").mkdir(parents=True)
    ended = launch(tmp_path, corpora, *whole)
    assert ended.returncode == 1
    assert "failed: pack" in ended.stderr and victim in ended.stderr
    assert sorted(outcomes(tmp_path).values()) == ["done", "failed"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["transfer.rat=1"], "transfer.rat"),
        (["dial=[8,eight]"], "dial[1]=eight: must be a whole number"),
        (["family.n_head=3"], "d_model 8 is not divisible by family.n_head=3"),
        (["schedule.warmup_steps=900"], "shorter than warm-up"),
        pytest.param(["tasks.weights.copy=-1"], "tasks.weights.copy=-1", marks=pytest.mark.slow),
        pytest.param(["experiment=nowhere"], "nowhere", marks=pytest.mark.slow),
        pytest.param(["+surprise=1"], "surprise=1: unknown key", marks=pytest.mark.slow),
        pytest.param(["name=../../out"], "name=../../out: must be letters", marks=pytest.mark.slow),
        pytest.param(
            ["schedule.kind=linear"],
            "schedule.kind=linear: no such kind; there are wsd, cosine",
            marks=pytest.mark.slow,
        ),
        pytest.param(["seed=[0,0]"], "a value stands twice", marks=pytest.mark.slow),
        pytest.param(["dial=[8"], "dial=[8", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_one_line_with_its_field_and_nothing_is_written(
    tmp_path: Path, corpora: Path, overrides: list[str], sentence: str
) -> None:
    ended = launch(tmp_path, corpora, *overrides)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert sentence in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
