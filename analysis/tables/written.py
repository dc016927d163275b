"""Numbers as people and spreadsheets write them: 1,234,567 and 7,3289 and 5'000 and 350M and 25%.

A way of writing is settled by what the other values of the column prove; what stays open is not guessed.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.arrays import Array

MISSING = frozenset(
    [
        "-",
        "--",
        "---",
        "–",
        "—",
        ".",
        "?",
        "n/a",
        "na",
        "nan",
        "none",
        "null",
        "nil",
        "<na>",
        "#n/a",
        "#na",
        "-nan",
        "1.#ind",
        "1.#qnan",
        "nd",
        "n.d.",
        "n.a.",
        "missing",
    ]
) | {""}
_SCALES = {
    "": 1.0,
    "k": 1e3,
    "K": 1e3,
    "m": 1e6,
    "M": 1e6,
    "mn": 1e6,
    "b": 1e9,
    "B": 1e9,
    "bn": 1e9,
    "Bn": 1e9,
    "g": 1e9,
    "G": 1e9,
    "t": 1e12,
    "T": 1e12,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
}
_FLOP_SCALES = {
    "": 1.0,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Z": 1e21,
    "Y": 1e24,
}
_NUMBER = re.compile(
    r"(?P<sign>[-+\u2212]?)\s*(?:[$€£]\s*)?(?P<body>\d[\d.,'\u2019 _\u00a0\u202f]*|[.,]\d+)"
    r"(?P<exponent>[eEdD][-+\u2212]?\d+|\s?[x×*]\s?10\s?(?:\^|\*\*)\s?[-+\u2212]?\d+)?"
    r"\s*(?P<unit>%|[A-Za-z]*(?:\s(?:tokens?|params?|parameters))?)"
)
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:(?P<mark>[.,'\u2019 _\u00a0\u202f])\d{3})(?:(?P=mark)\d{3})*")
_SPACES = "'\u2019 _\u00a0\u202f"
_FLOP_UNIT = re.compile(r"([kKMGTPEZY]?)FLOPs?", re.ASCII)


def read_numbers(column: pd.Series, units: bool = True, comma: str = "") -> tuple[Array, np.ndarray]:
    """Return the numbers that the texts of a column stand for, NaN where empty, and a mask of what is none.

    `units` allows 350M, 1.2B, 3 ZFLOPs and 25% (which is .25). `comma` says how a single comma before three
    digits is to be read where the column itself does not prove it: `decimal`, `thousands`, or not at all. A
    zero needs no percent sign. Values that contradict each other in their marks are no numbers.
    """
    texts = column.astype(object).where(column.notna(), "").map(str).str.strip()
    missing = texts.str.lower().isin(MISSING).to_numpy(bool)
    values = pd.to_numeric(texts.where(~missing), errors="coerce").to_numpy(np.float64, copy=True)
    plain = ~np.isnan(values)
    bad = ~missing & ~plain
    if not bad.any() and not (comma == "decimal" and texts.str.contains(".", regex=False).any()):
        return values, bad
    marks = proven(texts[~missing])
    decimal = _decimal_mark(marks, comma)
    percent = texts.str.endswith("%").to_numpy(bool)
    mixed = percent.any() and bool((~percent & ~missing & (values != 0)).any())
    for i in np.flatnonzero(~missing):
        if plain[i] and "." not in texts.iloc[i]:
            continue
        value = None if mixed and percent[i] else _number(texts.iloc[i], decimal, units)
        values[i] = np.nan if value is None else value
        bad[i] = value is None
    return values, bad


def proven(texts: Iterable[str]) -> set[str]:
    """Return what the texts prove of their marks: `,d` (a decimal comma), `,t` (thousands), `.d`, `.t`."""
    marks: set[str] = set()
    for text in texts:
        match = _NUMBER.fullmatch(text)
        if match is None:
            continue
        body = match["body"].strip(_SPACES)
        for space in _SPACES:
            body = body.replace(space, "")
        dots, commas = body.count("."), body.count(",")
        if dots and commas:
            last = max(body.rfind("."), body.rfind(","))
            marks |= {f"{body[last]}d", (",t" if body[last] == "." else ".t")}
        elif dots or commas:
            mark = "." if dots else ","
            if dots + commas > 1:
                marks.add(f"{mark}t")
            elif not _GROUPED.fullmatch(body):
                marks.add(f"{mark}d")
    return marks


def _decimal_mark(marks: set[str], comma: str) -> str:
    """The decimal mark, or nothing where the values contradict each other or leave it open."""
    points_to_comma = bool(marks & {",d", ".t"})
    points_to_dot = bool(marks & {".d", ",t"})
    if points_to_comma and points_to_dot:
        return ""
    if points_to_comma:
        return ","
    if points_to_dot:
        return "."
    return {"decimal": ",", "thousands": "."}.get(comma, "?")


def _number(text: str, decimal: str, units: bool) -> float | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    body = match["body"].strip()
    thousands = {",": ".", ".": ","}.get(decimal, "")
    whole, point, fraction = body.partition(decimal) if decimal in (",", ".") else (body, "", "")
    if decimal not in (",", ".") and any(mark in body for mark in ".,"):
        # Open or contradictory: a dot alone is a point everywhere, anything else is not guessed.
        if decimal == "" or "," in body or body.count(".") > 1:
            return None
        whole, point, fraction = body.partition(".")
    grouped = _GROUPED.fullmatch(whole)
    if grouped and (grouped["mark"] in _SPACES or grouped["mark"] == thousands):
        whole = "".join(c for c in whole if c.isdigit())
    if not (whole.isdigit() or (whole == "" and point)) or not (fraction.isdigit() or fraction == ""):
        return None
    exponent = (match["exponent"] or "").replace("\u2212", "-").replace(" ", "")
    # D is Fortran's.
    exponent = re.sub(r"[x×*]10(?:\^|\*\*)|[dD]", "e", exponent)
    scale = _scale(match["unit"].strip(), units)
    if scale is None:
        return None
    value = float(f"{whole or '0'}.{fraction or '0'}{exponent}") * scale
    return -value if match["sign"] in ("-", "\u2212") and match["sign"] else value


def _scale(unit: str, units: bool) -> float | None:
    if unit == "":
        return 1.0
    if not units:
        return None
    if unit == "%":
        return 0.01
    if flop := _FLOP_UNIT.fullmatch(unit):
        return _FLOP_SCALES[flop[1]]
    return _SCALES.get(re.sub(r"\s?(tokens?|params?|parameters)$", "", unit))


def hint(value: object) -> str:
    """Say what is wrong with a text that stands where a number should."""
    text = str(value).strip()
    match = _NUMBER.fullmatch(text)
    if len(text) > 80:
        return "a text of several fields: is a quote left open above?"
    if text.startswith("#"):
        return "a spreadsheet's error: mend the formula"
    if match and match["unit"] == "%":
        return "other rows have no percent sign: write all of them as percentages, or none"
    if match and any(mark in match["body"] for mark in ".,"):
        return "thousands or decimals? write plain numbers, as in 1234567 and 7.3289"
    if match and match["unit"]:
        return f"the unit {match['unit']} is not known: give plain numbers"
    return "give plain numbers"
