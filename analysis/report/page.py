"""Put the report together: one HTML file that opens offline and begins with the question and its answer.

What is computed is `report.findings`; the sections are written by the other modules of this wing.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.errors import Warn, status_of
from analysis.figures import style
from analysis.forecasting.forecast import Prediction
from analysis.forecasting.target import CUT, Target
from analysis.report import html
from analysis.report.answer import answer_box, behind_answer, headline, ladder_sentence, title, warnings_of
from analysis.report.beside import figures_in, write_answers
from analysis.report.conventions import conventions_section
from analysis.report.drawing import inline
from analysis.report.findings import Findings, Ladders, ladders
from analysis.report.kept import Kept
from analysis.report.laws import law_section, next_section
from analysis.report.noise import noise_by_rung, noise_section
from analysis.report.opening import doubts, opening
from analysis.report.pictures import Picture, calibration_picture, file_name, pictures
from analysis.report.promises import PENDING, forecasts_section
from analysis.report.runs import left_out_section, runs_section
from analysis.report.source import Source
from analysis.report.tasks import class_counts, tasks_section
from analysis.tables.atomic import write_text


def report(table: pd.DataFrame, source: Source, folder: Path, written: date) -> tuple[Path, Ladders]:
    """Write `folder`/index.html from the table that was loaded from `source`; its path and what it says.

    `written` is the date on the page; the same table and date give the same bytes. Of a folder of several ladders
    each has a section of its own.
    """
    told = ladders(table, source)
    with style.styled():
        shown = [
            {p.name: _embedded(p, file_name(found, p.name), source, folder) for p in pictures(found)}
            for found in told.each
        ]
        calibration = html.joined(*(_embedded(p, p.name, source, folder) for p in calibration_picture(told)))
    write_answers(told, folder)
    sections = [forecasts_section(told, calibration)]
    if len(told.each) > 1:
        heading = f"{source.name}: {len(told.each)} ladders, and what each of them says"
        # The pictures of the forecasts belong to the answer.
        answers = [
            drawn.pop("loss_compute", Markup())
            for found, drawn in zip(told.each, shown, strict=True)
            if found.kept
        ]
        for found, drawn in zip(told.each, shown, strict=True):
            # The answer of a ladder without a target begins with it.
            about = html.paragraph(ladder_sentence(found) if found.target else "", kind="small")
            inner = (about, answer_box(found), behind_answer(found), drawn.get("loss_compute", Markup()))
            parts = tuple(part for part in _sections(found, drawn, written) if part)
            sections.append(html.Section(f"Ladder {found.part}", html.joined(*inner), parts))
    else:
        (found,), (drawn,) = told.each, shown
        heading = title(found)
        about = html.paragraph(ladder_sentence(found), kind="small")
        answers = [answer_box(found), about, behind_answer(found), drawn.get("loss_compute", Markup())]
        sections += _sections(found, drawn, written)
    page = html.document(
        title=f"lmscale: {source.name}",
        heading=heading,
        about=("lmscale report", source.name, *([source.where] if source.where else [])),
        opening=opening(told),
        doubts=doubts(told),
        answers=html.joined(*answers),
        sections=[section for section in sections if section],
        written=written,
    )
    target = folder / "index.html"
    write_text(target, page)
    return target, told


def _sections(found: Findings, drawn: dict[str, Markup], written: date) -> list[html.Section | None]:
    return [
        law_section(found),
        next_section(found, drawn),
        _drawn("Residuals", drawn, "residuals"),
        noise_section(found.rows),
        _drawn("Components of the loss", drawn, "components", "text_classes", "ngrams"),
        tasks_section(found, drawn),
        runs_section(found),
        left_out_section(found),
        conventions_section(found, written),
    ]


def summary(told: Ladders, path: Path) -> str:
    """Say what the command prints: each answer with its caveats (of several ladders their words), the tasks in a
    line, where the report is."""
    lines = []
    for found in told.each:
        if found.part:
            lines.append(f"{found.part}: {title(found) if found.target else ladder_sentence(found)}")
        lines += headline(found)
        warnings = warnings_of(found)
        if found.part and warnings:
            words = dict.fromkeys(f"{w.code} (grave)" if w.code.grave else f"{w.code}" for w in warnings)
            lines.append(f"Warnings: {', '.join(words)}.")
        else:
            lines += [f"{w.code}: {w.message}" for w in warnings]
        if not isinstance(found.classes, str) and not (found.part and found.target is None):
            lines.append(f"Tasks: {class_counts(found)}.")
    return "\n".join([*lines, f"Report: {path}"])


def to_json(told: Ladders, path: Path) -> dict[str, Any]:
    """Return the headlines as numbers, for a script that runs the report: of several ladders by name in `parts`."""
    if len(told.each) == 1:
        return {"report": str(path), **_answer(told.each[0])}
    return {"report": str(path), "parts": {found.part: _answer(found) for found in told.each}}


def _answer(found: Findings) -> dict[str, Any]:
    target, held = found.target, found.held_out
    answer: dict[str, Any] = {
        "target": None,
        "rows_left_out": [left.to_json() for left in found.left_out],
        "science": found.science,
        "noise": [asdict(rung) for rung in noise_by_rung(found.rows)],
        "problems": list(found.problems),
    }
    if target is not None and found.kept:
        forecasts = [_promise(one) for one in found.kept]
        return answer | {"target": _target(target, **forecasts[-1]), "forecasts": forecasts}
    if target is None or isinstance(held, str):
        return answer | {"reason": held}
    used = len(target.below), int(held.used.sum())
    return answer | {"target": _target(target, **_forecast(held.prediction, CUT, *used, held.warnings))}


def _promise(one: Kept) -> dict[str, Any]:
    used = len(one.content["data"]["rows"])
    standing = one.scores[0].standing if one.scores else PENDING
    return {
        "id": one.id,
        "standing": standing,
        **_forecast(one.prediction, one.cut, used, used, one.warnings),
    }


def _forecast(
    p: Prediction, cut: float | None, below: int, used: int, warnings: Sequence[Warn]
) -> dict[str, Any]:
    return {
        "prediction": p.to_json(),
        "runs_below_cut": below,
        "runs_used": used,
        "cut": cut,
        "status": status_of(warnings),
        "warnings": [{"code": w.code, "message": w.message} for w in warnings],
    }


def _target(target: Target, **said: Any) -> dict[str, Any]:
    error = said["prediction"]["loss"] / target.measured - 1 if target.losses else None
    about = {"params": target.params, "tokens": target.tokens, "flops": target.flops}
    return about | {"measured": list(target.losses), "relative_error": error, **said}


def _embedded(shown: Picture, name: str, source: Source, folder: Path) -> Markup:
    drawn, *_ = style.write(shown.figure, shown.data, figures_in(folder), name)
    command = f"{source.command('plots', out=True)}  # {name}.svg"
    return html.picture(inline(shown.figure, drawn.read_text(), name, shown.shows), shown.shows, command)


def _drawn(title: str, shown: dict[str, Markup], *names: str) -> html.Section | None:
    """A section of those pictures that could be drawn, or none."""
    inner = html.joined(*(shown[name] for name in names if name in shown))
    return html.Section(title, inner) if inner else None
