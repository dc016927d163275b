"""The report of a ladder: one HTML file that opens offline and begins with the question and its answer.

What is computed is `analysis.findings`; here it is put into sentences, in the order in which a person asks.
"""

import math
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import Warn
from analysis.figures import style
from analysis.forecasting.forecast import Prediction
from analysis.forecasting.target import CUT, RULE, Target
from analysis.report import html as page
from analysis.report.findings import Findings, HeldOut, Law, findings
from analysis.report.pictures import Picture, pictures
from analysis.report.runs import conventions_section, runs_section
from analysis.report.tasks import class_counts, tasks_section
from analysis.tables.atomic import write_text


def report(table: pd.DataFrame, source: str, folder: Path) -> tuple[Path, Findings]:
    """Write `folder`/index.html from the table that `load_table(source)` gave; its path and what it says."""
    found = findings(table, source)
    with style.styled():
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
        tasks_section(found, shown),
        runs_section(found),
        conventions_section(found),
    )
    target = folder / "index.html"
    write_text(target, html)
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
        lines.append(f"Tasks: {class_counts(found)}.")
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
    return page.picture(style.data_uri(shown.figure), shown.shows, command)


def _unit(found: Findings) -> str:
    return " nats per byte" if "run_id" in found.table.columns else ""


def _title(found: Findings) -> str:
    target = found.target
    if target is None:
        return "A ladder with nothing smaller to predict from"
    return (
        f"What is the {'text ' * ('run_id' in found.table.columns)}loss of {style.count(target.params)} parameters "
        f"after {style.count(target.tokens)} tokens, told from runs of at most 1/{CUT:g} of its compute?"
    )


def _ladder_sentence(found: Findings) -> str:
    rows = found.rows
    if rows.empty:
        return "No run has finished."
    n, d, c = rows["params"], rows["tokens"], rows["flops"]
    seeds = f", {rows['seed'].nunique()} seed(s)" if "seed" in rows else ""
    return (
        f"{len(rows)} finished runs: {n.nunique()} sizes from {style.count(n.min())} to {style.count(n.max())} "
        f"parameters, {style.count(d.min())} to {style.count(d.max())} tokens, {style.power(c.min())} to "
        f"{style.power(c.max())} FLOPs{seeds}."
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
        f"{count} of {style.count(float(size))} parameters"
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
            page.number(bse[name]),
            f"{page.number(interval[name][0])} to {page.number(interval[name][1])}",
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
            f"By the law of all runs, a budget beyond the largest one ({style.power(largest)} FLOPs) would buy:"
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
        style.power(flops),
        style.count(params),
        style.count(tokens),
        f"{tokens / params:.3g}",
        f"{p.loss:.4f}",
        f"{p.lower:.4f} to {p.upper:.4f}",
    )


def _components_section(shown: dict[str, str]) -> str:
    inner = [shown[name] for name in ("components", "text_classes", "ngrams") if name in shown]
    return page.section("Components of the loss", *inner) if inner else ""


def _percent(value: float | None) -> str:
    return "untested" if value is None else f"off by {value:.2%}"
