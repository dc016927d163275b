"""`python -m analysis import SOURCE --out runs.parquet`: other people's runs as a table that every verb reads."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from analysis.errors import UserError
from analysis.sources.kinds import KINDS
from analysis.tables.atomic import check_target, write_whole
from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd

_ENDINGS = (".parquet", ".csv", ".jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `import`."""
    add = parser.add_argument
    add("--out", metavar="FILE", type=_target, help="write the table there: .parquet, .csv or .jsonl")
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    add(
        "--source",
        dest="source_kind",
        metavar="KIND",
        default="",
        help=f"what it is, where it is not seen ({kinds})",
    )
    add(
        "--loss-at",
        metavar="last|min|mean:K",
        default="last",
        help="a run's loss: its last, its least, or the mean of its last K evaluations (last)",
    )


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Write the table, and say what was taken for what."""

    if args.out:
        _write(table, args.out)
    runs = int(table["run_id"].nunique()) if "run_id" in table else None
    finals = int(table["final"].sum()) if "final" in table and table["final"].dtype == bool else None
    counted = [f"{len(table):,} rows", *([f"of {runs:,} runs"] if runs else [])]
    counted += [f"{finals:,} of them ends"] if finals is not None else []
    lines = [", ".join([" ".join(counted[:2]), *counted[2:]]), *table.attrs["took"]]
    lines.append(f"wrote {args.out}" if args.out else "nothing is written without --out FILE")
    answer = {
        "rows": len(table),
        "runs": runs,
        "final_rows": finals,
        "columns": list(map(str, table.columns)),
        "took": table.attrs["took"],
        "problems": table.attrs["problems"],
        "out": str(args.out) if args.out else None,
    }
    return Answer(answer, "\n".join(lines))


def _target(name: str) -> Path:
    path = Path(name)
    if path.suffix not in _ENDINGS:
        raise UserError(f"--out {path}: the name must end in {', '.join(_ENDINGS)}")
    check_target("--out", path)
    return path


def _write(table: "pd.DataFrame", path: Path) -> None:
    """Write the table whole or not at all, in the form that the name's ending asks for."""
    plain = table.reset_index(drop=True)
    plain.attrs = {}

    def write(file: BinaryIO) -> None:
        if path.suffix == ".parquet":
            plain.to_parquet(file, index=False)
        elif path.suffix == ".csv":
            file.write(plain.to_csv(index=False).encode())
        else:  # pandas' own JSON rounds: the import must give what a fit of the source gives
            rows = plain.astype(object).where(plain.notna(), None).to_dict("records")
            file.writelines(f"{json.dumps(row)}\n".encode() for row in rows)

    try:
        write_whole(path, write)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}); name another") from None
