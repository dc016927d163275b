"""Which tasks jump at a size: a table with a row a task, size and seed.

    python examples/emergence_of_a_table.py [scores.csv]

Expect three_digit_addition emergent between 5e8 and 3e9, trivia smooth, coin_flips flat (examples/data/make.py).
"""

import sys
from pathlib import Path

from analysis import emergence, load_table

TABLE = Path(__file__).parent / "data" / "scores.csv"


def main(path: Path = TABLE) -> None:
    found = emergence(load_table(path, kind="tasks", columns="size=N"))
    print(found.summary())
    for verdict in found.tasks:
        if verdict.label == "emergent":
            low, high = verdict.threshold_interval
            print(
                f"{verdict.curve.task} jumps at {verdict.threshold:.2g} parameters, 90% {low:.2g} to {high:.2g}"
            )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
