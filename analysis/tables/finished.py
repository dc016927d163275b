"""Which rows of a table are the last evaluations of finished runs: one rule for every verb."""

import pandas as pd

from analysis.errors import UserError
from analysis.tables.where import no_such_column


def final_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows a law is fitted to: of runs that were trained to their horizon, the last evaluation.

    A plain table (no `final`, `outcome` or `kind`) is taken whole. `flops` is added as 6 N D where the table
    has none. Raises UserError when params, tokens or loss are missing.
    """
    for name in ("params", "tokens", "loss"):
        if name not in table.columns:
            error = no_such_column(name, table.columns, f"column {name!r}")
            raise UserError(f"{error}; name it with --columns {name}=COLUMN")
    for name in ("params", "tokens", "loss", "flops"):
        if name in table.columns and not pd.api.types.is_numeric_dtype(table[name]):
            bad = pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()
            row = bad.idxmax()
            raise UserError(f"row {row}: {name} is {table.at[row, name]!r}; a number would be right")
    keep = pd.Series(True, index=table.index)
    if "final" in table.columns:
        keep &= table["final"].astype(bool)
    if "outcome" in table.columns:
        keep &= table["outcome"].eq("done")
    if "kind" in table.columns:
        keep &= table["kind"].ne("trunk")
    rows = table[keep]
    if "flops" not in rows.columns:
        rows = rows.assign(flops=6.0 * rows["params"] * rows["tokens"])
    return rows.reset_index(drop=True)


def last_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The last evaluation of every run, trunks and unfinished ones too; a plain table is taken whole."""
    if "run_id" not in table.columns:
        return table
    return table.drop_duplicates("run_id", keep="last").reset_index(drop=True)


def compute_column(table: pd.DataFrame) -> str:
    """How C is counted in this table, for an axis or a sentence."""
    if "flops" not in table.columns:
        return "6 × parameters × tokens"
    return "as in the table" if "run_id" not in table.columns else "exact count"
