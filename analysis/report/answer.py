"""Write the top of the report: the question, its answer in sentences, and every caveat on it."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.errors import Warn, status_of
from analysis.figures import style
from analysis.forecasting.target import CUT, RULE, Target
from analysis.report import html
from analysis.report.findings import Findings, HeldOut
from analysis.report.promises import floors, one_forecast
from analysis.report.tasks import class_counts
from analysis.tables.columns import row_name
from analysis.tables.finished import LeftOut


def title(found: Findings) -> str:
    """Ask the report's question, with the table's own largest run."""
    target = found.target
    if target is None:
        return "A ladder with nothing smaller to predict from"
    text = "text " if found.source.is_folder else ""
    cuts = " and ".join(f"1/{cut:g}" for cut in [one.cut for one in found.kept if one.cut] or [CUT])
    return (
        f"What is the {text}loss of a model of {style.count(target.params)} {found.source.size_name}, after "
        f"{style.count(target.tokens)} tokens, told from runs of at most {cuts} of its compute?"
    )


def ladder_sentence(found: Findings) -> str:
    """Say how many runs there are and over what ranges."""
    rows = found.rows
    if rows.empty:
        return "No run has finished."
    n, d, c = rows["params"], rows["tokens"], rows["flops"]
    seeds = ""
    if "seed" in rows:
        seeds = f", {rows['seed'].nunique()} seed{'s' * (rows['seed'].nunique() != 1)}"
    return (
        f"{len(rows)} finished runs: {n.nunique()} sizes from {style.count(n.min())} to {style.count(n.max())} "
        f"parameters, {style.count(d.min())} to {style.count(d.max())} tokens, {style.power(c.min())} to "
        f"{style.power(c.max())} FLOPs ({found.compute}){seeds}."
    )


def headline(found: Findings) -> list[str]:
    """Answer in sentences: forecast, interval, measured, error, how many runs it rests on, what was left out."""
    target, held = found.target, found.held_out
    left = [*left_out_sentence(found), *([f"Sciences: {found.science}."] if found.science else [])]
    if found.kept and target is not None:
        measured = "The target is not measured yet."
        if target.losses:
            measured = f"Measured {target.measured:.4f}{found.units.after} ({_measured_from(target)})."
        said = [one_forecast(found, one) for one in found.kept]
        return [
            *said,
            measured,
            *floors(found),
            *left,
        ]
    if found.part and target is None:
        counted = [] if isinstance(found.classes, str) else [f"Tasks: {class_counts(found)}."]
        return [*counted, f"No forecast of a loss: {held}", *left]
    if target is None or isinstance(held, str):
        return [f"No forecast of a held-out run: {held}", *left]
    p, unit, used = held.prediction, found.units.after, int(held.used.sum())
    error = 100 * (p.loss / target.measured - 1)
    return [
        f"Forecast {p.loss:.4f}{unit}, {p.level:.0%} interval {p.lower:.4f} to {p.upper:.4f} (one new run).",
        f"Measured {target.measured:.4f}{unit} ({_measured_from(target)}): the forecast is {abs(error):.2f}% too "
        f"{'high' if error > 0 else 'low'}, and {_held(held, target)}.",
        f"It rests on {len(target.below)} runs with at most 1/{CUT:g} of the target's compute"
        + (f", of which the fit used {used}." if used < len(target.below) else ", all of them used."),
        *left,
    ]


def _measured_from(target: Target) -> str:
    count = len(target.losses)
    if count == 1:
        return "1 run" if not target.seeds else "1 seed"
    spread = f"{min(target.losses):.4f} to {max(target.losses):.4f}"
    if target.seeds:
        return f"{count} seeds; seeds {spread}"
    return f"the mean of {count} runs of this size and horizon, {spread}; no column tells them apart as seeds"


def _held(held: HeldOut, target: Target) -> str:
    p = held.prediction
    within = sum(map(p.holds, target.losses))
    if len(target.losses) == 1:
        return f"the interval {'holds' if within else 'misses'} it"
    return f"the interval holds {within} of {len(target.losses)} {'seeds' if target.seeds else 'runs'}"


def warnings_of(found: Findings) -> list[Warn]:
    """List the warnings on the answer: of the registered forecasts each once, or of the one that was held out."""
    if found.kept:
        said = {
            (warn.code, warn.message): Warn(warn.code, f"from {one.of_target}: {warn.message}")
            for one in found.kept
            for warn in one.warnings
        }
        return list(said.values())
    if not isinstance(found.held_out, str):
        return list(found.held_out.warnings)
    alone = found.law if not isinstance(found.law, str) else None
    return list(alone.forecast.warnings) if alone is not None else []


def left_out_sentence(found: Findings) -> list[str]:
    """Say what was left out before any fit; nothing where every row was used."""
    # Evaluations on the way, and trunks, are no runs: the section of rows left out has them.
    ends = set(_ends(found.whole).index)
    gone = [replace(left, rows=tuple(row for row in left.rows if row in ends)) for left in found.left_out]
    said = [f"{_rows(left)} ({named(found, left)}): {left.reason}" for left in gone if left.rows]
    return [f"Left out: {'; '.join(said)}."] if said else []


def _rows(left: LeftOut) -> str:
    return f"{len(left.rows)} row{'s' * (len(left.rows) != 1)}"


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last evaluation of every run that is no trunk, labels kept."""
    rows = table[table["kind"].ne("trunk")] if "kind" in table.columns else table
    return rows.drop_duplicates("run_id", keep="last") if {"run_id", "final"} <= set(table.columns) else rows


def named(found: Findings, left: LeftOut, most: int = 4) -> str:
    """Name the rows left out: by run where the table has runs, by row otherwise; of many the first."""
    whole = found.whole
    names = (
        [str(v) for v in whole["run_id"][whole.index.isin(left.rows)]] if "run_id" in whole.columns else []
    )
    names = list(dict.fromkeys(names or [row_name(whole, label) for label in left.rows]))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def answer_box(found: Findings) -> Markup:
    """Put the answer in its box; of one ladder among several with its name and question."""
    asked = f"{found.part}: {title(found) if found.target else ladder_sentence(found)}" if found.part else ""
    return html.box("answer", asked, *headline(found), found.target.note if found.target else "")


def behind_answer(found: Findings) -> Markup:
    """Say under the answer its status, its caveats, the rule and what was damaged."""
    parts = []
    if not isinstance(found.held_out, str):
        parts.append(caveats(found.held_out.warnings))
        parts.append(_left_out_below(found.held_out, found.target))
    if found.kept:
        parts.append(caveats(warnings_of(found)))
        rules = [f"from {one.of_target}: {one.content.get('rule')}" for one in found.kept]
        parts.append(html.paragraph(f"The rules, registered beforehand: {'; '.join(rules)}.", kind="small"))
    elif not isinstance(found.held_out, str) or not found.part:
        parts.append(html.paragraph(f"The rule, stated beforehand: {RULE}", kind="small"))
    if found.problems:
        parts.append(html.box("warn", "Met while reading:", *found.problems[:20]))
    return html.joined(*parts)


def caveats(warnings: Iterable[Warn]) -> Markup:
    """List the status of an answer, and each warning with what its word means."""
    told = list(warnings)
    status = status_of(told)
    said = f"Status: {status}, {status.sentence}."
    rows = [
        (w.code + " (grave)" * w.code.grave, f"{w.message}.", f"in general: {w.code.sentence}") for w in told
    ]
    return html.caveat_rows("warn" if told else "good", said, rows)


def _left_out_below(held: HeldOut, target: Target | None) -> Markup:
    if target is None or held.used.all():
        return html.paragraph("No run below the cut was left out by the fit.", kind="small")
    rows = target.below[~held.used]
    reasons = [left.reason for left in held.forecast.fit.observations.left_out]
    sizes = ", ".join(
        f"{count} of {style.count(float(size))} parameters"
        for size, count in zip(*np.unique(rows["params"], return_counts=True), strict=True)
    )
    return html.paragraph(
        f"Left out below the cut: {len(rows)} runs ({sizes}), because: {'; '.join(reasons)}.", kind="small"
    )
