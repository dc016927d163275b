"""The table of docs/world.md: task x rung over the seeds of a sweep. `python -m benchmarks.task_table [RUN]`.

RUN is a run folder, runs/cpu unless given. Each cell holds the score of every seed at its longest horizon; the
class seen, and the rung from which the score is above the shortcut, are those of `python -m analysis emergence`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd


def main(folder: Path) -> None:
    """Print the table as Markdown."""
    if not folder.is_dir():
        print(f"{folder} is not there: make sweep makes runs/cpu")
        return
    described: dict[str, Any] = {}
    rung_of: dict[int, int] = {}
    rows = []
    for outcome in sorted(folder.glob("*/outcome.json")):
        spec = json.loads((outcome.parent / "spec.json").read_text())
        if spec["kind"] == "trunk" or json.loads(outcome.read_text())["outcome"] != "done":
            continue
        described |= spec["tasks"]
        record = json.loads((outcome.parent / "records.jsonl").read_text().splitlines()[-1])
        about = {key: spec[key] for key in ("dial", "seed", "horizon_tokens")}
        inner = [count for group, count in spec["params"].items() if "embedding" not in group]
        rung_of[sum(inner)] = spec["dial"]
        rows += [
            {**about, "task": task, "variant": variant, "score": score["correct"] / score["n"]}
            for task, variants in record["tasks"].items()
            for variant, score in variants.items()
        ]
    table = pd.DataFrame(rows)
    longest = table.groupby(["dial", "seed"])["horizon_tokens"].transform("max")
    table = table[table["horizon_tokens"] == longest].sort_values("seed")
    cells = table.groupby(["task", "variant", "dial"])["score"].apply(
        lambda s: " ".join(f"{x:.2f}" for x in s)
    )
    wide = cells.unstack().fillna("")
    seen = _verdicts(folder)
    print(
        "| task, variant | "
        + " | ".join(f"d {dial}" for dial in wide)
        + " | chance | shortcut | beaten from | expected class | found |"
    )
    print("|---|" + "---|" * (len(wide.columns) + 5))
    for (task, variant), row in wide.iterrows():
        if variant not in described[task]["variants"]:
            continue  # examples of a row scored apart by what stands before them
        said = {**described[task], **described[task]["variants"][variant]}
        shortcut = f"{said['shortcut']:.2f} ({said['shortcut_by']})" if "shortcut" in said else ""
        verdict = seen.get((task, variant), {})
        beaten = verdict.get("beats_shortcut_from")
        values = [
            *row,
            f"{said['chance']:.2g}",
            shortcut,
            f"d {rung_of[round(beaten)]}" if beaten is not None else "",
            said["intended_class"],
            verdict.get("class", ""),
        ]
        print(f"| {task}, {variant} | " + " | ".join(values) + " |")


def _verdicts(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The verdict on each task and variant by its own metric, from the command line of analysis."""
    with tempfile.TemporaryDirectory() as name:
        answer = Path(name) / "emergence.json"
        command = [sys.executable, "-m", "analysis", "emergence", str(folder), "--json", str(answer)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        verdicts = json.loads(answer.read_text())["tasks"]
    return {(v["task"], v["variant"]): v for v in verdicts if v["metric"] == "exact_match"}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/cpu"))
