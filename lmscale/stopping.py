"""Ctrl-C, SIGTERM and SIGHUP: while packs train they are a wish, which each pack fulfils by saving its state and
giving its claim back. At any other time they end the process at once; then there is nothing to save.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_leads = False
_follows = False
_wished: int | None = None
_since = 0.0  # time.monotonic() when it was wished first


class Interrupted(Exception):
    """A pack stopped because it was asked to; its state is saved and its claim released."""


def requested() -> bool:
    """Whether this process has been asked to stop."""
    return _wished is not None


def waited() -> float:
    """Seconds since this process was asked to stop, 0 where it was not."""
    return time.monotonic() - _since if requested() else 0.0


def exit_status() -> int:
    """What a shell expects of a process that a signal ended: 128 and its number."""
    return 128 + (_wished or signal.SIGINT)


def lead() -> None:
    """For the process that a person started: a signal ends it as Ctrl-C does."""
    global _leads
    _leads = True
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def follow() -> None:
    """For a worker that trains packs: a signal, or the end of the process that started it, is a wish."""
    global _follows
    if _leads or _follows or threading.current_thread() is not threading.main_thread():
        return
    _follows = True
    for number in SIGNALS:
        signal.signal(number, _note)
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent watch", daemon=True).start()


@contextlib.contextmanager
def patiently() -> Iterator[None]:
    """For the leading process while workers train: the first signal is passed on to them as a wish, the second
    ends them where they are. KeyboardInterrupt at the end where there was one."""
    before = {number: signal.signal(number, _pass_on) for number in SIGNALS} if _leads else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if _wished is not None:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    _note(number, frame)
    raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _wished, _since
    _since = _since if requested() else time.monotonic()
    _wished = number


def _pass_on(number: int, frame: FrameType | None) -> None:
    again = _wished is not None
    _note(number, frame)
    children = _children()
    if again or children is None:
        raise KeyboardInterrupt
    print("stopping: every pack saves its state first; once more to stop at once", file=sys.stderr)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)


def _children() -> list[int] | None:
    """The processes that this one started; None where the system does not say."""
    try:
        lists = [task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return None
    return [int(pid) for text in lists for pid in text.split()]


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    _note(signal.SIGTERM, None)
