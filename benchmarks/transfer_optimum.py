"""Find the best rate over width and over depth under each transfer rule, and how far it moves.

    python -m benchmarks.transfer_optimum [CSV] [PNG]

AdamW on the bytes of the running Python's standard library: 150 steps of 8 rows of 32 bytes (38 thousand bytes), 15
of warm-up, the last 50 falling to nothing; two seeds, which share their batches. Widths 8 to 64 of two layers,
depths 1 to 8 of 32 channels, 4 heads. Rates are factors of 2 apart, taken on until the lowest held-out loss (64
rows) lies between two others; the best is the lowest point of the parabola through these three. `standard` is what
the rules `constant` and `inverse_width` train: they differ in the rate alone. At 32 channels and two layers all are
one. Then the other optimisers at widths 16 and 64, first seed, each against its own rule
(sweeps/transfer/of_*.yaml). About 5 CPU minutes on one core. Rows of the CSV are not measured again.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lmscale import model
from lmscale.family import FamilyConfig, shape_of
from lmscale.lanes import Lane
from lmscale.loss import token_losses
from lmscale.optim import OptimConfig
from lmscale.parametrisation import BASE_LAYERS, BASE_WIDTH, STANDARD, parametrised
from lmscale.step import init_lane, pack_program

WIDTHS, DEPTHS, SEEDS = (8, 16, 32, 64), (1, 2, 4, 8), (0, 1)
ENDS = (16, 64)
STEPS, WARMUP, FALL, ROWS, CONTEXT, HELDOUT = 150, 15, 50, 8, 32, 64
ADAMW = "adamw"
# of each optimiser: where the search begins at the base's width, and the exponent of the width in its own rule
CENTRES = {
    ADAMW: (2**-7, 1.0),
    "lion": (2**-9, 1.0),
    "muon": (2**-6, 0.0),
    "adafactor": (2**-4, 0.5),
    "sgd": (2**-2, 0.5),
}
COLUMNS = ["optim", "parametrisation", "d_model", "n_layer", "rate", "seed", "loss"]
CELL = COLUMNS[:4]
RULES = (  # rule, parametrisation, exponent of width in the rate that the rule holds
    ("constant", STANDARD, 0.0),
    ("inverse_width", STANDARD, 1.0),
    ("mup", "mup", 0.0),
    ("completep", "completep", 0.0),
)


def cells() -> Iterator[tuple[str, str, int, int]]:
    """Optimiser, parametrisation, width and depth, without those that are one with another (`same`)."""
    for width in WIDTHS:
        yield ADAMW, STANDARD, width, BASE_LAYERS
    for width in WIDTHS:
        if width != BASE_WIDTH:
            yield ADAMW, "mup", width, BASE_LAYERS
    for depth in DEPTHS:
        if depth != BASE_LAYERS:
            yield ADAMW, STANDARD, BASE_WIDTH, depth
            yield ADAMW, "completep", BASE_WIDTH, depth
    for optim in CENTRES:
        if optim != ADAMW:
            yield from ((optim, STANDARD, width, BASE_LAYERS) for width in ENDS)


def same(kind: str, width: int, depth: int) -> tuple[str, str, int, int]:
    """The cell that is measured for this one: completep is mup at the base's depth, and that `standard` at the
    base's width (docs/transfer.md)."""
    if kind == "completep" and depth == BASE_LAYERS:
        kind = "mup"
    if kind == "mup" and width == BASE_WIDTH:
        kind = STANDARD
    return ADAMW, kind, width, depth


def text() -> tuple[np.ndarray, np.ndarray]:
    """The batches of all runs [steps, 1, rows, T + 1], and the held-out rows [n, T + 1] from other files."""
    import os

    files = sorted(Path(os.__file__).parent.glob("*.py"))
    parts = [b"".join(path.read_bytes() for path in files[side::8]) for side in (0, 1)]
    rng = np.random.default_rng(0)
    rows = [
        np.stack(
            [np.frombuffer(part, np.uint8, CONTEXT + 1, at) for at in rng.integers(0, len(part) - 100, n)]
        )
        for part, n in zip(parts, (STEPS * ROWS, HELDOUT), strict=True)
    ]
    return rows[0].reshape(STEPS, 1, ROWS, CONTEXT + 1), rows[1].astype(np.int32)


class Cell:
    """One shape: its program, compiled once for all rates and seeds."""

    def __init__(self, optim: str, kind: str, width: int, depth: int) -> None:
        shape = shape_of(FamilyConfig(n_layer=depth), width, context=CONTEXT, vocab_size=260)
        self.shape = parametrised(shape, kind)
        self.optim = OptimConfig(optim, b2=0.99) if optim == "lion" else OptimConfig(optim)
        self.program = pack_program(self.shape, self.optim, np.zeros(ROWS, int), 1)
        self.init = jax.jit(jax.vmap(lambda seed: init_lane(self.shape, self.optim, seed)))
        forward = model.forward(self.shape)
        self.loss = jax.jit(lambda p, t: token_losses(forward(p, t[:, :-1]), t[:, 1:]).mean())

    def run(self, rate: float, seed: int, tokens: np.ndarray, heldout: np.ndarray) -> float:
        """Train, and return the held-out loss in nats a byte."""
        lane = Lane(
            jnp.float32(rate), jnp.float32(0), *map(jnp.int32, (WARMUP, STEPS - FALL, STEPS, 0)), jnp.float32(0),
            jnp.int32(STEPS),
        )  # fmt: skip
        counted = np.ones((STEPS, 1, ROWS, CONTEXT), bool)
        weight = np.full(counted.shape, 1 / (ROWS * CONTEXT), np.float32)
        state, _ = self.program(
            self.init(jnp.asarray([seed])),
            jax.tree.map(lambda value: value[None], lane),
            (tokens, counted, weight),
            np.int32(STEPS),
        )
        return float(self.loss(jax.tree.map(lambda array: array[0], state.params), heldout))


def measure(path: Path) -> pd.DataFrame:
    """Fill the CSV: each cell's rates until the lowest mean loss has a higher one on both sides."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens, heldout = text()
    for cell in cells():
        made: Cell | None = None
        centre, exponent = CENTRES[cell[0]]
        power = 0 if cell[1] != STANDARD else round(exponent * np.log2(BASE_WIDTH / cell[2]))
        wanted = {power - 1, power, power + 1}
        while wanted:
            for power in sorted(wanted):
                rate = centre * 2.0**power
                for seed in SEEDS if cell[0] == ADAMW else SEEDS[:1]:
                    mine = (table[COLUMNS[:6]] == [*cell, rate, seed]).all(axis=1)
                    if not mine.any():
                        made = made or Cell(*cell)
                        loss = made.run(rate, seed, tokens, heldout)
                        table.loc[len(table)] = [*cell, rate, seed, loss]
                        table.to_csv(path, index=False)
            curve = losses(table, *cell)
            at = int(np.argmin(curve.to_numpy()))
            powers = np.round(np.log2(curve.index.to_numpy() / centre)).astype(int)
            wanted = {powers[at] - 1} if at == 0 else {powers[at] + 1} if at == len(curve) - 1 else set()
        print(*cell, f"best rate {optimum(losses(table, *cell))[0]:.4g}", flush=True)
    return table


def losses(table: pd.DataFrame, *cell: str | int) -> "pd.Series[float]":
    """Mean loss over seeds by rate, of a cell; a run that was lost counts as a loss of 10."""
    rows = table[(table[CELL] == list(cell)).all(axis=1)]
    return rows.assign(loss=rows["loss"].fillna(10.0)).groupby("rate")["loss"].mean()


def optimum(curve: "pd.Series[float]") -> tuple[float, float]:
    """The best rate and its loss, by the parabola in log rate through the lowest three."""
    at = int(np.argmin(curve.to_numpy()))
    x, y = np.log2(curve.index.to_numpy()[at - 1 : at + 2]), curve.to_numpy()[at - 1 : at + 2]
    c, b, a = np.polyfit(x - x[1], y, 2)
    return float(2 ** (x[1] - b / (2 * c))), float(a - b**2 / (4 * c))


def main(source: str, picture: str) -> None:
    """Measure, print how far the best rate moves under each rule, and draw it."""
    table = measure(Path(source))
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained", sharey=True)
    print("| rule | over | best rate, in the rule's terms | moves by |\n|---|---|---|---|")
    for axis, over, sizes in ((axes[0], "width", WIDTHS), (axes[1], "depth", DEPTHS)):
        for rule, kind, exponent in RULES:
            if over == "depth" and rule in ("inverse_width", "mup"):
                continue  # at one width they are what `constant` is
            found: list[Any] = []
            for size in sizes:
                cell = same(kind, *((size, BASE_LAYERS) if over == "width" else (BASE_WIDTH, size)))
                best, _ = optimum(losses(table, *cell))
                found.append(best * (cell[2] / BASE_WIDTH) ** exponent)
            best_of = ", ".join(f"{best:.4f}" for best in found)
            print(
                f"| {rule} | {over} {', '.join(map(str, sizes))} | {best_of} | {max(found) / min(found):.2f} |"
            )
            axis.plot(sizes, found, marker="o", label=rule)
        axis.set(xscale="log", yscale="log", xlabel="d_model" if over == "width" else "layers", xticks=sizes)
        axis.set_xticklabels(map(str, sizes))
        axis.minorticks_off()
        axis.legend()
    print(
        "| optimiser | " + " | ".join(f"best rate, d {width}" for width in ENDS) + " | exponent | own rule |"
    )
    print("|---|---|---|---|---|")
    for optim, (_, exponent) in CENTRES.items():
        best = [optimum(losses(table, optim, STANDARD, width, BASE_LAYERS))[0] for width in ENDS]
        falls = np.log(best[0] / best[1]) / np.log(ENDS[1] / ENDS[0])
        print(f"| {optim} | {best[0]:.4f} | {best[1]:.4f} | {falls:.2f} | {exponent} |")
    axes[0].set_ylabel(f"best rate, as the rule gives it at width {BASE_WIDTH}")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] or ("docs/results/transfer-optimum.csv", "docs/img/transfer_optimum.png")))
