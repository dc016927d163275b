"""From a file's bytes to its text: compression and encoding found by looking, anything else refused by name."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa

from analysis.errors import UserError

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
    b"\x28\xb5\x2f\xfd": (
        "zstd",
        lambda data: pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(),
    ),
}
_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
_SHEET = "a spreadsheet; save the sheet as CSV (File, Save as) and give that"
_NOT_TEXT = {
    b"\xd0\xcf\x11\xe0": f"an old Excel file: {_SHEET}",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF; copy its table into a CSV file",
    b"\x89HDF": "an HDF5 file; write the table as CSV or Parquet and give that",
    b"ARROW1": "an Arrow file; write the table as CSV or Parquet and give that",
    b"FEA1": "a Feather file; write the table as CSV or Parquet and give that",
    b"\x93NUMPY": "a NumPy array; write it as CSV with a header and give that",
    b"\x80\x04": "a pickle, which is never opened; write the table as CSV or Parquet and give that",
    b"\x80\x05": "a pickle, which is never opened; write the table as CSV or Parquet and give that",
}
_CONTROL = bytes(c for c in range(32) if c not in b"\t\n\v\f\r\x1a")
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def read_text(path: Path) -> str:
    """Return the text of a file, line ends as newlines. UserError for what holds no text."""
    try:
        data = _decompressed(path, path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"{path}: cannot be read as a table: {reason[:200]}") from None
    text = _decoded(path, data)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decompressed(path: Path, data: bytes) -> bytes:
    if data.startswith(b"PK\x03\x04"):
        return _unzipped(path, data)
    kind = next((magic for magic in _COMPRESSED if data.startswith(magic)), None)
    if kind is not None:
        return _decompressed(path, _COMPRESSED[kind][1](data))
    named = _SUFFIXES.get(path.suffix.lower())
    if named and not data.startswith(tuple(_COMPRESSED)) and data == path.read_bytes():
        raise UserError(
            f"{path}: cannot be read as a table: it is named {path.suffix} and is not {named}; rename it"
        )
    return data


def _unzipped(path: Path, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
        if any(n.startswith("xl/") or n in ("content.xml", "Index/Document.iwa") for n in names):
            raise UserError(f"{path}: cannot be read as a table: it is {_SHEET}")
        if len(names) != 1:
            raise UserError(
                f"{path}: cannot be read as a table: the archive holds {len(names)} files; give one of them"
            )
        try:
            return archive.read(names[0])
        except (RuntimeError, NotImplementedError) as error:
            raise UserError(f"{path}: cannot be read as a table: {error}") from None


def _decoded(path: Path, data: bytes) -> str:
    for magic, what in _NOT_TEXT.items():
        if data.startswith(magic):
            raise UserError(f"{path}: cannot be read as a table: it is {what}")
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), None) or _guessed(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        # Spreadsheets of Western Windows machines; a byte that cp1252 lacks is taken as Latin-1 has it.
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    raw = data if encoding == "utf-8" else text.encode()
    # A search of the text would take seconds where a file is large, and nearly none has any.
    if len(raw.translate(None, _CONTROL)) < len(raw):
        control = next(c for c in text if ord(c) < 0x80 and ord(c) in _CONTROL)
        line = text.count("\n", 0, text.index(control)) + 1
        raise UserError(
            f"{path}: cannot be read as a table: line {line} holds the byte {ord(control):#04x}, so it is not "
            "text; give a CSV, JSON or Parquet file"
        )
    # Control-Z ended files of old systems; the other two come with copies from the web and from several files.
    text = text.rstrip("\x1a")
    return text if text.isascii() else text.replace("\ufeff", "").replace("\u200b", "")


def _guessed(data: bytes) -> str:
    """UTF-16 without its mark has a zero in every second byte of plain text."""
    head = data[:200]
    if len(head) >= 4 and not any(head[1::2]):
        return "utf-16-le"
    if len(head) >= 4 and not any(head[0::2]):
        return "utf-16-be"
    return "utf-8"
