"""Shapes and types of the innermost functions: called too often for the other tests to check them."""

import subprocess
import sys
from pathlib import Path

FITS = """
import conftest
conftest.check_shapes(besides=set())
from known_laws import made
from analysis.fitting.fit import fit
for form in ("chinchilla", "kaplan", "farseer", "chinchilla6"):
    print(fit(made(form, 24, noise=0.01), form=form, bootstrap=8, regime="all").status)
"""


def test_every_call_of_a_fit_has_the_shapes_that_it_states() -> None:
    """In a process of its own, for modules are imported with checks or without. One form of each way to fit."""
    here = Path(__file__).resolve().parent
    done = subprocess.run([sys.executable, "-c", FITS], cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
