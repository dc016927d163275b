"""How fast one's own text is scanned, and in how much memory: `python -m benchmarks.scan --bytes 1e9`.

Each kind of file is made in a folder that is deleted afterwards, and scanned by a process of its own, so that its
CPU time (user and system, all its threads), its wall time and its peak memory are the scan's. Rates are MB of text
a CPU second, and a second, which says something on an idle machine only.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RECORD = 3000  # bytes of a document on average: a page of the web
SHARD = 1 << 26  # bytes of text in a file
WORDS, LINES = 50_000, 20_000  # different ones
EXTRA = {"bpe": {"tokenizer": "bpe", "bpe_vocab": 4096}}  # besides the files, in DataConfig


def texts(size: int) -> Iterator[str]:
    """Documents of `size` bytes together: lines of twelve words by Zipf's law, each with a number of its own."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvb", np.uint8)
    vocabulary = [bytes(rng.choice(letters, rng.integers(2, 11))).decode() for _ in range(WORDS)]
    drawn = np.minimum(rng.zipf(1.2, (LINES, 12)), WORDS) - 1
    lines = [" ".join(vocabulary[place] for place in row) for row in drawn.tolist()]
    made = number = 0
    while made < size:
        count = 1 + int(rng.exponential(RECORD / 75))
        chosen = rng.integers(LINES, size=count).tolist()
        text = "".join(f"{number + at} {lines[place]}.\n" for at, place in enumerate(chosen))
        number += count
        made += len(text)
        yield text


def shards(size: int) -> Iterator[list[str]]:
    """The documents, as many at a time as a file holds."""
    found: list[str] = []
    held = 0
    for text in texts(size):
        found.append(text)
        held += len(text)
        if held >= SHARD:
            yield found
            found, held = [], 0
    if found:
        yield found


def lines(shard: Iterable[str]) -> bytes:
    return "".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(shard)).encode()


def packed(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(content)


def write_parquet(path: Path, shard: list[str]) -> None:
    pq.write_table(pa.table({"text": shard}), path, compression="zstd")


KINDS: dict[str, tuple[str, Callable[[Path, list[str]], object]]] = {
    "text": ("txt", lambda path, shard: path.write_text("".join(shard))),
    "jsonl": ("jsonl", lambda path, shard: path.write_bytes(lines(shard))),
    "jsonl.gz": ("jsonl.gz", lambda path, shard: path.write_bytes(gzip.compress(lines(shard), 1))),
    "jsonl.zst": ("jsonl.zst", lambda path, shard: path.write_bytes(packed(lines(shard)))),
    "parquet": ("parquet", write_parquet),
    "bpe": ("txt", lambda path, shard: path.write_text("".join(shard))),
}

SCAN = """
import json, resource, sys, time
from pathlib import Path
from lmscale.data import DataConfig, TasksConfig, scan
data = DataConfig(**{"kind": "text", "files": (sys.argv[1],), **json.loads(sys.argv[3])})
begun = time.monotonic()
manifest = scan(data, TasksConfig(weight=0), Path(sys.argv[2]))
wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([manifest.sources["bytes"], used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024]))
"""


def measure(kind: str, size: int) -> str:
    """A row of the table."""
    suffix, write = KINDS[kind]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "texts").mkdir()
        for number, shard in enumerate(shards(size)):
            write(folder / "texts" / f"{number:05}.{suffix}", shard)
        pattern = str(folder / "texts" / f"*.{suffix}")
        arguments = [pattern, str(folder / "corpus"), json.dumps(EXTRA.get(kind, {}))]
        ended = subprocess.run(
            [sys.executable, "-c", SCAN, *arguments], capture_output=True, text=True, check=True
        )
    text, cpu, wall, memory = json.loads(ended.stdout)
    size = text / 1e6
    rates = f"{size / cpu:.0f} | {size / wall:.0f}"
    return f"| {kind} | {size:,.0f} | {cpu:.1f} | {wall:.1f} | {rates} | {memory / 1e6:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=float, default=1e9, help="of text in each kind of file")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=[kind for kind in KINDS if kind != "bpe"]
    )
    args = parser.parse_args()
    print(
        "| files | MB of text | CPU s | wall s | MB a CPU second | MB a second | peak MB |\n"
        + "|---" * 7
        + "|"
    )
    for kind in args.kinds:
        print(measure(kind, int(args.bytes)), flush=True)


if __name__ == "__main__":
    main()
