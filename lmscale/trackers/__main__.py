"""The process beside a sweep that sends its curves: `python -m lmscale.trackers FOLDER KIND [online]`.

It reads the run folders, which are the truth, and may fail, hang or be killed alone: what a tracker has of each run
is kept beside what it has, and the next start goes on from there. The end of its standard input ends it, after a
last look; so it outlives no sweep, whatever became of that.
"""

import contextlib
import dataclasses
import fcntl
import importlib
import os
import select
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from lmscale.durable import make_folder
from lmscale.jsonfiles import read_json, write_json
from lmscale.trackers.points import FILES, Sent, Tracker, news_of

EVERY = 3.0  # seconds between two looks
MARKS = "sent.json"  # {run id: what the tracker has of it}


def follow(folder: Path, out: Path, tracker: Tracker, wait: IO[str] | None) -> None:
    """Send what is new in the runs of `folder` until `wait` ends, and once more then; None: once.

    out: the tracker's folder. Prints a blank line for each sending, as a sign of life, and the first trouble.
    """
    path = out / MARKS
    marks = {run: Sent(**mark) for run, mark in read_json(path).items()} if path.exists() else {}
    seen: dict[str, dict[str, tuple[int, int]]] = {}
    said, ended, kept = False, False, 0.0
    while True:
        is_new = False
        for run in sorted(spec.parent for spec in folder.glob("*/spec.json")):
            before = seen.pop(run.name, {})
            try:
                state = _state(run)
                changed = [file for file in state if state[file] != before.get(file)]
                if changed and (news := news_of(run, marks.get(run.name, Sent()), changed)):
                    tracker.send(news)
                    marks[run.name], is_new = news.sent, True
                    _say()
                if is_new and time.monotonic() - kept > 1:  # a file of all runs
                    _keep(path, marks)
                    kept, is_new = time.monotonic(), False
                seen[run.name] = state
            except Exception as error:
                if not said:
                    _say(f"{run.name}: {type(error).__name__}: {error}".replace("\n", " ")[:300])
                said = True
        if is_new:
            _keep(path, marks)
        if wait is None or ended:
            return
        ended = bool(select.select([wait], [], [], EVERY)[0])


def _say(line: str = "") -> None:
    """Print a line. A sweep that was killed reads none; what it left is sent all the same."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _keep(path: Path, marks: Mapping[str, Sent]) -> None:
    write_json(path, {run: dataclasses.asdict(mark) for run, mark in marks.items()})


def _state(run: Path) -> dict[str, tuple[int, int]]:
    """The time and size of each file of a run that is there."""
    found = {name: run / name for name in FILES}
    stats = {name: path.stat() for name, path in found.items() if path.exists()}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def main(folder: Path, kind: str, online: bool) -> None:
    """Follow a sweep; where another start of it is followed, wait for the end of that or of this one."""
    os.nice(10)  # the cores are for training
    out = folder / kind
    make_folder(out)
    with (out / "lock").open("a") as lock:
        while not _locked(lock):
            if select.select([sys.stdin], [], [], EVERY)[0]:
                return
        tracker = importlib.import_module(f"lmscale.trackers.{kind}").opened(out, folder.name, online)
        _say()  # a store may have taken its time to be made
        try:
            follow(folder, out, tracker, sys.stdin)
        finally:
            tracker.close()


def _locked(lock: IO[str]) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["online"])
