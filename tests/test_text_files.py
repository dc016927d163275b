"""What is trained on is text: a file is what its first bytes are, read rightly or refused in one line."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmscale.config import DataConfig
from lmscale.errors import UserError
from lmscale.text.documents import documents, piece_size
from lmscale.text.files import find_files

STORIES = [f"Größe {i}: " + " ".join(f"word{(i * k) % 97}" for k in range(30)) for i in range(40)]
LINES = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(STORIES)).encode()
PROSE = ("\n".join(STORIES) + "\n").encode()
ARRAY = json.dumps([{"text": text} for text in STORIES]).encode()


def packed(codec: str, content: bytes) -> bytes:
    """By Arrow, whose zstd and lz4 are those of everybody."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def parquet(texts: list[str | None] = STORIES, **how: object) -> bytes:  # type: ignore[assignment]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), sink, **how)
    return sink.getvalue().to_pybytes()


def read(path: Path, content: bytes, **options: object) -> list[bytes | None]:
    path.write_bytes(content)
    data = DataConfig(kind="text", files=(str(path),), **options)  # type: ignore[arg-type]
    return [document.data for document in documents(data)]


def refusal(path: Path, content: bytes, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read(path, content, **options)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


RECORDS = {
    "a.jsonl": LINES,
    "a.jsonl.bz2": bz2.compress(LINES),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.jsonl.lzma": lzma.compress(LINES, format=lzma.FORMAT_ALONE),
    "a.jsonl.zst": packed("zstd", LINES),
    "two_frames.jsonl.zst": packed("zstd", LINES[: LINES.index(b"\n") + 1])
    + packed("zstd", LINES[LINES.index(b"\n") + 1 :]),
    "a.jsonl.lz4": packed("lz4", LINES),
    "packed_without_saying.jsonl": gzip.compress(LINES),
    "twice.jsonl.gz": gzip.compress(gzip.compress(LINES)),
    "array.json": ARRAY,
    "array.jsonl": ARRAY,
    "array.json.gz": gzip.compress(ARRAY),
    "two_arrays.json": json.dumps([{"text": t} for t in STORIES[:7]]).encode()
    + b"\n"
    + json.dumps([{"text": t} for t in STORIES[7:]]).encode(),
    "strings.json": json.dumps(STORIES).encode(),
    "pretty.json": "\n".join(json.dumps({"text": text}, indent=2) for text in STORIES).encode(),
    "lines.json": LINES,
    "lines_without_suffix": LINES,
    "lines_called.txt": LINES,
    "array_without_suffix": ARRAY,
    "strings_without_suffix": json.dumps(STORIES).encode(),
    "byte_order_mark.jsonl": b"\xef\xbb\xbf" + LINES,
    "utf16.jsonl": LINES.decode().encode("utf-16"),
    "a.parquet": parquet(),
    "parquet_without_suffix": parquet(),
    "parquet_called.txt": parquet(),
    "huge_number.jsonl": LINES.replace(b'"id": 3,', b'"id": ' + b"9" * 5000 + b","),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_read_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    """Rows 9 and 17: packings, arrays, UTF-16, Parquet without a suffix, numbers that Python does not read."""
    assert read(tmp_path / name, RECORDS[name]) == [text.encode() for text in STORIES]


PLAIN = {
    "a.txt": PROSE,
    "no_suffix": PROSE,
    "a.txt.bz2": bz2.compress(PROSE),
    "a.txt.xz": lzma.compress(PROSE),
    "a.txt.zst": packed("zstd", PROSE),
    "utf8_mark.txt": b"\xef\xbb\xbf" + PROSE,
    "utf16_le.txt": PROSE.decode().encode("utf-16"),
    "utf16_be.txt": b"\xfe\xff" + PROSE.decode().encode("utf-16-be"),
    "utf16_unmarked.txt": PROSE.decode().encode("utf-16-le"),
    "utf16_be_unmarked.txt": PROSE.decode().encode("utf-16-be"),
    "utf32.txt": PROSE.decode().encode("utf-32"),
    "utf16.txt.gz": gzip.compress(PROSE.decode().encode("utf-16")),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_text_is_read_as_utf8(tmp_path: Path, name: str) -> None:
    """Row 9."""
    assert b"".join(text or b"" for text in read(tmp_path / name, PLAIN[name])) == PROSE


@pytest.mark.parametrize(
    "text",
    [
        b'["quoted"] words may begin a sentence, "and go on"\n',
        b"[a] list of footnotes [b] and so on\n",
        b"{curly} braces, too\n",
        b"ORCHARDS and ID3A, RIFFRAFF, MZ and Rar!\n",
        b"PARENTS\n",
        "naïve\x1b[1m colours\x1b[0m and N\bNA\bAM\bME of manual pages\f\n".encode(),
        "Latin-1: größer\n".encode("latin-1"),
    ],
)
def test_text_that_looks_like_something_else_is_text(tmp_path: Path, text: bytes) -> None:
    assert read(tmp_path / "a.txt", text) == [text]


def archive(name: str) -> bytes:
    sink = io.BytesIO()
    if name == "zip":
        with zipfile.ZipFile(sink, "w") as target:
            target.writestr("a.txt", PROSE)
    else:
        with tarfile.open(fileobj=sink, mode=f"w:{name}") as tar:
            member = tarfile.TarInfo("a.txt")
            member.size = len(PROSE)
            tar.addfile(member, io.BytesIO(PROSE))
    return sink.getvalue()


def saved(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


RANDOM = random.Random(0)
NO_TEXT = {
    "a.zip": (archive("zip"), "ZIP archive"),
    "a.txt": (archive("zip"), "ZIP archive"),
    "a.tar.gz": (archive("gz"), "tar archive"),
    "a.tar": (archive(""), "tar archive"),
    "a.pkl": (pickle.dumps({"text": STORIES}), "a pickle"),
    "pickle.txt": (pickle.dumps(STORIES, protocol=2), "a pickle"),
    "old_pickle.txt": (pickle.dumps(STORIES, protocol=0), "a pickle"),
    "a.pdf": (b"%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\n", "a PDF"),
    "pdf.txt": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n" + PROSE, "a PDF"),
    "a.rtf": (rb"{\rtf1\ansi hello}", "an RTF document"),
    "png.txt": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10", "an image"),
    "jpeg.txt": (b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01", "an image"),
    "train.bin": (
        np.array([RANDOM.randrange(50_257) for _ in range(5000)], np.uint16).tobytes(),
        "token files are read by data=tokens",
    ),
    "char.bin": (
        np.array([RANDOM.randrange(65) for _ in range(5000)], np.uint16).tobytes(),
        "token files are read by data=tokens",
    ),
    "tokens.npy": (saved(np.arange(900, dtype=np.uint16)), "NumPy array"),
    "noise": (RANDOM.randbytes(4000), "not text"),
    "nul.txt": (PROSE + b"\0" + PROSE, "a NUL byte"),
    "a.csv": (b"id,text\n1,hello\n", "a table"),
    "pointer.jsonl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n", "Git LFS"),
    "a.arrow": (b"ARROW1\0\0" + PROSE, "an Arrow file"),
    "parquet.gz": (gzip.compress(parquet()), "a Parquet file packed as gzip"),
    "empty.parquet": (b"", "not a Parquet file"),
    "plain.zst": (PROSE, "not a whole zstd file"),
    "plain.xz": (PROSE, "not a whole xz file"),
}


@pytest.mark.parametrize("name", NO_TEXT)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Row 9."""
    content, words = NO_TEXT[name]
    assert words in refusal(tmp_path / name, content)


def test_a_text_that_turns_into_something_else_is_refused(tmp_path: Path) -> None:
    """Row 9: the first bytes were text, what follows a megabyte later is not."""
    content = PROSE * 1000 + RANDOM.randbytes(1 << 17)
    assert "no text from about byte" in refusal(tmp_path / "a.txt", content)


def spoilt(content: bytes, at: float = 0.5, count: int = 12) -> bytes:
    begin = int(at * len(content))
    bad = bytes(byte ^ 0x5A for byte in content[begin : begin + count])
    return content[:begin] + bad + content[begin + count :]


LONG = PROSE * 50
DAMAGED = {
    "cut.txt.gz": (gzip.compress(LONG)[:-900], "not a whole gzip file"),
    "flipped.txt.gz": (spoilt(gzip.compress(LONG)), "not a whole gzip file"),
    "checksum.txt.gz": (
        spoilt(gzip.compress(LONG), 1 - 6 / len(gzip.compress(LONG)), 2),
        "not a whole gzip file",
    ),
    "trailing.txt.gz": (gzip.compress(PROSE) + b"rubbish", "not a whole gzip file"),
    "header_only.gz": (gzip.compress(PROSE)[:12], "not a whole gzip file"),
    "cut.txt.bz2": (bz2.compress(LONG)[:-20], "not a whole bzip2 file"),
    "flipped.txt.bz2": (spoilt(bz2.compress(LONG)), "not a whole bzip2 file"),
    "cut.txt.xz": (lzma.compress(LONG)[:-40], "not a whole xz file"),
    "flipped.txt.xz": (spoilt(lzma.compress(LONG)), "not a whole xz file"),
    "cut.txt.zst": (packed("zstd", LONG)[:-40], "not a whole zstd file"),
    "flipped.txt.zst": (spoilt(packed("zstd", LONG)), "not a whole zstd file"),
    "odd.txt": (PROSE.decode().encode("utf-16")[:-1], "not a whole utf-16 text"),
    "cut.json": (ARRAY[:-30], "is not JSON"),
    "open.json": (ARRAY[:-1], "the array has no end"),
    "deep.jsonl": (LINES + b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    "deep.json": (b"[" + b'{"a": ' * 100_000, "nested too deeply"),
    "bytes.jsonl": (LINES + b'{"text": "\xff\xfe"}\n', "line 41 is not JSON"),
    "number.json": (b'[{"text": "x"}, {"text": 1e999}]', "value 2 holds float, not text"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    """Row 17: zlib.error, EOFError, RecursionError and their like."""
    content, words = DAMAGED[name]
    assert words in refusal(tmp_path / name, content)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "zstd"])
def test_a_damaged_parquet_page_names_the_file(tmp_path: Path, codec: str) -> None:
    """Row 7: it was blamed on the folder that is written to."""
    content = parquet(STORIES * 200, compression=codec, row_group_size=1000)
    for at in (0.02, 0.3, 0.34, 0.38):  # a page of the first row group, and of a later one
        content = spoilt(content, at, 40)
    message = refusal(tmp_path / "a.parquet", content)
    assert f"cannot read {tmp_path / 'a.parquet'}" in message and "Parquet" in message


def test_a_file_without_permission_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 7. By a patch, for root may read everything."""
    opens = Path.open

    def refuse(path: Path, *args: object, **options: object) -> object:
        if path.name == "secret.txt":
            raise PermissionError(13, "Permission denied")
        return opens(path, *args, **options)  # type: ignore[call-overload]

    (tmp_path / "secret.txt").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"cannot read .*secret\.txt: Permission denied"):
        list(documents(DataConfig(kind="text", files=(str(tmp_path / "secret.txt"),))))


def test_a_folder_without_permission_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 7."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"cannot read .*\*\.txt: Permission denied"):
        find_files((str(tmp_path / "*.txt"),))


@pytest.mark.parametrize(
    "make",
    [
        lambda texts: ("a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()),
        lambda texts: ("a.json", json.dumps([{"text": text} for text in texts]).encode()),
        lambda texts: ("a.parquet", parquet(texts)),
    ],
)
def test_a_null_text_is_the_same_in_every_format(
    tmp_path: Path, make: Callable[[list[str | None]], tuple[str, bytes]]
) -> None:
    """Row 21: a document without text, which a scan leaves out and counts."""
    name, content = make(["one", None, "three", ""])
    assert read(tmp_path / name, content) == [b"one", None, b"three", b""]


@pytest.mark.parametrize(
    "name",
    ["[v1].txt", "texts [v2]/a.txt", "[[x]/[y]*.txt", "a[!b]/c/[d-e]f.txt", "what?.txt", "star*/a.txt"],
)
def test_a_path_that_holds_pattern_letters_is_found(tmp_path: Path, name: str) -> None:
    """Row 18: as it is written, and with a pattern after it."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    (path.parent / "other.dat").write_text("y")
    assert find_files((str(path),)) == [path]
    assert find_files((str(path.parent / "*.txt"),)) == [path]


def test_patterns_are_patterns_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[v1]" / "deep").mkdir(parents=True)
    for name in ("a1.txt", "a2.txt", "b1.txt", "deep/a3.txt"):
        (tmp_path / "[v1]" / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    names = lambda pattern: [path.name for path in find_files((pattern,))]  # noqa: E731
    assert names("[v1]/[ab]1.txt") == ["a1.txt", "b1.txt"]
    assert names("[v1]/**/a*.txt") == ["a1.txt", "a2.txt", "a3.txt"]
    assert names("./[[]v1]/a?.txt") == ["a1.txt", "a2.txt"]


def dangling(folder: Path) -> str:
    (folder / "b.txt").symlink_to(folder / "gone.txt")
    return "*.txt"


def circle(folder: Path) -> str:
    (folder / "b.txt").symlink_to(folder / "c.txt")
    (folder / "c.txt").symlink_to(folder / "b.txt")
    return "*.txt"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return "fifo"


def only_folder(folder: Path) -> str:
    (folder / "inside").mkdir()
    return "inside"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (dangling, r"b\.txt is a link to nothing"),
        (circle, r"[bc]\.txt is a link to nothing"),
        (pipe, "no regular file"),
        (only_folder, "it is a folder without files"),
        (lambda folder: "~nobody-of-this-name/a.txt", r"write the folder out"),
    ],
)
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], str], words: str) -> None:
    """Row 24, and what else stands where a shard should."""
    (tmp_path / "a.txt").write_text("x")
    pattern = make(tmp_path)
    with pytest.raises(UserError, match=words):
        find_files((pattern if pattern.startswith("~") else str(tmp_path / pattern),))


@pytest.mark.parametrize("text", ["字" * 9000, "é" * 9000, "word " * 6000])
def test_a_line_without_end_is_cut_between_letters(tmp_path: Path, text: str) -> None:
    pieces = read(tmp_path / "a.txt", text.encode())
    assert len(pieces) > 20
    assert "".join((piece or b"").decode() for piece in pieces) == text


def test_documents_of_large_texts_stay_as_they_were() -> None:
    assert piece_size(DataConfig(), 1 << 30) == piece_size(DataConfig(), 21 << 20) == 64 * 1024
    assert piece_size(DataConfig(), 70_000) == 218
    assert piece_size(DataConfig(most_bytes=70_000), 1 << 30) == 218
