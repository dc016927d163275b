"""The one check that a column holds numbers, and the sentence for a row where it does not."""

from collections.abc import Hashable

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError


def row_name(table: pd.DataFrame, label: Hashable) -> str:
    """Name a row for a person."""
    return f"row {label}"


def numbers(table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return a column as float64 on the table's index, NaN where it is empty.

    Raises UserError, naming the row and the value, for what is no number (text, true and false, complex
    numbers), for a column that is not there and for two of one name.
    """
    if name not in table.columns:
        have = ", ".join(map(str, table.columns[:12]))
        raise UserError(
            f"column {name} is missing: rename one with --columns {name}=COLUMN (there are {have})"
        )
    column = table[name]
    if isinstance(column, pd.DataFrame):
        raise UserError(f"column {name} appears {column.shape[1]} times in the table; keep one of them")
    types = pd.api.types
    if types.is_numeric_dtype(column) and not (types.is_bool_dtype(column) or types.is_complex_dtype(column)):
        return column.astype(np.float64)
    # Whole numbers beyond 2^63, usual for flops, arrive as Python's own.
    values = pd.to_numeric(column, errors="coerce")
    bad = column.notna() if types.is_bool_dtype(column) else values.isna() & column.notna()
    if types.is_complex_dtype(column) or bad.any():
        first = int(np.argmax(bad))
        raise UserError(
            f"{row_name(table, column.index[first])}: {name} is {column.iloc[first]!r}; "
            f"column {name} is not numeric: give plain numbers"
        )
    return values.astype(np.float64)


def positive_numbers(table: pd.DataFrame, name: str) -> Array:
    """Return a column as positive finite numbers [n]; UserError names the first row where it is not."""
    values: Array = np.asarray(numbers(table, name), dtype=np.float64)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        rule = f"{name} < 1e300" if values[first] > 0 else f"{name} > 0"
        raise UserError(
            f"column {name}: {row_name(table, table.index[first])} holds {values[first]:g} "
            f"({int(wrong.sum())} such); "
            f'a law needs positive finite numbers: repair them, or leave them out with --where "{rule}"'
        )
    return values
