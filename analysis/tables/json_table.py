"""JSON and JSON Lines as a table: records, columns, the orientations of pandas, one list inside an object."""

import json
from typing import Any

import pandas as pd

from analysis.errors import UserError

_SHAPES = "a list of objects, one object a line, or an object of columns"


def read_json(text: str) -> tuple[pd.DataFrame, list[list[int]]]:
    """Return the table, and for JSON Lines the spans [[row, line], ...] from which its rows count on.

    Objects inside a row give columns with dotted names (`config.lr`). UserError names the line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise UserError("the JSON is nested too deeply for a table") from None
    except ValueError as error:
        return _read_lines(text, error)
    return _frame(_records(value)), []


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which no name may stand twice: JSON lets the last one win in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        _once([name for name, _ in pairs])
    return found


def _read_lines(text: str, whole: ValueError) -> tuple[pd.DataFrame, list[list[int]]]:
    rows: list[Any] = []
    spans: list[list[int]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            if not rows:
                where = getattr(whole, "lineno", number)
                raise UserError(f"line {where}: not JSON ({getattr(whole, 'msg', whole)})") from None
            raise UserError(
                f"line {number}: not JSON; is the line half-written? mend it, or take it out"
            ) from None
        if not isinstance(value, dict):
            raise UserError(
                f'line {number}: {str(value)[:40]!r} is no object; a row is {{"params": ..., ...}}'
            )
        if not spans or number - len(rows) != spans[-1][1] - spans[-1][0]:
            spans.append([len(rows), number])
        rows.append(value)
    return _frame(rows), spans


def _records(value: Any) -> list[Any]:
    """The rows of a JSON value, as objects."""
    if isinstance(value, list):
        if wrong := next((i for i, row in enumerate(value) if not isinstance(row, dict)), None):
            raise UserError(
                f"entry {wrong + 1} of the list is {str(value[wrong])[:40]!r}; a table is {_SHAPES}"
            )
        if value and not isinstance(value[0], dict):
            raise UserError(f"entry 1 of the list is {str(value[0])[:40]!r}; a table is {_SHAPES}")
        return value
    if not isinstance(value, dict):
        raise UserError(f"the JSON is {str(value)[:40]!r}; a table is {_SHAPES}")
    if {"columns", "data"} <= set(value) and isinstance(value["data"], list):
        return _split(value["columns"], value["data"])
    lists = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)]
    if len(lists) == 1:
        return lists[0]
    if value and all(isinstance(column, list) for column in value.values()):
        return _columns(value)
    inner = list(value.values())
    if inner and all(isinstance(v, dict) for v in inner):
        numbered = all(str(key).isdigit() for v in inner for key in v)
        if numbered:
            return [
                {n: c.get(i) for n, c in value.items()} for i in dict.fromkeys(k for v in inner for k in v)
            ]
        if all(str(key).isdigit() for key in value):
            return inner
    elif not any(isinstance(v, dict | list) for v in inner) and inner:
        return [value]
    raise UserError(f"the JSON is an object of {', '.join(list(map(str, value))[:5])}; a table is {_SHAPES}")


def _split(columns: Any, data: list[Any]) -> list[Any]:
    for i, row in enumerate(data):
        if not isinstance(row, list) or not isinstance(columns, list) or len(row) != len(columns):
            raise UserError(f"row {i} of data does not have a value for each of the columns")
    _once([str(name) for name in columns])
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


def _columns(value: dict[str, list[Any]]) -> list[Any]:
    lengths = {name: len(column) for name, column in value.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:5])
        raise UserError(f"the columns differ in length ({said}); every column needs one value a row")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _frame(rows: list[Any]) -> pd.DataFrame:
    table = pd.DataFrame([_flat(row) for row in rows])
    table.columns = pd.Index([" ".join(str(name).split()) for name in table.columns])
    _once([str(name) for name in table.columns])
    return table


def _once(names: list[str]) -> None:
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise UserError(f"column {twice!r} appears twice; rename one of them")


def _flat(row: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat
