"""Say in what units a table's losses are: known for a folder of runs, its owner's business for a file."""

from dataclasses import dataclass

import pandas as pd

from analysis.report.source import Source

# Tokens of a vocabulary of bytes: 256, and four that mark the ends of texts and answers (the records' contract).
BYTE_VOCABULARY = 260
UNSTATED = "loss, in the table's units"


@dataclass(frozen=True)
class Units:
    """`axis` names an axis of the loss that a law is fitted to, `parts` one of its components.

    `after` follows a number in a sentence; it is empty where the table states no unit. `also` says what else there
    is to know of the unit, after its name.
    """

    axis: str
    parts: str
    after: str
    also: str = ""


def units_of(table: pd.DataFrame, source: Source) -> Units:
    """Return the units of `table`'s losses: nats per byte or per token of a run folder, else as the column says."""
    if not source.is_folder:
        name = source.column("loss")
        axis = UNSTATED if name == "loss" else f"{name} (the table's column)"
        return Units(axis, UNSTATED, "")
    sizes = set(table["vocab_size"].dropna()) if "vocab_size" in table.columns else set()
    if not sizes:
        return Units("text loss (nats)", "loss (nats)", " nats")
    each = "byte" if sizes == {BYTE_VOCABULARY} else "token"
    name = source.column("loss")
    also = "; divided by 0.6931, bits per byte" if each == "byte" else "; no losses per byte are on this page"
    return Units(
        f"{'text loss' if name == 'loss' else name} (nats per {each})",
        f"loss (nats per {each})",
        f" nats per {each}",
        also,
    )
