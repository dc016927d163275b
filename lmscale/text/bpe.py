"""A byte-pair vocabulary in our numbering: bytes and specials first, merges after them.

So rows of tasks are the same in every vocabulary. `tokenizers` is needed to train and encode, not to read.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.errors import UserError
from lmscale.text.vocab import VOCAB_SIZE

TRAINED_ON = 16 << 20  # bytes of training text; more does not change a small vocabulary


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            f"data.tokenizer=bpe: needs the package tokenizers; {sys.executable} -m pip install tokenizers"
        ) from None
    return tokenizers


def train_vocabulary(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE of `vocab_size` tokens in all, specials included (Sennrich et al. 2016)."""
    tokenizers = _library()
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - (VOCAB_SIZE - 256),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def load_vocabulary(path: Path) -> Any:
    """Load a tokenizer that was saved."""
    return _library().Tokenizer.from_file(str(path))


def byte_letters() -> dict[str, int]:
    """Give the letter that byte-level BPE writes for each byte (GPT-2's table): letter -> byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def table(tokenizer: Any) -> tuple[np.ndarray, list[bytes]]:
    """Translate to our numbering: our number of each of the tokenizer's, uint16; the bytes of each of ours, none
    for a special."""
    letters = byte_letters()
    spelled = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    number = np.zeros(len(spelled), np.uint16)
    texts = [bytes([byte]) for byte in range(256)] + [b""] * (VOCAB_SIZE - 256)
    for token, at in spelled:
        text = bytes(letters[letter] for letter in token)
        if len(text) == 1:
            number[at] = text[0]
        else:
            number[at] = len(texts)
            texts.append(text)
    return number, texts
