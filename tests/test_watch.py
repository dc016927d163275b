"""A ladder that still trains: what is read of a folder that grows, the page, the first fits, the address."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser, browser
from made_ladder import LAW, write_ladder

from analysis.cli import main
from analysis.errors import UserError
from analysis.tables.run_folder import read_runs
from analysis.watch import serve
from analysis.watch.first_fits import first_fit
from analysis.watch.follow import Ladder, seconds_left
from analysis.watch.page import duration
from analysis.watch.serve import Watch, server

BATCH = 1000


def plan(folder: Path, name: str, dial: int = 8, **spec: Any) -> Path:
    """Plan a run as a sweep does: its spec, nothing else."""
    run = folder / name
    run.mkdir(parents=True)
    said = {"kind": "run", "dial": dial, "seed": 0, "batch_tokens": BATCH, "horizon_steps": 100}
    said |= {"params": {"mlp": 100 * dial}, "data": {"primary": "text"}, **spec}
    (run / "spec.json").write_text(json.dumps(said))
    return run


def record(step: int, loss: float) -> str:
    return json.dumps(
        {"step": step, "tokens": step * BATCH, "flops": 1.0, "loss": {"text": loss, "total": 9}}
    )


def timed(step: int, rate: float, process: int = 1) -> str:
    line = {"step": step, "end_step": 100, "tokens_per_second": rate, "train_loss": 2.0}
    return json.dumps(line | {"host": "here", "process": process}) + "\n"


def claim(folder: Path, pack: str, *lanes: str) -> Path:
    claims = folder / "packs" / pack / "claims"
    claims.mkdir(parents=True, exist_ok=True)
    path = claims / f"{len(list(claims.glob('*[0-9].json'))) + 1:06d}.json"
    path.write_text(json.dumps({"lanes": lanes}))
    return path


def test_a_folder_that_grows_is_read_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    ladder = Ladder(folder)

    def states() -> dict[str, str]:
        ladder.look()
        return {name: run.state for name, run in ladder.runs.items()}

    assert states() == {} and not ladder.there
    first, second = plan(folder, "a"), plan(folder, "b")
    assert states() == {"a": "queued", "b": "queued"} and ladder.there
    held = claim(folder, "p", "a", "b")
    assert states() == {"a": "running", "b": "running"}
    version = ladder.version
    ladder.look()
    assert ladder.version == version

    with (first / "records.jsonl").open("w") as file:
        file.write(record(10, 3.0) + "\n" + record(20, 2.5)[:30])
        file.flush()
        states()
        assert ladder.runs["a"].evaluated == [(10 * BATCH, 3.0)]
        file.write(record(20, 2.5)[30:] + "\nnot JSON\n")
    states()
    assert ladder.runs["a"].evaluated == [(10 * BATCH, 3.0), (20 * BATCH, 2.5)]
    # A resumed run is cut back to its checkpoint and goes on.
    (first / "records.jsonl").write_text(record(10, 3.0) + "\n")
    states()
    assert ladder.runs["a"].evaluated == [(10 * BATCH, 3.0)]

    long_ago = time.time() - 300
    os.utime(held, (long_ago, long_ago))
    assert states() == {"a": "silent", "b": "silent"}
    taken = claim(folder, "p", "a", "b")
    assert states() == {"a": "running", "b": "running"}
    (second / "outcome.json").write_text('{"outcome": "fai')
    assert states()["b"] == "running"
    (second / "outcome.json").write_text(json.dumps({"outcome": "failed", "reason": "no memory", "step": 7}))
    (first / "outcome.json").write_text(json.dumps({"outcome": "done", "step": 100}))
    taken.with_suffix(".end.json").write_text("{}")
    assert states() == {"a": "done", "b": "failed"} and ladder.runs["b"].reason == "no memory"
    (second / "outcome.json").unlink()
    assert states() == {"a": "done", "b": "queued"}


def test_tokens_and_the_time_left_are_counted(tmp_path: Path) -> None:
    trunk = plan(tmp_path, "trunk", kind="trunk", horizon_steps=None)
    plan(tmp_path, "branch", kind="branch", trunk="trunk", decay_start=80)
    plan(tmp_path, "wide", dial=16)
    (trunk / "timing.jsonl").write_text(timed(40, 1000.0))
    claim(tmp_path, "p", "trunk")
    ladder = Ladder(tmp_path)
    ladder.look()
    runs = ladder.runs
    # A trunk is as long as its last branch needs; a branch trains its own share alone.
    assert [runs[name].planned for name in ("trunk", "branch", "wide")] == [
        100 * BATCH,
        20 * BATCH,
        100 * BATCH,
    ]
    assert [runs[name].seen for name in ("trunk", "branch")] == [40 * BATCH, 0]
    # 60 + 20 thousand tokens at a thousand a second, 100 thousand of a model twice as large.
    assert seconds_left(runs.values()) == pytest.approx(60 + 20 + 200)
    (tmp_path / "wide" / "timing.jsonl").write_text(timed(50, 400.0, process=2))
    claim(tmp_path, "q", "wide")
    ladder.look()
    assert seconds_left(runs.values()) == pytest.approx((60 + 20 + 125) / 2)
    assert math.isnan(seconds_left([]))
    assert [duration(s) for s in (45, 720, 12600, 200_000)] == ["45 s", "12 min", "3.5 h", "2.3 days"]


@contextmanager
def serving(folder: Path, every: float = 0.0) -> Iterator[str]:
    serves = server(Watch(folder, every))
    thread = threading.Thread(target=serves.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serves.server_port}"
    finally:
        serves.shutdown()
        serves.server_close()


def get(address: str, **headers: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers.get("X-Version", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", ""


def test_the_page_says_what_is_there_and_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "<b>runs"
    harm = '<script>alert("x")</script>'
    with serving(folder) as address:
        status, page, _ = get(f"{address}/")
        assert status == 200 and "http" not in page.lower() and "<b>" not in page and "Reading" in page
        assert "waits for it" in get(f"{address}/state")[1]
        run = plan(folder, "a", seed=harm)
        (run / "records.jsonl").write_text(record(10, 3.0) + "\n" + record(20, 2.5) + "\n")
        (run / "outcome.json").write_text(json.dumps({"outcome": "diverged", "reason": harm, "step": 20}))
        (folder / "parts.json").write_text(json.dumps({"a": harm}))
        before = sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))
        status, state, version = get(f"{address}/state")
        assert status == 200 and "1 diverged" in state and '<svg class="whole"' in state
        assert "<script" not in state and "alert(&#34;x&#34;)" in state and "&lt;b&gt;" in page
        assert get(f"{address}/state?since={version}")[:2] == (204, "")
        assert sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*")) == before
        assert get(f"{address}/etc/passwd")[0] == 404
        assert get(f"{address}/", Host="elsewhere.example")[0] == 403
        with pytest.raises(UserError, match=r"port=.*: cannot be had .* leave it out for a free one"):
            server(Watch(folder), int(address.rsplit(":", 1)[1]))


def test_the_curves_show_what_came_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing changes any more once they may be drawn again."""
    run = plan(tmp_path, "a")
    (run / "records.jsonl").write_text(record(10, 3.0) + "\n" + record(20, 2.5) + "\n")
    watch = Watch(tmp_path, every=0.0)
    watch.state()
    with (run / "records.jsonl").open("a") as file:
        file.write(record(30, 1.25) + "\n")
    (run / "outcome.json").write_text(json.dumps({"outcome": "done", "step": 30}))
    early, state = watch.state()
    assert "down to 2.5" in state and "1 done" in state
    monkeypatch.setattr(serve, "REDRAW", 0.0)
    late, state = watch.state()
    assert late != early and "down to 1.25" in state and watch.state()[0] == late


def test_runs_of_one_ladder_have_no_column_for_its_name(tmp_path: Path) -> None:
    plan(tmp_path, "a")
    assert "<th" in (state := Watch(tmp_path).state()[1]) and ">ladder<" not in state
    (tmp_path / "parts.json").write_text(json.dumps({"a": "text"}))
    assert ">ladder<" in Watch(tmp_path).state()[1]


def test_a_first_fit_waits_for_runs_and_then_says_its_width(tmp_path: Path) -> None:
    folder = write_ladder(tmp_path / "made", widths=(16, 24, 32, 48), seeds=(0, 1), evaluations=1)
    table = read_runs(sorted(path.parent for path in folder.glob("*/spec.json"))).runs
    ends = table[table["kind"] == "branch"]
    few = first_fit("", ends.head(5), [])
    assert few.forecast == "5 finished runs can carry a law; 8 are needed."
    flat = first_fit("", ends[ends["tokens"] == ends.groupby("params")["tokens"].transform("max")], [])
    assert "two horizons" in str(flat.forecast)
    found = first_fit("text", ends, [(1e6, 1e8), (1e4, 1e6)], few.widths)
    assert not isinstance(found.forecast, str)
    ((count, said),) = found.widths
    truth = LAW["E"] + LAW["A"] / 1e6 ** LAW["alpha"] + LAW["B"] / 1e8 ** LAW["beta"]
    assert count == len(ends) and said.params == 1e6 and said.lower < truth < said.upper
    again = first_fit("text", ends.head(20), [(1e6, 1e8)], found.widths)
    assert [n for n, _ in again.widths] == [24, 20]


def test_a_file_is_no_folder_to_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("params,tokens,loss\n")
    assert main(["watch", str(tmp_path / "a.csv")]) == 2
    assert "this is a file" in capsys.readouterr().err


def until(window: Browser, condition: str) -> None:
    """Wait for a page."""
    end = time.monotonic() + 30
    while not window.ask(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page is not looked at in a browser")
def test_a_browser_keeps_its_folds_and_says_when_nobody_answers(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for name in "ab":
        run = plan(folder, name)
        (run / "records.jsonl").write_text(record(10, 3.0) + "\n" + record(20, 2.5) + "\n")
    ended = json.dumps({"outcome": "done", "step": 100})
    (folder / "a" / "outcome.json").write_text(ended)
    fold, gone = "document.getElementById('all-ended')", "document.getElementById('gone').checkVisibility()"
    with browser(tmp_path / "profile") as window:
        with serving(folder, every=0.2) as address:
            window.open(f"{address}/", 400)
            until(window, f"{fold} !== null && document.querySelector('#curves .panels svg') !== null")
            window.ask(f"{fold}.open = true; window.curves = document.querySelector('#curves svg'); 0")
            (folder / "b" / "outcome.json").write_text(ended)
            until(window, f"{fold}.querySelectorAll('tbody tr').length === 2")
            assert window.ask(f"{fold}.open") and not window.ask(gone)
            # What is the same is not put there anew.
            assert window.ask("window.curves.isConnected")
            # Letters of 7.5 points or more can be read on a phone.
            scales = window.ask(
                "[...document.querySelectorAll('.panels > svg')].map(s => s.getScreenCTM().a)"
            )
            assert min(scales) * 7.5 >= 6.8
            for width in (1400, 800, 400):
                window.size(width)
                assert window.ask("document.documentElement.scrollWidth") <= width
            said = "document.querySelector('#curves .told title').textContent"
            assert window.ask(said).endswith("800 parameters, 20k tokens, loss 2.5")
            methods = {event.get("method") for event in window.events}
            assert not methods & {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
            asked = [e["params"]["request"]["url"] for e in window.events if "request" in e.get("params", {})]
            assert len(asked) > 1 and all(url.startswith(address) for url in asked)
        until(window, gone)
        assert window.ask(f"{fold}.querySelectorAll('tbody tr').length") == 2


@pytest.mark.slow
def test_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    # A shell in the background has Ctrl-C ignored, and so would its children.
    run = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); import analysis.cli as c; exit(c.main())"
    command = [sys.executable, "-c", run, "watch", str(tmp_path / "none")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            said = process.stdout.readline()
            assert said.startswith("http://127.0.0.1:") and "is not there yet" in said
            assert "waits for it" in get(f"{said.split()[0]}state")[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0 and process.stderr.read() == ""
        finally:
            process.kill()
