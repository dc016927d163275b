"""Documents into two flat token files, training and held-out, and what is known of them.

Documents go through buckets on disk by a hash of their bytes, so that a corpus of any size is shuffled, freed
of exact duplicates and split without ever standing in memory.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmscale.config import DataConfig
from lmscale.durable import explained, replace
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.text import bpe
from lmscale.text.classes import STARTS_WORD, WHITE, classify
from lmscale.text.documents import buffered, documents, fingerprint
from lmscale.text.ngrams import ORDERS, contexts, count_ngrams, log_probabilities, window_log_probabilities
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

TEXT_VERSION = 3
BUCKETS = 64  # a corpus needs a 64th of its size in memory
NGRAM_ROWS = 64  # windows at which a model is compared with the n-grams' whole distributions
MOST_TABULATED = 1024  # tokens in a vocabulary whose distributions are kept
SHORT_LINE = 20  # bytes: shorter lines are the same in many files and say nothing of copies
MOST_LINES = 1_000_000  # held-out lines that are looked for in training text
SPLITS = ("heldout", "train")


class Kept(NamedTuple):
    """A document in its bucket. place: a hash of its bytes; orders, splits and finds duplicates."""

    place: bytes
    python: bool
    data: bytes


def text_key(data: DataConfig) -> str:
    """Names the token files by what makes them: configuration, and the state of the source."""
    fields = [data.kind, data.files, data.field, data.tokenizer, data.dataset, data.subset, data.split]
    numbers = [
        data.bpe_vocab if data.tokenizer == "bpe" else 0,
        data.most_bytes,
        data.heldout_share,
        data.seed,
    ]
    return digest([*fields, *numbers, TEXT_VERSION, fingerprint(data)])


def scan_text(data: DataConfig, folder: Path, rescan: bool = False) -> dict[str, Any]:
    """Write `train.bin`, `heldout.bin`, `classes.bin` and `text.json` under `folder`, once.

    Returns what text.json holds: tokens, documents and hash of each split, duplicates left out, the share of
    held-out lines that also stand in training text, the vocabulary. Documents are laid out by a hash, so the
    first U tokens are a sample of them.
    """
    report = folder / "text.json"
    if report.is_file() and not rescan:
        return json.loads(report.read_text())
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")  # others may scan as well
    with explained(folder):
        building.mkdir(parents=True)
        try:
            total = _fill_buckets(data, building)
            result = _write_tokens(data, building)
            for bucket in range(BUCKETS):
                _bucket(building, bucket).unlink(missing_ok=True)
            result = {"kind": data.kind, "source": fingerprint(data), "bytes": total, **result}
            (building / "text.json").write_text(json.dumps(result, indent=1) + "\n")
            if rescan or not report.is_file():  # a folder without its report is not whole
                shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
        except OSError:
            if not report.is_file():  # else another process was faster; it made the same
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return json.loads(report.read_text())


def _bucket(folder: Path, number: int) -> Path:
    return folder / f"bucket{number}"


def _fill_buckets(data: DataConfig, folder: Path) -> int:
    """Every document into the bucket of its place; how many bytes there are."""
    streams = [buffered(_bucket(folder, number)) for number in range(BUCKETS)]
    total = 0
    try:
        for document in documents(data):
            if not document.data:
                continue
            place = hashlib.sha256(data.seed.to_bytes(8) + document.data).digest()[:16]
            head = place + bytes([document.python]) + len(document.data).to_bytes(8)
            streams[place[0] * BUCKETS // 256].write(head + document.data)
            total += len(document.data)
            if data.most_bytes is not None and total >= data.most_bytes:
                break
    finally:
        for stream in streams:
            stream.close()
    return total


def _kept(folder: Path) -> Iterator[Kept | None]:
    """Documents in the order of their places, a bucket at a time in memory; None for a duplicate."""
    for number in range(BUCKETS):
        content = _bucket(folder, number).read_bytes()
        found = []
        at = 0
        while at < len(content):
            size = int.from_bytes(content[at + 17 : at + 25])
            found.append(
                Kept(content[at : at + 16], bool(content[at + 16]), content[at + 25 : at + 25 + size])
            )
            at += 25 + size
        last = b""
        for kept in sorted(found, key=lambda kept: kept.place):
            yield None if kept.place == last else kept
            last = kept.place


def _write_tokens(data: DataConfig, folder: Path) -> dict[str, Any]:
    """Tokens of both splits from the buckets. The first places are held out; at least one document is."""
    border = int(data.heldout_share * 2**128).to_bytes(16)
    encode = _encoder(data, folder, border)
    streams = {name: (folder / f"{name}.bin").open("wb") for name in (*SPLITS, "classes")}
    hashes = {name: hashlib.sha256() for name in SPLITS}
    tokens, count = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
    duplicates = 0
    lines: set[bytes] = set()
    shared: set[bytes] = set()
    try:
        for kept in _kept(folder):
            if kept is None:
                duplicates += 1
                continue
            split = "heldout" if kept.place < border or not count["heldout"] else "train"
            written, kinds = encode(kept, split == "heldout")
            streams[split].write(written.tobytes())
            hashes[split].update(written.tobytes())
            tokens[split] += len(written)
            count[split] += 1
            if split == "heldout":
                streams["classes"].write(kinds.tobytes())
                if len(lines) < MOST_LINES:
                    lines.update(_long_lines(kept.data))
            else:
                shared |= lines.intersection(_long_lines(kept.data))
    finally:
        for stream in streams.values():
            stream.close()
    for split in SPLITS:
        if not count[split]:
            raise UserError(
                f"data.kind={data.kind}: {sum(count.values())} document(s), none left for the {split} split; "
                f"give more text (files are cut into documents of 64 KiB, JSONL and Parquet by row)"
            )
    return {
        "tokenizer": data.tokenizer,
        "vocab_size": data.bpe_vocab if data.tokenizer == "bpe" else VOCAB_SIZE,
        "duplicates": duplicates,
        "heldout_lines_also_in_train": len(shared) / max(1, len(lines)),
        **{
            split: {"documents": count[split], "tokens": tokens[split], "sha256": hashes[split].hexdigest()}
            for split in SPLITS
        },
    }


def _long_lines(text: bytes) -> set[bytes]:
    return {stripped for line in text.split(b"\n") if len(stripped := line.strip()) >= SHORT_LINE}


def _encoder(data: DataConfig, folder: Path, border: bytes) -> Any:
    """A function (document, with classes?) -> (tokens, END_OF_FILE last; the class of each)."""
    end = np.array([END_OF_FILE], np.uint8)

    def as_bytes(kept: Kept, with_classes: bool) -> tuple[np.ndarray, np.ndarray]:
        kinds = classify(kept.data + b"\0", kept.python) if with_classes else end
        return np.concatenate([np.frombuffer(kept.data, np.uint8), end]), kinds

    if data.tokenizer == "bytes":
        return as_bytes
    made = bpe.train(_training_texts(folder, border), data.bpe_vocab)
    if made.get_vocab_size() != data.bpe_vocab - (VOCAB_SIZE - 256):
        least = made.get_vocab_size() + VOCAB_SIZE - 256
        raise UserError(
            f"data.bpe_vocab={data.bpe_vocab}: the text gives only {least} tokens; at most that many"
        )
    made.save(str(folder / "tokenizer.json"))
    number, texts = bpe.table(made)
    (folder / "vocab.json").write_text(json.dumps([text.hex() for text in texts]))
    width = np.array([len(text) for text in texts])
    blank = np.array([text[:1].isspace() for text in texts])

    def as_pairs(kept: Kept, with_classes: bool) -> tuple[np.ndarray, np.ndarray]:
        text = kept.data.decode("utf-8", "replace")
        tokens = np.append(number[np.array(made.encode(text).ids, int)], np.uint16(END_OF_FILE))
        if not with_classes:
            return tokens, end
        kinds = classify(text.encode() + b"\0", kept.python)
        # a token is of the kind of its first byte that is not white space
        begin = np.cumsum(width[tokens]) - width[tokens]
        token_of = np.repeat(np.arange(len(tokens)), width[tokens])
        dark = np.flatnonzero(kinds != WHITE)
        first = np.full(len(tokens), -1)
        first[token_of[dark][::-1]] = dark[::-1]
        kind = kinds[np.where(first < 0, begin, first)]
        return tokens, kind | np.where(blank[tokens] & (first >= 0), STARTS_WORD, 0).astype(np.uint8)

    return as_pairs


def _training_texts(folder: Path, border: bytes) -> Iterator[str]:
    total = 0
    for kept in _kept(folder):
        if kept and kept.place >= border:
            yield kept.data.decode("utf-8", "replace")
            total += len(kept.data)
            if total >= bpe.TRAINED_ON:
                return


def open_tokens(folder: Path, split: str, vocab_size: int) -> np.ndarray:
    """The tokens of a split, memory-mapped, read-only."""
    return np.memmap(folder / f"{split}.bin", np.uint8 if vocab_size == VOCAB_SIZE else np.uint16, mode="r")


def heldout_starts(tokens: int, data: DataConfig) -> np.ndarray:
    """Where the held-out windows begin: evenly spaced over the held-out text, the same for every run."""
    return np.linspace(0, tokens - data.context - 1, data.heldout_rows).astype(int)


def heldout_windows(heldout: np.ndarray, data: DataConfig) -> np.ndarray:
    """The held-out windows, tokens [heldout_rows, T + 1]."""
    start = heldout_starts(len(heldout), data)
    return np.asarray(heldout[start[:, None] + np.arange(data.context + 1)])


def ngram_yardsticks(data: DataConfig, folder: Path, unique_tokens: int, vocab_size: int) -> dict[str, float]:
    """The loss of each n-gram model on the held-out windows, nats a token; computed once for a corpus.

    Where the vocabulary is small, `ngrams-*.npy` beside it holds their distributions at the first windows,
    float32 [3, rows, T, V].
    """
    path = ngram_path(data, folder, unique_tokens)
    if not path.is_file():
        ngrams = count_ngrams(open_tokens(folder, "train", vocab_size)[:unique_tokens], vocab_size)
        windows = heldout_windows(open_tokens(folder, "heldout", vocab_size), data)
        losses = -log_probabilities(ngrams, contexts(windows), windows[:, 1:]).mean(axis=(1, 2))
        if vocab_size <= MOST_TABULATED:
            np.save(path.with_suffix(".npy"), window_log_probabilities(ngrams, windows[:NGRAM_ROWS]))
        found = dict(zip(ORDERS, losses.tolist(), strict=True))
        replace(path, [json.dumps(found).encode()])
    return json.loads(path.read_text())


def ngram_path(data: DataConfig, folder: Path, unique_tokens: int) -> Path:
    """The file of the n-gram losses of these windows."""
    return folder / f"ngrams-{data.context}-{data.heldout_rows}-{unique_tokens}.json"
