"""What a second thread does while the first one parses: unpacking, hashing, writing, a block at a time.

All of it leaves the interpreter free; order and content are those of one thread.
"""

import contextlib
import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

BLOCK = 1 << 20  # bytes; much shorter work would wait for the interpreter longer than it takes
OVERHEAD = 256  # bytes that Python needs for a piece of a block
WAITING = 4  # jobs; so many blocks are in memory besides


@contextlib.contextmanager
def in_order() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yield a function that gives a job to the second thread: they are done in the order given, all of them before
    the body ends. What a job raises, a later call raises, or the end."""
    given: deque[Future[None]] = deque()

    def give(job: Callable[[], None]) -> None:
        given.append(thread.submit(job))
        if len(given) > WAITING:
            given.popleft().result()

    with ThreadPoolExecutor(1) as thread:
        yield give
        for job in given:
            job.result()


class Gathered:
    """Pieces that are gathered to blocks, each given to the second thread as one `job`."""

    def __init__(self, give: Callable[[Callable[[], None]], None], job: Callable[[list[Any]], None]):
        self._give, self._job = give, job
        self._pieces: list[Any] = []
        self._size = 0

    def add(self, piece: bytes | memoryview) -> None:
        """Add a piece, which nobody changes any more."""
        self._pieces.append(piece)
        self._size += len(piece) + OVERHEAD
        if self._size >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Give away what was gathered."""
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            self._give(lambda: self._job(pieces))


class ReadAhead(io.RawIOBase):
    """A stream of which the second thread reads the next block; the first block, all of a short file, is read when
    it is asked for.

    position: how far `raw`, the file below, was read for what was asked so far.
    """

    def __init__(self, stream: BinaryIO, raw: BinaryIO):
        self._stream, self._raw = stream, raw
        self._thread = ThreadPoolExecutor(1)  # starts with its first job
        self._next: Future[tuple[bytes, int]] | None = None
        self._block = memoryview(b"")
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._block:
            block, self.position = self._next.result() if self._next else self._read()
            self._block = memoryview(block)
            self._next = self._thread.submit(self._read) if len(block) == BLOCK else None
        count = min(len(buffer), len(self._block))
        buffer[:count], self._block = self._block[:count], self._block[count:]
        return count

    def _read(self) -> tuple[bytes, int]:
        return self._stream.read(BLOCK), self._raw.tell()

    def close(self) -> None:
        """Wait for the block that is being read."""
        self._thread.shutdown(cancel_futures=True)
        super().close()
