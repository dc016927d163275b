"""Compare expected classes with those found, for docs/emergence.md: `python -m benchmarks.emergence_sweep [RUN]`.

RUN is a run folder, runs/cpu unless given. Found over all seeds together, and from each seed's runs alone.
"""

import sys
from pathlib import Path

from analysis import emergence, load_table
from analysis.detection.verdict import Verdict
from analysis.figures import style
from analysis.tables.finished import finished_rows
from analysis.tables.run_folder import answer_lengths


def main(folder: Path) -> None:
    """Print the table as Markdown."""
    if not folder.is_dir():
        print(f"{folder} is not there: make sweep makes runs/cpu")
        return
    rows, _ = finished_rows(load_table(str(folder), kind="tasks"), longest=True)
    lengths = answer_lengths(folder)

    def verdicts(seed: int | None) -> dict[tuple[str, str, str], Verdict]:
        mine = rows if seed is None else rows[rows["seed"] == seed]
        found = emergence(mine, lengths=lengths).tasks
        return {(v.curve.task, v.curve.variant, v.curve.metric): v for v in found}

    together, seeds = verdicts(None), sorted(rows["seed"].unique())
    alone = [verdicts(seed) for seed in seeds]
    sizes = [rows[rows["seed"] == seed]["size"].nunique() for seed in seeds]
    heads = [f"seed {seed} ({count} sizes)" for seed, count in zip(seeds, sizes, strict=True)]
    columns = ["task, variant", "expected class", "found", "threshold (90%)", "p", "p_break", *heads]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    expected = rows.drop_duplicates(["task", "variant"]).set_index(["task", "variant"])["intended_class"]
    for key, verdict in together.items():
        where = ""
        if verdict.threshold is not None and verdict.threshold_interval is not None:
            low, high = map(style.count, verdict.threshold_interval)
            where = f"{style.count(verdict.threshold)} ({low} to {high})"
        exact = key[2] in ("", "exact_match")
        name = ", ".join(key[:2]) + ("" if exact else f" ({key[2].replace('_', ' ')})")
        found = [verdict.label, where, f"{verdict.p_value:.2g}", f"{verdict.p_break:.2g}"]
        found += [one[key].label if key in one else "" for one in alone]
        print(f"| {name} | {expected[key[:2]] if exact else ''} | " + " | ".join(found) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/cpu"))
