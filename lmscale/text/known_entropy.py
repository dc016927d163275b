"""A corpus that is a sample of the Markov chain of a text (`markov`), so that the least loss on it is known."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from lmscale.config import DataConfig
from lmscale.durable import replace
from lmscale.errors import UserError
from lmscale.text.classes import classify
from lmscale.text.markov import Level, count_text, entropies, floor_of, sample, window_losses
from lmscale.text.reading import texts
from lmscale.text.tokens import heldout_windows, open_tokens
from lmscale.text.vocab import END_OF_FILE, VOCAB_SIZE

VERSION = 1  # a change makes the samples again
CHAIN = "chain.npz"  # its n-grams and their counts


def chain_key(data: DataConfig) -> list[Any]:
    """List what the tokens depend on besides the text; nothing where they are the text itself."""
    return [] if data.markov_order is None else [VERSION, data.markov_order, data.sampled_bytes]


def sampled(data: DataConfig, folder: Path) -> dict[str, Any]:
    """Write `train.bin` and `heldout.bin`, two independent samples, `classes.bin` and the chain under `folder`.

    Returns what `corpus.scan_text` does, with the entropies of a byte given 1, 2, .. bytes before it.
    """
    assert data.markov_order is not None
    read: dict[str, Any] = {}
    chain = count_text(_read(data, read), data.markov_order)
    np.savez(folder / CHAIN, code=chain.code, count=chain.count)
    heldout = round(data.heldout_share * data.sampled_bytes)
    sizes = {"heldout": heldout, "train": data.sampled_bytes - heldout}
    splits = {}
    for number, (split, size) in enumerate(sizes.items()):
        rng = Generator(Philox(SeedSequence([data.seed, number])))
        sha, ends = hashlib.sha256(), 0
        with (folder / f"{split}.bin").open("wb") as file:
            for piece in sample(chain, size, rng):
                file.write(piece.tobytes())
                sha.update(piece.tobytes())
                ends += int((piece == END_OF_FILE).sum())
        splits[split] = {"documents": ends, "tokens": size, "sha256": sha.hexdigest()}
    # what looks like Python is none: a quotation mark would open a string of a thousand lines
    kinds = classify((folder / "heldout.bin").read_bytes(), python=False)
    (folder / "classes.bin").write_bytes(kinds.tobytes())
    return {
        **({"left_out": read["left_out"]} if "left_out" in read else {}),
        "tokenizer": data.tokenizer,
        "vocab_size": VOCAB_SIZE,
        "bytes": int(chain.count.sum()),
        "markov_order": data.markov_order,
        "contexts": int(chain.context[-1]) + 1,
        "entropies": entropies(chain),
        **splits,
    }


def _read(data: DataConfig, read: dict[str, Any]) -> Iterator[bytes]:
    """The text of the source with the end of each document, up to data.most_bytes; `read` counts it."""
    for _, text in texts(data, read):
        yield text + bytes([END_OF_FILE])
    if not read["bytes"]:
        raise UserError(
            f"data.markov_order={data.markov_order}: the text is empty; its n-grams make the chain"
        )


def floors(data: DataConfig, folder: Path, text: dict[str, Any]) -> dict[str, float]:
    """Compute how low a loss can be, nats a byte; nothing where the text is no sample.

    floor: in windows of data.context targets anywhere in the text, in expectation. floor_heldout: on the held-out
    windows that every run is evaluated on, which differ from the expectation as any sample does.
    """
    if data.markov_order is None:
        return {}
    path = folder / f"floor-{data.context}-{data.heldout_rows}.json"
    if not path.is_file():
        with np.load(folder / CHAIN) as found:
            chain = Level(data.markov_order, found["code"], found["count"])
        windows = heldout_windows(open_tokens(folder, "heldout", VOCAB_SIZE), data)
        measured = float(window_losses(chain, windows).mean())
        result = {"floor": floor_of(text["entropies"], data.context), "floor_heldout": measured}
        replace(path, [json.dumps(result).encode()])
    found_floors: dict[str, float] = json.loads(path.read_text())
    return found_floors
