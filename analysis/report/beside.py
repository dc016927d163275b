"""The files beside the page: every answer and every picture's data as CSV and JSON, pictures as SVG and PNG.

OUT/figures/NAME.svg .png .csv .json    a picture, and the table that it was drawn from
OUT/answers/NAME.csv .json              an answer: its table, and the JSON of its verb
OUT/answers/cite.txt                    what a paper must state
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures import style
from analysis.report.cite import citation
from analysis.report.findings import Findings, Ladders
from analysis.report.pictures import file_name
from analysis.tables.atomic import as_json, write_text


def figures_in(folder: Path) -> Path:
    """Return the folder of the pictures, made if it is not there."""
    made = folder / "figures"
    made.mkdir(exist_ok=True)
    return made


def write_answers(told: Ladders, folder: Path) -> list[Path]:
    """Write every answer of a report in `folder`/answers; return the paths."""
    made = folder / "answers"
    made.mkdir(exist_ok=True)
    paths = []
    for found in told.each:
        for name, frame, answer in _answers(found):
            paths += _write(frame, answer, made, file_name(found, name))
        if not isinstance(found.law, str):
            said = citation(found.law.forecast.fit, found.rows, found.source)
            name = file_name(found, "cite")
            paths += _write(said.to_frame(), said.to_json(), made, name)
            paths.append(made / f"{name}.txt")
            write_text(paths[-1], said.summary() + "\n")
    if told.verified is not None:
        paths += _write(told.verified.to_frame(), told.verified.to_json(), made, "verify")
    return paths


def _answers(found: Findings) -> Iterator[tuple[str, pd.DataFrame, Any]]:
    """Name each answer of a ladder, with its table and its JSON; None where the rows of the table are that."""
    yield "runs", found.rows, None
    yield "left_out", _left_out(found), [left.to_json() for left in found.left_out]
    if not isinstance(found.held_out, str):
        forecast = found.held_out.forecast
        yield "held_out", forecast.to_frame(), forecast.to_json()
    if not isinstance(found.law, str):
        forecast = found.law.forecast
        yield "fit", forecast.fit.to_frame().rename_axis("parameter").reset_index(), forecast.fit.to_json()
        yield "extrapolate", forecast.to_frame(), forecast.to_json()
    if not isinstance(found.classes, str):
        yield "emergence", found.classes.to_frame(), found.classes.to_json()


def _left_out(found: Findings) -> pd.DataFrame:
    rows = [(left.reason, str(row)) for left in found.left_out for row in left.rows]
    return pd.DataFrame(rows, columns=["reason", "row"])


def _write(frame: pd.DataFrame, answer: Any, folder: Path, name: str) -> list[Path]:
    paths = style.write_frame(frame, folder, name)
    if answer is not None:
        write_text(paths[1], as_json(answer))
    return paths
