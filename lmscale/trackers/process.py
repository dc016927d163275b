"""The side of the sweep: the process that sends, from its start to its end. It cannot stop the sweep."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lmscale.durable import make_folder
from lmscale.errors import UserError
from lmscale.trackers.config import TRACKERS, TrackerConfig

PATIENCE = 120.0  # seconds without a sign of life after which, at the end, the process is given up


@contextlib.contextmanager
def tracked(config: TrackerConfig, folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Have the runs of `folder` sent while the body trains them, and what is left after it.

    say: prints a line. A body that raises is waited for no longer: what is not sent is sent by the next start.
    """
    sender = None
    if config.kind != "none":
        out = folder / config.kind
        try:
            make_folder(out)
            sender = _Sender(config, folder, say)
            where = "its server" if config.online else f"{out}, to be seen by {TRACKERS[config.kind]}"
            say(f"tracker={config.kind}: {where.format(folder=out)}")
        except (OSError, UserError) as error:
            say(f"tracker={config.kind}: {error}; training goes on")
    try:
        yield
    except BaseException:
        if sender:
            sender.end(patience=0)
        raise
    if sender:
        sender.end(PATIENCE)


class _Sender:
    """The process and the thread that passes its words on."""

    def __init__(self, config: TrackerConfig, folder: Path, say: Callable[[str], None]) -> None:
        self.kind, self.say, self.log = config.kind, say, folder / config.kind / "log.txt"
        self.alive, self.given_up = time.monotonic(), False
        command = [sys.executable, "-m", "lmscale.trackers", str(folder), config.kind]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, *(["online"] if config.online else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is the sweep's
                env={**os.environ, "JAX_PLATFORMS": "cpu"},  # the cards are for training
            )
        self.thread = threading.Thread(target=self._listen, daemon=True, name="tracker")
        self.thread.start()

    def _listen(self) -> None:
        assert self.process.stdout
        with self.process.stdout as words:
            for line in words:
                self.alive = time.monotonic()
                if line.strip():
                    self._warn(line.strip())
        if (status := self.process.wait()) and not self.given_up:
            self._warn(f"its process ended with status {status}")

    def _warn(self, what: str) -> None:
        self.say(f"tracker={self.kind}: {what}; training goes on (its log: {self.log})")

    def end(self, patience: float) -> None:
        """Let the process look once more and end, as long as it gives signs of life."""
        assert self.process.stdin
        self.process.stdin.close()
        self.alive = time.monotonic()
        while self.process.poll() is None and time.monotonic() - self.alive < patience:
            time.sleep(0.05)
        if self.process.poll() is None:
            self.given_up = True
            self.process.kill()
            if patience:
                self._warn(f"no sign of life for {patience:.0f}s; the next start sends the rest")
        self.thread.join()
