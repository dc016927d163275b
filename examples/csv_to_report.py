"""From your own CSV to a page that can be sent on: the largest run is held out, predicted, and compared.

    python examples/csv_to_report.py [runs.csv [FOLDER]]

Expect report/index.html, whose first line is the forecast of the largest run from those with 1/30 of its compute.
The same in a shell: python -m analysis report runs.csv --columns params=N,tokens=D,loss=val_loss --out report
"""

import sys
from pathlib import Path

from analysis.cli import main as analysis

TABLE = Path(__file__).parent / "data" / "runs.csv"


def main(path: Path = TABLE, folder: Path = Path("report")) -> int:
    columns = "params=N,tokens=D,loss=val_loss"
    return analysis(["report", str(path), "--columns", columns, "--out", str(folder)])


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:3])))
