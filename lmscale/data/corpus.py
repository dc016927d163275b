"""Text files into two flat token files, training and held-out, and what is known of them.

Files are split whole, by a hash of their name, so a held-out window never continues a training one.
"""

import hashlib
import json
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmscale.data.classes import classify
from lmscale.data.config import DataConfig
from lmscale.data.manifest import digest
from lmscale.data.ngrams import (
    ORDERS,
    contexts,
    count_ngrams,
    log_probabilities,
    window_log_probabilities,
)
from lmscale.data.vocab import END_OF_FILE, VOCAB_SIZE
from lmscale.errors import UserError
from lmscale.files import replace

# tests repeat themselves; encodings and pydoc_data are generated tables
STDLIB_SKIPS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}
TEXT_VERSION = 2
NGRAM_ROWS = 64  # windows at which a model is compared with the n-grams' whole distributions
MOST_TABULATED = 1024  # tokens in a vocabulary whose distributions are kept


class Document(NamedTuple):
    """A file of text: the name it is known and split by, and its bytes."""

    name: str
    data: bytes


def stdlib_documents() -> Iterator[Document]:
    """The Python files of the running interpreter's standard library, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not STDLIB_SKIPS.intersection(parts) and path.is_file():
            yield Document("/".join(parts), path.read_bytes())


def text_key(data: DataConfig) -> str:
    """Names the token files by what makes them: another share, seed or interpreter is another corpus."""
    fields = [data.kind, data.heldout_share, data.seed, TEXT_VERSION]
    return digest([*fields, sys.version.split()[0] if data.kind == "stdlib" else ""])


def scan_text(data: DataConfig, folder: Path, rescan: bool = False) -> dict[str, Any]:
    """Write `train.bin`, `heldout.bin` (uint8) and `text.json` under `folder`, once.

    Returns what text.json holds: tokens and files of each split, their hash, the duplicates left out.
    Training documents are laid out in the order of a hash, so that the first U tokens are a sample of them.
    """
    report = folder / "text.json"
    if report.is_file() and not rescan:
        return json.loads(report.read_text())
    seen: set[bytes] = set()
    split: dict[str, list[tuple[bytes, Document]]] = {"train": [], "heldout": []}
    duplicates = 0
    for document in stdlib_documents():
        content = hashlib.sha256(document.data).digest()
        if content in seen or not document.data:
            duplicates += 1
            continue
        seen.add(content)
        place = hashlib.sha256(f"{data.seed} {document.name}".encode()).digest()
        heldout = int.from_bytes(place[:8]) < data.heldout_share * 2**64
        split["heldout" if heldout else "train"].append((place, document))
    building = folder.with_name(folder.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    result: dict[str, Any] = {
        "kind": data.kind,
        "version": sys.version.split()[0],
        "vocab_size": VOCAB_SIZE,
        "duplicates": duplicates,
    }
    for name, documents in split.items():
        if not documents:
            raise UserError(f"data.kind={data.kind}: no file falls into the {name} split; give more files")
        ordered = [d.data + bytes([END_OF_FILE]) for _, d in sorted(documents, key=lambda pair: pair[0])]
        text = b"".join(ordered)
        (building / f"{name}.bin").write_bytes(text)
        if name == "heldout":
            kinds = np.concatenate([classify(part, python=True) for part in ordered])
            (building / "classes.bin").write_bytes(kinds.tobytes())
        result[name] = {
            "files": len(documents),
            "tokens": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
        }
    (building / "text.json").write_text(json.dumps(result, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return result


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
        ngrams = count_ngrams(open_tokens(folder, "train")[:unique_tokens], vocab_size)
        windows = heldout_windows(open_tokens(folder, "heldout"), data)
        losses = -log_probabilities(ngrams, contexts(windows), windows[:, 1:]).mean(axis=(1, 2))
        if vocab_size <= MOST_TABULATED:
            np.save(path.with_suffix(".npy"), window_log_probabilities(ngrams, windows[:NGRAM_ROWS]))
        found = dict(zip(ORDERS, losses.tolist(), strict=True))
        replace(path, [json.dumps(found).encode()])
    return json.loads(path.read_text())


def ngram_path(data: DataConfig, folder: Path, unique_tokens: int) -> Path:
    """The file of the n-gram losses of these windows."""
    return folder / f"ngrams-{data.context}-{data.heldout_rows}-{unique_tokens}.json"


def open_tokens(folder: Path, split: str) -> np.ndarray:
    """The tokens of a split, memory-mapped, read-only."""
    return np.memmap(folder / f"{split}.bin", np.uint8, mode="r")
