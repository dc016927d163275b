"""From the lines of a text to rows of cells: which separator, which comments, drawn tables undressed.

Whether the rows make a table is `tables.delimited`'s business.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.errors import UserError

# Of two that fit alike the later one: a comma is the likeliest to stand inside a field.
_SEPARATORS = (",", "|", ";", "\t")
# Lines, and characters, that are looked at before the rest.
SNIFFED, BEGINNING = 200, 1 << 20
SEP_LINE = re.compile(r'"?sep=(.)"?[;,\t]*\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A line of the file (the first of a quoted field's lines) and its cells, blanks around them gone."""

    line: int
    cells: list[str]


def is_drawn(lines: Sequence[str]) -> bool:
    """Say whether the first lines are a table drawn with bars and rules: Markdown, or a database's print."""
    head = [line for line in lines[:60] if line.strip()][:4]
    return any(_is_rule(line) and "-" in line and ("|" in line or "+" in line) for line in head)


def _is_rule(line: str) -> bool:
    """Say whether a line holds nothing but bars and dashes, as below a header."""
    return not line.strip("|+-=: \t") and any(mark in line for mark in ("--", "==", "|-", "-|", ":-", "-:"))


def drawn_rows(lines: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a drawn table; prose before and after it is passed over."""
    begun = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if _is_rule(text):
            begun = True
        elif "|" in text:
            bare = text.removeprefix("|").removesuffix("|").replace("\\|", "\0")
            yield Row(number, [_undressed(cell.replace("\0", "|")) for cell in bare.split("|")])
        elif begun and text:
            # What follows a drawn table is prose.
            break


def _undressed(cell: str) -> str:
    """A cell without Markdown's stars and ticks around it."""
    text = cell.strip()
    for mark in ("**", "__", "`", "*"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            text = text[len(mark) : -len(mark)].strip()
    return text


def find_separator(lines: Sequence[str]) -> str:
    """Find the separator under which most of the first lines have one number of fields; else a comma."""
    head = [line for line in lines[: 4 * SNIFFED] if line.strip() and not line.lstrip().startswith("#")]
    head = head[:SNIFFED] or [line for line in lines if line.strip()][:SNIFFED]
    best, found = (0.0, 0), ","
    for separator in _SEPARATORS:
        counts = Counter(len(row) for row in csv.reader(head, delimiter=separator) if row)
        fields, lines_alike = counts.most_common(1)[0]
        score = (lines_alike / counts.total(), fields)
        if fields > 1 and score >= best:
            best, found = score, separator
    if best[1] == 0:
        first, *rest = [len(line.split()) for line in head]
        # The rows may be numbered where the header is not.
        if first > 1 and (set(rest) <= {first} or set(rest) == {first + 1}):
            return " "
    return found


def split_rows(lines: Sequence[str], separator: str) -> Iterator[Row]:
    """Yield the rows of the file; lines that begin with # are comments where most do not."""
    marked = sum(line.startswith("#") for line in lines)
    comments = 0 < marked <= sum(bool(line.strip()) for line in lines) / 2
    if comments:
        lines = _without_comments(lines, separator)
    if separator == " ":
        yield from (Row(number, line.split()) for number, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, skipinitialspace=True)
    before = 0
    try:
        for cells in reader:
            if cells:
                yield Row(before + 1, [_bare(cell) for cell in cells])
            before = reader.line_num
    except csv.Error as error:
        raise UserError(f"line {before + 1}: {error}; is a quote left open?") from None


def _bare(cell: str) -> str:
    """A cell on one line, without blanks around it, and without Excel's ="..." that keeps zeros in front."""
    text = cell.replace("\n", " ").strip()
    return text[2:-1] if text.startswith('="') and text.endswith('"') else text


def _without_comments(lines: Sequence[str], separator: str) -> list[str]:
    """The lines with comments blanked, but for one that names the columns of the numbers below it."""
    # "#,params,tokens" begins a header whose first name is a number sign.
    named = f"#{separator}" if separator != " " else "\0"
    kept = ["" if line.startswith("#") and not line.startswith(named) else line for line in lines]
    first = next((i for i, line in enumerate(kept) if line.strip()), None)
    above = [i for i in range(first or 0) if lines[i].startswith("#")]
    if first is not None and above:
        sep = None if separator == " " else separator
        names, cells = lines[above[-1]].lstrip("# ").split(sep), kept[first].split(sep)
        if len(names) == len(cells) and all(is_number(cell) for cell in cells):
            kept[above[-1]] = lines[above[-1]].lstrip("# ")
    return kept


def is_number(text: str) -> bool:
    """Say whether a text is a number as Python writes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
