"""A tokenizer.json in our numbering, bytes and specials first, its tokens after them; and what they stand for.

So rows of tasks are the same in every vocabulary. The package `tokenizers` is needed to encode, not to read tokens.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.config import MOST_VOCAB, DataConfig
from lmscale.durable import explained, sha256_of
from lmscale.errors import UserError, needed
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

FILE = "tokenizer.json"
UNKNOWN = "unknown"  # the tokenizer of token files that come without one
# specials that say where a document begins or ends
ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>", "<|bos|>", "<s>", "</s>", "<bos>", "<eos>")


@dataclass(frozen=True)
class Vocabulary:
    """number: ours of each of the tokenizer's, int64 [ids], -1 where there is none. texts: the bytes of each of
    ours, none for a special. exact: a text is its tokens' bytes, one after the other. unknown: the tokenizer's
    number for what it has no token for. specials: its special tokens, and our number of each."""

    number: np.ndarray
    texts: list[bytes]
    exact: bool
    unknown: int | None
    specials: dict[str, int]


def is_own(data: DataConfig) -> bool:
    """Say if data.tokenizer is a file."""
    return data.tokenizer.endswith(".json")


def name_of(data: DataConfig) -> str:
    """Name a tokenizer in records: bytes, bpe, or what a file holds, wherever it lies."""
    return name_of_file(file_of(data)) if is_own(data) else data.tokenizer


def name_of_file(path: Path) -> str:
    """Name a tokenizer.json by what it holds."""
    return f"json-{sha256_of(path)[:16]}"


def file_of(data: DataConfig) -> Path:
    """Return the file of data.tokenizer; UserError where it is not there."""
    path = Path(data.tokenizer).expanduser()
    if not path.is_file():
        raise UserError(
            f"data.tokenizer={data.tokenizer}: no such file; give bytes, bpe or the path of a tokenizer.json"
        )
    return path


def load_own(data: DataConfig, folder: Path | None = None) -> Any:
    """Load the tokenizer that data.tokenizer names, and keep a copy of its file in a corpus's `folder`."""
    path = file_of(data)
    with explained(path, "read"):
        if folder:
            shutil.copyfile(path, folder / FILE)
        return load(path, data.tokenizer)


def load(path: Path, value: str = FILE) -> Any:
    """Load a tokenizer to encode text as it is: whole, without specials, and the same at every call."""
    tokenizers = needed("tokenizers", f"data.tokenizer={value}")
    try:
        made = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        why = str(error).splitlines()[0]
        version = f"tokenizers {tokenizers.__version__}"
        raise UserError(
            f"data.tokenizer={value}: not a tokenizer.json that {version} reads ({why})"
        ) from error
    made.no_truncation()
    made.no_padding()
    made.encode_special_tokens = True  # <|endoftext|> in a text is text
    if getattr(made.model, "dropout", None):
        made.model.dropout = None
    return made


def byte_letters() -> dict[str, int]:
    """Give the letter that byte-level BPE writes for each byte (GPT-2's table): letter -> byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def vocabulary(made: Any, value: str = FILE) -> Vocabulary:
    """Translate a tokenizer to our numbering. UserError where it has more tokens than 16 bits hold."""
    told = json.loads(made.to_str())
    spelling = json.dumps([told["pre_tokenizer"], told["decoder"]], ensure_ascii=False)
    by_byte = '"ByteLevel"' in spelling
    added = {token["content"]: token["special"] for token in told["added_tokens"]}
    spelled = sorted(made.get_vocab(with_added_tokens=True).items(), key=lambda pair: pair[1])
    letters = byte_letters() if by_byte else {}
    number = np.full(spelled[-1][1] + 1 if spelled else 0, -1, np.int64)
    texts = [bytes([byte]) for byte in range(256)] + [b""] * (VOCAB_SIZE - 256)
    for token, at in spelled:
        text = (
            b""
            if added.get(token)
            else _bytes_of(token, letters if token not in added else {}, told["model"])
        )
        if added.get(token) and token in ENDS:
            number[at] = END_OF_FILE
        elif by_byte and len(text) == 1:
            number[at] = text[0]
        else:
            number[at] = len(texts)
            texts.append(text)
    if len(texts) > MOST_VOCAB:
        raise UserError(
            f"data.tokenizer={value}: it has {len(spelled):,} tokens; with bytes and specials at most "
            f"{MOST_VOCAB:,} fit into 16 bits; take a smaller one, or data.tokenizer=bpe"
        )
    name = told["model"].get("unk_token")
    return Vocabulary(
        number,
        texts,
        exact=by_byte or "▁" in spelling,
        unknown=told["model"].get("unk_id") if name is None else made.token_to_id(name),
        specials={token: int(number[made.token_to_id(token)]) for token, special in added.items() if special},
    )


def _bytes_of(token: str, letters: dict[str, int], model: dict[str, Any]) -> bytes:
    """The bytes that a token stands for within a text."""
    if letters:
        return bytes(letters[letter] for letter in token)
    if model.get("byte_fallback") and re.fullmatch("<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    if model["type"] == "WordPiece":
        token = token.removeprefix(model["continuing_subword_prefix"])
    return token.replace("▁", " ").encode()


def widths(encoding: Any, text: str) -> np.ndarray:
    """Count the bytes of `text` from the end of one token to the end of the next, int64 [n + 1].

    What lies between them, as white space that a tokenizer drops, is the later one's; the NUL after the text, and
    what lies before it, is of the last, END_OF_FILE.
    """
    end = _places(encoding, text)[:, 1]
    return np.diff(np.maximum.accumulate(end), prepend=0, append=len(text.encode()) + 1)


def unknown_bytes(encoding: Any, text: str, unknown: int | None) -> int:
    """Count the bytes of `text` that no token stands for, white space aside."""
    known = np.array(encoding.ids, np.int64) != (-1 if unknown is None else unknown)
    raw = np.frombuffer(text.encode(), np.uint8)
    depth = np.zeros(len(raw) + 1, np.int64)
    for column, step in ((0, 1), (1, -1)):
        np.add.at(depth, _places(encoding, text)[known, column], step)
    dark = ~np.isin(raw, [*b" \t\n\r\f\v"])
    return int((dark & (np.cumsum(depth)[:-1] == 0)).sum())


def _places(encoding: Any, text: str) -> np.ndarray:
    """The first byte of each token, and the one after its last: int64 [n, 2]."""
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    width = 1 + (letters > 0x7F) + (letters > 0x7FF) + (letters > 0xFFFF)
    byte = np.concatenate([[0], np.cumsum(width)])
    return byte[np.array(encoding.offsets, np.int64).reshape(-1, 2)]
