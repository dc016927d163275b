"""`python -m analysis watch FOLDER`: the page of a ladder that still trains, on this machine alone."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.verbs import Answer

if TYPE_CHECKING:
    import pandas as pd

# The folder may not be there yet.
TABLE = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of the address."""
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (one that is free)")


def run(table: "pd.DataFrame", args: argparse.Namespace) -> Answer:
    """Serve until Ctrl-C."""
    from analysis.watch.serve import Watch, server

    folder = Path(args.table)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: watch follows a folder of runs, runs/<experiment>; this is a file")
    # Whoever trains on this machine comes first.
    with contextlib.suppress(OSError):
        os.nice(10)
    serving = server(Watch(folder), args.port)
    waits = "" if folder.is_dir() else f"; {folder} is not there yet, and is waited for"
    print(f"http://127.0.0.1:{serving.server_port}/ (Ctrl-C ends it{waits})", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        serving.serve_forever()
    serving.server_close()
    return Answer({"folder": str(folder)}, "ended")
