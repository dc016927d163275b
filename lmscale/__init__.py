"""Train a ladder of small language models and log loss against compute.

`analysis`, beside this package, reads what it writes and imports nothing of it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lmscale import source_stamp as source_stamp  # before any other module: see there

if TYPE_CHECKING:
    from lmscale.trained import Trained

try:
    __version__ = version("lmscale")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "unknown"


def load(run: str | Path, averaged: bool = False) -> Trained:
    """Load the trained model of a finished run: (config, params, logits), see `trained.Trained`.

    run: its folder, or its id in runs/*. averaged: the averaged weights, of a run that evaluates them too
    (evaluation.average). Any variant of the network; `make export` writes those that transformers has. UserError in
    one line where there is no such run, or it is not finished, or was trained before models were kept.

    >>> import lmscale, numpy as np
    >>> from pathlib import Path
    >>> folder = min(Path("runs/cpu").glob("*/model.safetensors")).parent
    >>> config, params, logits = lmscale.load(folder)
    >>> tokens = np.frombuffer(b"def load(run", np.uint8)[None]  # where data.tokenizer=bytes, a byte is a token
    >>> logits(tokens).shape == (1, 12, config.shape.vocab_size)
    True
    """
    from lmscale.trained import find_run, load_run

    return load_run(find_run(str(run), Path("runs")), averaged)
