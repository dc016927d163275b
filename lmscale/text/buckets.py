"""Documents through buckets on disk by a hash of their bytes: shuffled, freed of exact copies and split without
ever standing in memory together."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lmscale.config import DataConfig
from lmscale.text.documents import buffered
from lmscale.text.reading import texts

BUCKETS = 64  # a corpus needs a 64th of its size in memory
_HEAD = struct.Struct(">16s?BHQ")


class Kept(NamedTuple):
    """A document in its bucket. place: a hash of its bytes; orders, splits and finds duplicates. source: its number
    in the mixture. name: where it came from, shortened."""

    place: bytes
    python: bool
    source: int
    name: str
    data: bytes
    heldout: bool


def place_of(data: DataConfig, text: bytes) -> bytes:
    """Hash a text to its place among the documents: 16 bytes."""
    return hashlib.sha256(data.seed.to_bytes(8) + text).digest()[:16]


def fill_buckets(data: DataConfig, folder: Path) -> dict[str, Any]:
    """Put every document into the bucket of its place. Returns what `reading.texts` counts."""
    streams = [buffered(_bucket(folder, number)) for number in range(BUCKETS)]
    read: dict[str, Any] = {}
    try:
        for document, text in texts(data, read):
            place = place_of(data, text)
            name = document.name.encode("utf-8", "replace")[-200:]
            head = _HEAD.pack(place, document.python, document.source, len(name), len(text))
            streams[place[0] * BUCKETS // 256].writelines((head, name, text))
    finally:
        for stream in streams:
            stream.close()
    return read


def kept(data: DataConfig, folder: Path, remove: bool = False) -> Iterator[Kept | None]:
    """Read the documents in the order of their places, a bucket at a time in memory; None for a duplicate.

    The first places are held out, and the very first document whatever its place. remove: also each bucket once it
    is read, so that the tokens made of it take its place on the disk.
    """
    border = int(data.heldout_share * 2**128).to_bytes(16)
    first = True
    for number in range(BUCKETS):
        content = _bucket(folder, number).read_bytes()
        if remove:
            _bucket(folder, number).unlink()
        found = []
        at = 0
        while at < len(content):
            head = _HEAD.unpack_from(content, at)
            found.append((head[0], at, head))
            at += _HEAD.size + head[3] + head[4]
        last = b""
        for place, at, (_, python, source, named, size) in sorted(found):
            if place == last:
                yield None
                continue
            last = place
            begin = at + _HEAD.size + named
            name = content[at + _HEAD.size : begin].decode("utf-8", "replace")
            text = content[begin : begin + size]
            yield Kept(place, python, source, name, text, heldout=place < border or first)
            first = False
        content = b""  # before the next one is read


def _bucket(folder: Path, number: int) -> Path:
    return folder / f"bucket{number}"
