"""How much of a source was read, and what was left: for data.most_bytes, and for a bar on a terminal."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

EVERY = 0.1  # seconds between two looks of the bar at the meter


class Meter:
    """Counts the files of a source, in bytes as they lie on the disk: packed ones as they are packed.

    files, total: what there is, of what was found so far. done, read: files that were read whole, and their bytes.
    """

    def __init__(self) -> None:
        self.files = self.total = self.done = self.read = 0
        self._at: Callable[[], int] | None = None

    def expect(self, sizes: list[int]) -> None:
        """Add files that will be read."""
        self.files += len(sizes)
        self.total += sum(sizes)

    def begin(self, at: Callable[[], int]) -> None:
        """Begin a file; `at` says how far it was read, in bytes."""
        self._at = at

    def end(self, size: int) -> None:
        """End the file, which has `size` bytes."""
        self._at = None
        self.done += 1
        self.read += size

    @property
    def position(self) -> int:
        """The bytes read so far."""
        return self.read + (self._at() if self._at else 0)

    def left_out(self) -> dict[str, int]:
        """What is not read yet: whole files, files begun, and bytes; no numbers where nobody knows, of a stream."""
        if not self.files:
            return {}
        begun = self._at is not None
        return {
            "files": self.files - self.done - begun,
            "files_in_part": int(begun),
            "bytes": self.total - self.position,
        }


def sizes_of(paths: list[Path]) -> list[int]:
    """Return the size of each file in bytes."""
    return [path.stat().st_size for path in paths]


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[Meter], None]]:
    """Yield a function that moves a bar to where a meter is; on a terminal only, and gone at the end."""
    if not sys.stderr.isatty():
        yield lambda meter: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        said = 0.0

        def move(meter: Meter) -> None:
            nonlocal said
            if (now := time.monotonic()) - said >= EVERY:
                progress.update(task, completed=meter.position, total=meter.total or None)
                said = now

        yield move
