"""A scan of many files: folders, shards packed by the real libraries, what data.most_bytes left, and the bar."""

import gzip
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmscale.config import DataConfig, TasksConfig
from lmscale.data import scan
from lmscale.errors import UserError
from lmscale.text import meter
from lmscale.text.classes import DIGIT, IDENTIFIER, PUNCTUATION, WHITE, classify
from lmscale.text.documents import documents
from lmscale.text.files import find_files
from lmscale.text.meter import Meter
from lmscale.text.reading import texts

NO_TASKS = TasksConfig(weight=0)
TEXTS = [f"Story {i}: " + " ".join(f"word{(i * k) % 97}" for k in range(40)) for i in range(240)]


def own(*files: Path, **options: Any) -> DataConfig:
    return DataConfig(kind="text", files=tuple(map(str, files)), **{"heldout_rows": 8, **options})


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def shards(folder: Path, pack: Any = bytes, suffix: str = "") -> Path:
    """A folder of six shards in two folders, and what else lies about in such places."""
    for number in range(6):
        path = folder / f"part{number % 2}" / f"{number}.jsonl{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(lines(TEXTS[number * 40 : (number + 1) * 40])))
    for hidden in (".cache/x.bin", "part0/.DS_Store", "part1/.git/index"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"\0\1\2")
    return folder


def test_a_folder_stands_for_the_files_below_it(tmp_path: Path) -> None:
    folder = shards(tmp_path / "texts")
    (folder / "again").symlink_to(folder)  # a circle
    assert [path.name for path in find_files((str(folder),))] == [f"{n}.jsonl" for n in (0, 2, 4, 1, 3, 5)]
    whole = scan(own(folder), NO_TASKS, tmp_path / "corpus")
    for pattern in ("part*/*.jsonl", "part*", "**/*.jsonl"):
        named = scan(own(folder / pattern), NO_TASKS, tmp_path / "corpus")
        assert whole.content_hash == named.content_hash
    assert whole.sources["train"]["documents"] + whole.sources["heldout"]["documents"] == 240
    (folder / "part0" / "notes.pdf").write_bytes(b"%PDF-1.4\n")
    with pytest.raises(UserError, match=r"notes\.pdf: a PDF"):
        scan(own(folder), NO_TASKS, tmp_path / "corpus")


def zstandard_frames(content: bytes) -> bytes:
    """As pzstd writes them: several frames, a skippable one between, sizes not said, checksums."""
    zstandard = pytest.importorskip("zstandard")
    cut = content.index(b"\n", len(content) // 2) + 1
    made = []
    for part in (content[:cut], content[cut:]):
        stream = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
        made.append(stream.compress(part) + stream.flush())
    return made[0] + b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + made[1]


def zstandard_long(content: bytes) -> bytes:
    """As zstd --long=27 writes it, the most that anybody reads without being told."""
    zstandard = pytest.importorskip("zstandard")
    wide = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    return bytes(zstandard.ZstdCompressor(compression_params=wide).compress(content))


@pytest.mark.parametrize("pack", [zstandard_frames, zstandard_long])
def test_shards_by_the_real_zstandard_are_read(tmp_path: Path, pack: Any) -> None:
    folder = shards(tmp_path / "texts", pack, ".zst")
    read = [document.data for document in documents(own(folder))]
    assert sorted(filter(None, read)) == sorted(text.encode() for text in TEXTS)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda packed: packed[:-30], "not a whole zstd file"),
        (lambda packed: packed[:200] + bytes(20) + packed[220:], "not a whole zstd file"),
        (lambda packed: packed[:9], "not a whole zstd file"),
        (lambda packed: packed + b"rubbish", "not a whole zstd file"),
    ],
)
def test_a_damaged_shard_is_one_line(tmp_path: Path, damage: Any, words: str) -> None:
    folder = shards(tmp_path / "texts", zstandard_frames, ".zst")
    path = folder / "part1" / "3.jsonl.zst"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"3\.jsonl\.zst: {words}") as caught:
        scan(own(folder), NO_TASKS, tmp_path / "corpus")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", ["", ".gz"])
def test_what_most_bytes_left_out_is_said(tmp_path: Path, pack: str) -> None:
    folder = shards(tmp_path / "texts", gzip.compress if pack else bytes, pack)
    sizes = [path.stat().st_size for path in find_files((str(folder),))]
    of_a_shard = sum(len(text) for text in TEXTS[:40])
    data = own(folder, most_bytes=int(2.5 * of_a_shard), heldout_share=0.1)
    manifest = scan(data, NO_TASKS, tmp_path / "corpus")
    left = manifest.sources["left_out"]
    assert (left["files"], left["files_in_part"]) == (3, 1)
    assert sum(sizes[3:]) <= left["bytes"] < sum(sizes[2:])
    said = "\n".join(manifest.summary())
    assert f"3 files and the rest of one not read, {left['bytes']:,} bytes on disk" in said
    assert "no sample of all" in said
    for enough in (sum(map(len, TEXTS)), None):  # exactly all of it is all of it
        whole = scan(own(folder, most_bytes=enough), NO_TASKS, tmp_path / "corpus")
        assert "left_out" not in whole.sources


def test_what_is_left_of_parquet_and_of_the_standard_library_is_said(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for number in range(2):
        pq.write_table(pa.table({"text": TEXTS[number::2]}), tmp_path / f"{number}.parquet")
    size = (tmp_path / "0.parquet").stat().st_size
    data = own(tmp_path / "*.parquet", most_bytes=sum(map(len, TEXTS)) // 4, heldout_share=0.2)
    left = scan(data, NO_TASKS, tmp_path / "corpus").sources["left_out"]
    assert (left["files"], left["files_in_part"]) == (1, 1)
    assert left["bytes"] == pytest.approx(1.5 * size, rel=0.1)
    read: dict[str, Any] = {}
    count = len(list(texts(DataConfig(most_bytes=400_000), read)))
    left = read["left_out"]
    assert 1 < count < 200 and read["bytes"] >= 400_000
    assert left["files"] > 100 and left["files_in_part"] == 0 and left["bytes"] > 5e6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_bar_is_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: type) -> None:
    said = stream()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(meter, "EVERY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    scan(own(shards(tmp_path / "texts"), name="mine"), NO_TASKS, tmp_path / "corpus")
    if stream is io.StringIO:
        assert said.getvalue() == ""
    else:
        assert "reading mine" in said.getvalue() and "writing tokens of mine" in said.getvalue()


def test_a_meter_counts_files_and_bytes() -> None:
    found = Meter()
    assert found.left_out() == {}
    found.expect([100, 50])
    found.begin(lambda: 30)
    assert (found.position, found.left_out()) == (30, {"files": 1, "files_in_part": 1, "bytes": 120})
    found.end(100)
    assert (found.position, found.left_out()) == (100, {"files": 1, "files_in_part": 0, "bytes": 50})


PLAIN = re.compile(rb"(?P<name>[A-Za-z_\x80-\xff]+(?:['-][A-Za-z_\x80-\xff]+)*)|(?P<number>\d+)")


@given(st.text("ab'-_9 \n\t.é0", max_size=60))
def test_kinds_of_plain_text_are_those_of_a_regular_expression(text: str) -> None:
    """The table of bytes against the grammar that it stands for: words with apostrophes and hyphens inside."""
    raw = text.encode() + b"\0"
    expected = np.full(len(raw), PUNCTUATION)
    for match in PLAIN.finditer(raw):
        expected[match.start() : match.end()] = IDENTIFIER if match["name"] else DIGIT
    expected[np.isin(list(raw), [*b" \t\n\r\f\v\0"])] = WHITE
    np.testing.assert_array_equal(classify(raw, python=False), expected)
