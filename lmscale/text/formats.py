"""Tell what a file is by its first bytes: packing is taken off, UTF-16 becomes UTF-8, what is no text is refused.

A name alone decides nothing; one that promises a format which the bytes are not is refused as well. Cutting text
into documents is left to `documents`.
"""

import bz2
import codecs
import contextlib
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from lmscale.durable import explained
from lmscale.errors import UserError
from lmscale.text.second_thread import ReadAhead

HEAD = 1 << 16  # bytes that are looked at
NESTED = 4  # how often a file may be packed
MOST_STRANGE = 0.02  # of a text's bytes; a tenth of random ones are control characters
JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)

# control characters but for tabs, line and page breaks, \b of manual pages, colours, DOS's end of file
_STRANGE = bytes(byte for byte in [*range(32), 127] if byte not in b"\b\t\n\v\f\r\x1a\x1b")
_PROMISED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}
_TABLES = (".csv", ".tsv")
# a file that begins so is refused, though every byte of it may be a letter
_NO_PROSE = (
    (rb"%PDF-", "a PDF; extract its text"),
    (rb"\{\\rtf", "an RTF document; save it as plain text"),
    (rb"version https://git-lfs", "a Git LFS pointer and not the file; git lfs pull fetches it"),
    (rb"\([ldt]p?\d*\n", "a pickle; write its texts as JSON Lines"),
)
# names for what is no text anyway
_BINARY = (
    (rb"PK[\x03\x05]", "a ZIP archive, or a document or array file made as one; unpack it"),
    (rb".{257}ustar", "a tar archive; unpack it"),
    (rb"7z\xbc\xaf", "a 7z archive; unpack it"),
    (rb"Rar!", "a RAR archive; unpack it"),
    (rb"\x1f\x9d", "packed by compress; unpack it"),
    (rb"\x80[\x02-\x05]", "a pickle; write its texts as JSON Lines"),
    (rb"\x93NUMPY", "a NumPy array; data=tokens reads one of tokens"),
    (rb".{8}\{\"", "a safetensors file"),
    (rb"\x89HDF", "an HDF5 file; write its texts as JSON Lines"),
    (rb"SQLite format 3", "an SQLite database; write its texts as JSON Lines"),
    (rb"ARROW1|FEA1|\xff{4}", "an Arrow file; write it as Parquet"),
    (rb"PARE", "an encrypted Parquet file"),
    (rb"Obj\x01|ORC", "an Avro or ORC file; write it as Parquet"),
    (rb"\xd0\xcf\x11\xe0", "an old Office document; save it as plain text"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|BM|RIFF....WEBP", "an image"),
    (rb"RIFF|OggS|fLaC|ID3|....ftyp", "sound or film"),
    (rb"\x7fELF|MZ|\xca\xfe\xba\xbe|[\xcf\xce]\xfa\xed\xfe|\0asm", "a program"),
)


class Opened(NamedTuple):
    """A file that was found out. kind: text, json or parquet. suffix: its name's, without .gz and the like.
    position: says how far it was read, in bytes of the file as it is packed."""

    stream: BinaryIO
    kind: str
    suffix: str
    position: Callable[[], int]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file as what it is.

    DiskError where the system does not let it be read, UserError where it is no text or damaged, also while the
    body reads on.
    """
    what = "file"
    with explained(path, "read"), contextlib.ExitStack() as stack:
        try:
            raw: BinaryIO = stack.enter_context(path.open("rb", buffering=HEAD))
            stream, position = raw, raw.tell
            packed = None
            for _ in range(NESTED):
                packing = _packing(_head(stream))
                if not packing:
                    break
                packed, unpack = packing
                what = f"{packed} file"
                inner = stack.enter_context(contextlib.closing(unpack(stream)))
                stream = cast(BinaryIO, io.BufferedReader(inner, HEAD))
            if packed:
                ahead = stack.enter_context(contextlib.closing(ReadAhead(stream, raw)))
                stream, position = cast(BinaryIO, io.BufferedReader(ahead, HEAD)), lambda: ahead.position
            suffix = _suffix(path, packed)
            if _head(stream).startswith(b"PAR1"):
                if packed:
                    raise _refused(
                        path, f"a Parquet file packed as {packed}; unpack it (it is packed itself)"
                    )
                yield Opened(stream, "parquet", suffix, position)
                return
            if encoding := _encoding(_head(stream)):
                what = f"{encoding} text"
                stream = cast(BinaryIO, io.BufferedReader(_Recoded(stream, encoding), HEAD))
            head = _head(stream)
            if reason := _no_text(head, suffix):
                raise _refused(path, reason)
            yield Opened(stream, "json" if _is_json(head, suffix) else "text", suffix, position)
        except DAMAGED as error:
            raise unreadable(path, f"not a whole {what}", error) from error
        except OSError as error:
            if error.errno is None:  # bz2 and Arrow speak so of bad data; what the disk says has a number
                raise unreadable(path, f"not a whole {what}", error) from error
            raise


def unreadable(path: Path, reason: str, error: Exception) -> UserError:
    """Say that a file is damaged, in one line."""
    why = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"data.files: cannot read {path}: {reason} ({why}); fetch it again")


def strange(text: bytes) -> str | None:
    """Say why bytes are no text: a NUL, or many other control characters. None where they may be."""
    if (at := text.find(b"\0")) >= 0:
        return f"a NUL byte at {at}"
    count = len(text) - len(text.translate(None, _STRANGE))
    return f"{count} control characters among {len(text)}" if count > MOST_STRANGE * len(text) else None


def _refused(path: Path, reason: str) -> UserError:
    return UserError(f"data.files={path}: {reason}; only text is trained on")


def _head(stream: BinaryIO) -> bytes:
    return cast(io.BufferedReader, stream).peek(HEAD)


def _suffix(path: Path, packed: str | None) -> str:
    """The name's last suffix, that of a packing aside; UserError where the name promises another content."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes.pop() if suffixes else ""
    if last not in _PROMISED:
        return last
    if not packed:
        raise _refused(
            path, f"not a whole {_PROMISED[last]} file, as its name says; fetch it again, or rename it"
        )
    return suffixes[-1] if suffixes else ""


def _arrow(codec: str) -> Callable[[BinaryIO], Any]:
    """Unpack with Arrow, which is there anyway: Python has zstd from 3.14 on, and lz4 not at all."""

    def unpack(stream: BinaryIO) -> Any:
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(stream, "r"), codec)

    return unpack


_PACKINGS: tuple[tuple[bytes, str, Callable[[BinaryIO], Any]], ...] = (
    (rb"\x1f\x8b", "gzip", lambda stream: gzip.GzipFile(fileobj=stream, mode="rb")),
    (rb"BZh[1-9]1AY&SY", "bzip2", bz2.BZ2File),
    (rb"\xfd7zXZ\0|\]\0\0", "xz", lzma.LZMAFile),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd", _arrow("zstd")),
    (rb"\x04\x22\x4d\x18", "lz4", _arrow("lz4")),
)


def _packing(head: bytes) -> tuple[str, Callable[[BinaryIO], Any]] | None:
    """The compression that a file begins with, and what takes it off."""
    return next(((name, unpack) for start, name, unpack in _PACKINGS if re.match(start, head)), None)


def _encoding(head: bytes) -> str | None:
    """The encoding that has to become UTF-8, by its mark or, for Western UTF-16, by every second byte being NUL."""
    marks = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))
    for mark, encoding in (*marks, (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if head.startswith(mark):
            return encoding
    for encoding, full, empty in (("utf-16-le", head[::2], head[1::2]), ("utf-16-be", head[1::2], head[::2])):
        if b"\0" not in full and empty.count(0) > len(empty) / 2:
            text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
            if "\ufffd" not in text and not strange(text.encode()):
                return encoding
    return None


class _Recoded(io.RawIOBase):
    """A stream of text in another encoding, as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str):
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            raw = self._stream.read(HEAD)
            self._ready = self._decoder.decode(raw, final=not raw).encode("utf-8", "replace")
            if not raw:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _no_text(head: bytes, suffix: str) -> str | None:
    """Say what a file is that is no text; None for one that may be."""
    if suffix == ".parquet":
        return "not a Parquet file, as its name says"
    for start, name in _NO_PROSE:
        if re.match(start, head):
            return name
    if suffix in _TABLES:
        return "a table; write it as JSON Lines or Parquet, and name the column in data.field"
    reason = strange(head)
    if not reason:
        return None
    for start, name in _BINARY:
        if re.match(start, head, re.DOTALL):
            return name
    tokens = "; token files are read by data=tokens" if suffix == ".bin" else ""
    return f"not text ({reason}){tokens}"


def _is_json(head: bytes, suffix: str) -> bool:
    """Tell whether records have to be read: by the name, or as an object with a key or an array begins."""
    if suffix in (".json", *JSON_LINES):
        return True
    if suffix == ".py":
        return False
    if re.match(rb'\s*\[?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:', head):
        return True
    begins = re.match(rb'\s*\[\s*(?=")', head)
    if not begins:
        return False
    text = head[begins.end() :].decode("utf-8", "ignore")
    try:  # a quotation in brackets may begin a sentence; with a comma after it, it does not
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    return bool(re.match(r"\s*[,\]]\s*(?:\"|$)", text[end:]))
