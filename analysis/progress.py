"""Bars for what takes longer than two seconds, on a terminal's stderr; none unless a command line shows them."""

import sys
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
PATIENCE = 2.0  # seconds
_shown: "Bars | None" = None


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass the items on, and count them in a bar named `what` of `total` while the command line shows bars."""
    bars = _shown
    if bars is None or total < 2:
        yield from items
        return
    try:
        for done, item in enumerate(items):
            bars.renew(what, done, total)
            yield item
    finally:
        bars.renew()


class Bars:
    """Show the counts of `track` for as long as it is entered, from two seconds on, and leave nothing behind."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.now: tuple[str, int, int | None] = what, 0, None
        self.live: Progress | None = None
        self.lock = threading.Lock()
        self.timer = threading.Timer(PATIENCE, self._begin)
        self.timer.daemon = True

    def __enter__(self) -> Self:
        global _shown
        if sys.stderr.isatty():
            _shown = self
            self.timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _shown
        _shown = None
        self.timer.cancel()
        with self.lock:
            if self.live:
                self.live.stop()

    def renew(self, what: str = "", done: int = 0, total: int = 0) -> None:
        """Show `done` of `total`, or that nobody knows how much there is."""
        with self.lock:
            self.now = f"{self.what}: {what}" if what else self.what, done, total or None
            if self.live:
                named, completed, of = self.now
                self.live.tasks[0].total = of  # for `update`, None is no change
                self.live.update(self.live.task_ids[0], description=named, completed=completed)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self.lock:
            if _shown is self:
                self.live = Progress(*columns, console=Console(file=sys.stderr), transient=True)
                self.live.add_task(self.now[0], completed=self.now[1], total=self.now[2])
                self.live.start()
