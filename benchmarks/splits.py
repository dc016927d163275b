"""Public tables of runs, cut by compute: fit the cheap runs, predict the most expensive ones.

Reads the published tables where they lie beside a checkout; they are not part of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "published" / "fit"
# Compute of the largest run over that of the largest run fitted.
FACTORS = (3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Split:
    """Rows fitted and rows predicted, of one table; `source` groups tables of one publication."""

    table: str
    source: str
    factor: float
    train: pd.DataFrame
    test: pd.DataFrame


def tables(folder: Path = PUBLISHED) -> dict[str, tuple[str, pd.DataFrame]]:
    """Name -> (source, table with params, tokens, flops, loss)."""
    names = {"N": "params", "D": "tokens", "C": "flops"}
    found: dict[str, tuple[str, pd.DataFrame]] = {}
    hoffmann = pd.read_csv(folder / "chinchilla_epoch.csv").rename(columns=names)
    found["chinchilla"] = ("hoffmann", hoffmann[hoffmann.epoch_kept == 1])
    kyotakano = pd.read_csv(folder / "kyotakano_llm.csv").rename(columns=names)
    # The same figure of the same paper, read off by others: it counts as that paper's.
    found["kyotakano"] = ("hoffmann", kyotakano)
    gadre = pd.read_csv(folder / "gadre_overtraining.csv").rename(columns={"N": "params", "D": "tokens"})
    for name, rows in gadre.groupby("dataset_name"):
        found[f"gadre {name}"] = ("gadre", rows.rename(columns={"loss_c4_val": "loss"}))
    porian = pd.read_csv(folder / "porian_isoflop_points.csv").rename(columns=names)
    for name, rows in porian.groupby("set"):
        found[f"porian {name}"] = ("porian", rows)
    misfitting = pd.read_csv(folder / "misfitting_final.csv").rename(columns=names)
    best = misfitting.loc[misfitting.groupby(["params", "tokens"]).loss.idxmin()]
    found["misfitting"] = ("li", best)
    olmo = pd.read_csv(folder / "olmo_ladder_final_c4.csv").rename(columns=names)
    found["olmo"] = ("olmo", olmo.assign(flops=6 * olmo.params * olmo.tokens))
    columns = ["params", "tokens", "flops", "loss"]
    return {
        name: (source, rows[columns].dropna().reset_index(drop=True))
        for name, (source, rows) in found.items()
    }


def splits(
    folder: Path = PUBLISHED, factors: tuple[float, ...] = FACTORS, least_rows: int = 12
) -> Iterator[Split]:
    """Cut each table at its largest compute / factor, where at least `least_rows` are left to fit."""
    for name, (source, table) in tables(folder).items():
        for factor in factors:
            low = table.flops <= table.flops.max() / factor * (1 + 1e-9)
            if low.sum() >= least_rows and (~low).sum() >= 1:
                yield Split(name, source, factor, table[low], table[~low])
