"""Put the report together: one HTML file that opens offline and begins with the question and its answer.

What is computed is `report.findings`; the sections are written by the other modules of this wing.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import status_of
from analysis.figures import style
from analysis.forecasting.target import CUT
from analysis.report import html
from analysis.report.answer import answer_section, headline, ladder_sentence, title
from analysis.report.conventions import conventions_section
from analysis.report.findings import Findings, findings
from analysis.report.laws import law_section, next_section
from analysis.report.pictures import Picture, pictures
from analysis.report.runs import left_out_section, runs_section
from analysis.report.source import Source
from analysis.report.tasks import class_counts, tasks_section
from analysis.tables.atomic import write_text


def report(table: pd.DataFrame, source: Source, folder: Path, written: date) -> tuple[Path, Findings]:
    """Write `folder`/index.html from the table that was loaded from `source`; its path and what it says.

    `written` is the date on the page; the same table and date give the same bytes.
    """
    found = findings(table, source)
    with style.styled():
        shown = {p.name: _embedded(p, source) for p in pictures(found)}
    sections = [
        law_section(found),
        next_section(found, shown),
        _drawn("Residuals", shown, "residuals"),
        _drawn("Components of the loss", shown, "components", "text_classes", "ngrams"),
        tasks_section(found, shown),
        runs_section(found),
        left_out_section(found),
        conventions_section(found, written),
    ]
    target = folder / "index.html"
    write_text(
        target,
        html.document(
            f"lmscale: {source.name}",
            f"<h1>{html.text(title(found))}</h1>",
            html.paragraph(ladder_sentence(found), kind="small"),
            html.contents(sections),
            answer_section(found),
            shown.get("loss_compute", ""),
            *sections,
        ),
    )
    return target, found


def summary(found: Findings, path: Path) -> str:
    """Say what the command prints: the answer with its caveats, the tasks in a line, where the report is."""
    lines = headline(found)
    answer = (
        found.law.forecast
        if isinstance(found.held_out, str) and not isinstance(found.law, str)
        else found.held_out
    )
    lines += [f"{w.code}: {w.message}" for w in (() if isinstance(answer, str) else answer.warnings)]
    if not isinstance(found.classes, str):
        lines.append(f"Tasks: {class_counts(found)}.")
    return "\n".join([*lines, f"Report: {path}"])


def to_json(found: Findings, path: Path) -> dict[str, Any]:
    """Return the headline as numbers, for a script that runs the report."""
    target, held = found.target, found.held_out
    answer: dict[str, Any] = {
        "report": str(path),
        "target": None,
        "rows_left_out": [left.to_json() for left in found.left_out],
        "science": found.science,
        "problems": list(found.problems),
    }
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
            "status": status_of(held.warnings),
            "warnings": [{"code": w.code, "message": w.message} for w in held.warnings],
        }
    }


def _embedded(shown: Picture, source: Source) -> str:
    command = f"{source.command('plots', out=True)}  # {shown.name}.svg"
    width = shown.figure.get_figwidth() / style.WIDTH
    return html.picture(style.data_uri(shown.figure), shown.shows, command, width)


def _drawn(title: str, shown: dict[str, str], *names: str) -> str:
    """A section of those pictures that could be drawn, or none."""
    inner = [shown[name] for name in names if name in shown]
    return html.section(title, *inner) if inner else ""
