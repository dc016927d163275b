"""Fit a law of your own: name its parameters and bounds, write its equation, get the same search and intervals.

    python examples/own_law.py

Expect an objective some ten times that of chinchilla, the law that made this table.
"""

from pathlib import Path
from typing import Any

from analysis import fit, load_table, own_form

TABLE = Path(__file__).parent / "data" / "runs.csv"


def loss(p: Any, x: Any) -> Any:
    """L = E + G (N D)^-gamma: params and tokens as one product. Operators and numpy functions only."""
    return p.E + p.G * (x.params * x.tokens) ** -p.gamma


BOUNDS = {"E": (0.0, 5.0), "G": (1.0, 1e6), "gamma": (0.01, 1.0)}
LAW = own_form(loss, BOUNDS, name="product", equation="E + G (N D)^-gamma", linear=("E", "G"))


def main() -> None:
    table = load_table(TABLE, columns="params=N,tokens=D,loss=val_loss")
    for form in (LAW, "chinchilla"):
        law = fit(table, form=form, bootstrap=100)
        print(f"{law.form.name}: objective {law.value:.3g}, {law.status}")
        print(law.summary(), "\n")


if __name__ == "__main__":
    main()
