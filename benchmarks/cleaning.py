"""What cleaning removes from the corpora that every machine has, how fast, and what MinHash misses of it:
`python -m benchmarks.cleaning`, about two minutes of one core. Speeds are of CPU time.

Near-copies are compared with all pairs of documents: their exact similarities from one product of sparse matrices.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from lmscale.config import DataConfig
from lmscale.text import quality
from lmscale.text.buckets import Kept, fill_buckets, kept
from lmscale.text.cleaning import clean
from lmscale.text.near_copies import near_copies, shingles, signature
from lmscale.text.recipe import QualityConfig
from lmscale.text.words import words

RECIPES = {
    "dedup": {"clean": ("dedup",)},
    "dedup, threshold .5": {"clean": ("dedup",), "dedup_threshold": 0.5},
    "quality, then dedup": {"clean": ("quality", "dedup")},
}


def removed(kind: str, name: str) -> str:
    """A row of the table: what a recipe removes from a corpus, and its speed."""
    good = {"stdlib": "packages", "packages": "stdlib"}[kind]
    data = DataConfig(kind=kind, quality=QualityConfig(good=good), **RECIPES[name])  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        fill_buckets(data, Path(folder))
        began = time.process_time()
        report = clean(data, Path(folder)).report
        took = time.process_time() - began
    before, parts = report["before"], report["removed"]
    cells = [
        f"{parts[reason]['documents']:,} ({parts[reason]['bytes'] / before['bytes']:.1%})"
        if reason in parts
        else "0"
        for reason in ("quality", "near_copy", "near_copy_of_heldout")
    ]
    auc = report["steps"].get("quality", {}).get("auc")
    speed = f"{before['bytes'] / 1e6 / took:.0f}"
    documents = f"{before['documents']:,} ({before['bytes'] / 1e6:.1f} MB)"
    return (
        f"| {kind} | {name} | {documents} | {' | '.join(cells)} | {f'{auc:.3f}' if auc else ''} | {speed} |"
    )


def corpus(kind: str) -> list[Kept]:
    """The documents of a corpus in their order, without exact copies."""
    data = DataConfig(kind=kind)
    with tempfile.TemporaryDirectory() as folder:
        fill_buckets(data, Path(folder))
        return [document for document in kept(data, Path(folder)) if document]


def exact(documents: list[Kept], threshold: float) -> dict[int, list[int]]:
    """For each document the earlier ones that are as similar as the threshold, by all pairs."""
    sets = [shingles(document.data) for document in documents]
    _, column = np.unique(np.concatenate(sets), return_inverse=True)
    size = np.array([len(found) for found in sets])
    row = np.repeat(np.arange(len(sets)), size)
    matrix = sparse.csr_matrix((np.ones(len(row), np.int32), (row, column)))
    both = sparse.tril(matrix @ matrix.T, -1).tocoo()
    similar = both.data / (size[both.row] + size[both.col] - both.data) >= threshold
    found: dict[int, list[int]] = {}
    for one, other in zip(both.row[similar].tolist(), both.col[similar].tolist(), strict=True):
        found.setdefault(one, []).append(other)
    return found


def missed(documents: list[Kept], threshold: float) -> str:
    """A row of the table: near-copies among training documents, by all pairs and by MinHash."""
    pairs = exact(documents, threshold)
    true: set[int] = set()
    for number, others in sorted(pairs.items()):
        if not documents[number].heldout and any(other not in true for other in others):
            true.add(number)
    with tempfile.TemporaryDirectory() as folder:
        found = near_copies(
            lambda: ((at, document.data, document.heldout) for at, document in enumerate(documents)),
            threshold,
            Path(folder),
        )
    both = len(found.keys() & true)
    return f"| {threshold} | {len(true)} | {len(found)} | {both} | {len(found.keys() - pairs.keys())} |"


def speed(documents: list[Kept], work: Callable[[bytes], object]) -> float:
    """MB a CPU second of a function over documents."""
    began = time.process_time()
    for document in documents:
        work(document.data)
    return sum(len(document.data) for document in documents) / 1e6 / (time.process_time() - began)


def main() -> None:
    print(
        "| corpus | data.clean | training documents | quality | near_copy | of held-out text | auc | MB/s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("stdlib", "packages"):
        for name in RECIPES:
            print(removed(kind, name), flush=True)
    documents = corpus("packages")
    print("\n| threshold | by all pairs | by MinHash | in both | not similar to any |\n|---|---|---|---|---|")
    for threshold in (0.5, 0.7, 0.8, 0.9):
        print(missed(documents, threshold), flush=True)
    few = documents[::5]
    texts = [document.data for document in few]
    began = time.process_time()
    classifier = quality.train(texts[::2], texts[1::2])
    learning = time.process_time() - began
    signing = speed(few, lambda text: signature(shingles(text)) if len(words(text)) else None)
    print(
        f"\nMB/s: words {speed(few, words):.0f}, shingles {speed(few, shingles):.0f}, and signature {signing:.0f}, "
        f"score {speed(few, classifier.score):.0f}; {classifier.examples} examples of each kind learnt in "
        f"{learning:.1f} s"
    )


if __name__ == "__main__":
    main()
