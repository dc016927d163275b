"""The one check that a column holds numbers, and the sentence for a row where it does not."""

from collections.abc import Hashable

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.tables.written import hint, read_numbers

# The name of an index that still counts the rows of a text file, so that a row has a line.
ROW = "row of the file"
# Columns that are numbers wherever they stand, and the beginnings of such names.
NUMBERS = frozenset(
    [
        "params",
        "tokens",
        "flops",
        "loss",
        "unique_tokens",
        "weight",
        "size",
        "correct",
        "total",
        "different_items",
        "score",
        "stderr",
        "chance",
        "ceiling",
        "shortcut",
        "nll",
        "brier",
        "byte_accuracy",
        "step",
        "learning_rate",
        "horizon_tokens",
    ]
)
# No size, count or loss: the product of three is still a number.
BEYOND = 1e100
_SHORT = 40
_NUMBER_STEMS = ("params_", "flops_", "loss_", "tokens_")


def row_name(table: pd.DataFrame, label: Hashable) -> str:
    """Name a row for a person: by its line where the table is a text file's, by its label otherwise."""
    spans = table.attrs.get("lines") if table.index.name == ROW else None
    if not spans or not isinstance(label, int | np.integer):
        return f"row {label}"
    row, line = max((span for span in spans if span[0] <= label), key=lambda span: span[0])
    return f"line {line + int(label) - row}"


def numbers(table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return a column as float64 on the table's index, NaN where it is empty.

    Numbers in words of people (1,234,567 or 350M or 25%) are read, see `written`. Raises UserError, naming the
    row and the value, for what is no number (words, true and false, complex numbers), for a column that is not
    there and for two of one name.
    """
    if name not in table.columns:
        have = ", ".join(map(str, table.columns[:12]))
        raise UserError(
            f"column {name} is missing: rename one with --columns {name}=COLUMN (there are {have})"
        )
    column = table[name]
    if isinstance(column, pd.DataFrame):
        raise UserError(f"column {name} appears {column.shape[1]} times in the table; keep one of them")
    values, bad = _values(column)
    if bad.any():
        first = int(np.argmax(bad))
        value = column.iloc[first]
        value = value.item() if isinstance(value, np.generic) else value
        word = f"`{name}`" if not name.isidentifier() else name
        short = isinstance(value, str) and len(value) <= _SHORT
        leave = f', or leave it out with --where "{word} != {value!r}"' if short else ""
        shown = repr(value) if len(repr(value)) <= _SHORT + 2 else f"{repr(value)[:_SHORT]}..."
        remedy = f"{hint(value)}{leave}"
        raise UserError(
            f"{row_name(table, column.index[first])}: {name} is {shown}; column {name} is not numeric: {remedy}"
        )
    return pd.Series(values, column.index, name=name)


def _values(column: pd.Series) -> tuple[Array, np.ndarray]:
    """The numbers of a column and a mask of what is none."""
    types = pd.api.types
    nothing = np.zeros(len(column), dtype=bool)
    if types.is_bool_dtype(column):
        return np.full(len(column), np.nan), column.notna().to_numpy(bool)
    if types.is_complex_dtype(column):
        return np.full(len(column), np.nan), ~nothing
    if types.is_numeric_dtype(column):
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan), dtype=np.float64), nothing
    # Whole numbers beyond 2^63, usual for flops, arrive as Python's own.
    logical = column.map(lambda value: isinstance(value, bool | np.bool_ | complex)).to_numpy(bool)
    values, bad = read_numbers(column)
    return values, bad | logical


def with_numbers(table: pd.DataFrame, besides: tuple[str, ...] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with every column that is to be numbers read as such, and what was read unusually.

    A column with a word among its numbers stays text: who needs it says which row is wrong.
    """
    notes: list[str] = []
    read: dict[str, Array] = {}
    for name in table.columns:
        known = name in NUMBERS or name in besides or str(name).startswith(_NUMBER_STEMS)
        if not known or pd.api.types.is_numeric_dtype(table[name]):
            continue
        values, bad = _values(table[name])
        if bad.any() or np.isnan(values).all():
            continue
        read[name] = values
        texts = table[name].dropna().astype(str)
        if texts.str.strip().str.endswith("%").any():
            notes.append(f"column {name}: percentages, read as hundredths (25% is .25)")
    return (table.assign(**read), notes) if read else (table, notes)


def positive_numbers(table: pd.DataFrame, name: str) -> Array:
    """Return a column as positive numbers below `BEYOND` [n]; UserError names the first row where it is not."""
    values: Array = np.asarray(numbers(table, name), dtype=np.float64)
    wrong = ~((values > 0) & (values < BEYOND))
    if wrong.any():
        first = int(np.argmax(wrong))
        rule = f"{name} < {BEYOND:g}" if values[first] > 0 else f"{name} > 0"
        raise UserError(
            f"column {name}: {row_name(table, table.index[first])} holds {values[first]:g} "
            f"({int(wrong.sum())} such); "
            f'a law needs positive numbers below {BEYOND:g}: repair them, or leave them out with --where "{rule}"'
        )
    return values
