"""Load a folder of runs, a CSV or a Parquet file into one table.

Columns keep the names of DESIGN.md: params, tokens, flops, loss, unique_tokens, weight, ... What a run
folder holds is `tables.run_folder`' business; what a verb needs of the columns is the verb's.
"""

from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import UserError
from analysis.tables.cache import is_experiment, load_experiment
from analysis.tables.run_folder import is_run
from analysis.tables.where import column_names, keep_rows, no_such_column, shortened

Kind = Literal["runs", "tasks"]


def load_table(source: str | Path, kind: Kind = "runs", columns: str = "", where: str = "") -> pd.DataFrame:
    """The rows of `source` after renaming (`params=N,tokens=D`) and then filtering (`flops < 1e21`).

    `source` is a folder of runs (`runs/<experiment>`, or one run), a CSV (also .gz, .bz2, .xz, .zip) or a
    Parquet file. `kind` matters for a folder only: `runs` is one row a run and evaluation, `tasks` one row a
    run, evaluation, task and variant. What was found wrong without being fatal (a corrupt line, a table that
    had to be rebuilt) is in `table.attrs["problems"]`, a list of sentences, and where the table came from in
    `table.attrs["source"]`. Raises UserError for a file that is missing, unreadable or empty, for columns
    that are not there and for a filter that leaves nothing.
    """
    path = Path(source)
    try:
        there = path.exists()
    except (OSError, ValueError) as error:
        raise UserError(f"{str(source)[:80]!r}: not the name of a table: {error}") from None
    if not there:
        raise UserError(f"{path}: no such file or folder; name a folder of runs, a CSV or a Parquet file")
    problems: list[str] = []
    if path.is_dir():
        table, problems = load_experiment(path, kind)
    else:
        table = _read_file(path)
    if table.empty:
        nothing = "no task has been scored yet" if kind == "tasks" else "no run can be read"
        why = f" ({problems[0]})" if problems else ""
        raise UserError(f"{path}: {nothing if path.is_dir() else 'the table has no rows'}{why}")
    if columns:
        table = _renamed(table, columns)
    if where:
        table = _filtered(table, where)
    table.attrs = {"source": str(source), "problems": problems}
    return table


def is_run_folder(source: str | Path) -> bool:
    """Whether `source` is a folder of runs (and so has tasks, a report folder and execution files)."""
    path = Path(source)
    return path.is_dir() and (is_experiment(path) or is_run(path))


def _read_file(path: Path) -> pd.DataFrame:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            table = pq.read_table(path).to_pandas()
        elif path.suffix == ".parquet":
            raise UserError(
                f"{path}: not a Parquet file (its first bytes are {magic!r}); is it half-written?"
            )
        else:
            table = _with_huge_counts(pd.read_csv(path, low_memory=False, skipinitialspace=True))
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, pa.ArrowException, UnicodeDecodeError, OSError, EOFError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"{path}: cannot be read as a table: {reason[:200]}") from None
    twice = table.columns[table.columns.duplicated()].tolist()
    if twice:
        raise UserError(f"{path}: column {str(twice[0])!r} appears twice; rename one of them in the file")
    return table


def _with_huge_counts(table: pd.DataFrame) -> pd.DataFrame:
    """FLOPs written as whole numbers beyond 64 bits are read as text: make such a column floating again."""
    for name in table.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]]:
        first = str(table[name].iloc[0]) if len(table) else ""
        if first.strip().lstrip("+-").isdigit():
            numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
            if not (numbers.isna() & table[name].notna()).any():
                table[name] = numbers
    return table


def _renamed(table: pd.DataFrame, columns: str) -> pd.DataFrame:
    """`--columns params=N`: the column N under the name params; one column may serve under two names.

    A column that already had the new name gives way: a person who writes params=N_total means that one.
    """
    renames: dict[str, str] = {}
    for item in columns.split(","):
        name, equals, column = (part.strip() for part in item.partition("="))
        if not (name and equals and column):
            raise UserError(f"--columns {item.strip()!r}: write NAME=COLUMN, e.g. params=N,tokens=D")
        if name in renames:
            raise UserError(f"--columns: {name!r} is given twice ({renames[name]} and {column})")
        if column not in table.columns:
            raise no_such_column(column, table.columns, f"--columns {name}={column}")
        renames[name] = column
    kept = table.drop(columns=[c for c in {*renames.values(), *renames} if c in table.columns])
    return kept.assign(**{name: table[column] for name, column in renames.items()})


def _filtered(table: pd.DataFrame, where: str) -> pd.DataFrame:
    kept = table[keep_rows(table, where)].reset_index(drop=True)
    if kept.empty:
        spans = [_span(table[name]) for name in column_names(where, table)[:3]]
        raise UserError(
            f"--where {where!r}: keeps none of the {len(table):,} rows; {'; '.join(spans) or 'widen it'}"
        )
    return kept


def _span(column: pd.Series) -> str:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return f"{column.name} runs from {column.min():.6g} to {column.max():.6g}"
    return f"{column.name} is one of {shortened([str(v) for v in column.unique()[:7]], 6)}"
