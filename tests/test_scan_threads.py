"""The second thread of a scan: the same bytes, one error at its place, and no thread left."""

import gzip
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmscale.config import DataConfig, TasksConfig
from lmscale.data import scan
from lmscale.errors import UserError
from lmscale.text import buckets, encoders, second_thread
from lmscale.text.documents import documents
from lmscale.text.second_thread import BLOCK, Gathered, ReadAhead, in_order
from lmscale.text.shared_lines import SHORT_LINE, SharedLines

NO_TASKS = TasksConfig(weight=0)
LINES = st.lists(
    st.text("ab \t\r", max_size=4).flatmap(
        lambda ends: st.sampled_from(
            [ends + body + ends for body in ("", "short", "a line that is long enough", "b" * 16 + " of it")]
        )
    ),
    max_size=6,
).map("\n".join)


@given(st.lists(LINES, max_size=4), st.lists(LINES, max_size=4))
def test_shared_lines_are_those_of_sets(heldout: list[str], train: list[str]) -> None:
    def lines(texts: list[str]) -> set[bytes]:
        stripped = {line.strip() for text in texts for line in text.encode().split(b"\n")}
        return {line for line in stripped if len(line) >= SHORT_LINE}

    found = SharedLines()
    found.see([text.encode() for text in heldout], heldout=True)
    found.see([text.encode() for text in train], heldout=False)
    assert found.heldout == lines(heldout)
    assert found.found == lines(heldout) & lines(train)


@pytest.mark.parametrize("size", [0, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_stream_read_ahead_is_the_stream(size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    raw = io.BytesIO(content)
    ahead = ReadAhead(cast(Any, io.BufferedReader(cast(Any, raw))), raw)
    stream = io.BufferedReader(ahead)
    assert stream.read(10) == content[:10]
    assert ahead.position <= BLOCK  # what was asked, not what was read ahead
    assert stream.read() == content[10:]
    assert ahead.position == size
    stream.close()


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of several blocks each."""
    rng = np.random.default_rng(0)
    for number in range(3):
        texts = (bytes(rng.integers(97, 123, 50_000, np.uint8)).decode() for _ in range(60))
        content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        (tmp_path / f"{number}.jsonl.gz").write_bytes(gzip.compress(content, 1))
    return tmp_path


def own(folder: Path, **options: Any) -> DataConfig:
    return DataConfig(kind="text", files=(str(folder / "*.gz"),), heldout_rows=8, **options)


def test_what_is_damaged_behind_the_first_block_is_one_line(shards: Path) -> None:
    path = shards / "1.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    read = documents(own(shards))
    with pytest.raises(UserError, match=r"1\.jsonl\.gz: not a whole gzip file") as caught:
        for _ in read:
            pass
    assert "\n" not in str(caught.value) and no_thread_is_left()
    # what is read before the damage is met can be trained on
    count = sum(1 for _ in scan_documents(own(shards, most_bytes=65 * 50_000)))
    assert count == 65 and no_thread_is_left()


def scan_documents(data: DataConfig) -> list[Any]:
    from lmscale.text.reading import texts

    return list(texts(data, {}))


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def full(*_: Any, **__: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("where", "name", "stop"),
    [
        (buckets, "place_of", interrupted),  # while the next block is unpacked
        (encoders, "classify", interrupted),  # while blocks are written
        (SharedLines, "see", full),  # by the second thread
    ],
)
def test_a_scan_that_is_stopped_leaves_no_thread_and_no_folder(
    shards: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, stop: Any
) -> None:
    monkeypatch.setattr(where, name, stop)
    with pytest.raises((KeyboardInterrupt, UserError), match=r"the disk is full|^$"):
        scan(own(shards), NO_TASKS, shards / "corpus")
    assert no_thread_is_left()
    assert not list((shards / "corpus").glob(".text-*"))


def test_jobs_are_done_in_order_and_few_wait() -> None:
    done: list[int] = []

    def job(number: int) -> Callable[[], None]:
        def work() -> None:
            time.sleep(0.001)
            done.append(number)

        return work

    with in_order() as give:
        for number in range(20):
            give(job(number))
            assert number - len(done) <= second_thread.WAITING
    assert done == list(range(20))
    with pytest.raises(ZeroDivisionError), in_order() as give:
        give(lambda: done.append(1 // 0))
    assert no_thread_is_left()


def test_pieces_are_gathered_to_blocks() -> None:
    blocks: list[list[bytes]] = []
    with in_order() as give:
        gathered = Gathered(give, blocks.append)
        for number in range(300):
            gathered.add(bytes([number % 256]) * 10_000)
        gathered.flush()
        gathered.flush()
    assert b"".join(piece for block in blocks for piece in block) == b"".join(
        bytes([number % 256]) * 10_000 for number in range(300)
    )
    assert len(blocks) == 3
