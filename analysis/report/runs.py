"""Write what the report says of the runs: the rungs, what was lost, every row left out, each run."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.figures import style
from analysis.report import html
from analysis.report.answer import named
from analysis.report.findings import Findings
from analysis.tables.finished import horizon_of, last_rows

_MOST_ROWS = 2000
_MOST_RUNGS = 200
# Longer tables are folded.
_MOST_OPEN = 40
_MOST_NAMES = 40
# Names under which tables keep the learning rate.
_RATES = ("learning_rate", "lr")


def runs_section(found: Findings) -> html.Section:
    """Show the rungs, the runs that were lost, the rows left out, and all runs folded."""
    runs = _numeric(last_rows(found.table))
    parts = [
        html.paragraph(_count_sentence(found, runs)),
        *_lost(found),
        _rungs(found, runs),
        _all_runs(runs),
    ]
    return html.Section("Runs", html.joined(*parts))


def left_out_section(found: Findings) -> html.Section:
    """List every row that no law was fitted to, by reason, counted and named."""
    if not found.left_out:
        return html.Section("Rows left out", html.paragraph(f"None of the {len(found.whole)} rows."))
    said = [
        f"{len(left.rows)}: {left.reason} ({named(found, left, _MOST_NAMES)})." for left in found.left_out
    ]
    count = sum(len(left.rows) for left in found.left_out)
    counted = f"{count} of {len(found.whole)} rows; laws are fitted to the other {len(found.rows)}."
    return html.Section("Rows left out", html.joined(html.paragraph(counted), html.bullets(said)))


def _count_sentence(found: Findings, runs: pd.DataFrame) -> str:
    if found.source.is_folder and "outcome" in runs.columns:
        outcomes = ", ".join(f"{count} {name}" for name, count in runs["outcome"].value_counts().items())
        return f"{len(runs)} runs, trunks and their branches each counted: {outcomes}."
    if len(runs) < len(found.table):
        return f"{len(found.table)} rows of {len(runs)} runs, by the column run_id."
    return f"{len(runs)} rows, each taken as a run."


def _lost(found: Findings) -> list[Markup]:
    if "outcome" not in found.table.columns:
        return []
    if found.lost.empty:
        return [html.paragraph("No run diverged or failed.")]
    return [
        html.paragraph("What was lost, and why:"),
        html.bullets(_loss_of(run) for run in _records(found.lost)),
    ]


def _loss_of(run: dict[str, Any]) -> str:
    name = run.get("run_id", "a run")
    seed = f", seed {run['seed']}" if "seed" in run else ""
    reason = run.get("reason")
    return (
        f"{name}: {run['outcome']} at {_count(run.get('tokens'))} tokens, {_count(run.get('params'))} "
        f"parameters{seed}: {reason if isinstance(reason, str) and reason else 'no reason was written'}"
    )


def _rungs(found: Findings, runs: pd.DataFrame) -> Markup:
    """Tabulate each size and horizon: N in every count that the table has, D, C, rate, seeds and outcomes.

    C and the loss are of the runs that laws are fitted to.
    """
    if "kind" in runs.columns:
        runs = runs[runs["kind"].ne("trunk")]
    used = found.rows.groupby([found.rows["params"], horizon_of(found.rows)]).groups
    others = "params_nonembedding" in runs.columns and not runs["params"].equals(runs["params_nonembedding"])
    rate = next((name for name in _RATES if name in runs.columns), None)
    rows = []
    rungs = runs.groupby([runs["params"], horizon_of(runs)])
    for (params, tokens), group in itertools.islice(rungs, _MOST_RUNGS):
        row = [_count(params)]
        row += [_span(group["params_nonembedding"], style.count)] if others else []
        kept = found.rows.loc[used.get((params, tokens), [])]
        row += [_count(tokens), _span(kept["flops"], style.power)]
        row += [_span(group[rate], lambda v: f"{v:.3g}")] if rate else []
        row += [_listed(group["seed"])] if "seed" in group.columns else []
        row.append(_outcomes(group))
        rows.append([*row, _span(kept["loss"], lambda v: f"{v:.4g}")])
    if not rows:
        return Markup()
    header = ["N", *["N without embeddings"] * others, "D", "C (FLOPs)", *["rate"] * (rate is not None)]
    header += [*["seeds"] * ("seed" in runs.columns), "runs", "loss"]
    more = f" (the first {_MOST_RUNGS} of {rungs.ngroups})" if rungs.ngroups > _MOST_RUNGS else ""
    title = f"Rungs and horizons{more}"
    if len(rows) > _MOST_OPEN:
        return html.folded(title, html.table(header, rows))
    return html.table(header, rows, name=title)


def _outcomes(group: pd.DataFrame) -> str:
    if "outcome" not in group.columns:
        return str(len(group))
    return ", ".join(f"{count} {name}" for name, count in Counter(group["outcome"].astype(str)).items())


def _all_runs(runs: pd.DataFrame) -> Markup:
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        "run_id": ("run", str),
        "kind": ("kind", str),
        "params": ("N", _count),
        "tokens": ("D", _count),
        "flops": ("C (FLOPs)", lambda v: style.power(v) if _is_number(v) else "-"),
        "seed": ("seed", str),
        "learning_rate": ("rate", html.number),
        "outcome": ("outcome", str),
        "skipped_steps": ("skipped steps", _count),
        "loss": ("loss", lambda v: html.number(v, 4)),
    }
    there = [name for name in columns if name in runs.columns]
    order = runs.sort_values(["params", "tokens"], kind="stable").head(_MOST_ROWS)
    rows = [[columns[name][1](run[name]) for name in there] for run in _records(order[there])]
    more = f" (the first {_MOST_ROWS})" if len(runs) > _MOST_ROWS else ""
    ids = [f"run-{name}" for name in order["run_id"]] if "run_id" in there else []
    return html.folded(f"All runs{more}", html.table([columns[name][0] for name in there], rows, ids))


def _numeric(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with their counts as numbers, NaN where a cell holds none."""
    names = ("params", "tokens", "flops", "loss", "params_nonembedding", *_RATES)
    return runs.assign(
        **{
            name: pd.to_numeric(runs[name], errors="coerce").astype(float)
            for name in names
            if name in runs.columns
        }
    )


def _records(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in run.items()} for run in runs.to_dict("records")]


def _span(column: "pd.Series[float]", write: Any) -> str:
    """Write the values of a column: one, or the least and the greatest."""
    values = column[np.isfinite(column)]
    if values.empty:
        return "-"
    low, high = write(float(values.min())), write(float(values.max()))
    return low if low == high else f"{low} to {high}"


def _listed(column: "pd.Series[Any]", most: int = 6) -> str:
    names = sorted({str(v) for v in column.dropna()}, key=lambda name: (len(name), name))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _count(value: Any) -> str:
    return style.count(float(value)) if _is_number(value) else "-"
