"""What `data.clean` removes from the training text, and what the manifest says of it.

Held-out text is never touched, so that recipes are measured on the same windows.
"""

import dataclasses
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.config import DataConfig
from lmscale.errors import UserError
from lmscale.text import quality
from lmscale.text.buckets import Kept, kept, place_of
from lmscale.text.documents import source_documents, source_state
from lmscale.text.near_copies import bands_of, near_copies

VERSION = 1  # a change of what is removed makes the tokens again
REASONS = ("quality", "near_copy", "near_copy_of_heldout")  # why, in the numbers 1, 2, 3 of `Cleaned.reason`
SAMPLES, SHOWN = 3, 400  # removed documents of each reason that are shown, and bytes of each


@dataclass(frozen=True)
class Cleaned:
    """reason: uint8 by document, in the order of `buckets.kept` without its copies; 0 for what stays.
    report: what the manifest says."""

    reason: np.ndarray
    report: dict[str, Any]


class _Work:
    """The documents of a corpus, and which of them are removed so far."""

    def __init__(self, data: DataConfig, folder: Path):
        self.data, self.folder = data, folder
        sizes, heldout = array("q"), array("b")
        for document in filter(None, kept(data, folder)):
            sizes.append(len(document.data))
            heldout.append(document.heldout)
        self.sizes = np.array(sizes, np.int64)
        self.heldout = np.array(heldout, bool)
        self.reason = np.zeros(len(sizes), np.uint8)
        self.details: dict[int, dict[str, Any]] = {}

    def documents(self) -> Iterator[tuple[int, Kept]]:
        """What is not removed, numbered."""
        for number, document in enumerate(filter(None, kept(self.data, self.folder))):
            if not self.reason[number]:
                yield number, document

    def remove(self, number: int, reason: str, **detail: Any) -> None:
        self.reason[number] = 1 + REASONS.index(reason)
        self.details[number] = detail


def cleaning_key(data: DataConfig) -> list[Any]:
    """List what the tokens depend on where the text is cleaned; nothing where it is not."""
    if not data.clean:
        return []
    sources = (data.quality.good, data.quality.raw) if "quality" in data.clean else ()
    states = [source_state(data, name) for name in sources if name]
    return [VERSION, data.clean, data.dedup_threshold, dataclasses.asdict(data.quality), states]


def clean(data: DataConfig, folder: Path) -> Cleaned:
    """Do the steps of data.clean in their order on the documents of the buckets in `folder`.

    The report has, in documents and bytes: what was read for training, what was removed by reason, what stays; each
    step's settings, its classifier by hash; samples of what was removed.
    """
    work = _Work(data, folder)
    steps = {step: STEPS[step](work) for step in data.clean}
    training = ~work.heldout
    stays = training & (work.reason == 0)
    if training.any() and not stays.any():
        raise UserError(
            f"data.clean={list(data.clean)}: all {training.sum()} training documents were removed; keep more "
            "(data.quality.keep, data.dedup_threshold), or give more different text"
        )
    removed = {
        reason: _amount(work, work.reason == number)
        for number, reason in enumerate(REASONS, 1)
        if (work.reason == number).any()
    }
    return Cleaned(
        work.reason,
        {
            "steps": steps,
            "before": _amount(work, training),
            "removed": removed,
            "after": _amount(work, stays),
            "samples": _samples(work),
        },
    )


def _amount(work: _Work, mask: np.ndarray) -> dict[str, int]:
    return {"documents": int(mask.sum()), "bytes": int(work.sizes[mask].sum())}


def _samples(work: _Work) -> list[dict[str, Any]]:
    """The first removed documents of each reason: documents stand in the order of a hash, so any are as good."""
    chosen = [
        int(number)
        for reason in range(1, len(REASONS) + 1)
        for number in np.flatnonzero(work.reason == reason)[:SAMPLES]
    ]
    details = {number: dict(work.details[number]) for number in chosen}
    wanted = {*chosen, *(detail["of"] for detail in details.values() if "of" in detail)}
    seen: dict[int, Kept] = {}
    for number, document in enumerate(filter(None, kept(work.data, work.folder))):
        if number in wanted:
            seen[number] = document
        if len(seen) == len(wanted):
            break
    for number, detail in details.items():
        if "of" in detail:
            detail["of"] = seen[detail["of"]].name
        detail |= {
            "reason": REASONS[work.reason[number] - 1],
            "name": seen[number].name,
            "bytes": len(seen[number].data),
            "text": seen[number].data[:SHOWN].decode("utf-8", "replace"),
        }
    return list(details.values())


def _quality(work: _Work) -> dict[str, Any]:
    """Keep the training documents with the best scores, data.quality.keep of their bytes."""
    asked = work.data.quality
    texts = {
        "good": quality.sample(_source(work.data, asked.good)),
        "raw": quality.sample(
            _source(work.data, asked.raw)
            if asked.raw
            else ((document.place, document.data) for _, document in work.documents() if not document.heldout)
        ),
    }
    found = quality.train(*texts.values())
    if not found.examples:
        short = min(texts, key=lambda name: sum(map(len, texts[name])))
        raise UserError(
            f"data.quality.{short}={getattr(asked, short)}: no two documents with words to learn from; give more"
        )
    numbers, scores = array("q"), array("d")
    for number, document in work.documents():
        if not document.heldout:
            numbers.append(number)
            scores.append(found.score(document.data))
    number_of, score = np.array(numbers, np.int64), np.array(scores)
    order = np.argsort(-score, kind="stable")
    size = work.sizes[number_of[order]]
    stays = np.cumsum(size) <= asked.keep * size.sum()
    for at in order[~stays]:
        work.remove(int(number_of[at]), "quality", score=float(score[at]))
    return {
        "good": asked.good,
        "raw": asked.raw,
        "keep": asked.keep,
        "lowest_score": float(score[order[stays]].min()) if stays.any() else None,
        "classifier": found.sha256,
        "auc": found.auc,
        "examples": found.examples,
    }


def _source(data: DataConfig, name: str | None) -> Iterator[tuple[bytes, bytes]]:
    for document in source_documents(data, name or ""):
        if document.data:
            yield place_of(data, document.data), document.data


def _dedup(work: _Work) -> dict[str, Any]:
    """Remove training documents that are nearly a held-out one, or one that stays."""
    threshold = work.data.dedup_threshold
    found = near_copies(
        lambda: ((number, document.data, document.heldout) for number, document in work.documents()),
        threshold,
        work.folder,
    )
    for number, copy in found.items():
        reason = "near_copy_of_heldout" if copy.of_heldout else "near_copy"
        work.remove(number, reason, similarity=copy.similarity, of=copy.of)
    bands, rows = bands_of(threshold)
    return {"threshold": threshold, "bands": bands, "rows": rows}


STEPS: dict[str, Callable[[_Work], dict[str, Any]]] = {"quality": _quality, "dedup": _dedup}
