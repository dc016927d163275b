"""Shapes and types that the numerical cores state, checked in every call of fits, forecasts and detections."""

import subprocess
import sys
from pathlib import Path

FITS = """
import conftest
conftest.check_shapes(besides=set())
from known_laws import made
from test_emergence import CURVES, scores
from test_isoflop import profiles
from analysis import emergence, extrapolate, isoflop
from analysis.fitting.fit import fit
for form in ("chinchilla", "kaplan", "farseer", "chinchilla6"):
    print(fit(made(form, 24, noise=0.01), form=form, bootstrap=8, regime="all").status)
table = made("chinchilla", 24, noise=0.01)
print(extrapolate(table, budgets=[1e22], bootstrap=20, form="chinchilla").status)
floor = {"floor": "prior", "floor_value": 1.8, "floor_error": 0.1, "floor_source": "made"}
print(fit(table, regime="auto", form="auto", **floor).status)
print(isoflop(profiles(), bootstrap=20).status)
print(len(emergence(scores(CURVES), draws=200).to_json()["tasks"]))
"""


def test_every_call_has_the_shapes_that_it_states() -> None:
    """In a process of its own, for modules are imported with checks or without. One form of each way to fit."""
    here = Path(__file__).resolve().parent
    done = subprocess.run([sys.executable, "-c", FITS], cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
