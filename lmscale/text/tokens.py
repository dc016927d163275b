"""The token files of a corpus, opened; the windows of held-out text, and what is measured on them without a model.

Making the files is `corpus`'s.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lmscale.config import DataConfig
from lmscale.durable import replace
from lmscale.jsonfiles import digest
from lmscale.text.ngrams import (
    MOST_TOKENS,
    ORDERS,
    contexts,
    count_ngrams,
    log_probabilities,
    window_log_probabilities,
)
from lmscale.text.vocab import VOCAB_SIZE

NGRAM_ROWS = 64  # windows at which a model is compared with the n-grams' whole distributions
MOST_TABULATED = 1024  # tokens in a vocabulary whose distributions are kept


def open_tokens(folder: Path, split: str, vocab_size: int) -> np.ndarray:
    """Open the tokens of a split, memory-mapped, read-only."""
    return np.memmap(folder / f"{split}.bin", np.uint8 if vocab_size == VOCAB_SIZE else np.uint16, mode="r")


def heldout_starts(tokens: int, data: DataConfig) -> np.ndarray:
    """Place the held-out windows: evenly spaced over the held-out text, the same for every run."""
    return np.linspace(0, tokens - data.context - 1, data.heldout_rows).astype(int)


def heldout_windows(heldout: np.ndarray, data: DataConfig) -> np.ndarray:
    """Cut the held-out windows, tokens [heldout_rows, T + 1]."""
    start = heldout_starts(len(heldout), data)
    return np.asarray(heldout[start[:, None] + np.arange(data.context + 1)])


def ngram_yardsticks(
    data: DataConfig, folder: Path, unique_tokens: int, vocab_size: int, segments: Mapping[str, int]
) -> dict[str, float]:
    """Measure the loss of each n-gram model on the held-out windows, nats a token; once for a corpus.

    segments: the training tokens of each source of a mixture, of which the counts take its share.

    Where the vocabulary is small, `ngrams-*.npy` beside it holds their distributions at the first windows,
    float32 [3, rows, T, V].
    """
    path = ngram_path(data, folder, unique_tokens)
    if not path.is_file():
        train = open_tokens(folder, "train", vocab_size)[:unique_tokens]
        if segments:
            ends = np.cumsum(list(segments.values()))
            most = min(MOST_TOKENS, *(segments[name] / share for name, share in data.mixture.items()))
            parts = zip(segments, ends, strict=True)
            train = np.concatenate(
                [train[end - segments[name] :][: int(most * data.mixture[name])] for name, end in parts]
            )
        ngrams = count_ngrams(train, vocab_size)
        windows = heldout_windows(open_tokens(folder, "heldout", vocab_size), data)
        losses = -log_probabilities(ngrams, contexts(windows), windows[:, 1:]).mean(axis=(1, 2))
        if vocab_size <= MOST_TABULATED:
            tables = io.BytesIO()
            np.save(tables, window_log_probabilities(ngrams, windows[:NGRAM_ROWS]))
            replace(path.with_suffix(".npy"), [tables.getbuffer()])
        found = dict(zip(ORDERS, losses.tolist(), strict=True))
        replace(path, [json.dumps(found).encode()])
    return json.loads(path.read_text())


def ngram_path(data: DataConfig, folder: Path, unique_tokens: int) -> Path:
    """Name the file of the n-gram losses of these windows."""
    mixed = f"-{digest(sorted(data.mixture.items()))}" if data.mixture else ""
    return folder / f"ngrams-{data.context}-{data.heldout_rows}-{unique_tokens}{mixed}.json"


def token_bytes(folder: Path) -> list[bytes]:
    """Read the bytes of each token, none for a special."""
    vocabulary = folder / "vocab.json"
    texts = json.loads(vocabulary.read_text()) if vocabulary.is_file() else []
    return [bytes.fromhex(text) for text in texts] or [bytes([token]) for token in range(256)]


def bytes_per_token(data: DataConfig, folder: Path, vocab_size: int) -> float:
    """Count the bytes of text that a target of the held-out windows stands for, on average: what turns nats per
    token into nats per byte."""
    if vocab_size == VOCAB_SIZE:
        return 1.0
    heldout = open_tokens(folder, "heldout", vocab_size)
    if (folder / "widths.bin").is_file():
        width: np.ndarray = np.memmap(folder / "widths.bin", np.uint32, mode="r")
    else:  # of a corpus before they were written
        width = np.array([len(text) for text in token_bytes(folder)])[heldout]
    return float(heldout_windows(width, data)[:, 1:].mean())
