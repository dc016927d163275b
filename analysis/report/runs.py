"""What the report says of the runs: each of them, the conventions, the versions, the commands that made it."""

import importlib.metadata
import json
import math
import platform
import shlex
from collections import Counter
from pathlib import Path

import numpy as np

from analysis.figures import style
from analysis.report import html
from analysis.report.findings import FORM, REGIME, Findings
from analysis.tables.finished import compute_column, last_rows

_MOST_ROWS = 2000
_LIBRARIES = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib")


def runs_section(found: Findings) -> str:
    table = found.table
    if "run_id" not in table.columns:
        return html.section("Rows", html.paragraph(f"{len(table)} rows, all of them taken as finished runs."))
    runs = last_rows(table)
    outcomes = ", ".join(f"{count} {name}" for name, count in runs["outcome"].value_counts().items())
    parts = [html.paragraph(f"{len(runs)} runs, trunks and their branches each counted: {outcomes}.")]
    if len(found.lost):
        parts.append(html.paragraph("What was lost, and why:"))
        parts.append(
            html.bullets(
                f"{run['run_id']}: {run['outcome']} at {_count(run['tokens'])} tokens, "
                f"{_count(run['params'])} parameters, seed {run['seed']}: "
                f"{run['reason'] if isinstance(run['reason'], str) else 'no reason was written'}"
                for run in found.lost.to_dict("records")
            )
        )
    else:
        parts.append(html.paragraph("No run diverged or failed."))
    header = ("run", "kind", "N", "D", "C (FLOPs)", "seed", "rate", "outcome", "skipped steps", "loss")
    rows = [
        (
            r["run_id"],
            r["kind"],
            _count(r["params"]),
            _count(r["tokens"]),
            style.power(r["flops"]),
            r["seed"],
            html.number(r["learning_rate"]),
            r["outcome"],
            _count(r["skipped_steps"]),
            html.number(r["loss"], 4),
        )
        for r in runs.sort_values(["params", "tokens", "seed"]).head(_MOST_ROWS).to_dict("records")
    ]
    more = f" (the first {_MOST_ROWS})" if len(runs) > _MOST_ROWS else ""
    parts.append(html.folded(f"All runs{more}", html.table(header, rows)))
    return html.section("Runs", *parts)


def conventions_section(found: Findings) -> str:
    table, rows = found.table, found.rows
    said = [
        f"N: the column params{', all parameters with embeddings' if 'run_id' in table else ''}. "
        f"D: tokens of a run. C: {compute_column(table)}."
    ]
    if {"flops", "flops_6nd", "params_nonembedding"} <= set(rows.columns) and len(rows):
        ratio = rows["flops"] / rows["flops_6nd"]
        share = rows["params_nonembedding"] / rows["params"]
        said.append(
            "Exact C is three times the forward pass's matrix products; here it is "
            f"{ratio.min():.2f} to {ratio.max():.2f} times 6ND. Parameters without embeddings are "
            f"{share.min():.0%} to {share.max():.0%} of N. Exponents change with the convention: the "
            "table has all of them (flops_6nd, flops_6nd_nonembedding, params_nonembedding, ...)."
        )
    if "unique_tokens" in rows.columns and rows["unique_tokens"].notna().any():
        repeats = (rows["tokens"] / rows["unique_tokens"]).max()
        said.append(
            f"Unique tokens: {style.count(float(rows['unique_tokens'].max()))}; the longest run draws "
            f"{repeats:.2g} times as many (all components together)."
        )
    if found.noise is not None:
        said.append(
            f"Seeds of one size and horizon differ by {found.noise:.2%} of the loss (standard deviation)."
        )
    said.append(f"Forecasts: form={FORM}, regime={REGIME}; the defaults otherwise.")
    said.append(f"Versions: {_versions(found)}.")
    quoted = shlex.quote(found.source)
    commands = [
        f"python -m analysis report {quoted}  # this page",
        f"python -m analysis plots {quoted}  # every picture as SVG and PNG",
        f"python -m analysis extrapolate {quoted} --regime {REGIME} --form {FORM} --budget "
        f"{3 * float(rows['flops'].max()):.3g}"
        if len(rows)
        else "",
        f"python -m analysis emergence {quoted}",
    ]
    shown = "".join(f"<li><code>{html.text(command)}</code></li>" for command in commands if command)
    return html.section("Conventions, versions, commands", html.bullets(said), f"<ul>{shown}</ul>")


def _versions(found: Findings) -> str:
    parts = [f"Python {platform.python_version()}"]
    for name in ("lmscale", *_LIBRARIES):
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(parts) + _trained_with(found)


def _trained_with(found: Findings) -> str:
    """What the runs' execution.json say of the device and versions, each different answer once."""
    seen: Counter[str] = Counter()
    for path in sorted(Path(found.source).glob("*/execution.json")):
        try:
            execution = json.loads(path.read_bytes())
            versions = ", ".join(f"{k} {v}" for k, v in sorted(execution.get("versions", {}).items()))
            seen[f"{execution.get('device')} ({versions})"] += 1
        except (OSError, ValueError, AttributeError):
            continue
    said = "; ".join(f"{count} runs on {what}" for what, count in seen.most_common(5))
    return f". Trained: {said}" if said else ""


def _count(value: object) -> str:
    return (
        style.count(float(value))
        if isinstance(value, int | float | np.number) and math.isfinite(value)
        else "-"
    )
