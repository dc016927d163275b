"""The held-out lines that stand in training text as well."""

from collections.abc import Iterable

import numpy as np

SHORT_LINE = 20  # bytes: shorter lines are the same in many files and say nothing of copies
MOST_LINES = 1_000_000  # held-out lines that are looked for
_BLANK = np.isin(np.arange(256), [*b" \t\n\r\v\f"])  # what bytes.strip takes off
_ENDS = 1 << 24


class SharedLines:
    """Held-out lines, and those of them that were found in training text; held-out documents come first.

    A training line is looked up only where its end is that of a held-out line, by a table of hashes: to cut all
    lines out of their text costs most.
    """

    def __init__(self) -> None:
        self.heldout: set[bytes] = set()
        self.found: set[bytes] = set()
        self._ends = np.zeros(_ENDS, bool)

    def see(self, texts: Iterable[bytes], heldout: bool) -> None:
        """Take the texts of some documents, all of one split."""
        if not heldout:
            self.found |= self.heldout.intersection(self._candidates(b"\n".join([*texts, b""])))
            return
        for text in texts:
            if len(self.heldout) < MOST_LINES:
                lines = [line for line in map(bytes.strip, text.split(b"\n")) if len(line) >= SHORT_LINE]
                self.heldout.update(lines)
                raw = np.frombuffer(b"".join(lines), np.uint8)
                self._ends[_hashes(raw, np.cumsum([len(line) for line in lines], dtype=np.int64))] = True

    def _candidates(self, text: bytes) -> list[bytes]:
        """Lines of a text, stripped: every held-out one among them, and few others."""
        raw = np.frombuffer(text, np.uint8)
        end = np.flatnonzero(raw == ord("\n"))
        begin = np.concatenate([[0], end[:-1] + 1])
        long = end - begin >= SHORT_LINE
        begin, end = begin[long], end[long]
        stop = end - _BLANK[raw[end - 1]]
        may = (
            self._ends[_hashes(raw, stop)] | _BLANK[raw[stop - 1]]
        )  # with more blanks than one: asked as well
        places = zip(begin[may].tolist(), end[may].tolist(), strict=True)
        return [text[first:last].strip() for first, last in places]

    def share(self) -> float | None:
        """The share of the held-out lines; None where there are none, as of tokens without their bytes."""
        return len(self.found) / len(self.heldout) if self.heldout else None


def _hashes(raw: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Hash the 16 bytes before each place of `end`: places in a table of _ENDS."""
    if not len(end):
        return end
    words = np.ndarray((len(raw) - 7,), "<u8", raw, 0, (1,))  # at every byte
    odd = np.uint64(0x9E3779B97F4A7C15)
    return ((words[end - 8] * odd ^ words[end - 16]) * odd) >> np.uint64(40)
