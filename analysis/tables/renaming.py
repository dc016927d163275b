"""`--columns`: columns of a table under the names that the verbs read."""

import re

import pandas as pd

from analysis.errors import UserError
from analysis.sources.numbers import number
from analysis.tables.columns import NUMBERS
from analysis.tables.where import no_such_column

_QUOTED = re.compile(r"""(["'`])(.*)\1""")
_FORM = 'write NAME=COLUMN, e.g. params=N,tokens=D; quote a column with a comma in its name: score="acc,none"'


def parse_columns(
    columns: str, table: pd.DataFrame, *, partial: bool = False, products: bool = False
) -> dict[str, str]:
    """Return {new name: column of `table`} for `params=N,loss="val loss, nats"`.

    With `partial`, columns that are not there are passed over: a table of targets has no loss. With `products`, a
    product of columns and numbers is one too (`tokens=step*524288`). UserError for what is not NAME=COLUMN, a name
    given twice, a column that is not there.
    """
    renames: dict[str, str] = {}
    for item in _items(columns, table):
        name, equals, column = (part.strip() for part in item.partition("="))
        if quoted := _QUOTED.fullmatch(column):
            column = quoted[2]
        if not (name and equals and column):
            raise UserError(f"--columns {item.strip()!r}: {_FORM}")
        if name in renames:
            raise UserError(f"--columns: {name!r} is given twice ({renames[name]} and {column})")
        if column not in table.columns:
            column = column.strip()
        if column not in table.columns and not (products and _is_product(column, table)):
            if partial:
                continue
            if column in NUMBERS and name in table.columns:
                raise UserError(
                    f"--columns {name}={column}: the new name first: did you mean {column}={name}?"
                )
            raise no_such_column(column, table.columns, f"--columns {name}={column}")
        renames[name] = column
    return renames


def _is_product(product: str, table: pd.DataFrame) -> bool:
    return all(number(part) is not None or part.strip() in table.columns for part in product.split("*"))


def _items(columns: str, table: pd.DataFrame) -> list[str]:
    """The items between commas; a comma inside quotes, or inside a column's name, is part of the item."""
    items: list[str] = []
    for part in _split(columns):
        if items and "=" not in part:
            joined = f"{items[-1]},{part}"
            if joined.partition("=")[2].strip() in table.columns:
                items[-1] = joined
                continue
        items.append(part)
    return items


def _split(columns: str) -> list[str]:
    parts, start = [], 0
    quote = ""
    for i, c in enumerate(columns):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'`" and columns[i + 1 :].count(c) and columns[start:i].rstrip().endswith("="):
            quote = c
        elif c == ",":
            parts.append(columns[start:i])
            start = i + 1
    return [*parts, columns[start:]]


def with_both_names(table: pd.DataFrame, renames: dict[str, str]) -> pd.DataFrame:
    """Return the table with its columns under the new names besides the old.

    A column that already had a new name gives way: a person who writes params=N_total means that one.
    """
    return table.assign(**{name: table[column] for name, column in renames.items()})


def without_old_names(table: pd.DataFrame, renames: dict[str, str]) -> pd.DataFrame:
    """Return the table without the columns that go under another name now."""
    return table.drop(columns=sorted(set(renames.values()) - set(renames)))
