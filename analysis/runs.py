"""Load run folders, CSV or Parquet into one table.

Columns keep the names of DESIGN.md: params, tokens, flops, loss, unique_tokens, weight, ...
"""

from pathlib import Path

import pandas as pd

from analysis.errors import UserError


def load_table(source: str | Path, columns: str = "", where: str = "") -> pd.DataFrame:
    """The rows of `source` after renaming (`params=N,tokens=D`) and filtering (`flops < 1e21`)."""
    path = Path(source)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a CSV or a Parquet file")
    if path.is_dir():
        path = path / "table.parquet"
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if columns:
        renames = dict(item.split("=", 1)[::-1] for item in columns.split(","))
        table = table.rename(columns=renames)
    if where:
        table = table.query(where)
    return table
