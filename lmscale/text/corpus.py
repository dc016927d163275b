"""Documents into two flat token files, training and held-out, and what is known of them.

What is shuffled, split and freed of exact copies is `buckets`'s; what a recipe removes besides, `cleaning`'s.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.config import DataConfig
from lmscale.durable import explained, sha256_of
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.text.buckets import Kept, fill_buckets, kept, remove_buckets
from lmscale.text.cleaning import Cleaned, clean, cleaning_key
from lmscale.text.documents import fingerprint
from lmscale.text.encoders import encoder
from lmscale.text.known_entropy import chain_key, sampled
from lmscale.text.meter import Meter, bar
from lmscale.text.staging import put_in_place, remove_abandoned, staging
from lmscale.text.tokenizer import name_of

TEXT_VERSION = {
    "stdlib": 3,
    "packages": 3,
    "text": 4,
    "huggingface": 3,
    "mixture": 1,
    "tokens": 1,
}  # a change makes the tokens again
SHORT_LINE = 20  # bytes: shorter lines are the same in many files and say nothing of copies
MOST_LINES = 1_000_000  # held-out lines that are looked for in training text
SPLITS = ("heldout", "train")


def text_key(data: DataConfig) -> str:
    """Name the token files by what makes them: configuration, and the state of the source."""
    fields = [data.kind, data.files, data.field, name_of(data), data.dataset, data.subset, data.split]
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
    encoding = encoder(data, folder)
    sources = sorted(data.mixture)
    trained = ["train", *(f"train{number}" for number in range(1, len(sources)))]
    beside = ["classes", *["sources"] * bool(sources), *["widths"] * (data.tokenizer != "bytes")]
    streams = {name: (folder / f"{name}.bin").open("wb") for name in ("heldout", *beside, *trained)}
    tokens, count = dict.fromkeys(streams, 0), dict.fromkeys(streams, 0)
    duplicates = 0
    lines = _Lines()
    meter = Meter()
    meter.expect([read["bytes"]])
    meter.begin(lambda: seen)
    seen = 0
    try:
        with bar(f"writing tokens of {data.name}") as move:
            for document, written in encoding.encode(_staying(data, folder, cleaned)):
                if document is None or written is None:
                    duplicates += 1
                    continue
                split = "heldout" if document.heldout else trained[document.source]
                streams[split].write(written.tokens.data)
                tokens[split] += len(written.tokens)
                count[split] += 1
                seen += len(document.data)
                move(meter)
                lines.see(written.text, document.heldout)
                if document.heldout:
                    of_each: dict[str, Any] = {
                        "classes": written.kinds,
                        "sources": np.full(len(written.tokens), document.source, np.uint8),
                        "widths": None if written.width is None else written.width.astype(np.uint32),
                    }
                    for name in beside:
                        streams[name].write(of_each[name])
    finally:
        for stream in streams.values():
            stream.close()
    segments = {source: tokens[name] for source, name in zip(sources, trained, strict=False)}
    for name in trained[1:]:
        with (folder / f"{name}.bin").open("rb") as part, (folder / "train.bin").open("ab") as whole:
            shutil.copyfileobj(part, whole)
        (folder / f"{name}.bin").unlink()
        tokens["train"], count["train"] = tokens["train"] + tokens[name], count["train"] + count[name]
    if not all(count[split] for split in SPLITS):
        raise _too_few(data, count["heldout"] + count["train"], duplicates, read)
    return {
        **encoding.report(),
        "duplicates": duplicates,
        "heldout_lines_also_in_train": lines.shared(),
        **{
            split: {
                "documents": count[split],
                "tokens": tokens[split],
                "sha256": sha256_of(folder / f"{split}.bin"),
            }
            for split in SPLITS
        },
        **({"segments": segments} if segments else {}),
        **({"clean": cleaned.report} if cleaned else {}),
    }


def _staying(data: DataConfig, folder: Path, cleaned: Cleaned | None) -> Iterator[Kept | None]:
    """The documents of the buckets that cleaning leaves, and None for each duplicate."""
    number = 0
    for document in kept(data, folder):
        number += document is not None
        if not (document and cleaned and cleaned.reason[number - 1]):
            yield document


class _Lines:
    """Held-out lines, and those of them that stand in training text as well; held-out documents come first."""

    def __init__(self) -> None:
        self.heldout: set[bytes] = set()
        self.found: set[bytes] = set()

    def see(self, text: bytes, heldout: bool) -> None:
        lines = map(bytes.strip, text.split(b"\n"))
        if not heldout:  # their length need not be asked: only long ones are looked for
            self.found |= self.heldout.intersection(lines)
        elif len(self.heldout) < MOST_LINES:
            self.heldout.update(line for line in lines if len(line) >= SHORT_LINE)

    def shared(self) -> float | None:
        """The share of the held-out lines; None where there are none, as of tokens without their bytes."""
        return len(self.found) / len(self.heldout) if self.heldout else None


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
