"""Documents into two flat token files, training and held-out, and what is known of them.

What is shuffled, split and freed of exact copies is `buckets`'s; what a recipe removes besides, `cleaning`'s.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.config import DataConfig
from lmscale.durable import explained
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.text import bpe
from lmscale.text.buckets import Kept, fill_buckets, kept, remove_buckets
from lmscale.text.classes import STARTS_WORD, WHITE, classify
from lmscale.text.cleaning import Cleaned, clean, cleaning_key
from lmscale.text.documents import fingerprint
from lmscale.text.known_entropy import chain_key, sampled
from lmscale.text.staging import put_in_place, remove_abandoned, staging
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

TEXT_VERSION = {
    "stdlib": 3,
    "packages": 3,
    "text": 4,
    "huggingface": 3,
    "mixture": 1,
}  # a change makes the tokens again
LEAST_VOCAB = 300  # that data.bpe_vocab may have
SHORT_LINE = 20  # bytes: shorter lines are the same in many files and say nothing of copies
MOST_LINES = 1_000_000  # held-out lines that are looked for in training text
SPLITS = ("heldout", "train")


def text_key(data: DataConfig) -> str:
    """Name the token files by what makes them: configuration, and the state of the source."""
    fields = [data.kind, data.files, data.field, data.tokenizer, data.dataset, data.subset, data.split]
    numbers = [
        data.bpe_vocab if data.tokenizer == "bpe" else 0,
        data.most_bytes,
        data.heldout_share,
        data.seed,
    ]
    recipe = [*chain_key(data), *cleaning_key(data)]
    return digest([*fields, *numbers, TEXT_VERSION[data.kind], fingerprint(data), *recipe])


def scan_text(data: DataConfig, folder: Path) -> dict[str, Any]:
    """Write `train.bin`, `heldout.bin`, `classes.bin`, of a mixture `sources.bin`, and `text.json`, once.

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
    read = fill_buckets(data, folder)
    cleaned = clean(data, folder) if data.clean else None
    written = _write_tokens(data, folder, read, cleaned)
    remove_buckets(folder)
    return {**read, **written}


def _write_tokens(
    data: DataConfig, folder: Path, read: dict[str, int], cleaned: Cleaned | None
) -> dict[str, Any]:
    """Tokens of both splits from the buckets; the training text of a mixture one source after the other."""
    encode = _encoder(data, folder)
    sources = sorted(data.mixture)
    trained = ["train", *(f"train{number}" for number in range(1, len(sources)))]
    streams = {
        name: (folder / f"{name}.bin").open("wb") for name in ("heldout", "classes", "sources", *trained)
    }
    tokens, count = dict.fromkeys(streams, 0), dict.fromkeys(streams, 0)
    duplicates = number = 0
    lines: set[bytes] = set()
    shared: set[bytes] = set()
    try:
        for document in kept(data, folder):
            if document is None:
                duplicates += 1
                continue
            number += 1
            if cleaned and cleaned.reason[number - 1]:
                continue
            split = "heldout" if document.heldout else trained[document.source]
            written, kinds = encode(document, document.heldout)
            streams[split].write(written.tobytes())
            tokens[split] += len(written)
            count[split] += 1
            if document.heldout:
                streams["classes"].write(kinds.tobytes())
                streams["sources"].write(bytes([document.source]) * len(written))
                if len(lines) < MOST_LINES:
                    lines.update(_long_lines(document.data))
            else:
                shared |= lines.intersection(_long_lines(document.data))
    finally:
        for stream in streams.values():
            stream.close()
    if not sources:
        (folder / "sources.bin").unlink()
    segments = {source: tokens[name] for source, name in zip(sources, trained, strict=False)}
    for name in trained[1:]:
        with (folder / f"{name}.bin").open("rb") as part, (folder / "train.bin").open("ab") as whole:
            shutil.copyfileobj(part, whole)
        (folder / f"{name}.bin").unlink()
        tokens["train"], count["train"] = tokens["train"] + tokens[name], count["train"] + count[name]
    if not all(count[split] for split in SPLITS):
        raise _too_few(data, count["heldout"] + count["train"], duplicates, read)
    return {
        "tokenizer": data.tokenizer,
        "vocab_size": data.bpe_vocab if data.tokenizer == "bpe" else VOCAB_SIZE,
        "duplicates": duplicates,
        "heldout_lines_also_in_train": len(shared) / max(1, len(lines)),
        **{
            split: {
                "documents": count[split],
                "tokens": tokens[split],
                "sha256": _sha256(folder / f"{split}.bin"),
            }
            for split in SPLITS
        },
        **({"segments": segments} if segments else {}),
        **({"clean": cleaned.report} if cleaned else {}),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _encoder(data: DataConfig, folder: Path) -> Any:
    """A function (document, with classes?) -> (tokens, END_OF_FILE last; the class of each)."""
    end = np.array([END_OF_FILE], np.uint8)

    def as_bytes(document: Kept, with_classes: bool) -> tuple[np.ndarray, np.ndarray]:
        kinds = classify(document.data + b"\0", document.python) if with_classes else end
        return np.concatenate([np.frombuffer(document.data, np.uint8), end]), kinds

    if data.tokenizer == "bytes":
        return as_bytes
    made = bpe.train_vocabulary(_training_texts(data, folder), data.bpe_vocab)
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

    def as_pairs(document: Kept, with_classes: bool) -> tuple[np.ndarray, np.ndarray]:
        text = document.data.decode("utf-8", "replace")
        tokens = np.append(number[np.array(made.encode(text).ids, int)], np.uint16(END_OF_FILE))
        if not with_classes:
            return tokens, end
        kinds = classify(text.encode() + b"\0", document.python)
        # a token is of the kind of its first byte that is not white space
        begin = np.cumsum(width[tokens]) - width[tokens]
        token_of = np.repeat(np.arange(len(tokens)), width[tokens])
        dark = np.flatnonzero(kinds != WHITE)
        first = np.full(len(tokens), -1)
        first[token_of[dark][::-1]] = dark[::-1]
        kind = kinds[np.where(first < 0, begin, first)]
        return tokens, kind | np.where(blank[tokens] & (first >= 0), STARTS_WORD, 0).astype(np.uint8)

    return as_pairs


def _training_texts(data: DataConfig, folder: Path) -> Iterator[str]:
    """Texts for a vocabulary, from training text before it is cleaned: recipes are told in one alphabet."""
    total = 0
    for document in kept(data, folder):
        if document and not document.heldout:
            yield document.data.decode("utf-8", "replace")
            total += len(document.data)
            if total >= bpe.TRAINED_ON:
                return
