"""The report of a ladder: one HTML file that opens offline and begins with the question and its answer.

What is computed is `analysis.findings`; here it is put into sentences, in the order in which a person asks.
"""

import importlib.metadata
import json
import math
import os
import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import draw, page, task_plots
from analysis.emergence_verdict import ORDER
from analysis.errors import Warn
from analysis.findings import FORM, REGIME, Findings, HeldOut, Law, findings
from analysis.forecast import Prediction
from analysis.ladder import CUT, RULE, Target, compute_column, last_rows
from analysis.pictures import Picture, pictures

_MOST_ROWS = 2000
_LIBRARIES = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib")


def report(table: pd.DataFrame, source: str, folder: Path) -> tuple[Path, Findings]:
    """Write `folder`/index.html from the table that `load_table(source)` gave; its path and what it says."""
    found = findings(table, source)
    with draw.styled():
        shown = {p.name: _embedded(p, source) for p in pictures(found)}
    name = Path(source).resolve().name
    html = page.document(
        f"lmscale: {name}",
        f"<h1>{page.text(_title(found))}</h1>",
        page.paragraph(_ladder_sentence(found), kind="small"),
        _answer(found),
        shown.get("loss_compute", ""),
        _law_section(found),
        _next_section(found, shown),
        page.section("Residuals", shown["residuals"]) if "residuals" in shown else "",
        _components_section(shown),
        _tasks_section(found, shown),
        _runs_section(found),
        _conventions_section(found),
    )
    target = folder / "index.html"
    temporary = folder / f".index.html.{os.getpid()}.tmp"
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(target)
    return target, found


def headline(found: Findings) -> list[str]:
    """The answer in sentences: forecast, interval, measured, error, and how many runs it rests on."""
    target = found.target
    if target is None or isinstance(found.held_out, str):
        why = found.held_out if isinstance(found.held_out, str) else ""
        return [f"No forecast of a held-out run: {why}"]
    held, unit = found.held_out, _unit(found)
    p = held.prediction
    seeds = len(target.losses)
    within = sum(p.lower <= loss <= p.upper for loss in target.losses)
    error = 100 * (p.loss / target.measured - 1)
    spread = f"; seeds {min(target.losses):.4f} to {max(target.losses):.4f}" if seeds > 1 else ""
    held_said = (
        f"the interval {'holds' if within else 'misses'} it"
        if seeds == 1
        else f"the interval holds {within} of {seeds} seeds"
    )
    used = int(held.used.sum())
    return [
        f"Forecast {p.loss:.4f}{unit}, {p.level:.0%} interval {p.lower:.4f} to {p.upper:.4f} (one new run).",
        f"Measured {target.measured:.4f}{unit} ({seeds} seed{'s' * (seeds > 1)}{spread}): the forecast is "
        f"{abs(error):.2f}% too {'high' if error > 0 else 'low'}, and {held_said}.",
        f"It rests on {len(target.below)} runs with at most 1/{CUT:g} of the target's compute"
        + (f", of which the fit used {used}." if used < len(target.below) else ", all of them used."),
    ]


def summary(found: Findings, path: Path) -> str:
    """What the command prints: the answer, the tasks in a line, where the report is."""
    lines = headline(found)
    if not isinstance(found.held_out, str):
        lines += [f"{w.code}: {w.message}" for w in found.held_out.warnings]
    if not isinstance(found.classes, str):
        lines.append(f"Tasks: {_class_counts(found)}.")
    return "\n".join([*lines, f"Report: {path}"])


def to_json(found: Findings, path: Path) -> dict[str, Any]:
    """The headline as numbers, for a script that runs the report."""
    target, held = found.target, found.held_out
    answer: dict[str, Any] = {"report": str(path), "target": None, "problems": list(found.problems)}
    if target is None or isinstance(held, str):
        return answer | {"reason": held}
    p = held.prediction
    return answer | {
        "target": {
            "params": target.params,
            "tokens": target.tokens,
            "flops": target.flops,
            "measured": list(target.losses),
            "prediction": p.to_json(),
            "relative_error": p.loss / target.measured - 1,
            "runs_below_cut": len(target.below),
            "runs_used": int(held.used.sum()),
            "cut": CUT,
            "warnings": [{"code": w.code, "message": w.message} for w in held.warnings],
        }
    }


def _embedded(shown: Picture, source: str) -> str:
    command = f"python -m analysis plots {shlex.quote(source)}  # {shown.name}.svg"
    return page.picture(draw.data_uri(shown.figure), shown.shows, command)


def _unit(found: Findings) -> str:
    return " nats per byte" if "run_id" in found.table.columns else ""


def _title(found: Findings) -> str:
    target = found.target
    if target is None:
        return "A ladder with nothing smaller to predict from"
    return (
        f"What is the {'text ' * ('run_id' in found.table.columns)}loss of {draw.count(target.params)} parameters "
        f"after {draw.count(target.tokens)} tokens, told from runs of at most 1/{CUT:g} of its compute?"
    )


def _ladder_sentence(found: Findings) -> str:
    rows = found.rows
    if rows.empty:
        return "No run has finished."
    n, d, c = rows["params"], rows["tokens"], rows["flops"]
    seeds = f", {rows['seed'].nunique()} seed(s)" if "seed" in rows else ""
    return (
        f"{len(rows)} finished runs: {n.nunique()} sizes from {draw.count(n.min())} to {draw.count(n.max())} "
        f"parameters, {draw.count(d.min())} to {draw.count(d.max())} tokens, {draw.power(c.min())} to "
        f"{draw.power(c.max())} FLOPs{seeds}."
    )


def _answer(found: Findings) -> str:
    parts = [page.box("answer", *headline(found), found.target.note if found.target else "")]
    if not isinstance(found.held_out, str):
        parts.append(_warnings(found.held_out.warnings))
        parts.append(_left_out_section(found.held_out, found.target))
    parts.append(page.paragraph(f"The rule, stated beforehand: {RULE}", kind="small"))
    if found.problems:
        parts.append(page.box("warn", "Damage met while reading:", *found.problems[:20]))
    return "\n".join(parts)


def _left_out_section(held: HeldOut, target: Target | None) -> str:
    if target is None or held.used.all():
        return page.paragraph("No run below the cut was left out.", kind="small")
    rows = target.below[~held.used]
    reasons = [f"{left.reason}" for left in held.forecast.fit.observations.left_out]
    sizes = ", ".join(
        f"{count} of {draw.count(float(size))} parameters"
        for size, count in zip(*np.unique(rows["params"], return_counts=True), strict=True)
    )
    return page.paragraph(
        f"Left out below the cut: {len(rows)} runs ({sizes}), because: {'; '.join(reasons)}.", kind="small"
    )


def _warnings(warnings: Iterable[Warn]) -> str:
    said = [f"{warn.code}: {warn.message}" for warn in warnings]
    return page.box("warn", *said) if said else ""


def _law_section(found: Findings) -> str:
    parts = []
    if not isinstance(found.held_out, str):
        parts += [
            page.paragraph("The law behind the forecast, from the runs below the cut:"),
            _fit_table(found.held_out.forecast.fit),
        ]
    if isinstance(found.law, str):
        parts.append(page.paragraph(f"All runs: {found.law}"))
    else:
        fitted = found.law.forecast.fit
        left = len(found.rows) - int(found.law.used.sum())
        note = f", {left} left out" if left else ""
        parts += [
            page.paragraph(f"The law of all {len(found.rows)} finished runs, the target included{note}:"),
            _fit_table(fitted),
            _warnings(fitted.warnings),
        ]
    return page.section("The fit", *parts)


def _fit_table(fitted: Any) -> str:
    bse, interval = fitted.bse, fitted.conf_int(0.95)
    meaning = {parameter.name: parameter.meaning for parameter in fitted.form.parameters}
    rows = [
        (
            name,
            f"{value:.5g}",
            _number(bse[name]),
            f"{_number(interval[name][0])} to {_number(interval[name][1])}",
            meaning[name],
        )
        for name, value in fitted.params.items()
    ]
    objective = fitted.objective
    width = f" (delta {objective.delta:g})" if objective.loss == "huber" else ""
    said = (
        f"{fitted.form.name}: L = {fitted.form.equation}. {len(fitted.observations)} runs; "
        f"{objective.loss}{width} on {objective.scale} loss, summed, {fitted.value:.6g} at the optimum; "
        f"{len(fitted.draws)} resamples by {fitted.observations.group_source}. {fitted.form.reference}."
    )
    if len(fitted.candidates) > 1:
        said += " Forms weighed by their error on rolling hold-outs within these rows: " + "; ".join(
            f"{c['form']} {c['weight']:.0%} ({_percent(c['rolling_error'])})" for c in fitted.candidates
        )
    header = ("", "value", "std. error", "95% interval", "meaning")
    return page.table(header, rows, wide=(4,)) + page.paragraph(said, kind="small")


def _next_section(found: Findings, shown: dict[str, str]) -> str:
    title = "The next decision"
    if isinstance(found.law, str):
        return page.section(title, page.paragraph(f"No law, no budgets: {found.law}"))
    law: Law = found.law
    rows = [_budget_row(p, found) for p in law.next]
    largest = float(found.rows["flops"].max())
    return page.section(
        title,
        page.paragraph(
            f"By the law of all runs, a budget beyond the largest one ({draw.power(largest)} FLOPs) would buy:"
        ),
        page.table(
            ("budget", "FLOPs", "best N", "best D", "D / N", "loss", "90% interval, one new run"), rows
        ),
        page.paragraph(f"N and D are split by this cost: {law.forecast.cost.source}.", kind="small"),
        _warnings(law.forecast.warnings),
        shown.get("next_budgets", ""),
    )


def _budget_row(p: Prediction, found: Findings) -> tuple[str, ...]:
    params, tokens, flops = p.params or math.nan, p.tokens or math.nan, p.flops or math.nan
    return (
        f"{flops / float(found.rows['flops'].max()):.3g}×",
        draw.power(flops),
        draw.count(params),
        draw.count(tokens),
        f"{tokens / params:.3g}",
        f"{p.loss:.4f}",
        f"{p.lower:.4f} to {p.upper:.4f}",
    )


def _components_section(shown: dict[str, str]) -> str:
    inner = [shown[name] for name in ("components", "text_classes", "ngrams") if name in shown]
    return page.section("Components of the loss", *inner) if inner else ""


def _tasks_section(found: Findings, shown: dict[str, str]) -> str:
    title = "Tasks"
    if isinstance(found.tasks, str):
        return page.section(title, page.paragraph(f"No curves of tasks: {found.tasks}"))
    parts = []
    if isinstance(found.classes, str):
        parts.append(page.paragraph(f"The tasks could not be classified: {found.classes}"))
    else:
        parts += [page.paragraph(f"Classes found: {_class_counts(found)}."), _class_table(found)]
    parts += [shown.get("tasks", ""), shown.get("twins", "")]
    if not isinstance(found.classes, str):
        parts += _sentences(found)
    return page.section(title, *parts)


def _sentences(found: Findings) -> list[str]:
    """What emergence says beside the classes: twins, thresholds against loss, forecasts from below."""
    classes = found.classes
    assert not isinstance(classes, str) and not isinstance(found.tasks, str)
    twins = [twin.sentence() for twin in classes.twins if twin.metric in ("exact_match", "")]
    twins += [_stem_sentence(found.tasks, pair) for pair in task_plots.stems(found.tasks)]
    lined = [a.sentence() for a in classes.alignments if a.lines_up is not None]
    below = [take_off.sentence() for take_off in classes.take_offs]
    titled = (
        ("Twins (sizes are parameters without embeddings):", twins),
        ("Do thresholds of different horizons line up in text loss?", lined),
        (
            "Where each jump was to be expected, told from the answers' likelihood at the sizes below it:",
            below,
        ),
    )
    return [page.paragraph(title) + page.bullets(said) for title, said in titled if said]


def _stem_sentence(rows: pd.DataFrame, pair: tuple[tuple[str, str], tuple[str, str]]) -> str:
    means = []
    for task, variant in pair:
        mine = rows[(rows["task"] == task) & (rows["variant"] == variant)]
        means.append((mine["correct"] / mine["total"]).groupby(mine["size"]).mean())
    ahead = (means[1] - means[0]).dropna()
    said = ", ".join(
        f"{value:+.2f} at {draw.count(float(str(size)))}" for size, value in ahead.to_dict().items()
    )
    return f"{pair[1][0]} against {pair[0][0]}, difference of scores by size: {said}"


def _class_counts(found: Findings) -> str:
    assert not isinstance(found.classes, str)
    verdicts = _exact(found)
    counts = Counter(v.label for v in verdicts.values())
    said = ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name])
    meant = _meant(found)
    judged = [key for key in verdicts if meant.get(key)]
    agree = sum(verdicts[key].label == meant[key] for key in judged)
    return f"{said}; {agree} of {len(judged)} as they were built to be" if judged else said


def _exact(found: Findings) -> dict[tuple[str, str], Any]:
    assert not isinstance(found.classes, str) and not isinstance(found.tasks, str)
    by_curve = task_plots.by_curve(found.classes)
    names = task_plots.curves(found.tasks, by_curve)
    verdicts = {name: task_plots.verdict_of(by_curve, *name) for name in names}
    return {name: verdict for name, verdict in verdicts.items() if verdict is not None}


def _meant(found: Findings) -> dict[tuple[str, str], str]:
    assert not isinstance(found.tasks, str)
    rows = found.tasks.drop_duplicates(["task", "variant"])[["task", "variant", "intended_class"]]
    return {(task, variant): meant for task, variant, meant in rows.to_numpy().tolist() if meant}


def _class_table(found: Findings) -> str:
    meant = _meant(found)
    rows = []
    for (task, variant), v in _exact(found).items():
        threshold = ""
        if v.threshold is not None and v.threshold_interval is not None:
            low, high = v.threshold_interval
            threshold = f"{draw.count(v.threshold)} ({draw.count(low)} to {draw.count(high)})"
        caveats = [f"{w.code}: {w.message}" for w in v.warnings]
        if v.metric_induced:
            caveats.insert(0, "metric_induced: the jump is in the exact match, not in the accuracy by byte")
        rows.append(
            (
                task,
                variant,
                v.label,
                meant.get((task, variant), ""),
                f"{v.effect:+.2f}",
                threshold,
                _success(v.success_rate),
                "; ".join(caveats),
            )
        )
    header = (
        "task",
        "variant",
        "found",
        "meant",
        "effect",
        "threshold (90%), params",
        "seeds past half of the gain, by size",
        "caveats",
    )
    return page.table(header, rows, wide=(6, 7))


def _success(rates: Sequence[dict[str, float]] | None) -> str:
    """Where the seeds part: `0/3 to 20k, 1/3 at 33k, 3/3 from 68k`."""
    if not rates:
        return ""
    runs: list[tuple[str, list[float]]] = []
    for rate in rates:
        share = f"{round(rate['rate'] * rate['seeds'])}/{rate['seeds']:.0f}"
        if runs and runs[-1][0] == share:
            runs[-1][1].append(rate["size"])
        else:
            runs.append((share, [rate["size"]]))
    said = []
    for i, (share, sizes) in enumerate(runs):
        if i == 0:
            said.append(f"{share} to {draw.count(sizes[-1])}")
        elif i == len(runs) - 1:
            said.append(f"{share} from {draw.count(sizes[0])}")
        else:
            span = "" if len(sizes) == 1 else f" to {draw.count(sizes[-1])}"
            said.append(f"{share} at {draw.count(sizes[0])}{span}")
    return ", ".join(said)


def _runs_section(found: Findings) -> str:
    table = found.table
    if "run_id" not in table.columns:
        return page.section("Rows", page.paragraph(f"{len(table)} rows, all of them taken as finished runs."))
    runs = last_rows(table)
    outcomes = ", ".join(f"{count} {name}" for name, count in runs["outcome"].value_counts().items())
    parts = [page.paragraph(f"{len(runs)} runs, trunks and their branches each counted: {outcomes}.")]
    if len(found.lost):
        parts.append(page.paragraph("What was lost, and why:"))
        parts.append(
            page.bullets(
                f"{run['run_id']}: {run['outcome']} at {_count(run['tokens'])} tokens, "
                f"{_count(run['params'])} parameters, seed {run['seed']}: "
                f"{run['reason'] if isinstance(run['reason'], str) else 'no reason was written'}"
                for run in found.lost.to_dict("records")
            )
        )
    else:
        parts.append(page.paragraph("No run diverged or failed."))
    header = ("run", "kind", "N", "D", "C (FLOPs)", "seed", "rate", "outcome", "skipped steps", "loss")
    rows = [
        (
            r["run_id"],
            r["kind"],
            _count(r["params"]),
            _count(r["tokens"]),
            draw.power(r["flops"]),
            r["seed"],
            _number(r["learning_rate"]),
            r["outcome"],
            _count(r["skipped_steps"]),
            _number(r["loss"], 4),
        )
        for r in runs.sort_values(["params", "tokens", "seed"]).head(_MOST_ROWS).to_dict("records")
    ]
    more = f" (the first {_MOST_ROWS})" if len(runs) > _MOST_ROWS else ""
    parts.append(page.folded(f"All runs{more}", page.table(header, rows)))
    return page.section("Runs", *parts)


def _conventions_section(found: Findings) -> str:
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
            f"Unique tokens: {draw.count(float(rows['unique_tokens'].max()))}; the longest run draws "
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
    shown = "".join(f"<li><code>{page.text(command)}</code></li>" for command in commands if command)
    return page.section("Conventions, versions, commands", page.bullets(said), f"<ul>{shown}</ul>")


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


def _percent(value: float | None) -> str:
    return "untested" if value is None else f"off by {value:.2%}"


def _number(value: object, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def _count(value: object) -> str:
    return (
        draw.count(float(value))
        if isinstance(value, int | float | np.number) and math.isfinite(value)
        else "-"
    )
