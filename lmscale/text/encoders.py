"""Documents to tokens: bytes as they are, a byte-pair vocabulary trained on the text, a tokenizer.json of one's
own, or tokens that others made."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmscale.config import LEAST_VOCAB, DataConfig
from lmscale.durable import sha256_of
from lmscale.errors import UserError
from lmscale.text import bpe, tokenizer
from lmscale.text.buckets import Kept, kept
from lmscale.text.classes import IDENTIFIER, STARTS_WORD, WHITE, classify
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

GROUP = 1 << 20  # bytes of text that are tokenised together, on all cores
MOST_UNKNOWN = 0.1  # of the held-out text; a tokenizer that knows less is of another language


class Encoded(NamedTuple):
    """tokens: uint8 or uint16 [n], END_OF_FILE last. text: the bytes that they stand for, none where nobody knows.

    Of a held-out document besides kinds, uint8 [n], the class of each token; and, but for bytes, width, int64 [n],
    the bytes of the text that each stands for.
    """

    tokens: np.ndarray
    text: bytes
    kinds: np.ndarray | None = None
    width: np.ndarray | None = None


Documents = Iterator[Kept | None]  # None for a duplicate
Pairs = Iterator[tuple[Kept | None, Encoded | None]]


@dataclass(frozen=True)
class Encoder:
    """encode: gives each document its tokens. report: what text.json says of the vocabulary, asked at the end."""

    encode: Callable[[Documents], Pairs]
    report: Callable[[], dict[str, Any]]


def encoder(data: DataConfig, folder: Path) -> Encoder:
    """Make the encoder of a configuration.

    Into `folder` go, but for bytes, `vocab.json`, the bytes of each token, and `tokenizer.json` if there is one.
    """
    if data.kind == "tokens":
        return _ready(data, folder)
    if data.tokenizer == "bytes":
        return Encoder(_as_bytes, lambda: {"tokenizer": data.tokenizer, "vocab_size": VOCAB_SIZE})
    make = tokenizer.load_own if tokenizer.is_own(data) else _trained
    return _by_library(data, make(data, folder), folder)


def _as_bytes(documents: Documents) -> Pairs:
    for document in documents:
        if document is None:
            yield None, None
            continue
        text = document.data + bytes([END_OF_FILE])
        kinds = classify(text, document.python) if document.heldout else None
        yield document, Encoded(np.frombuffer(text, np.uint8), document.data, kinds)


def _trained(data: DataConfig, folder: Path) -> Any:
    made = bpe.train_vocabulary(_training_texts(data, folder), data.bpe_vocab)
    if made.get_vocab_size() != data.bpe_vocab - (VOCAB_SIZE - 256):
        most = made.get_vocab_size() + VOCAB_SIZE - 256
        remedy = f"set data.bpe_vocab={most}" if most >= LEAST_VOCAB else "set data.tokenizer=bytes"
        raise UserError(
            f"data.bpe_vocab={data.bpe_vocab}: the text gives only {most} tokens; {remedy}, or give more text"
        )
    made.save(str(folder / tokenizer.FILE))
    return made


def _training_texts(data: DataConfig, folder: Path) -> Iterator[str]:
    """Texts for a vocabulary, from training text before it is cleaned: recipes are told in one alphabet."""
    total = 0
    for document in kept(data, folder):
        if document and not document.heldout:
            yield document.data.decode("utf-8", "replace")
            total += len(document.data)
            if total >= bpe.TRAINED_ON:
                return


def _by_library(data: DataConfig, made: Any, folder: Path) -> Encoder:
    vocabulary = tokenizer.vocabulary(made, data.tokenizer)
    number, seen, unknown = vocabulary.number, 0, 0
    _write_vocabulary(folder, vocabulary.texts)
    table, blank = _tables(vocabulary.texts)

    def encode(documents: Documents) -> Pairs:
        for heldout, group in _groups(documents):
            texts = [document.data.decode("utf-8", "replace") for document in group if document]
            # where its tokens stand is asked of held-out text only, for it costs time
            batch = made.encode_batch if heldout else made.encode_batch_fast
            found = zip(texts, batch(texts, add_special_tokens=False), strict=True)
            for document in group:
                yield (document, encoded(document, *next(found))) if document else (None, None)

    def encoded(document: Kept, text: str, encoding: Any) -> Encoded:
        nonlocal seen, unknown
        tokens = np.append(number[np.array(encoding.ids, np.int64)], END_OF_FILE).astype(np.uint16)
        if not document.heldout:
            return Encoded(tokens, document.data)
        raw = text.encode()
        width = table[tokens]
        if width.sum() != len(raw) + 1:  # the tokens' bytes are not the text's: ask where they stand
            unknown += tokenizer.unknown_bytes(encoding, text, vocabulary.unknown)
            width = tokenizer.widths(encoding, text)
        seen += len(raw)
        return Encoded(tokens, document.data, _kinds(raw, document.python, width, blank[tokens]), width)

    def report() -> dict[str, Any]:
        said = {"tokenizer": tokenizer.name_of(data), "vocab_size": len(vocabulary.texts)}
        if not tokenizer.is_own(data):
            return said
        share = unknown / max(1, seen)
        if share > MOST_UNKNOWN:
            raise UserError(
                f"data.tokenizer={data.tokenizer}: it has no tokens for {share:.0%} of the held-out text; take one "
                "that was made for such text, or data.tokenizer=bpe"
            )
        return said | _own(data, vocabulary) | {"unknown_share": share}

    return Encoder(encode, report)


def _groups(documents: Documents) -> Iterator[tuple[bool, list[Kept | None]]]:
    """Some documents at a time, all held out or all for training."""
    group: list[Kept | None] = []
    size, heldout = 0, True
    for document in documents:
        if document and (size >= GROUP or document.heldout != heldout):
            yield heldout, group
            group, size, heldout = [], 0, document.heldout
        group.append(document)
        size += len(document.data) if document else 0
    yield heldout, group


def _ready(data: DataConfig, folder: Path) -> Encoder:
    """Take tokens as `token_files` gives them, already in our numbering."""
    own = tokenizer.is_own(data)
    vocabulary = tokenizer.vocabulary(tokenizer.load_own(data, folder), data.tokenizer) if own else None
    texts = vocabulary.texts if vocabulary else []
    table, blank = _tables(texts)
    highest = 0

    def encode(documents: Documents) -> Pairs:
        nonlocal highest
        for document in documents:
            if document is None:
                yield None, None
                continue
            found = np.frombuffer(document.data, "<u2")
            tokens = np.append(found, END_OF_FILE).astype(np.uint16)
            highest = max(highest, int(found.max()))
            raw = b"".join(map(texts.__getitem__, found.tolist())) if vocabulary else b""
            if not document.heldout:
                yield document, Encoded(tokens, raw)
            elif vocabulary:
                width = table[tokens]
                yield document, Encoded(tokens, raw, _kinds(raw, False, width, blank[tokens]), width)
            else:  # each token is taken for a word
                kinds = np.full(len(tokens), IDENTIFIER | STARTS_WORD, np.uint8)
                kinds[-1] = WHITE
                yield document, Encoded(tokens, raw, kinds)

    def report() -> dict[str, Any]:
        if vocabulary:
            said = {"tokenizer": tokenizer.name_of(data), "vocab_size": len(texts), **_own(data, vocabulary)}
        else:
            count = -(-(highest + 1) // 4) * 4  # as wide as the widths of a model like it
            texts.extend(f" {at - VOCAB_SIZE}".encode() if at >= VOCAB_SIZE else b"" for at in range(count))
            said = {"tokenizer": tokenizer.UNKNOWN, "vocab_size": count}
        _write_vocabulary(folder, texts)
        return said

    return Encoder(encode, report)


def _own(data: DataConfig, vocabulary: tokenizer.Vocabulary) -> dict[str, Any]:
    return {"tokenizer_sha256": sha256_of(tokenizer.file_of(data)), "tokenizer_specials": vocabulary.specials}


def _write_vocabulary(folder: Path, texts: list[bytes]) -> None:
    (folder / "vocab.json").write_text(json.dumps([text.hex() for text in texts]))


def _tables(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of each token, and if it begins with white space."""
    width = np.array([len(text) for text in texts], np.int64)
    return width, np.array([text[:1].isspace() for text in texts])


def _kinds(raw: bytes, python: bool, width: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """The class of each token, `width` bytes of the text `raw`: that of its first byte that is not white space."""
    kinds = classify(raw + b"\0", python)
    begin = np.cumsum(width) - width
    token_of = np.repeat(np.arange(len(width)), width)
    dark = np.flatnonzero(kinds != WHITE)
    first = np.full(len(width), -1)
    first[token_of[dark][::-1]] = dark[::-1]
    kind = kinds[np.where(first < 0, begin, first)]
    return kind | np.where(blank & (first >= 0), STARTS_WORD, 0).astype(np.uint8)
