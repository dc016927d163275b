"""A total or a mean below the rows of a spreadsheet is no run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.tables.columns import row_name

_WORDS = frozenset(
    [
        "total",
        "totals",
        "sum",
        "sums",
        "mean",
        "means",
        "average",
        "averages",
        "avg",
        "median",
        "overall",
        "all",
        "subtotal",
        "std",
        "stdev",
    ]
)
_FEWEST = 4


def refuse_summary_row(table: pd.DataFrame, path: Path) -> None:
    """Raise UserError where the last row sums up the others: by its word, and by two columns' sums or means."""
    if len(table) < _FEWEST:
        return
    above, last = table.iloc[:-1].replace([np.inf, -np.inf], np.nan), table.iloc[-1]
    numeric = [
        n
        for n in table.columns
        if pd.api.types.is_numeric_dtype(table[n]) and not pd.api.types.is_bool_dtype(table[n])
    ]
    sums = sum(_is(last[n], above[n].sum()) and above[n].nunique() > 1 for n in numeric)
    words = [
        n for n in table.columns if n not in numeric and _word(last[n]) and not above[n].map(_word).any()
    ]
    middles = (lambda c: c.mean(), lambda c: c.median(), lambda c: c.std())
    means = sum(any(_is(last[n], middle(above[n])) for middle in middles) for n in numeric)
    vary = [n for n in numeric if above[n].nunique() > 1 and pd.notna(last[n])]
    all_means = len(vary) >= 2 and all(_is(last[n], above[n].mean()) for n in vary)
    if sums >= 2 or all_means or (words and sums + means):
        name = words[0] if words else vary[0]
        value = last[words[0]] if words else f"{last[name]:.17g}"
        quoted = name if str(name).isidentifier() else f"`{name}`"
        remedy = f"{quoted} != {value if not words else repr(value)}"
        raise UserError(
            f"{path}: {row_name(table, table.index[-1])}: {name} is {value}: the row sums up those above it "
            f'and is no run; take it out, or leave it out with --where "{remedy}"'
        )


def _is(value: Any, other: float) -> bool:
    return bool(np.isclose(float(value), other, rtol=1e-6, atol=0)) if pd.notna(value) else False


def _word(value: object) -> bool:
    return isinstance(value, str) and (value.strip().lower().removeprefix("grand ").rstrip(":") in _WORDS)
