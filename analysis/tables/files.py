"""One file as a table: Parquet, JSON, JSON Lines or delimited text, found by looking at the content."""

import csv
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import UserError
from analysis.tables.columns import ROW
from analysis.tables.delimited import read_delimited
from analysis.tables.json_table import read_json
from analysis.tables.text import read_text


def read_file(path: Path) -> pd.DataFrame:
    """Return the table of a file.

    `attrs["problems"]` are sentences on lines that were left out. Where the file is text its index is called
    ROW, and `attrs["lines"]` say on which lines the rows stand (`columns.row_name` names them).
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            table = pq.read_table(path).to_pandas()
            table.attrs = {"problems": []}
            return _named(table)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"{path}: cannot be read as a table: {reason[:200]}") from None
    if path.suffix.lower() in (".parquet", ".pq"):
        raise UserError(f"{path}: not a Parquet file (its first bytes are {magic!r}); is it half-written?")
    text = read_text(path)
    try:
        table, lines, notes = _read(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (pd.errors.ParserError, csv.Error, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table: {' '.join(str(error).split())[:200]}") from None
    if lines:
        table.index.name = ROW
    table.attrs = {"problems": notes, "lines": lines}
    return _named(table)


def _read(text: str) -> tuple[pd.DataFrame, list[list[int]], list[str]]:
    begin = text.lstrip()[:1]
    if not begin:
        raise UserError("the file is empty")
    if begin == "<":
        raise UserError("a web page or XML, not a table; give CSV, JSON or Parquet")
    if begin in "{[":
        table, lines = read_json(text)
        return table, lines, []
    found = read_delimited(text)
    return found.table, found.lines, found.notes


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The columns' names as text without blanks around them; two that are then one are refused."""
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise UserError(f"column {twice[0]!r} appears twice; rename one of them in the file")
    return table
