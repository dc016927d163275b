"""Ctrl-C, SIGTERM and SIGHUP: while packs train they are a request, which each pack fulfils by saving its state
and giving its claim back. At any other time they end the process at once; then there is nothing to save.

A signal that the parent had ignored (`nohup`, a job that a script left in the background) stays ignored. The signal
by which submitit hears of a time limit or a preemption is a request too; submitit queues the job again after it.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAST = 20.0  # seconds in which a worker whose parent is dead must come to a step where it can save its state
_leads = False
_follows = False
_asked: int | None = None  # the signal
_since = 0.0  # time.monotonic() when it came first
_work: "Work | None" = None  # what this process is at
_last_words: Callable[[], None] | None = None  # of the leading process, when it is stopped
_requeue: Callable[[int, FrameType | None], object] | None = None  # submitit's own handler of its signal
_of_submitit: int | None = None  # that signal, once it has come


class Work(Protocol):
    """A claim, as far as it matters here. begun: there is a state that is worth saving."""

    begun: bool

    def release(self, reason: str) -> None: ...


class Interrupted(Exception):
    """A pack stopped because it was asked to; its state is saved and its claim released."""


def requested() -> bool:
    """Say if this process has been asked to stop."""
    return _asked is not None


def waited() -> float:
    """Return the seconds since this process was asked to stop, 0 where it was not."""
    return time.monotonic() - _since if requested() else 0.0


def exit_status() -> int:
    """Return the status that a shell expects of a process that a signal ended: 128 and its number."""
    return 128 + (_asked or signal.SIGINT)


def asked_by_hand() -> bool:
    """Say if it was Ctrl-C, by somebody who can be asked what to do."""
    return _asked == signal.SIGINT and sys.stdin.isatty() and sys.stderr.isatty()


def farewell(words: Callable[[], None]) -> None:
    """Have the leading process call this after it was stopped, when nothing else is shown any more."""
    global _last_words
    _last_words = words


def say_farewell() -> None:
    """Call what was given to `farewell`."""
    if _last_words is not None:
        _last_words()


def lead() -> None:
    """Lead, as the process that a person started: a signal ends it as Ctrl-C does."""
    global _leads
    _leads = True
    for number in _heeded():
        signal.signal(number, _interrupt)


def follow(parent: int | None = None) -> None:
    """Follow, as a worker that trains packs: a signal is a request, and the end of the process that started it ends
    it too. parent: the pid of that process; without it, that of the process which is the parent now."""
    global _follows, _requeue
    if _leads or _follows or threading.current_thread() is not threading.main_thread():
        return
    _follows = True
    for number in _heeded():
        signal.signal(number, _note)
    if os.environ.get("SUBMITIT_EXECUTOR"):
        number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", signal.SIGUSR2)
        before = signal.signal(number, _note_submitit)
        _requeue = before if callable(before) else None
    parent = os.getppid() if parent is None else parent
    threading.Thread(target=_watch, args=(parent,), name="parent watch", daemon=True).start()


def hand_on() -> None:
    """Let submitit queue this job again, which ends the process, where it was its signal that stopped the work. It
    returns where nothing is to be queued: another signal, or the last of the job's time limits."""
    if _of_submitit is not None and _requeue is not None:
        with contextlib.suppress(
            Exception
        ):  # submitit's word for "timed out too many times", or no scheduler
            _requeue(_of_submitit, None)


@contextlib.contextmanager
def at_work(work: Work) -> Iterator[None]:
    """Mark the time in which a worker has a claim to give back."""
    global _work
    _work = work
    try:
        yield
    finally:
        _work = None


@contextlib.contextmanager
def patiently() -> Iterator[None]:
    """Pass the first signal on to the workers as a request, in the leading process while they train; the second
    ends them where they are. KeyboardInterrupt at the end where there was one."""
    before = {number: signal.signal(number, _pass_on) for number in _heeded()} if _leads else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if _asked is not None:
        raise KeyboardInterrupt


def _heeded() -> list[signal.Signals]:
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _interrupt(number: int, frame: FrameType | None) -> None:
    _note(number, frame)
    raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _asked, _since
    _since = _since if requested() else time.monotonic()
    _asked = number


def _note_submitit(number: int, frame: FrameType | None) -> None:
    global _of_submitit
    _of_submitit = number
    _note(number, frame)


def _pass_on(number: int, frame: FrameType | None) -> None:
    again = _asked is not None
    _note(number, frame)
    children = _children()
    if again or children is None:
        raise KeyboardInterrupt
    with contextlib.suppress(OSError):  # the terminal may be what went away
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
    """End this process soon after its parent: nobody would give it work or stop it, and it holds a core and its
    memory. PR_SET_PDEATHSIG would not do: it goes by the parent's thread, and a launcher starts workers from
    threads that end."""
    while os.getppid() == parent:
        time.sleep(1)
    _note(signal.SIGTERM, None)
    died = time.monotonic()
    while (work := _work) and work.begun and time.monotonic() - died < LAST:
        time.sleep(0.1)
    if work:
        with contextlib.suppress(Exception):
            work.release("the process that started this one has died")
    os._exit(exit_status())
