"""Documents into two flat token files, training and held-out, and what is known of them.

What is shuffled, split and freed of exact copies is `buckets`'s; what a recipe removes besides, `cleaning`'s.
"""

import contextlib
import functools
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmscale.config import DataConfig
from lmscale.durable import explained
from lmscale.errors import UserError
from lmscale.jsonfiles import digest
from lmscale.text.buckets import Kept, fill_buckets, kept
from lmscale.text.cleaning import Cleaned, clean, cleaning_key
from lmscale.text.documents import fingerprint
from lmscale.text.encoders import encoder
from lmscale.text.known_entropy import chain_key, sampled
from lmscale.text.meter import Meter, bar
from lmscale.text.second_thread import BLOCK, Gathered, in_order
from lmscale.text.shared_lines import SharedLines
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
    return {**read, **_write_tokens(data, folder, read, cleaned)}


def _write_tokens(
    data: DataConfig, folder: Path, read: dict[str, int], cleaned: Cleaned | None
) -> dict[str, Any]:
    """Tokens of both splits from the buckets; the training text of a mixture one source after the other."""
    encoding = encoder(data, folder)
    sources = sorted(data.mixture)
    trained = ["train", *(f"train{number}" for number in range(1, len(sources)))]
    beside = ["classes", *["sources"] * bool(sources), *["widths"] * (data.tokenizer != "bytes")]
    hashes = {split: hashlib.sha256() for split in SPLITS}
    tokens, count = Counter[str](), Counter[str]()
    duplicates = 0
    lines = SharedLines()
    meter = Meter()
    meter.expect([read["bytes"]])
    meter.begin(lambda: seen)
    seen = 0

    def write(name: str, pieces: list[memoryview]) -> None:
        block = b"".join(pieces)
        streams[name].write(block)
        if name in hashes:
            hashes[name].update(block)

    with contextlib.ExitStack() as stack:
        names = ("heldout", *beside, *trained)
        streams = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in names}
        with in_order() as give, bar(f"writing tokens of {data.name}") as move:
            file = {name: Gathered(give, functools.partial(write, name)) for name in names}
            text = {
                heldout: Gathered(give, functools.partial(lines.see, heldout=heldout))
                for heldout in (True, False)
            }
            for document, written in encoding.encode(_staying(data, folder, cleaned)):
                if document is None or written is None:
                    duplicates += 1
                    continue
                split = "heldout" if document.heldout else trained[document.source]
                file[split].add(written.tokens.data)
                tokens[split] += len(written.tokens)
                count[split] += 1
                seen += len(document.data)
                move(meter)
                if not document.heldout:
                    text[True].flush()  # comes first
                if written.text:
                    text[document.heldout].add(written.text)
                if document.heldout:
                    of_each: dict[str, Any] = {
                        "classes": written.kinds,
                        "sources": np.full(len(written.tokens), document.source, np.uint8),
                        "widths": None if written.width is None else written.width.astype(np.uint32),
                    }
                    for name in beside:
                        file[name].add(of_each[name].data)
            for gathered in (*file.values(), *text.values()):
                gathered.flush()
        segments = {source: tokens[name] for source, name in zip(sources, trained, strict=False)}
        for name in trained[1:]:
            streams[name].flush()
            with (folder / f"{name}.bin").open("rb") as part:
                while block := part.read(BLOCK):
                    write("train", [memoryview(block)])
            (folder / f"{name}.bin").unlink()
            tokens["train"], count["train"] = tokens["train"] + tokens[name], count["train"] + count[name]
    if not all(count[split] for split in SPLITS):
        raise _too_few(data, count["heldout"] + count["train"], duplicates, read)
    return {
        **encoding.report(),
        "duplicates": duplicates,
        "heldout_lines_also_in_train": lines.share(),
        **{
            split: {
                "documents": count[split],
                "tokens": tokens[split],
                "sha256": hashes[split].hexdigest(),
            }
            for split in SPLITS
        },
        **({"segments": segments} if segments else {}),
        **({"clean": cleaned.report} if cleaned else {}),
    }


def _staying(data: DataConfig, folder: Path, cleaned: Cleaned | None) -> Iterator[Kept | None]:
    """The documents of the buckets that cleaning leaves, and None for each duplicate."""
    number = 0
    for document in kept(data, folder, remove=True):
        number += document is not None
        if not (document and cleaned and cleaned.reason[number - 1]):
            yield document


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
