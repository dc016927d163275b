"""Load a folder of runs or a file into one table: read, renamed, filtered, its numbers made numbers.

Columns keep their names: params, tokens, flops, loss, unique_tokens, weight, ... What a run
folder holds is `tables.run_folder`' business; what a verb needs of the columns is the verb's.
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.errors import UserError, shortened
from analysis.sources.registry import read_source, source_of
from analysis.sources.run import Source
from analysis.sources.runs_table import runs_table
from analysis.sources.values import names_of
from analysis.tables.cache import is_experiment, load_experiment
from analysis.tables.columns import ROW, with_numbers
from analysis.tables.files import read_file
from analysis.tables.renaming import parse_columns, with_both_names, without_old_names
from analysis.tables.run_folder import is_run
from analysis.tables.science import with_science
from analysis.tables.summary_rows import refuse_summary_row
from analysis.tables.where import column_names, keep_rows

Kind = Literal["runs", "tasks"]


def load_table(
    source: str | Path,
    kind: Kind = "runs",
    columns: str = "",
    where: str = "",
    same: str = "",
    *,
    partial: bool = False,
    source_kind: str = "",
    loss_at: str = "last",
) -> pd.DataFrame:
    r"""Return the rows of `source` after renaming (`params=N,tokens=D`) and then filtering (`flops < 1e21`).

    `source` is a folder of runs (`runs/<experiment>`, or one run), or a file: CSV and its kin (semicolons,
    tabs, Markdown), JSON, JSON Lines, each also compressed, or Parquet; or what a tracker, a trainer or a
    harness wrote (docs/imports.md), of the kind that `source_kind` forces, `loss_at` being last, min or mean:K.
    `kind` matters for a folder of runs only: `runs` is one row a run and evaluation, `tasks` one row a run,
    evaluation, task and variant. `where` may use old and new names. `same` names columns that must agree over
    the rows of one fit (`tables.science`); with `partial`, renamings of columns that are not there are passed
    over.

    What was found wrong without being fatal (a corrupt line, lines left out, a table that had to be rebuilt)
    is in `table.attrs["problems"]`, a list of sentences, what was taken for what of a tracker's runs in
    `table.attrs["took"]`, and where the table came from in `table.attrs["source"]`. Raises UserError for a
    file that is missing, unreadable or empty, for columns that are not there and for a filter that leaves
    nothing.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from analysis import load_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "runs.csv"
    ...     _ = path.write_text("N,D,loss\n1e6,2e7,4.1\n4e6,1e8,3.4\n")
    ...     load_table(path, columns="params=N,tokens=D", where="D > 5e7")["params"].tolist()
    [4000000.0]
    """
    path = Path(source)
    try:
        there = path.exists()
    except (OSError, ValueError) as error:
        raise UserError(f"{str(source)[:80]!r}: not the name of a table: {error}") from None
    if not there:
        raise UserError(f"{path}: no such file or folder; name a folder of runs, a CSV or a Parquet file")
    foreign = source_of(path, source_kind) if source_kind or not is_run_folder(path) else None
    if foreign:
        table, columns = _read_foreign(path, foreign, columns, partial, loss_at)
    else:
        table = load_experiment(path, kind) if path.is_dir() else read_file(path)
    attrs = table.attrs
    problems = list(attrs["problems"])
    if table.empty:
        nothing = "no task has been scored yet" if kind == "tasks" else "no run can be read"
        why = f" ({problems[0]})" if problems else ""
        raise UserError(f"{path}: {nothing if path.is_dir() else 'the table has no rows'}{why}")
    renames = parse_columns(columns, table, partial=partial) if columns else {}
    table = with_both_names(table, renames)
    table, notes = with_numbers(table, besides=tuple(renames.values()))
    if where:
        table = _filtered(table, where)
    table = with_science(without_old_names(table, renames), same)
    if not (path.is_dir() or foreign):
        refuse_summary_row(table, path)
    table.attrs = {"took": [], **attrs, "source": str(source), "problems": problems + notes}
    return table


def _read_foreign(
    path: Path, source: Source, columns: str, partial: bool, loss_at: str
) -> tuple[pd.DataFrame, str]:
    """Return the table of a foreign source, and the renamings still to be done: those of a table of scores."""
    read = read_source(path, source)
    if isinstance(read, pd.DataFrame):
        read.attrs = {"took": [], "problems": [], **read.attrs}
        return read, columns
    names = pd.DataFrame(columns=names_of(read))
    asked = parse_columns(columns, names, partial=partial, products=True) if columns else {}
    try:
        return runs_table(read, asked, loss_at), ""
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def is_run_folder(source: str | Path) -> bool:
    """Say whether `source` is a folder of runs (and so has tasks, a report folder and execution files)."""
    path = Path(source)
    return path.is_dir() and (is_experiment(path) or is_run(path))


def _filtered(table: pd.DataFrame, where: str) -> pd.DataFrame:
    kept = table[keep_rows(table, where)]
    if kept.empty:
        spans = [_span(table[name]) for name in column_names(where, table)[:3]]
        raise UserError(
            f"--where {where!r}: keeps none of the {len(table):,} rows; {'; '.join(spans) or 'widen it'}"
        )
    # The rows of a text file keep their numbers, which are lines.
    return kept if kept.index.name == ROW else kept.reset_index(drop=True)


def _span(column: pd.Series) -> str:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return f"{column.name} runs from {column.min():.6g} to {column.max():.6g}"
    return f"{column.name} is one of {shortened([str(v) for v in column.unique()[:7]], 6)}"


def tasks_of(table: str) -> pd.DataFrame | None:
    """Read the task scores of a run folder; None where there are none."""
    if not is_run_folder(table):
        return None
    try:
        return load_table(table, kind="tasks")
    except UserError:
        return None
