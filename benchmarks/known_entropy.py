"""The floor of the known text: from counts, from a sample, and on held-out windows of several numbers.

`python -m benchmarks.known_entropy` prints the tables of docs/data.md: some 15 seconds of a core.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from lmscale.config import DataConfig, TasksConfig
from lmscale.data import scan
from lmscale.text.known_entropy import CHAIN
from lmscale.text.markov import Level, window_losses
from lmscale.text.tokens import heldout_windows, open_tokens

ROWS = (192, 768, 1024, 2000)


def main() -> None:
    """Scan the default known text into a folder of its own, and print."""
    data = DataConfig(markov_order=3)
    with tempfile.TemporaryDirectory() as name:
        began = time.process_time()
        manifest = scan(data, TasksConfig(), Path(name))
        folder = Path(name) / manifest.text_key
        print(
            f"scanned in {time.process_time() - began:.1f} s of CPU: {manifest.sources['contexts']:,} contexts"
        )
        print("H given 1, 2, 3 bytes:", *(f"{h:.4f}" for h in manifest.sources["entropies"]))
        print(f"floor in windows of {data.context}: {manifest.floor['floor']:.4f}")
        with np.load(folder / CHAIN) as found:
            chain = Level(3, found["code"], found["count"])
        train = np.array(open_tokens(folder, "train", manifest.vocab_size))
        windows = train[: len(train) // 65 * 65].reshape(-1, 65)[::4]
        print("log loss of the chain on training text:", _mean(window_losses(chain, windows)))
        heldout = open_tokens(folder, "heldout", manifest.vocab_size)
        for rows in ROWS:
            windows = heldout_windows(heldout, DataConfig(markov_order=3, heldout_rows=rows))
            print(f"{rows:>6} held-out windows: {_mean(window_losses(chain, windows))}")
        windows = np.array(heldout[: len(heldout) // 65 * 65]).reshape(-1, 65)
        print("all held-out text:", _mean(window_losses(chain, windows)))


def _mean(losses: np.ndarray) -> str:
    of_windows = losses.mean(axis=1)
    return f"{of_windows.mean():.4f} +- {of_windows.std() / len(of_windows) ** 0.5:.4f}"


if __name__ == "__main__":
    main()
