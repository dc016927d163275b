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
# Nobody puts a total below a million rows, and looking for one costs a second.
_FEWEST, _MOST = 4, 100_000


def refuse_summary_row(table: pd.DataFrame, path: Path) -> None:
    """Raise UserError where the last row sums up the others: by its word, and by two columns' sums or means."""
    if not _FEWEST <= len(table) <= _MOST:
        return
    above, last = table.iloc[:-1], table.iloc[-1]
    numeric = [
        n
        for n in table.columns
        if pd.api.types.is_numeric_dtype(table[n]) and not pd.api.types.is_bool_dtype(table[n])
    ]
    numeric = [n for n in numeric if pd.notna(last[n]) and above[n].min() < above[n].max()]
    finite = {n: above[n].to_numpy(float)[np.isfinite(above[n].to_numpy(float))] for n in numeric}
    sums = sum(_is(last[n], float(finite[n].sum())) for n in numeric)
    words = [
        n for n in table.columns if n not in numeric and _word(last[n]) and not above[n].map(_word).any()
    ]
    middles = (np.mean, np.median, lambda values: np.std(values, ddof=1))
    means = words and sum(any(_is(last[n], float(middle(finite[n]))) for middle in middles) for n in numeric)
    all_means = len(numeric) >= 2 and all(_is(last[n], float(finite[n].mean())) for n in numeric)
    if sums >= 2 or all_means or (words and (sums or means)):
        name = words[0] if words else numeric[0]
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
