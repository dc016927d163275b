"""Tables of databases: the table of a SQLite or DuckDB file, or one SELECT of a .sql file. Nothing is written."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import UserError

# Of several tables, the one of this name.
_PREFERRED = "runs"
_DATABASE = "-- database:"


def recognises(path: Path) -> bool:
    """Tell a database by its first bytes, and a query by its name and first word."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    return start.startswith(b"SQLite format 3\0") or start[8:12] == b"DUCK" or path.suffix.lower() == ".sql"


def read(path: Path) -> pd.DataFrame:
    """Read the table, or the rows of the query; UserError for several tables of which none is called runs."""
    if path.suffix.lower() == ".sql":
        return _query(path)
    with path.open("rb") as file:
        return _sqlite(path) if file.read(6) == b"SQLite" else _duckdb(path)


def opened(path: Path) -> sqlite3.Connection:
    """Open a SQLite file, to be read only: a server may have it open."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _sqlite(path: Path) -> pd.DataFrame:
    try:
        with closing(opened(path)) as database:
            listed = (
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
            )
            name = _chosen(path, [row[0] for row in database.execute(listed)])
            return pd.read_sql_query(f'SELECT * FROM "{name}"', database)
    except (sqlite3.Error, pd.errors.DatabaseError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: SQLite cannot read it ({' '.join(str(error).split())}): is it whole?"
        ) from None


def _duckdb(path: Path) -> pd.DataFrame:
    duckdb = _library(path)
    try:
        with duckdb.connect(str(path), read_only=True) as database:
            names = [
                row[0]
                for row in database.execute("SELECT table_name FROM information_schema.tables").fetchall()
            ]
            frame = database.execute(f'SELECT * FROM "{_chosen(path, names)}"').df()
    except duckdb.Error as error:
        raise UserError(f"{path}: DuckDB cannot read it ({' '.join(str(error).split())[:200]})") from None
    return pd.DataFrame(frame)


def _query(path: Path) -> pd.DataFrame:
    """Run one SELECT over the files beside it, and over the database that its first line may name."""
    duckdb = _library(path)
    text = path.read_text(encoding="utf-8")
    try:
        statements = duckdb.extract_statements(text)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UserError(
                f"{path}: one SELECT is run and nothing else; it holds {len(statements)} statements"
            )
        # Extensions would be fetched from the network.
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as database:
            database.execute("SET file_search_path = ?", [str(path.parent)])
            if text.startswith(_DATABASE):
                file = path.parent / text.partition("\n")[0].removeprefix(_DATABASE).strip()
                database.execute(f"ATTACH '{str(file).replace(chr(39), chr(39) * 2)}' AS given (READ_ONLY)")
                database.execute("USE given")
            return pd.DataFrame(database.execute(statements[0]).df())
    except duckdb.Error as error:
        raise UserError(f"{path}: DuckDB: {' '.join(str(error).split())[:300]}") from None


def _chosen(path: Path, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if _PREFERRED in names:
        return _PREFERRED
    held = f"tables {', '.join(sorted(names))}" if names else "no table"
    raise UserError(
        f"{path}: holds {held}; name one of them {_PREFERRED} (a view will do), or write a SELECT into a .sql file"
    )


def _library(path: Path) -> Any:
    try:
        import duckdb
    except ImportError:
        raise UserError(f"{path}: needs DuckDB: pip install 'lmscale[duckdb]'") from None
    return duckdb
