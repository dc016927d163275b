"""Score trained runs with the lm-evaluation-harness: `python -m lmscale.harness runs/cpu --tasks arc_easy --out
scores.csv`, a table that `python -m analysis emergence` reads. One row a run, task, filter and metric.
"""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmscale.durable import make_folder, replace
from lmscale.errors import UserError
from lmscale.family import parameter_conventions
from lmscale.schedule import TRUNK
from lmscale.spec import RunSpec
from lmscale.trained import find_run, finished, load_run
from lmscale.vocabulary import tokenizer_of

COLUMNS = (
    *("run_id", "kind", "outcome", "seed", "size", "params", "tokens", "flops"),
    *("task", "variant", "metric", "correct", "total", "score", "stderr", "chance"),
)


def rungs(folder: Path) -> tuple[list[Path], list[str]]:
    """List the runs of an experiment that can be scored, the smallest first, and why the others cannot; a run's own
    folder is one. Trunks are left out: their rate has not fallen."""
    if (folder / "spec.json").exists():
        finished(folder)
        return [folder], []
    found: list[tuple[int, str, Path]] = []
    left_out: list[str] = []
    for path in sorted(folder.glob("*/spec.json")):
        try:
            run = finished(path.parent)
        except UserError as error:
            left_out.append(str(error))
            continue
        if run.kind != TRUNK:
            found.append((run.dial, run.run_id, path.parent))
    if not found:
        raise UserError(
            left_out[0] if left_out else f"{folder}: no run stands there; give an experiment's folder"
        )
    return [path for _, _, path in sorted(found)], left_out


def score(
    folder: Path,
    tasks: Sequence[str],
    include: Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    corpora: Path | None = None,
) -> Mapping[str, Any]:
    """Score one run; returns what the harness does, with samples. include: a folder of YAML tasks of one's own.
    limit: the first items of each task alone. shots: examples before each. UserError for an unknown task."""
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        remedy = f"{sys.executable} -m pip install 'lmscale[harness]'"
        raise UserError(f"the lm-evaluation-harness is not installed ({error}); {remedy}") from error
    from tokenizers import Tokenizer

    from lmscale.harness_model import LmscaleLM

    manager = TaskManager(include_path=str(include) if include else None, include_defaults=include is None)
    if unknown := [name for name in tasks if not manager.match_tasks([name])]:
        known = sorted(manager.all_tasks)
        few = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise UserError(f"--tasks {unknown[0]}: no such task; there are {few or 'none'}")
    trained = load_run(folder)
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_of(folder, trained.config, corpora)))
    found = simple_evaluate(
        LmscaleLM(trained, tokenizer),
        tasks=list(tasks),
        num_fewshot=shots,
        limit=limit,
        bootstrap_iters=0,
        task_manager=manager,
    )
    assert isinstance(found, dict)
    return found


def rows(run: RunSpec, found: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Make rows of a run's samples, and name what is no mean of numbers in 0..1 over items, such as a perplexity:
    emergence cannot read that."""
    sizes = parameter_conventions(run.shape)
    about = {
        "run_id": run.run_id,
        "kind": run.kind,
        "outcome": "done",
        "seed": run.seed,
        "size": sizes["params_nonembedding"],
        "params": sizes["params"],
        "tokens": run.horizon_tokens,
        "flops": run.flops,
    }
    result, left_out = [], []
    for task, samples in found["samples"].items():
        chosen = found["configs"][task]["output_type"] == "multiple_choice"
        for variant in dict.fromkeys(sample["filter"] for sample in samples):
            mine = [sample for sample in samples if sample["filter"] == variant]
            for metric in mine[0]["metrics"]:
                values = [sample[metric] for sample in mine]
                if not all(isinstance(value, bool | int | float) and 0 <= value <= 1 for value in values):
                    left_out.append(f"{task}: {metric} is not a share of right answers")
                    continue
                guess = math.fsum(1 / len(sample["arguments"]) for sample in mine) / len(mine)
                result.append(
                    {
                        **about,
                        "task": task,
                        "variant": "" if variant == "none" else variant,
                        "metric": metric,
                        **_mean([float(value) for value in values]),
                        "chance": guess if chosen and metric in ("acc", "acc_norm") else None,
                    }
                )
    return result, left_out


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Counts where every item is right or wrong; else the mean and its standard error."""
    n, total = len(values), math.fsum(values)
    if set(values) <= {0.0, 1.0}:
        return {"correct": int(total), "total": n}
    mean = total / n
    return {
        "score": mean,
        "stderr": math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(1, n - 1) / n),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Score a run or an experiment; 0, or 2 with one line where it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m lmscale.harness", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="an experiment's folder, a run's, or a run's id")
    parser.add_argument("--tasks", required=True, help="names of tasks, a comma between them")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table, CSV")
    parser.add_argument(
        "--include-path", type=Path, metavar="DIR", help="tasks of one's own (YAML), and these alone"
    )
    parser.add_argument("--limit", type=int, help="only the first items of each task")
    parser.add_argument("--shots", type=int, help="examples before each item")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where an id is looked for (runs)")
    parser.add_argument("--corpora", type=Path, help="the folder of corpora, if it is elsewhere now")
    args = parser.parse_args(argv)
    try:
        folders, notes = rungs(find_run(args.run, args.runs))
        table: list[dict[str, Any]] = []
        for number, folder in enumerate(folders, 1):
            print(f"{number} of {len(folders)}: {folder}", file=sys.stderr)
            tasks = args.tasks.split(",")
            found = score(folder, tasks, args.include_path, args.limit, args.shots, args.corpora)
            scored, left_out = rows(finished(folder), found)
            table += scored
            notes += left_out
        for note in dict.fromkeys(notes):
            print(f"lmscale: left out: {note}", file=sys.stderr)
        if not table:
            raise UserError(
                f"--tasks {args.tasks}: no metric of them is a share of right answers; name others"
            )
        _write(args.out, table)
    except UserError as error:
        print(f"lmscale: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(
        f"wrote {args.out}: {len(table)} scores of {len(folders)} runs; python -m analysis emergence {args.out}"
    )
    return 0


def _write(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(table)
    make_folder(path.parent)
    replace(path, [text.getvalue().encode()])


if __name__ == "__main__":
    raise SystemExit(main())
