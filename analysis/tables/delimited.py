"""Delimited text as a table: separator found by looking, every line of the same length, or the line is named.

CSV, TSV, semicolons (with Excel's `sep=;`), columns set apart by blanks, Markdown and database prints.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.errors import UserError
from analysis.tables.rows import (
    BEGINNING,
    SEP_LINE,
    SNIFFED,
    Row,
    drawn_rows,
    find_separator,
    is_drawn,
    is_number,
    split_rows,
)
from analysis.tables.written import MISSING, proven, read_numbers


@dataclass(frozen=True)
class Delimited:
    """A table as it was written: `lines` are the spans [[row, line], ...] from which its rows count on.

    `notes` are sentences on lines that were left out; `separator` is the one that was found.
    """

    table: pd.DataFrame
    separator: str
    lines: list[list[int]]
    notes: list[str]


def read_delimited(text: str) -> Delimited:
    """Return the table that a text holds. UserError names the line that does not fit, and the remedy."""
    begin = text[:BEGINNING].split("\n")
    first = next((i for i, line in enumerate(begin) if line.strip()), None)
    if first is None:
        raise UserError("the file is empty")
    if any(line.rstrip().endswith("\\\\") and "&" in line for line in begin[:SNIFFED]):
        raise UserError("a LaTeX table; write the numbers as CSV and give that")
    stated = SEP_LINE.fullmatch(begin[first])
    markdown = not stated and is_drawn(begin)
    separator = "|" if markdown else stated[1] if stated else find_separator(begin)
    if not markdown and not stated and (table := _clean(text, separator)) is not None:
        return Delimited(table, separator, [[0, 2]], [])
    lines = text.split("\n")
    if stated:
        lines[first] = ""
    rows = drawn_rows(lines) if markdown else split_rows(lines, separator)
    header, body, notes = _checked(rows)
    spans: list[list[int]] = []
    for i, row in enumerate(body):
        if not spans or row.line - i != spans[-1][1] - spans[-1][0]:
            spans.append([i, row.line])
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(header)
    writer.writerows(row.cells for row in body)
    written.seek(0)
    table = pd.read_csv(written, low_memory=False, index_col=False, skip_blank_lines=False)
    table.columns = pd.Index(header)
    notes += _settle(table, body, separator)
    return Delimited(table, separator, spans, notes)


def _clean(text: str, separator: str) -> pd.DataFrame | None:
    """The table of a text in which no line is odd, read at once; None where the lines are to be looked at.

    Files of millions of rows come from programs and are clean; row by row they would take a gigabyte. That every
    line has as many fields as the first is told from their sum: the parser refuses a line that is longer.
    """
    header, second = [*text[:BEGINNING].split("\n", 2), ""][:2]
    width, rows = header.count(separator), text.count("\n") - text.endswith("\n")
    names = header.split(separator)
    if not width or not all(names) or len(set(names)) < len(names) or all(is_number(name) for name in names):
        return None
    if second.count(separator) != width or text.count(separator) != width * (rows + 1):
        return None
    if any(mark in text for mark in '"# \t' if mark != separator):
        return None
    if f"\n{header}\n" in text or text.endswith(f"\n{header}"):
        return None
    try:
        table = pd.read_csv(io.BytesIO(text.encode()), sep=separator, low_memory=False)
    except pd.errors.ParserError:
        return None
    if len(table) != rows or table.isna().all(axis=1).any():
        return None
    written = (
        _is_written(cell)
        for name in table.columns
        if not _numeric(table[name])
        for cell in table[name].dropna().astype(str).unique()
    )
    return None if any(written) else table


def _checked(rows: Iterator[Row]) -> tuple[list[str], list[Row], list[str]]:
    """The header, the rows of its length, and what was left out."""
    head = next(rows, None)
    if head is None:
        raise UserError("the file is empty")
    body: list[Row] = []
    blank: list[int] = []
    repeated: list[int] = []
    width = len(head.cells)
    while width > 1 and not head.cells[width - 1]:
        width -= 1
    rows_here = list(rows)
    width = max([width, *(_used(row.cells[: len(head.cells)]) for row in rows_here)])
    if _counts_on(rows_here, width):
        # What R and pandas print: the rows are numbered and the numbers have no name.
        head, width = Row(head.line, ["", *head.cells]), width + 1
    header = [" ".join(name.split()) for name in head.cells[:width]]
    for row in rows_here:
        cells = row.cells
        if not any(cells):
            blank.append(row.line)
            continue
        if len(cells) > width and not any(cells[width:]):
            cells = cells[:width]
        if len(cells) != width:
            raise UserError(_ragged(row, cells, head, width, rows_here))
        if cells == head.cells[:width]:
            repeated.append(row.line)
            continue
        if sorted(cells) == sorted(head.cells[:width]):
            raise UserError(
                f"line {row.line} repeats the header in another order; give the two tables apart, or "
                "concatenate them by the names of their columns"
            )
        body.append(Row(row.line, cells))
    _check_header(header, head.line)
    if len(header) == 1 and (mark := _unknown_separator(header[0], body)):
        raise UserError(
            f"line {head.line}: one column called {header[0][:60]!r}; fields are set apart by commas, semicolons, "
            f"tabs, bars or blanks: {'take the quotes around each line away' if mark in ',;|' else 'use one'}"
        )
    notes = []
    if blank:
        notes.append(f"{_lines(blank)} blank: left out")
    if repeated:
        notes.append(f"{_lines(repeated)} the header again: left out")
    return [name or f"Unnamed: {i}" for i, name in enumerate(header)], body, notes


def _unknown_separator(name: str, body: Sequence[Row]) -> str:
    """A mark that stands as often in every row of an only column as in its name, or nothing."""
    marks = dict.fromkeys(c for c in name if not c.isalnum() and c not in " _.-()[]'\"")
    return next((m for m in marks if all(row.cells[0].count(m) == name.count(m) for row in body)), "")


def _counts_on(rows: Sequence[Row], width: int) -> bool:
    """Say whether every row has one cell more than the header, the first of which counts 0, 1, 2 or 1, 2, 3."""
    filled = [row.cells for row in rows if any(row.cells)]
    if len(filled) < 3 or any(len(cells) != width + 1 for cells in filled):
        return False
    return any([c[0] for c in filled] == [str(i + start) for i in range(len(filled))] for start in (0, 1))


def _used(cells: Sequence[str]) -> int:
    """The number of cells up to the last that holds anything."""
    return max((i + 1 for i, cell in enumerate(cells) if cell), default=0)


def _ragged(row: Row, cells: Sequence[str], head: Row, width: int, rows: Sequence[Row]) -> str:
    said = f"line {row.line} has {len(cells)} field{'s' * (len(cells) != 1)}, the header {width}"
    most = max((len(r.cells) for r in rows), default=0)
    if width == 1 and most > 1:
        return f"{said}: begin the file with the names of the columns; what stands above them is to go"
    if len(cells) < width:
        return f"{said}: is the line cut short, or a note? mend it, or take it out"
    numbers = sum(cell.isdigit() for cell in cells)
    comma = " (a decimal comma or a thousands comma?)" if numbers >= 2 else ""
    return f"{said}: a field that holds the separator{comma} must be in quotes, or written with a point"


def _check_header(header: Sequence[str], line: int) -> None:
    if len(header) > 0 and all(is_number(name) for name in header):
        raise UserError(
            f"line {line} holds numbers where the names of the columns should be; add a line such as "
            "params,tokens,loss above it"
        )
    named = [name for name in header if name]
    twice = next((name for i, name in enumerate(named) if name in named[:i]), None)
    if twice is not None:
        raise UserError(f"column {twice!r} appears twice in the header (line {line}); rename one of them")


def _lines(numbers: Sequence[int]) -> str:
    """`line 3 is`, `lines 3, 7 and 12 more are`."""
    shown = ", ".join(map(str, numbers[:6]))
    more = f" and {len(numbers) - 6} more" if len(numbers) > 6 else ""
    return f"line {shown} is" if len(numbers) == 1 else f"lines {shown}{more} are"


def _settle(table: pd.DataFrame, body: Sequence[Row], separator: str) -> list[str]:
    """Turn columns of text that are numbers in another country's writing into numbers, in place."""
    texts = {i: name for i, name in enumerate(table.columns) if not _numeric(table[name])}
    raw = {i: pd.Series([row.cells[i] for row in body], dtype=object) for i in texts}
    looks = {
        i: column
        for i, column in raw.items()
        if any(_is_written(value) for value in column) and all(_is_written(v, True) for v in column)
    }
    if not looks:
        return []
    own = {i: read_numbers(column, units=False) for i, column in looks.items()}
    comma = _comma({i: column for i, column in looks.items() if not own[i][1].any()}, separator)
    notes = []
    for i, column in looks.items():
        values, bad = read_numbers(column, units=False, comma=comma) if own[i][1].any() else own[i]
        if not bad.any():
            table[texts[i]] = values
    if comma == "decimal":
        notes += _dots(table, body, texts)
    return notes


def _dots(table: pd.DataFrame, body: Sequence[Row], texts: dict[int, str]) -> list[str]:
    """In a file of decimal commas a dot before three digits sets thousands apart: 5.000 is five thousand."""
    notes = []
    for i, name in enumerate(table.columns):
        if i in texts:
            continue
        column = pd.Series([row.cells[i] for row in body], dtype=object)
        if not column.str.contains(".", regex=False).any():
            continue
        values, bad = read_numbers(column, units=False, comma="decimal")
        if not bad.any() and not table[name].equals(pd.Series(values, table.index)):
            table[name] = values
            notes.append(f"column {name}: dots are read as thousands, for the file has decimal commas")
    return notes


def _comma(proved: dict[int, pd.Series], separator: str) -> str:
    """Say how the file writes a comma, by the columns that prove it: `decimal`, `thousands`, or nothing."""
    marks: set[str] = set().union(*(proven(column) for column in proved.values())) if proved else set()
    decimal, thousands = bool(marks & {",d", ".t"}), bool(marks & {",t", ".d"})
    if decimal != thousands:
        return "decimal" if decimal else "thousands"
    # Semicolons are what spreadsheets write where the comma is the decimal mark.
    return "decimal" if separator == ";" and not marks else ""


def _numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


_DIGITS = re.compile(r"[-+\u2212]?(\d[\d.,'\u2019 _\u00a0\u202f]*|[.,]\d+)([eE][-+\u2212]?\d+)?")


def _is_written(text: str, or_missing: bool = False) -> bool:
    return bool(_DIGITS.fullmatch(text)) or (or_missing and text.lower() in MISSING)
