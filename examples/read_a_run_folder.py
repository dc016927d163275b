"""Read what a sweep wrote: one table of runs and evaluations, one of task scores, and the records themselves.

    python examples/read_a_run_folder.py runs/cpu

Expect a row a run: its id, N, D, C and the loss of its last evaluation.
"""

import json
import sys
from pathlib import Path

from analysis import load_table


def main(folder: Path) -> None:
    table = load_table(folder)
    last = table[table["final"] & table["outcome"].eq("done")]
    print(last[["run_id", "params", "tokens", "flops", "seed", "loss"]].to_string(index=False))
    tasks = load_table(folder, kind="tasks")
    print(f"{len(tasks)} task scores of {tasks['task'].nunique()} tasks")
    # The files behind the table are plain: spec.json says what a run is, records.jsonl how it went.
    run = folder / str(last["run_id"].iloc[0])
    spec = json.loads((run / "spec.json").read_text())
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    print(f"{run.name}: seed {spec['seed']}, {len(records)} evaluations, loss {records[-1]['loss']}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/cpu"))
