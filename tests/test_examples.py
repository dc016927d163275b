"""The examples do what their first lines say."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
EXPECTED = {
    "fit_a_table.py": ["chinchilla: L = E + A / N^alpha", "alpha = 0.3", "1e+23"],
    "own_law.py": ["product: objective 0.00095", "chinchilla: objective 7.55e-05"],
    "csv_to_report.py": ["Forecast ", "Report: report/index.html"],
    "emergence_of_a_table.py": ["three_digit_addition  emergent", "smooth", "flat", "jumps at"],
    "network_variant.py": ["dense: ", "squared_glu: "],
    "read_a_run_folder.py": ["6f63641f4cbc: seed 3, 2 evaluations"],
}


SLOW = ("csv_to_report.py", "network_variant.py")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=pytest.mark.slow if path.name in SLOW else ())
        for path in sorted(EXAMPLES.glob("*.py"))
    ],
)
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    arguments = []
    if name == "read_a_run_folder.py":  # reading leaves a cache in the folder
        arguments = [str(shutil.copytree(ROOT / "tests" / "golden", tmp_path / "golden"))]
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in EXPECTED[name]:
        assert words in done.stdout


def test_the_tables_are_those_that_their_script_makes() -> None:
    space: dict[str, object] = {"__file__": str(EXAMPLES / "data" / "make.py"), "__name__": "made"}
    exec((EXAMPLES / "data" / "make.py").read_text(), space)
    for name in ("runs", "scores"):
        made = space[name]()  # type: ignore[operator]
        pd.testing.assert_frame_equal(made, pd.read_csv(EXAMPLES / "data" / f"{name}.csv"))
