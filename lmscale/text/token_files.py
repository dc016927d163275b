"""Token files that other programs made, as documents: .bin of nanoGPT and llm.c, .npy, and levanter's caches.

They hold numbers alone. A tokenizer.json beside them (data.tokenizer) says what these stand for and which of them
end a document; without one, losses are in nats a token.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmscale.config import MOST_VOCAB, DataConfig
from lmscale.durable import explained
from lmscale.errors import UserError, needed
from lmscale.text import formats, tokenizer
from lmscale.text.meter import Meter
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

CHUNK = 1 << 20  # tokens that are looked at together
LONGEST = 1 << 16  # tokens of a document; one that has more is cut
LEDGER = "shard_ledger.json"  # stands in the folder of a cache of levanter's
IDS = "input_ids"  # the field of a cache that holds tokens; others are masks
# llm.c's files begin with 256 numbers of 32 bits: this, a version, the count of tokens
HEADER: dict[int, np.dtype[Any]] = {20240520: np.dtype("<u2"), 20240801: np.dtype("<u4")}
HEADER_BYTES = 1024
_PACKED = rb"\x1f\x8b\x08[\0-\x1f]|PK\x03\x04|\x28\xb5\x2f\xfd|BZh[1-9]1AY|\xfd7zXZ"


class Tokens(NamedTuple):
    """A file that was opened. take: reads ids, int64, from one place to another. stops: the places before which a
    document ends, and made_by, the tokenizer's name and vocab_size, as far as the file says."""

    length: int
    take: Callable[[int, int], np.ndarray]
    stops: np.ndarray
    made_by: dict[str, Any]


@dataclass(frozen=True)
class _Numbering:
    """number: ours of each of theirs. value: data.tokenizer, which has them; None where it names none."""

    number: np.ndarray
    value: str | None

    def of(self, ids: np.ndarray, path: Path, begin: int) -> np.ndarray:
        """Translate the ids of a file from place `begin` on."""
        inside = (ids >= 0) & (ids < len(self.number))
        known = inside & (self.number[np.where(inside, ids, 0)] >= 0)
        if known.all():
            return self.number[ids]
        at = int(np.argmin(known))
        wrong = f"data.files={path}: token {begin + at} is {ids[at]}, outside of the vocabulary"
        if self.value:
            raise UserError(
                f"{wrong}: data.tokenizer={self.value} has {len(self.number):,}; name the one that made this file"
            )
        raise UserError(f"{wrong}: of files without a tokenizer ids below {len(self.number):,} are read")

    def check(self, path: Path, made_by: dict[str, Any]) -> None:
        """Refuse a tokenizer that has not as many tokens as the one that a file names."""
        count, theirs = int((self.number >= 0).sum()), made_by.get("vocab_size")
        if self.value and theirs not in (None, count):
            raise UserError(
                f"data.tokenizer={self.value}: it has {count:,} tokens, and {path} was made by one of {theirs:,} "
                f"({made_by.get('tokenizer')}); name that"
            )


def token_documents(
    data: DataConfig, paths: list[Path], longest: int, meter: Meter
) -> Iterator[tuple[str, bytes]]:
    """Read the documents of token files, each with a name: our numbers, 16 bits each.

    longest: tokens of a document where a file does not say where they end. UserError for what is no token file, for
    one that is cut off, and for an id that the vocabulary does not have.
    """
    numbering = _numbering(data)
    grouped = _grouped(paths)
    meter.expect(list(grouped.values()))
    for path, size in grouped.items():
        with explained(path, "read"):
            tokens = _cache(path) if path.is_dir() else _flat(path)
            numbering.check(path, tokens.made_by)
            chunks = _chunks(path, size, tokens, numbering, meter)
            first = next(chunks, np.empty(0, np.int64))
            most = LONGEST if (first == END_OF_FILE).any() else longest
            for number, document in enumerate(_cut(itertools.chain([first], chunks), most)):
                yield f"{path.name}#{number}", document.astype("<u2").tobytes()
        meter.end(size)


def _chunks(
    path: Path, size: int, tokens: Tokens, numbering: _Numbering, meter: Meter
) -> Iterator[np.ndarray]:
    """The tokens of a file in our numbers, END_OF_FILE after each document that the file tells."""
    begin = end = 0
    meter.begin(lambda: size * end // max(1, tokens.length))
    for begin in range(0, tokens.length, CHUNK):
        end = min(begin + CHUNK, tokens.length)
        ids = tokens.take(begin, end)
        first, last = np.searchsorted(tokens.stops, (begin, end), "right")
        yield np.insert(numbering.of(ids, path, begin), tokens.stops[first:last] - begin, END_OF_FILE)


def _grouped(paths: list[Path]) -> dict[Path, int]:
    """The files to read, a cache as its folder, each with its bytes."""
    caches = {path.parent for path in paths if path.name == LEDGER}
    found: dict[Path, int] = {}
    for path in paths:
        whole = next((folder for folder in path.parents if folder in caches), path)
        found[whole] = found.get(whole, 0) + path.stat().st_size
    return found


def _numbering(data: DataConfig) -> _Numbering:
    if not tokenizer.is_own(data):
        return _Numbering(np.arange(VOCAB_SIZE, MOST_VOCAB), None)
    found = tokenizer.vocabulary(tokenizer.load_own(data), data.tokenizer)
    if not found.exact:
        raise UserError(
            f"data.tokenizer={data.tokenizer}: its tokens do not say the bytes of a text, as byte-level and "
            "SentencePiece ones do; give the text in place of the token files"
        )
    return _Numbering(found.number, data.tokenizer)


def _cut(chunks: Iterable[np.ndarray], longest: int) -> Iterator[np.ndarray]:
    """The documents of a stream of our numbers, in which END_OF_FILE ends one; those above `longest` are cut."""
    rest = np.empty(0, np.int64)
    for chunk in chunks:
        joined = np.concatenate([rest, chunk])
        *whole, rest = np.split(joined, np.flatnonzero(joined == END_OF_FILE) + 1)
        for document in whole:
            yield from _pieces(document[:-1], longest)
        ready = len(rest) // longest * longest
        yield from _pieces(rest[:ready], longest)
        rest = rest[ready:]
    yield from _pieces(rest, longest)


def _pieces(document: np.ndarray, longest: int) -> Iterator[np.ndarray]:
    for at in range(0, len(document), longest):
        yield document[at : at + longest]


def _flat(path: Path) -> Tokens:
    """A file of nothing but tokens."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(formats.HEAD)
    if head.startswith(b"\x93NUMPY"):
        try:
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise formats.unreadable(path, "not a whole .npy file", error) from error
        if ids.ndim != 1 or ids.dtype.kind not in "ui":
            raise _refused(path, f"an array of {ids.dtype} in {ids.ndim} dimensions, not of tokens in one")
    elif path.suffix != ".bin" or re.match(_PACKED, head, re.DOTALL):
        raise _refused(path, "no token file")
    elif size and not formats.strange(head):
        raise UserError(f"data.files={path}: it is text and no token file; use data=text")
    else:
        ids = _bin(path, size, head)
    return Tokens(
        len(ids), lambda begin, end: np.asarray(ids[begin:end]).astype(np.int64), np.empty(0, np.int64), {}
    )


def _bin(path: Path, size: int, head: bytes) -> np.ndarray:
    """A .bin, which says nothing of its type; but for llm.c's."""
    first = np.frombuffer(head[: len(head) // 4 * 4], "<u4")
    begin = 0
    if len(first) >= 256 and int(first[0]) in HEADER:
        kind, begin = HEADER[int(first[0])], HEADER_BYTES
        if size != begin + int(first[2]) * kind.itemsize:
            raise _cut_off(path, f"it should have {first[2]:,} tokens")
    else:
        # the upper halves of tokens of 32 bits are next to nothing; those of 16 bits are tokens as well
        wide = len(first) > 0 and (first >> 16).max() < 4 <= (first & 0xFFFF).max()
        kind = np.dtype("<u4" if wide else "<u2")
        if not size or size % kind.itemsize:
            raise _cut_off(path, f"{size:,} bytes are no tokens of {8 * kind.itemsize} bits")
    return np.memmap(path, kind, mode="r", offset=begin)


def _cache(path: Path) -> Tokens:
    """A cache of levanter's: its documents one after the other in one array, and where each ends in another, which
    begins with their number."""
    try:
        ledger = json.loads((path / LEDGER).read_text())
        rows, finished = int(ledger["total_num_rows"]), bool(ledger["is_finished"])
        made_by = (ledger.get("metadata") or {}).get("preprocessor_metadata") or {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise formats.unreadable(path / LEDGER, "not a ledger of levanter's", error) from error
    if not finished:
        raise UserError(f"data.files={path}: levanter's cache is not finished; let it be built to its end")
    if not (path / IDS).is_dir():
        raise _refused(path, f"a cache of levanter's without {IDS}")
    try:
        offsets, ids = _array(path / IDS / "offsets"), _array(path / IDS / "data")
        stops = np.asarray(offsets[: rows + 1].read().result())
        if stops[0] != rows or (np.diff(stops[1:], prepend=0) < 0).any():
            raise ValueError(f"{stops[0]} documents in place of {rows}, or in no order")
    except ValueError as error:
        raise formats.unreadable(path, "not a whole cache of levanter's", error) from error

    def take(begin: int, end: int) -> np.ndarray:
        try:
            return np.asarray(ids[begin:end].read().result()).astype(np.int64)
        except ValueError as error:
            raise formats.unreadable(path, f"damaged after token {begin}", error) from error

    return Tokens(int(stops[-1]) if rows else 0, take, stops[1:], made_by)


def _array(path: Path) -> Any:
    tensorstore = needed("tensorstore", f"data.files={path}")
    place = {"driver": "file", "path": f"{path}/"}
    # a part that is missing is an error, and no row of zeros
    return tensorstore.open({"driver": "zarr3", "kvstore": place, "fill_missing_data_reads": False}).result()


def _refused(path: Path, what: str) -> UserError:
    return UserError(
        f"data.files={path}: {what}; data=tokens reads .bin files of nanoGPT and llm.c, .npy, and levanter's caches"
    )


def _cut_off(path: Path, why: str) -> UserError:
    return UserError(f"data.files={path}: cut off ({why}); make or fetch it again")
