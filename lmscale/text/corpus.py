"""Documents into two flat token files, training and held-out, and what is known of them.

Documents go through buckets on disk by a hash of their bytes, so that a corpus of any size is shuffled, freed
of exact duplicates and split without ever standing in memory.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmscale.config import DataConfig
from lmscale.durable import explained
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.text import bpe
from lmscale.text.classes import STARTS_WORD, WHITE, classify
from lmscale.text.documents import buffered, documents, fingerprint
from lmscale.text.known_entropy import chain_key, sampled
from lmscale.text.staging import put_in_place, remove_abandoned, staging
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

TEXT_VERSION = {"stdlib": 3, "packages": 3, "text": 4, "huggingface": 3}  # a change makes the tokens again
BUCKETS = 64  # a corpus needs a 64th of its size in memory
LEAST_VOCAB = 300  # that data.bpe_vocab may have
SHORT_LINE = 20  # bytes: shorter lines are the same in many files and say nothing of copies
MOST_LINES = 1_000_000  # held-out lines that are looked for in training text
SPLITS = ("heldout", "train")


class Kept(NamedTuple):
    """A document in its bucket. place: a hash of its bytes; orders, splits and finds duplicates."""

    place: bytes
    python: bool
    data: bytes


def text_key(data: DataConfig) -> str:
    """Name the token files by what makes them: configuration, and the state of the source."""
    fields = [data.kind, data.files, data.field, data.tokenizer, data.dataset, data.subset, data.split]
    numbers = [
        data.bpe_vocab if data.tokenizer == "bpe" else 0,
        data.most_bytes,
        data.heldout_share,
        data.seed,
    ]
    return digest([*fields, *numbers, TEXT_VERSION[data.kind], fingerprint(data), *chain_key(data)])


def scan_text(data: DataConfig, folder: Path) -> dict[str, Any]:
    """Write `train.bin`, `heldout.bin`, `classes.bin` and `text.json` under `folder`, once.

    Returns what text.json holds: tokens, documents and hash of each split, what was left out, the share of
    held-out lines that also stand in training text, the vocabulary. Documents are laid out by a hash, so the
    first U tokens are a sample of them.
    """
    report = folder / "text.json"
    remove_abandoned(folder.parent)
    if not report.is_file():
        with explained(folder), staging(folder) as building:
            found = _documents(data, building) if data.markov_order is None else sampled(data, building)
            result = {"kind": data.kind, "source": fingerprint(data), **found}
            (building / "text.json").write_text(json.dumps(result, indent=1) + "\n")
            try:
                if not report.is_file():  # a folder without its report is not whole
                    shutil.rmtree(folder, ignore_errors=True)
                put_in_place(building, folder)
            except OSError:
                if not report.is_file():  # else another process was faster; it made the same
                    raise
    found = json.loads(report.read_text())
    return found


def _documents(data: DataConfig, folder: Path) -> dict[str, Any]:
    read = _fill_buckets(data, folder)
    written = _write_tokens(data, folder, read)
    for bucket in range(BUCKETS):
        _bucket(folder, bucket).unlink(missing_ok=True)
    return {**read, **written}


def _bucket(folder: Path, number: int) -> Path:
    return folder / f"bucket{number}"


def _fill_buckets(data: DataConfig, folder: Path) -> dict[str, int]:
    """Every document into the bucket of its place. Counts bytes, and documents without text."""
    streams = [buffered(_bucket(folder, number)) for number in range(BUCKETS)]
    read = {"bytes": 0, "null_texts": 0, "empty_texts": 0}
    try:
        for document in documents(data):
            if not document.data:
                read["null_texts" if document.data is None else "empty_texts"] += 1
                continue
            place = hashlib.sha256(data.seed.to_bytes(8) + document.data).digest()[:16]
            head = place + bytes([document.python]) + len(document.data).to_bytes(8)
            streams[place[0] * BUCKETS // 256].write(head + document.data)
            read["bytes"] += len(document.data)
            if data.most_bytes is not None and read["bytes"] >= data.most_bytes:
                break
    finally:
        for stream in streams:
            stream.close()
    return read


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


def _write_tokens(data: DataConfig, folder: Path, read: dict[str, int]) -> dict[str, Any]:
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
    if not all(count.values()):
        raise _too_few(data, sum(count.values()), duplicates, read)
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


def _too_few(data: DataConfig, different: int, copies: int, read: dict[str, int]) -> UserError:
    """Say what was found where it cannot be split."""
    blank = read["null_texts"] + read["empty_texts"]
    left_out = f", {copies:,} copies of them left out" * (copies > 0) + f", {blank:,} without text" * (
        blank > 0
    )
    return UserError(
        f"data.kind={data.kind}: {different} different document(s){left_out}; two are needed, one for each split: "
        f"give more {'different ' * (copies > 0)}text (JSON and Parquet are cut into documents by record)"
    )


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
    made = bpe.train_vocabulary(_training_texts(folder, border), data.bpe_vocab)
    if made.get_vocab_size() != data.bpe_vocab - (VOCAB_SIZE - 256):
        most = made.get_vocab_size() + VOCAB_SIZE - 256
        remedy = f"set data.bpe_vocab={most}" if most >= LEAST_VOCAB else "set data.tokenizer=bytes"
        raise UserError(
            f"data.bpe_vocab={data.bpe_vocab}: the text gives only {most} tokens; {remedy}, or give more text"
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
    for number, kept in enumerate(_kept(folder)):
        if number and kept and kept.place >= border:  # the first is held out, whatever its place
            yield kept.data.decode("utf-8", "replace")
            total += len(kept.data)
            if total >= bpe.TRAINED_ON:
                return
