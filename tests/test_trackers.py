"""Curves that are sent on: what, once, and never at the cost of a run. Without a tracker's library."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from launching import composed

from lmscale import sweep
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.ladder import run_specs
from lmscale.trackers import __main__ as sender
from lmscale.trackers import process
from lmscale.trackers.config import TRACKERS, TrackerConfig, check_tracker
from lmscale.trackers.points import News, Sent, news_of
from lmscale.trackers.process import tracked
from lmscale.typed import build

BRANCH = "6f63641f4cbc"  # of the golden folder: two records, done


class Recorder:
    """A tracker that keeps what it gets; `fails` as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.got: list[News] = []
        self.fails = fails

    def send(self, news: News) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise ConnectionError("the server\nis away")
        self.got.append(news)

    def close(self) -> None:
        pass


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(Path(__file__).parent / "golden_2", tmp_path / "golden"))
    (folder / "out").mkdir()
    return folder


def follow(folder: Path, fails: int = 0) -> list[News]:
    """Look once, as a process that has just begun."""
    tracker = Recorder(fails)
    sender.follow(folder, folder / "out", tracker, None)
    return tracker.got


def lines(folder: Path, run: str) -> list[dict]:
    return [json.loads(line) for line in (folder / run / "records.jsonl").read_text().splitlines()]


def write(folder: Path, run: str, records: list[dict]) -> None:
    (folder / run / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def test_every_number_of_a_record_is_sent(runs: Path) -> None:
    news = next(one for one in follow(runs) if one.run_id == BRANCH)
    record, sent = lines(runs, BRANCH)[-1], news.points[100]
    assert list(news.points) == [50, 100]
    assert news.outcome == "done"
    assert (sent["tokens"], sent["flops"]) == (record["tokens"], record["flops"]) == (49_500, 49_500 * 33_984)
    assert sent["eval/loss"] == record["loss"]["text"] == 2.375
    assert {name: sent[f"components/{name}"] for name in record["loss"]} == record["loss"]
    assert sent["train/skipped_steps"] == 1
    for variant, score in record["tasks"]["parity"].items():
        assert sent[f"tasks/parity/{variant}/accuracy"] == score["correct"] / score["n"]
        assert sent[f"tasks/parity/{variant}/nll"] == score["nll"]
        assert (f"tasks/parity/{variant}/brier" in sent) == (score["brier"] is not None)
    # warm-up is over; the rate falls in a line from step 80 to 100, of which step 99 is the last
    spec = json.loads((runs / BRANCH / "spec.json").read_text())
    start, end = spec["decay_start"], spec["horizon_steps"]
    assert sent["train/learning_rate"] == pytest.approx(0.08 * (end - 99) / (end - start), rel=1e-6)
    assert news.points[50]["train/learning_rate"] == pytest.approx(0.08, rel=1e-6)
    assert (news.config["params"], news.config["params_nonembedding"], news.config["seed"]) == (5768, 1608, 3)
    assert news.config["group"] == spec["trunk"]
    assert str(news.config["report"]).endswith("golden/report/index.html")


def test_what_was_sent_is_not_sent_again(runs: Path) -> None:
    first = follow(runs)
    assert len(first) == 3
    assert follow(runs) == []
    whole = lines(runs, BRANCH)
    write(runs, BRANCH, whole[:1])  # a restart goes back to its checkpoint, and comes to the same again
    assert follow(runs) == []
    write(runs, BRANCH, whole)
    assert follow(runs) == []
    more = {**whole[-1], "step": 120}
    write(runs, BRANCH, [*whole, more])
    assert [list(news.points) for news in follow(runs)] == [[120]]


def test_a_run_that_was_begun_again_is_sent_again(runs: Path) -> None:
    follow(runs)
    first, last = lines(runs, BRANCH)
    write(runs, BRANCH, [first, {**last, "loss": {**last["loss"], "text": 2.5}}])
    assert [list(news.points) for news in follow(runs)] == [[50, 100]]


def test_training_lines_that_a_restart_repeats_are_one(runs: Path) -> None:
    path = runs / BRANCH / "timing.jsonl"

    def line(step: int, loss: float | None, lanes: int = 1) -> str:
        return json.dumps({"step": step, "train_loss": loss, "tokens_per_second": 9, "lanes": lanes}) + "\n"

    path.write_text(line(10, None) + line(20, 3.0) + line(40, 2.0) + line(30, 2.5) + line(40, 2.0) + '{"st')
    news = news_of(runs / BRANCH, Sent())
    assert news is not None
    train = {step: values["train/loss"] for step, values in news.points.items() if "train/loss" in values}
    assert train == {20: 3.0, 30: 2.5, 40: 2.0}
    path.write_text(path.read_text()[:-4] + line(35, 2.2) + line(60, 1.5, lanes=4))
    again = news_of(runs / BRANCH, news.sent)
    assert again is not None
    assert {step: dict(values) for step, values in again.points.items()} == {
        60: {"train/loss_of_lanes": 1.5, "train/tokens_per_second": 9}
    }


def test_a_tracker_that_fails_is_said_once_and_tried_again(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [news.run_id for news in follow(runs, fails=2)] == ["f7670c1ae556"]
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said == ["2585af59c001: ConnectionError: the server is away"]
    assert {news.run_id for news in follow(runs)} == {"2585af59c001", BRANCH}
    assert follow(runs, fails=10**6) == []


def test_what_a_killed_sweep_left_is_sent_and_noted(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)  # nobody reads the signs of life any more
    with os.fdopen(write, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert len(follow(runs)) == 3
    assert follow(runs) == []


def test_a_damaged_run_keeps_no_other_back(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "2585af59c001" / "spec.json").write_text("{")
    assert len(follow(runs)) == 2
    assert capsys.readouterr().out.splitlines()[0].startswith("2585af59c001: ")


def test_a_library_that_crashes_leaves_the_sweep_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that sends ends at once; whoever trains hears of it in one line."""
    broken = tmp_path / "libraries" / "wandb"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(broken.parent), str(Path(__file__).parents[1])]))
    said: list[str] = []
    with tracked(TrackerConfig("wandb"), tmp_path / "runs", said.append):
        pass
    assert len(said) == 2
    assert said[1].startswith("tracker=wandb: its process ended with status 7; training goes on")


def test_a_tracker_that_cannot_begin_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file in its place")
    said: list[str] = []
    with tracked(TrackerConfig("tensorboard"), tmp_path, said.append):
        pass
    assert len(said) == 1
    assert said[0].endswith("training goes on")


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_missing_library_is_refused_before_the_plan(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = composed(f"tracker={kind}")
    (tmp_path / kind).mkdir()  # what a tracker leaves where it ran is no library
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.split(".")[0] == kind]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        UserError, match=rf"tracker={kind}: it is not installed; pip install 'lmscale\[{kind}\]'$"
    ):
        sweep.run([values | {"runs": str(tmp_path / "runs")}], lambda jobs: [])
    assert not (tmp_path / "runs").exists()


def test_bad_settings_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"tracker\.kind=tensorbord: .*did you mean tensorboard\?"):
        TrackerConfig("tensorbord")
    with pytest.raises(UserError, match=r"tracker\.online=true: tensorboard has no server"):
        TrackerConfig("tensorboard", online=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: sys.__spec__ or pytest.__spec__)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI is not set"):
        check_tracker(TrackerConfig("mlflow", online=True))


def test_a_tracker_is_no_part_of_a_run() -> None:
    plain = build(SweepConfig, composed())
    other = build(SweepConfig, composed("tracker=tensorboard"))
    assert plain == replace(other, tracker=TrackerConfig())
    manifest = draft_manifest(plain.data, plain.tasks)
    assert [s.run_id for s in run_specs(plain, manifest)] == [s.run_id for s in run_specs(other, manifest)]


def test_a_library_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "libraries" / "wandb"
    hanging.mkdir(parents=True)
    (hanging / "__init__.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hanging.parent), str(Path(__file__).parents[1])]))
    monkeypatch.setattr(process, "PATIENCE", 0.2)
    said: list[str] = []
    with tracked(TrackerConfig("wandb"), tmp_path / "runs", said.append):
        pass
    assert "no sign of life for 0s; the next start sends the rest" in said[1]
    assert len([line for line in said if "training goes on" in line]) == len(said) - 1 == 1
